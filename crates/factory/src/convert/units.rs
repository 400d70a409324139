//! Service units of the image: which are installed and enabled, and which of systemd's would fight with Kairn.

use super::action::Action;
use crate::embedded;
use kairn_host::Content;
use std::path::{Path, PathBuf};

/// Where vendors keep units.
const UNITS: &str = "usr/lib/systemd/system";

/// Units that must not run, each with the reason.
const MASKED: &[(&str, &str)] = &[
    ("systemd-bless-boot.service", "only `kairn health` blesses a deployment"),
    ("systemd-boot-update.service", "the loader changes with a deployment only"),
    ("systemd-boot-system-token.service", "nothing writes to the EFI system partition but Kairn"),
    ("systemd-boot-random-seed.service", "nothing writes to the EFI system partition but Kairn"),
    ("systemd-machine-id-commit.service", "kairn-init keeps the machine id"),
    ("systemd-firstboot.service", "would wait for an answer on the console"),
];

/// Plans all units, their enabling links and the masks.
///
/// Links go to `/usr`, not to `/etc/systemd`, which some existing configurations persist whole: there an upgrade could
/// not change them.
pub(crate) fn plan(actions: &mut Vec<Action>) {
    for (name, content) in embedded::SYSTEMD {
        let path = if is_unit_path(name) { Path::new(UNITS).join(name) } else { Path::new("usr/lib").join(name) };
        actions.push(Action::Write { path, content: Content(content.to_vec()), mode: 0o644 });
        enable(name, content, actions);
    }
    for (unit, _) in MASKED {
        let path = Path::new("etc/systemd/system").join(unit);
        actions.push(Action::Link { path, target: "/dev/null".to_owned() });
    }
}

/// Plans the other files that every image gets, units of programs that it may have among them.
pub(crate) fn plan_files(actions: &mut Vec<Action>) {
    for (path, content) in embedded::IMAGE {
        actions.push(Action::Write { path: PathBuf::from(path), content: Content(content.to_vec()), mode: 0o644 });
        if let Ok(name) = Path::new(path).strip_prefix(UNITS) {
            enable(&name.to_string_lossy(), content, actions);
        }
    }
}

/// `x.service` and `x.service.d/y.conf` are units; `sysctl.d/y.conf` or `systemd/system.conf.d/y.conf` lie below `/usr/lib`.
fn is_unit_path(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    let unit = first.strip_suffix(".d").or_else(|| first.strip_suffix(".wants")).unwrap_or(first);
    let types = [".service", ".target", ".timer", ".socket", ".path", ".mount", ".automount", ".slice", ".swap"];
    types.iter().any(|suffix| unit.ends_with(suffix))
}

/// Makes the links that `systemctl enable` would make for `[Install]` of a unit.
fn enable(name: &str, content: &[u8], actions: &mut Vec<Action>) {
    if name.contains('/') {
        return;
    }
    let text = String::from_utf8_lossy(content);
    let mut installing = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            installing = line == "[Install]";
        }
        let Some((key, value)) = line.split_once('=').filter(|_| installing) else { continue };
        let suffix = match key.trim() {
            "WantedBy" => "wants",
            "RequiredBy" => "requires",
            _ => continue,
        };
        for target in value.split_ascii_whitespace() {
            let path = Path::new(UNITS).join(format!("{target}.{suffix}")).join(name);
            actions.push(Action::Link { path, target: format!("../{name}") });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_enabled_where_its_install_section_says() {
        let mut actions = Vec::new();
        enable("a.service", b"[Unit]\nWantedBy=no\n[Install]\nWantedBy=x.target y.target\nAlias=z\n", &mut actions);
        let links: Vec<String> = actions.iter().map(ToString::to_string).collect();
        assert_eq!(
            links,
            [
                "link /usr/lib/systemd/system/x.target.wants/a.service to ../a.service",
                "link /usr/lib/systemd/system/y.target.wants/a.service to ../a.service"
            ]
        );
    }

    #[test]
    fn the_stages_of_a_running_system_are_enabled() {
        let mut actions = Vec::new();
        plan(&mut actions);
        let links: Vec<String> = actions.iter().map(ToString::to_string).collect();
        for (target, unit) in [
            ("sysinit.target", "kairn-stage-fs.service"),
            ("multi-user.target", "kairn-stage-boot.service"),
            ("multi-user.target", "kairn-stage-network.service"),
            ("multi-user.target", "kairn-stage-first-boot.service"),
            ("multi-user.target", "kairn-bootstrap.service"),
            ("timers.target", "kairn-stage-reconcile.timer"),
            ("multi-user.target", "kairn-mesh.service"),
            ("sockets.target", "kairn-mesh-shell.socket"),
        ] {
            let wanted = format!("link /usr/lib/systemd/system/{target}.wants/{unit} to ../{unit}");
            assert!(links.contains(&wanted), "{wanted}");
        }
        assert!(!links.iter().any(|link| link.starts_with("link") && link.contains("kairn-stage-reconcile.service")));
    }

    #[test]
    fn drop_ins_of_units_lie_beside_units() {
        assert!(is_unit_path("ssh.service.d/x.conf") && is_unit_path("kairn-health.timer"));
        assert!(!is_unit_path("sysctl.d/x.conf") && !is_unit_path("systemd/system.conf.d/x.conf"));
    }
}
