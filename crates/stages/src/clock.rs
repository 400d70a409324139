//! What the clock follows: the zone of local time, and the program that keeps the time.

use crate::files::{follow, write_if_other};
use crate::{Context, Error, systemd, tool};
use kairn_config::{TimeClient, TimeSync};
use kairn_host::files;
use kairn_report::{Event, Sink};
use std::fs;
use std::path::Path;

/// Where the tz database lies.
const ZONES: &str = "/usr/share/zoneinfo";

/// Where distributions have chrony's file; the first is Debian's and Alpine's.
const CHRONY_FILES: [&str; 2] = ["/etc/chrony/chrony.conf", "/etc/chrony.conf"];

/// Marks what was taken out of chrony's file.
const REPLACED: &str = "# replaced by the configuration: ";

/// Marks what was put into it.
const OURS: &str = "# from the configuration";

/// Sets the zone of local time; says whether anything changed.
pub fn set_zone(context: &Context, zone: &str) -> Result<bool, Error> {
    let file = follow(context, context.at(&Path::new(ZONES).join(zone)))?;
    if !file.is_file() {
        let hint = format!("see {ZONES}, which the distribution's package `tzdata` brings");
        return Err(Error::refused(format!("there is no time zone `{zone}` here"), hint));
    }
    // localtime(5) asks for a link, by which the name of the zone is known.
    let (link, target) = (context.at("/etc/localtime".as_ref()), format!("..{ZONES}/{zone}"));
    let absolute = format!("{ZONES}/{zone}");
    let before = fs::read_link(&link).ok();
    let mut changed = !before.is_some_and(|before| before == Path::new(&target) || before == Path::new(&absolute));
    if changed {
        files::make_dir(&context.at("/etc".as_ref()), 0o755)?;
        replace_link(&link, Path::new(&target))?;
    }
    let name = follow(context, context.at("/etc/timezone".as_ref()))?;
    if let Ok(before) = fs::metadata(&name) {
        changed |= write_if_other(&name, format!("{zone}\n").as_bytes(), 0o644, Some(&before))?;
    }
    Ok(changed)
}

/// Puts a link where a link or file may be, without a moment in which there is none.
fn replace_link(link: &Path, target: &Path) -> Result<(), Error> {
    let temporary = files::temporary_name(link)?;
    if fs::symlink_metadata(&temporary).is_ok() {
        files::remove_file(&temporary)?;
    }
    std::os::unix::fs::symlink(target, &temporary).map_err(Error::path("make the link", &temporary))?;
    fs::rename(&temporary, link).map_err(Error::path("make the link", link))
}

/// Has the time come from servers; says whether anything changed.
pub fn keep_time(context: &Context, time: &TimeSync, sink: &mut dyn Sink) -> Result<bool, Error> {
    let chrony = tool::find(context, "chronyd").is_some();
    let timesyncd = ["/usr/lib/systemd/systemd-timesyncd", "/lib/systemd/systemd-timesyncd"]
        .iter()
        .any(|path| context.at(path.as_ref()).is_file());
    // Who has both has installed chrony on purpose: systemd brings the other.
    let client = match time.client {
        Some(TimeClient::Chrony) | None if chrony => TimeClient::Chrony,
        Some(TimeClient::Timesyncd) | None if timesyncd => TimeClient::Timesyncd,
        Some(_) => return Err(no_client("the program that `ntp_client` names is not there")),
        None => return Err(no_client("neither chrony nor systemd-timesyncd is there")),
    };
    let (mut changed, units) = match client {
        TimeClient::Chrony => (chrony_file(context, time)?, ["chronyd.service", "chrony.service"].as_slice()),
        TimeClient::Timesyncd => {
            if !time.peers.is_empty() || !time.allow.is_empty() {
                let what = "`peers` and `allow` are beyond systemd-timesyncd, which only asks servers";
                sink.event(Event::warning(what));
            }
            (timesyncd_file(context, time)?, ["systemd-timesyncd.service"].as_slice())
        }
    };
    if let Some(unit) = units.iter().find(|unit| systemd::has_unit(context, unit)) {
        changed |= systemd::enable(unit, context, sink)?;
        if changed && systemd::runs(context) {
            systemd::restart(unit, context, sink)?;
        }
    }
    Ok(changed)
}

fn no_client(why: &str) -> Error {
    Error::refused(why, "the image needs the distribution's package `chrony` or `systemd-timesyncd`")
}

fn timesyncd_file(context: &Context, time: &TimeSync) -> Result<bool, Error> {
    let servers: Vec<_> = time.servers.iter().chain(&time.pools).map(String::as_str).collect();
    if servers.is_empty() {
        return Ok(false);
    }
    let path = context.at("/etc/systemd/timesyncd.conf.d/50-kairn.conf".as_ref());
    let text = format!("[Time]\nNTP={}\n", servers.join(" "));
    write_if_other(&path, text.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())
}

