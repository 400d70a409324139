//! How names are resolved: resolv.conf(5), or the settings of systemd-resolved where that program writes the file.

use crate::files::write_if_other;
use crate::{Context, Error, systemd};
use kairn_config::NameServers;
use kairn_report::Sink;
use std::fs;

/// Sets name servers; says whether anything changed.
pub fn set(context: &Context, servers: &NameServers, sink: &mut dyn Sink) -> Result<bool, Error> {
    let file = context.at("/etc/resolv.conf".as_ref());
    let resolved = fs::read_link(&file).is_ok_and(|target| target.to_string_lossy().contains("systemd/resolve"));
    if resolved {
        let path = context.at("/etc/systemd/resolved.conf.d/50-kairn.conf".as_ref());
        let changed = write_if_other(&path, drop_in(servers).as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())?;
        if changed && systemd::runs(context) {
            systemd::restart("systemd-resolved.service", context, sink)?;
        }
        return Ok(changed);
    }
    // A link elsewhere is that of another program, which would write over it: the file takes its place.
    let before = fs::symlink_metadata(&file).ok().filter(fs::Metadata::is_file);
    write_if_other(&file, text(servers).as_bytes(), 0o644, before.as_ref())
}

fn text(servers: &NameServers) -> String {
    let mut text = String::from("# Written by the configuration (resolv_conf).\n");
    let mut line = |key: &str, words: &[String]| {
        if !words.is_empty() {
            text.push_str(&format!("{key} {}\n", words.join(" ")));
        }
    };
    line("domain", servers.domain.as_slice());
    line("search", &servers.search);
    line("sortlist", &servers.sort);
    line("options", &servers.options);
    servers.servers.iter().for_each(|server| line("nameserver", std::slice::from_ref(server)));
    text
}

/// resolved.conf(5); it knows neither a sort list nor options.
fn drop_in(servers: &NameServers) -> String {
    let domains: Vec<_> = servers.domain.iter().chain(&servers.search).map(String::as_str).collect();
    let mut text = String::from("[Resolve]\n");
    if !servers.servers.is_empty() {
        text.push_str(&format!("DNS={}\n", servers.servers.join(" ")));
    }
    if !domains.is_empty() {
        text.push_str(&format!("Domains={}\n", domains.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_file_is_written_unless_systemd_resolved_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let servers = NameServers {
            servers: words("9.9.9.9 ::1"),
            search: words("a.example b.example"),
            domain: Some("a.example".into()),
            sort: words("10.0.0.0/8"),
            options: words("rotate timeout:1"),
        };
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        symlink("/run/elsewhere/resolv.conf", etc.join("resolv.conf")).unwrap();
        let mut events = Vec::new();
        assert!(set(&here, &servers, &mut events).unwrap());
        assert!(!set(&here, &servers, &mut events).unwrap());
        assert_eq!(
            fs::read_to_string(etc.join("resolv.conf")).unwrap(),
            "# Written by the configuration (resolv_conf).\ndomain a.example\nsearch a.example b.example\nsortlist 10.0.0.0/8\n\
             options rotate timeout:1\nnameserver 9.9.9.9\nnameserver ::1\n"
        );
        fs::remove_file(etc.join("resolv.conf")).unwrap();
        symlink("../run/systemd/resolve/stub-resolv.conf", etc.join("resolv.conf")).unwrap();
        assert!(set(&here, &servers, &mut events).unwrap());
        assert!(!set(&here, &servers, &mut events).unwrap());
        assert_eq!(
            fs::read_to_string(etc.join("systemd/resolved.conf.d/50-kairn.conf")).unwrap(),
            "[Resolve]\nDNS=9.9.9.9 ::1\nDomains=a.example a.example b.example\n"
        );
    }
}
