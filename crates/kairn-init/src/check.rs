//! Checking an ext4 file system with the release's own `e2fsck`, chrooted into the root.
//!
//! A file system that says it is clean is not checked: `e2fsck -p` would say the same after it has been loaded and linked.

use crate::Error;
use crate::blocks::{self, Ext};
use crate::journal::{Journal, Level};
use kairn_host::{Clock, Invocation, SystemClock, run_in_root};
use kairn_report::{Event, Sink};
use std::path::Path;
use std::time::Duration;

/// Where distributions keep it, below the root.
const PROGRAMS: [&str; 3] = ["/usr/sbin/e2fsck", "/sbin/e2fsck", "/usr/bin/e2fsck"];
/// From here on errors were left uncorrected (e2fsck(8), exit code).
const UNCORRECTED: i32 = 4;

/// What the command line says about checks (`fsck.mode`, `fsck.repair` of systemd-fsck(8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `fsck.mode=skip`.
    pub skip: bool,
    /// `fsck.mode=force`.
    pub force: bool,
    /// `fsck.repair=yes`: repairs that may lose data, too.
    pub all: bool,
    /// `fsck.repair=no`.
    pub look_only: bool,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It was not needed, for this reason.
    Skipped(String),
    /// All is well, or was made so.
    Good,
    /// Errors are left.
    Bad(String),
}

impl Policy {
    /// Decides on arguments for `e2fsck`, or why it does not run.
    ///
    /// # Errors
    /// The reason why it does not run.
    pub fn decide(self, ext: Option<&Ext>) -> Result<Vec<&'static str>, &'static str> {
        match ext {
            None => Err("it is no ext4 file system"),
            Some(_) if self.skip => Err("fsck.mode=skip"),
            Some(ext) if ext.clean && !self.force => Err("it was unmounted cleanly"),
            Some(_) => {
                let repair = if self.all {
                    "-y"
                } else if self.look_only {
                    "-n"
                } else {
                    "-p"
                };
                Ok(if self.force { vec![repair, "-f"] } else { vec![repair] })
            }
        }
    }
}

/// Checks the file system on a device, which is not mounted.
///
/// # Errors
/// The device cannot be read, or the check does not end in time.
pub fn check(
    root: &Path,
    device: &Path,
    policy: Policy,
    deadline: Duration,
    journal: &mut Journal,
    tick: &mut dyn FnMut(),
) -> Result<Checked, Error> {
    let now = SystemClock.since_epoch().as_secs();
    let ext = match blocks::open(device)? {
        Some(mut file) => blocks::ext(&mut file, now).map_err(kairn_host::Error::path("read", device))?,
        None => None,
    };
    let args = match policy.decide(ext.as_ref()) {
        Ok(args) => args,
        Err(why) => return Ok(Checked::Skipped(why.to_owned())),
    };
    let Some(program) = PROGRAMS.iter().find(|program| root.join(program.trim_start_matches('/')).exists()) else {
        let why = "the release has no e2fsck";
        journal.event(Event::warning(format!("{} needs a check, but {why}", device.display())));
        return Ok(Checked::Skipped(why.to_owned()));
    };
    let node = device.display().to_string();
    let command = Invocation::new(*program).args(args).arg(node).env("PATH", "/usr/sbin:/sbin").deadline(deadline);
    let mut say = |line: &str| journal.line(Level::Notice, "e2fsck", line);
    let status = run_in_root(root, &command, Duration::from_secs(5), &mut say, tick)?;
    Ok(match status.code() {
        Some(code) if code < UNCORRECTED => Checked::Good,
        Some(code) => Checked::Bad(format!("e2fsck exit code {code}")),
        None => Checked::Bad(format!("e2fsck died of {status}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn ext(clean: bool) -> Ext {
        Ext { label: String::new(), uuid: String::new(), clean }
    }

    #[test]
    fn a_check_runs_when_it_is_needed_or_asked_for() {
        let policy = Policy::default();
        assert_eq!(policy.decide(Some(&ext(false))), Ok(vec!["-p"]));
        assert!(policy.decide(Some(&ext(true))).is_err() && policy.decide(None).is_err());
        assert_eq!(Policy { force: true, ..policy }.decide(Some(&ext(true))), Ok(vec!["-p", "-f"]));
        assert_eq!(Policy { all: true, ..policy }.decide(Some(&ext(false))), Ok(vec!["-y"]));
        assert!(Policy { skip: true, ..policy }.decide(Some(&ext(false))).is_err());
    }

    #[test]
    fn damage_that_needs_a_decision_is_bad_and_an_unclean_end_is_repaired() {
        if !rustix::process::geteuid().is_root() || Command::new("e2fsck").arg("-V").output().is_err() {
            eprintln!("skipped: needs root and `e2fsck`");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        let run = |program: &str, args: &[&str]| {
            let done = Command::new(program).args(args).arg(file.path()).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        let judge = |policy| {
            let deadline = Duration::from_secs(60);
            check(Path::new("/"), file.path(), policy, deadline, &mut Journal::default(), &mut || {}).unwrap()
        };
        run("mke2fs", &["-q", "-F", "-t", "ext4"]);
        assert!(matches!(judge(Policy::default()), Checked::Skipped(_)));
        run("debugfs", &["-w", "-R", "set_super_value state 0"]);
        assert_eq!(judge(Policy::default()), Checked::Good);
        assert!(matches!(judge(Policy::default()), Checked::Skipped(_)));
        // The root directory's block map is gone: -p asks for a person, -y does it.
        run("debugfs", &["-w", "-R", "clri <2>"]);
        run("debugfs", &["-w", "-R", "set_super_value state 2"]);
        assert!(matches!(judge(Policy::default()), Checked::Bad(_)));
        assert_eq!(judge(Policy { all: true, ..Policy::default() }), Checked::Good);
    }
}