fn chrony_file(context: &Context, time: &TimeSync) -> Result<bool, Error> {
    let known = CHRONY_FILES.iter().find(|path| context.at(path.as_ref()).exists());
    let path = follow(context, context.at(known.unwrap_or(&CHRONY_FILES[0]).as_ref()))?;
    let before = files::read_text_if_any(&path)?.unwrap_or_default();
    let text = chrony_text(&before, time);
    // An empty file and none at all are the same to chrony.
    if text == before {
        return Ok(false);
    }
    write_if_other(&path, text.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())
}

/// Puts sources into chrony.conf(5) in place of those that it has, and networks that may ask beside those that may.
fn chrony_text(before: &str, time: &TimeSync) -> String {
    let sources = !(time.servers.is_empty() && time.pools.is_empty() && time.peers.is_empty());
    let mut text = String::new();
    for line in before.lines().filter(|line| !line.ends_with(OURS)) {
        let is_source = matches!(line.split_whitespace().next(), Some("server" | "pool" | "peer"));
        if sources && is_source {
            text.push_str(REPLACED);
        }
        text.push_str(line);
        text.push('\n');
    }
    let mut add = |directive: &str, names: &[String], option: &str| {
        for name in names {
            text.push_str(&format!("{directive} {name}{option} {OURS}\n"));
        }
    };
    add("pool", &time.pools, " iburst");
    add("server", &time.servers, " iburst");
    add("peer", &time.peers, "");
    add("allow", &time.allow, "");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_zone_is_linked_once_and_named_where_its_name_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        assert!(matches!(set_zone(&here, "Europe/Berlin"), Err(Error::Refused { .. })));
        write(dir.path(), "usr/share/zoneinfo/Europe/Berlin", "TZif");
        write(dir.path(), "etc/localtime", "a file");
        assert!(set_zone(&here, "Europe/Berlin").unwrap());
        assert!(!set_zone(&here, "Europe/Berlin").unwrap());
        let target = fs::read_link(dir.path().join("etc/localtime")).unwrap();
        assert_eq!(target, Path::new("../usr/share/zoneinfo/Europe/Berlin"));
        assert!(!dir.path().join("etc/timezone").exists());
        write(dir.path(), "etc/timezone", "Etc/UTC\n");
        assert!(set_zone(&here, "Europe/Berlin").unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("etc/timezone")).unwrap(), "Europe/Berlin\n");
        assert!(!set_zone(&here, "Europe/Berlin").unwrap());
    }

    #[test]
    fn the_time_comes_from_the_program_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        let time = TimeSync { servers: words("a.example"), pools: words("p.example"), ..TimeSync::default() };
        let mut events = Vec::new();
        assert!(matches!(keep_time(&here, &time, &mut events), Err(Error::Refused { .. })));
        write(dir.path(), "usr/lib/systemd/systemd-timesyncd", "");
        assert!(keep_time(&here, &time, &mut events).unwrap());
        assert!(!keep_time(&here, &time, &mut events).unwrap());
        let file = dir.path().join("etc/systemd/timesyncd.conf.d/50-kairn.conf");
        assert_eq!(fs::read_to_string(file).unwrap(), "[Time]\nNTP=a.example p.example\n");
        assert_eq!(events, []);
        let peers = TimeSync { peers: words("b.example"), ..TimeSync::default() };
        assert!(!keep_time(&here, &peers, &mut events).unwrap());
        assert!(matches!(events.as_slice(), [Event::Warning { text }] if text.contains("peers")), "{events:?}");
        write(dir.path(), "usr/sbin/chronyd", "");
        write(dir.path(), "etc/chrony.conf", "pool 2.example iburst\n");
        assert!(keep_time(&here, &time, &mut events).unwrap());
        assert!(!keep_time(&here, &time, &mut events).unwrap());
        let told = TimeSync { client: Some(TimeClient::Timesyncd), ..time };
        assert!(!keep_time(&here, &told, &mut events).unwrap());
    }

    #[test]
    fn sources_of_chrony_are_replaced_and_the_rest_stays() {
        let time = TimeSync {
            client: None,
            servers: words("a.example"),
            pools: words("p.example"),
            peers: words("b.example"),
            allow: words("10.0.0.0/8"),
        };
        let before = "# note\npool 2.debian.pool.ntp.org iburst\ndriftfile /var/lib/chrony/drift\n";
        let text = chrony_text(before, &time);
        let expected = "# note\n# replaced by the configuration: pool 2.debian.pool.ntp.org iburst\ndriftfile \
                        /var/lib/chrony/drift\npool p.example iburst # from the configuration\nserver a.example iburst # \
                        from the configuration\npeer b.example # from the configuration\nallow 10.0.0.0/8 # from the \
                        configuration\n";
        assert_eq!(text, expected);
        assert_eq!(chrony_text(&text, &time), text);
        assert_eq!(chrony_text(before, &TimeSync::default()), before);
    }
}
