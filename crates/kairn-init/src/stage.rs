//! Running a stage by the release's own static `kairn`, chrooted into the root.

use crate::Error;
use crate::journal::{Journal, Level};
use kairn_host::{Invocation, run_in_root};
use std::path::Path;
use std::time::Duration;

/// Runs a stage to its end. Its lines go to the kernel's log.
///
/// # Errors
/// The program is absent, fails, or does not end within `deadline`.
pub fn run(
    root: &Path,
    name: &str,
    deadline: Duration,
    journal: &mut Journal,
    tick: &mut dyn FnMut(),
) -> Result<(), Error> {
    let command = Invocation::new("/usr/bin/kairn")
        .args(["stage", "run", name])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .deadline(deadline);
    let who = format!("kairn stage {name}");
    let mut say = |line: &str| journal.line(Level::Notice, &who, line);
    let status = run_in_root(root, &command, Duration::from_secs(5), &mut say, tick)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Program { command: command.to_string(), status: status.to_string() })
}
