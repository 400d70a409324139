//! Settings of the ssh daemon, in a file of their own beside the distribution's.

use crate::files::write_if_other;
use crate::{Context, Error, systemd};
use kairn_config::SshDaemon;
use kairn_host::files;
use kairn_report::{Event, Sink};
use std::fs;
use std::path::Path;

const MAIN: &str = "/etc/ssh/sshd_config";
/// Of several values the first counts (sshd_config(5)): this file comes early among its like.
const OURS: &str = "/etc/ssh/sshd_config.d/10-kairn.conf";

/// Writes the settings and has a daemon that runs read them; says whether anything changed.
pub fn ensure(context: &Context, settings: SshDaemon, sink: &mut dyn Sink) -> Result<bool, Error> {
    let main = files::read_text_if_any(&context.at(Path::new(MAIN)))?;
    match main {
        None => sink.event(Event::warning(format!("there is no `{MAIN}`; `{OURS}` may have no effect"))),
        Some(text) if !includes_ours(&text) => {
            sink.event(Event::warning(format!("`{MAIN}` includes no files; `{OURS}` has no effect")));
        }
        Some(_) => {}
    }
    let mut text = String::from("# From `ssh_pwauth` and `disable_root` of the configuration.\n");
    if let Some(passwords) = settings.passwords {
        text.push_str(if passwords { "PasswordAuthentication yes\n" } else { "PasswordAuthentication no\n" });
        // Where PAM asks for the password, it is another method with another switch.
        if !passwords {
            text.push_str("KbdInteractiveAuthentication no\n");
        }
    }
    if settings.no_root {
        text.push_str("PermitRootLogin no\n");
    }
    let path = context.at(Path::new(OURS));
    let changed = write_if_other(&path, text.as_bytes(), 0o600, fs::metadata(&path).ok().as_ref())?;
    if changed && context.live && systemd::runs(context) {
        systemd::reload(&["ssh.service", "sshd.service"], context, sink)?;
    }
    Ok(changed)
}

/// The directory must come before any setting of the same name, which distributions see to.
fn includes_ours(main: &str) -> bool {
    main.lines().any(|line| {
        let mut words = line.split_whitespace();
        let include = words.next().is_some_and(|word| word.eq_ignore_ascii_case("include"));
        include && words.any(|word| word.trim_matches('"').contains("sshd_config.d/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn settings_lie_in_a_file_of_their_own_and_one_that_nobody_reads_is_told() {
        let root = tempfile::tempdir().unwrap();
        let context = context(root.path());
        fs::create_dir_all(root.path().join("etc/ssh")).unwrap();
        let main = root.path().join("etc/ssh/sshd_config");
        fs::write(&main, "PermitRootLogin yes\n").unwrap();
        let mut events = Vec::new();
        let settings = SshDaemon { passwords: Some(false), no_root: true };
        assert!(ensure(&context, settings, &mut events).unwrap());
        assert!(matches!(&events[0], Event::Warning { text } if text.contains("has no effect")), "{events:?}");
        events.clear();
        fs::write(&main, "Include /etc/ssh/sshd_config.d/*.conf\n").unwrap();
        assert!(!ensure(&context, settings, &mut events).unwrap());
        assert!(events.is_empty());
        let path = root.path().join("etc/ssh/sshd_config.d/10-kairn.conf");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(ensure(&context, SshDaemon { passwords: Some(true), no_root: false }, &mut events).unwrap());
        assert!(fs::read_to_string(&path).unwrap().ends_with("\nPasswordAuthentication yes\n"));
    }
}
