//! The end of a boot: what the console shows, and whether the machine goes down again.

use crate::Effect;
use crate::{Context, Error, instance, shell, tool};
use kairn_config::{PowerCondition, PowerMode, PowerState};
use kairn_host::files;
use kairn_report::Sink;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Names the instance that the machine went down for. It must outlive the boot, or the machine would never stay up.
const MARK: &str = "/usr/local/.kairn/power-state";

/// How long asking for the end may take; the end itself is not waited for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why the machine does not go down, found before the condition is asked; otherwise the instance that it would go down for.
pub fn due(context: &Context) -> Result<String, String> {
    for mode in ["live_mode", "recovery_mode"] {
        if context.at(&Path::new("/run/cos").join(mode)).exists() {
            return Err("a live medium and the recovery system stay up: nothing here would outlive it".to_owned());
        }
    }
    if !context.live {
        return Err("this is not the running system".to_owned());
    }
    // An image that has no id yet is one machine at most.
    let id = instance::current(context).map_err(|error| error.to_string())?;
    let id = id.unwrap_or_else(|| "uninitialized".to_owned());
    let mark = files::read_text_if_any(&context.at(MARK.as_ref()));
    match mark {
        Ok(Some(mark)) if mark.trim() == id => Err("it was done for this instance".to_owned()),
        Ok(_) => Ok(id),
        Err(error) => Err(format!("whether it was done for this instance cannot be known: {error}")),
    }
}

/// Has the machine go down, once the mark is on disk.
pub fn go_down(context: &Context, state: &PowerState, id: &str, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let words = words(context, state);
    let Some((program, args)) = words.split_first() else {
        let hint = "the image needs systemd, or another package that has `shutdown`";
        return Err(Error::refused("there is no program that ends the system", hint));
    };
    let mark = context.at(MARK.as_ref());
    if let Some(dir) = mark.parent() {
        files::make_dir(dir, 0o755)?;
    }
    files::write_whole(&mark, format!("{id}\n").as_bytes(), 0o644)?;
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    tool::run(&tool::program(context, program)?.args(args).deadline(DEADLINE), context, sink)?;
    Ok(Effect::Changed)
}

/// Says whether the condition of a machine that is to go down holds; `expand` gives texts their values.
pub fn holds(
    condition: &PowerCondition,
    expand: &mut dyn FnMut(&kairn_config::Text) -> String,
    context: &Context,
    sink: &mut dyn Sink,
) -> Result<bool, Error> {
    match condition {
        PowerCondition::Always => Ok(true),
        PowerCondition::Shell(line) => shell::holds(&expand(line), context, sink),
        PowerCondition::Program(words) => {
            let words: Vec<String> = words.iter().map(expand).collect();
            shell::words_hold(&words, context, sink)
        }
    }
}

/// The program that ends the system, and its arguments; nothing where there is none.
fn words(context: &Context, state: &PowerState) -> Vec<String> {
    let has = |name: &str| tool::find(context, name).is_some();
    let mut words: Vec<String> = Vec::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    if has("shutdown") {
        // Two seconds later, since systemd would end this stage before its results are on disk.
        if state.delay == 0 && has("systemd-run") {
            add(&["systemd-run", "--quiet", "--collect", "--on-active=2"]);
        }
        let (mode, when) = match state.mode {
            PowerMode::Poweroff => ("-P", state.delay),
            PowerMode::Reboot => ("-r", state.delay),
            PowerMode::Halt => ("-H", state.delay),
        };
        let when = if when == 0 { "now".to_owned() } else { format!("+{when}") };
        add(&["shutdown", mode, &when]);
        add(state.message.as_deref().as_slice());
    } else {
        let program = match state.mode {
            PowerMode::Poweroff => "poweroff",
            PowerMode::Reboot => "reboot",
            PowerMode::Halt => "halt",
        };
        if has(program) {
            // BusyBox takes seconds, and waits for them.
            add(&[program, "-d", &(u64::from(state.delay) * 60 + 2).to_string()]);
        }
    }
    words
}

/// Shows a text on the console; `$UPTIME`, `$TIMESTAMP`, `$VERSION` and `$DATASOURCE` stand for what they say.
pub fn tell(context: &Context, text: &str) -> Result<Effect, Error> {
    let console = context.at("/dev/console".as_ref());
    if !context.live || !console.exists() {
        return Ok(Effect::Skipped("there is no console here".to_owned()));
    }
    let text = fill_in(text, context)?;
    let written = OpenOptions::new().write(true).open(&console).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(Error::path("write to", console))?;
    Ok(Effect::Changed)
}

