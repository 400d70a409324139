//! Units of systemd: their states, and their drop-ins.

use crate::system::write;
use crate::{Context, Effect, Error, systemd};
use kairn_config::{DropIn, UnitVerb, UnitWork};
use kairn_report::Sink;

/// Brings a unit about as it is wanted.
pub fn perform(work: &UnitWork, context: &Context, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let changed = match work {
        UnitWork::State { verb: UnitVerb::Start, .. } if !systemd::runs(context) => {
            return Ok(Effect::Skipped("systemd does not run yet".into()));
        }
        UnitWork::State { verb, unit } => systemd::set(*verb, unit, context, sink)?,
        UnitWork::DropIn(drop_in) => put(drop_in, context, sink)?,
    };
    Ok(if changed { Effect::Changed } else { Effect::Unchanged })
}

/// Writes a drop-in, and lets a systemd that runs read it.
fn put(drop_in: &DropIn, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    let changed = write(context, &drop_in.path(), drop_in.content.reveal())?;
    if changed && systemd::runs(context) {
        systemd::read_units_anew(context, sink)?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::tool::tests::{calls, root_with_shell, stand_in};
    use crate::{Effect, run};
    use kairn_config::Document;
    use std::fs;

    const TEXT: &str = "stages:\n  boot:\n  - systemctl:\n      start: [a.timer]\n      overrides:\n      - service: a.timer\n        content: |\n          [Timer]\n          OnBootSec=5\n      - service: sshd\n        name: nice\n        content: '[Service]'\n      - content: x\n";

    #[test]
    fn drop_ins_are_written_before_units_start_and_read_once() {
        let Some(root) = root_with_shell() else { return };
        stand_in(root.path(), "systemctl", "");
        fs::rename(root.path().join("usr/sbin/systemctl"), root.path().join("usr/bin/systemctl")).unwrap();
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        let stage = || run(&[Document::parse("t", TEXT)], "boot", &context(root.path()), &mut Vec::new());
        let first = stage();
        assert_eq!(first.failures(), 2, "{first:?}");
        assert!(first.diagnostics[0].to_string().contains("`service` is missing"), "{first:?}");
        let etc = root.path().join("etc/systemd/system");
        assert_eq!(fs::read_to_string(etc.join("a.timer.d/override-yip.conf")).unwrap(), "[Timer]\nOnBootSec=5\n");
        assert_eq!(fs::read_to_string(etc.join("sshd.service.d/nice.conf")).unwrap(), "[Service]");
        let reload = "systemctl daemon-reload";
        assert_eq!(calls(root.path()), [reload, reload, "systemctl start -- a.timer"]);
        let second = stage();
        assert_eq!(second.steps[0].actions[0].effect, Effect::Unchanged);
        assert_eq!(calls(root.path()), ["systemctl start -- a.timer"]);
    }
}
