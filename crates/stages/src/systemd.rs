//! What is asked of systemd, in the root that is changed.

use crate::{Context, Error, tool};
use kairn_config::UnitVerb;
use kairn_report::Sink;
use std::time::Duration;

/// How long a unit may take to start.
const UNIT_DEADLINE: Duration = Duration::from_secs(300);
/// How long an answer may take.
const QUESTION_DEADLINE: Duration = Duration::from_secs(60);
const SYSTEMCTL: &str = "systemctl";

/// Brings a unit of systemd into a state.
pub fn set(verb: UnitVerb, unit: &str, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    let words = [verb.name(), "--", unit];
    // In the initramfs, and on another root, systemd does not run and only the links are made.
    let offline: &[&str] = if verb == UnitVerb::Start { &[] } else { &["--root=/"] };
    systemctl(offline.iter().copied().chain(words), UNIT_DEADLINE, context, sink)
}

/// Says whether the root has a unit of systemd.
pub fn has_unit(context: &Context, unit: &str) -> bool {
    let dirs = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    dirs.iter().any(|dir| context.at(format!("{dir}/{unit}").as_ref()).exists())
}

/// Has a unit start at boot, unless it does; says whether anything changed.
pub fn enable(name: &str, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    let words = ["--root=/", "--quiet", "is-enabled", "--", name];
    let asked = tool::program(context, SYSTEMCTL)?.args(words).deadline(QUESTION_DEADLINE);
    if tool::ask(&asked, context, sink)?.status.success() {
        return Ok(false);
    }
    set(UnitVerb::Enable, name, context, sink)
}

/// Starts a unit anew, so that it reads its settings.
pub fn restart(unit: &str, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    systemctl(["restart", "--", unit], UNIT_DEADLINE, context, sink)
}

/// Has services that run read their settings anew. One that is not there, or does not run, is no fault.
pub fn reload(units: &[&str], context: &Context, sink: &mut dyn Sink) -> Result<(), Error> {
    for unit in units {
        let words = ["--no-block", "try-reload-or-restart", "--", unit];
        let asked = tool::program(context, SYSTEMCTL)?.args(words).deadline(QUESTION_DEADLINE);
        let status = tool::ask(&asked, context, sink)?.status;
        tracing::debug!(unit, %status, "asked to read its settings anew");
    }
    Ok(())
}

/// Has a systemd that runs read the files of its units anew.
pub fn read_units_anew(context: &Context, sink: &mut dyn Sink) -> Result<(), Error> {
    systemctl(["daemon-reload"], UNIT_DEADLINE, context, sink).map(drop)
}

/// Says whether systemd runs in the root (sd_booted(3)).
pub fn runs(context: &Context) -> bool {
    context.at("/run/systemd/system".as_ref()).is_dir()
}

/// Runs systemctl. Always a change: it does not say whether anything was to be done.
fn systemctl<'a>(
    words: impl IntoIterator<Item = &'a str>,
    deadline: Duration,
    context: &Context,
    sink: &mut dyn Sink,
) -> Result<bool, Error> {
    let program = tool::program(context, SYSTEMCTL)?.args(words).deadline(deadline);
    tool::run(&program, context, sink)?;
    Ok(true)
}