fn fill_in(text: &str, context: &Context) -> Result<String, Error> {
    let uptime = files::read_text_if_any(&context.at("/proc/uptime".as_ref()))?.unwrap_or_default();
    let uptime = uptime.split_whitespace().next().unwrap_or("0");
    let now = context.values.now.map_or_else(|| "unknown".to_owned(), |now| now.to_string());
    let datasource = context.identity.datasource.as_deref().unwrap_or("none");
    let mut text = text.to_owned();
    for (name, value) in [
        ("UPTIME", uptime),
        ("TIMESTAMP", now.as_str()),
        ("VERSION", env!("CARGO_PKG_VERSION")),
        ("DATASOURCE", datasource),
    ] {
        for name in [name.to_owned(), name.to_lowercase()] {
            text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
    }
    Ok(format!("{}\r\n", text.trim_end().replace('\n', "\r\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use crate::context::tests::context;
    use std::fs;

    fn state(mode: PowerMode, delay: u32) -> PowerState {
        PowerState { mode, delay, message: Some("bye now".into()), condition: PowerCondition::Always }
    }

    fn root() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["usr/sbin", "etc", "run/cos", "proc"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let identity = Identity { instance: Some("abc".into()), ..Identity::default() };
        let here = Context { live: true, identity, ..context(dir.path()) };
        (dir, here)
    }

    #[test]
    fn the_program_is_the_one_that_is_there() {
        let (dir, here) = root();
        let said = |mode, delay| words(&here, &state(mode, delay)).join(" ");
        assert_eq!(said(PowerMode::Reboot, 0), "");
        fs::write(dir.path().join("usr/sbin/reboot"), "").unwrap();
        assert_eq!(said(PowerMode::Reboot, 1), "reboot -d 62");
        fs::write(dir.path().join("usr/sbin/shutdown"), "").unwrap();
        assert_eq!(said(PowerMode::Reboot, 0), "shutdown -r now bye now");
        assert_eq!(said(PowerMode::Halt, 5), "shutdown -H +5 bye now");
        fs::write(dir.path().join("usr/sbin/systemd-run"), "").unwrap();
        assert_eq!(said(PowerMode::Poweroff, 0), "systemd-run --quiet --collect --on-active=2 shutdown -P now bye now");
        assert_eq!(said(PowerMode::Poweroff, 2), "shutdown -P +2 bye now");
    }

    #[test]
    fn a_machine_goes_down_once_for_an_instance_and_never_from_a_live_medium() {
        let (dir, here) = root();
        assert_eq!(due(&here), Ok("abc".to_owned()));
        // There is no program that could: nothing is marked.
        assert!(matches!(
            go_down(&here, &state(PowerMode::Halt, 0), "abc", &mut Vec::new()),
            Err(Error::Refused { .. })
        ));
        assert_eq!(due(&here), Ok("abc".to_owned()));
        // A program that cannot run: the mark comes first, so that no boot is the last but one forever.
        fs::write(dir.path().join("usr/sbin/halt"), "").unwrap();
        assert!(go_down(&here, &state(PowerMode::Halt, 0), "abc", &mut Vec::new()).is_err());
        assert_eq!(due(&here), Err("it was done for this instance".to_owned()));
        let here =
            Context { identity: Identity { instance: Some("i-2".into()), ..Identity::default() }, ..here.clone() };
        assert_eq!(due(&here), Ok("i-2".to_owned()));
        fs::write(dir.path().join("run/cos/live_mode"), "").unwrap();
        assert!(due(&here).unwrap_err().contains("live medium"));
        let other = Context { live: false, ..here };
        fs::remove_file(dir.path().join("run/cos/live_mode")).unwrap();
        assert_eq!(due(&other), Err("this is not the running system".to_owned()));
    }

    #[test]
    fn the_last_word_has_its_values() {
        let (dir, here) = root();
        fs::write(dir.path().join("proc/uptime"), "12.34 5.6\n").unwrap();
        let text = fill_in("up $UPTIME s,\nfrom ${datasource} $5\n", &here).unwrap();
        assert_eq!(text, "up 12.34 s,\r\nfrom none $5\r\n");
        fs::create_dir(dir.path().join("dev")).unwrap();
        assert!(matches!(tell(&here, "x").unwrap(), Effect::Skipped(_)));
        fs::write(dir.path().join("dev/console"), "").unwrap();
        assert_eq!(tell(&here, "x").unwrap(), Effect::Changed);
        assert_eq!(fs::read_to_string(dir.path().join("dev/console")).unwrap(), "x\r\n");
    }
}
