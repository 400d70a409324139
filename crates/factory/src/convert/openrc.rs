//! Services of OpenRC that run the stages of the configuration, for images that have it.
//!
//! Invariant: `/etc/init.d` holds only a line that reads what lies in `/usr`, since it is kept from a machine's first boot on and would
//! otherwise keep the services of that image for ever.

use super::action::Action;
use crate::Error;
use crate::embedded;
use crate::rootfs::Rootfs;
use kairn_host::Content;
use std::path::Path;

/// Where the image keeps what its services do.
const DIR: &str = "usr/lib/kairn/openrc";
/// Services are named so; other files beside them are programs of theirs.
const SERVICE: &str = "kairn-";

/// Says whether an image has OpenRC.
pub(crate) fn is_in(tree: &Rootfs) -> Result<bool, Error> {
    Ok(tree.program("openrc-run")?.is_some())
}

/// Plans the services and the links that start them in the runlevel `default`.
pub(crate) fn plan(actions: &mut Vec<Action>) {
    for (name, content) in embedded::OPENRC {
        let is_service = name.starts_with(SERVICE);
        let path = Path::new(DIR).join(name);
        let mode = if is_service { 0o644 } else { 0o755 };
        actions.push(Action::Write { path, content: Content(content.to_vec()), mode });
        if is_service {
            let path = Path::new("etc/init.d").join(name);
            actions.push(Action::Write { path, content: Content(stub(name).into_bytes()), mode: 0o755 });
            let path = Path::new("etc/runlevels/default").join(name);
            actions.push(Action::Link { path, target: format!("/etc/init.d/{name}") });
        }
    }
}

fn stub(name: &str) -> String {
    format!(
        "#!/sbin/openrc-run\n# What this service does comes with the image: this file outlives it.\n. /{DIR}/{name}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::process::{Command, Stdio};

    /// What the plan writes, file by file.
    const GOLDEN: &str = "tests/golden/openrc.txt";

    #[test]
    fn the_services_are_those_of_the_golden_file() {
        let mut actions = Vec::new();
        plan(&mut actions);
        let mut text = String::new();
        for action in &actions {
            writeln!(text, "==== {action}").unwrap();
            if let Action::Write { content, .. } = action {
                text.push_str(std::str::from_utf8(&content.0).unwrap());
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
        if std::env::var_os("KAIRN_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "KAIRN_UPDATE_GOLDEN=1 writes {GOLDEN}");
    }

    #[test]
    fn the_shell_understands_every_script() {
        let mut actions = Vec::new();
        plan(&mut actions);
        for action in &actions {
            let Action::Write { path, content, .. } = action else { continue };
            let Ok(mut shell) = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn() else {
                eprintln!("skipped: no shell");
                return;
            };
            std::io::Write::write_all(&mut shell.stdin.take().unwrap(), &content.0).unwrap();
            assert!(shell.wait().unwrap().success(), "{}", path.display());
        }
    }

    #[test]
    fn every_stage_of_a_running_system_but_fs_has_its_service() {
        let services: Vec<&str> = embedded::OPENRC.iter().map(|(name, _)| *name).collect();
        for stage in ["boot", "network", "first-boot", "reconcile"] {
            assert!(services.contains(&format!("kairn-stage-{stage}").as_str()), "{stage}");
        }
    }
}
