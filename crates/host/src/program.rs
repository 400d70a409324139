//! The one way to run another program: an argument vector, never a shell string; stderr kept for the error; a deadline.

use crate::Error;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// How much of stderr an error shows, in bytes from its end.
const STDERR_SHOWN: usize = 4096;

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invocation {
    /// Name, looked up in PATH, or absolute path.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment in addition to the inherited one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// What the program reads on its standard input.
    #[serde(skip)]
    pub stdin: Vec<u8>,
    /// How long it may take.
    pub deadline: Duration,
    /// Exit codes besides zero that are no errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<i32>,
}

impl Invocation {
    /// Names a program; ten minutes until [`Invocation::deadline`] says otherwise.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            stdin: Vec::new(),
            deadline: Duration::from_secs(600),
            accepted: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Gives it something to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Takes an exit code for success, as checkers of file systems end with 1 after a repair.
    #[must_use]
    pub fn accepting(mut self, code: i32) -> Self {
        self.accepted.push(code);
        self
    }

    /// Sets how long it may take.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// The command as a person would type it.
impl std::fmt::Display for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program)?;
        for arg in &self.args {
            let plain = !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&b));
            if plain {
                write!(f, " {arg}")?;
            } else {
                write!(f, " '{}'", arg.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

/// What a program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// All it wrote to stdout.
    pub stdout: Vec<u8>,
    /// All it wrote to stderr, lossily decoded.
    pub stderr: String,
}

impl Finished {
    /// Returns stdout as text, lossily decoded.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs programs; tests put stand-ins in place of names.
#[derive(Clone, Debug, Default)]
pub struct Runner {
    /// Paths that stand for program names.
    pub overrides: BTreeMap<String, PathBuf>,
}

impl Runner {
    /// Runs a program to its end and fails unless it exits with zero or a code that is accepted.
    ///
    /// # Errors
    /// Not installed, ended with an error, or past its deadline (then its whole process group was killed).
    pub fn run(&self, invocation: &Invocation) -> Result<Finished, Error> {
        checked(invocation, self.run_unchecked(invocation)?)
    }

    /// Runs a program to its end; its exit status is the caller's to judge.
    ///
    /// # Errors
    /// Not installed, or past its deadline (then its whole process group was killed).
    pub fn run_unchecked(&self, invocation: &Invocation) -> Result<Finished, Error> {
        let child = self.spawn(invocation)?;
        finish(child, invocation)
    }

    fn spawn(&self, invocation: &Invocation) -> Result<Child, Error> {
        let path =
            self.overrides.get(&invocation.program).cloned().unwrap_or_else(|| invocation.program.clone().into());
        let mut command = Command::new(&path);
        command.args(&invocation.args).envs(&invocation.env).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &invocation.dir {
            // Looked at first, since the spawn would report its absence as that of the program.
            dir.metadata().map_err(Error::path("enter", dir))?;
            command.current_dir(dir);
        }
        tracing::debug!(command = %invocation, "running");
        command.spawn().map_err(|source| {
            // One unreadable directory in PATH turns "not found" into "permission denied" (execvp(3)).
            let hidden = source.kind() == std::io::ErrorKind::PermissionDenied && !seen_in_path(&path);
            if source.kind() == std::io::ErrorKind::NotFound || hidden {
                Error::NoProgram { program: invocation.program.clone() }
            } else {
                Error::Path { action: "run", path, source }
            }
        })
    }
}

fn seen_in_path(program: &Path) -> bool {
    let named = program.components().count() > 1;
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    named || std::env::split_paths(&dirs).any(|dir| dir.join(program).exists())
}

/// Turns an exit status other than zero and those that are accepted into an error.
pub(crate) fn checked(invocation: &Invocation, finished: Finished) -> Result<Finished, Error> {
    let accepted = finished.status.code().is_some_and(|code| invocation.accepted.contains(&code));
    if finished.status.success() || accepted {
        return Ok(finished);
    }
    Err(Error::Program {
        command: invocation.to_string(),
        status: status_in_words(finished.status),
        stderr: tail(&finished.stderr).to_owned(),
    })
}

/// Feeds a started child, collects what it says, and waits for its end. Its three streams are pipes, and it leads a process
/// group, which is killed at the deadline.
pub(crate) fn finish(mut child: Child, invocation: &Invocation) -> Result<Finished, Error> {
    let broken = |source| Error::Path { action: "talk to", path: invocation.program.clone().into(), source };
    let stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let feed = scope.spawn(|| match stdin {
            // A program may end without reading all of its input; its exit status tells, not the broken pipe.
            Some(mut stdin) => match stdin.write_all(&invocation.stdin) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
                _ => Ok(()),
            },
            None => Ok(()),
        });
        let out = scope.spawn(move || drain(stdout.as_mut()));
        let err = scope.spawn(move || drain(stderr.as_mut()));
        let status = wait(&mut child, invocation.deadline);
        if !matches!(status, Ok(Some(_))) {
            kill_group(&child);
        }
        let died = || std::io::Error::other("a reader thread died");
        feed.join().map_err(|_| died()).and_then(|fed| fed).map_err(broken)?;
        let stdout = out.join().map_err(|_| died()).and_then(|read| read).map_err(broken)?;
        let stderr = err.join().map_err(|_| died()).and_then(|read| read).map_err(broken)?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        match status.map_err(broken)? {
            Some(status) => Ok(Finished { status, stdout, stderr }),
            None => {
                child.wait().map_err(broken)?;
                Err(Error::Deadline {
                    command: invocation.to_string(),
                    deadline: invocation.deadline,
                    stderr: tail(&stderr).to_owned(),
                })
            }
        }
    })
}

/// Waits on a pidfd, which no signal of another thread disturbs. `None` when the deadline passed.
fn wait(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_child(child);
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    let end = std::time::Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return child.try_wait(),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn kill_group(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Err(error) = kill_process_group(Pid::from_child(child), Signal::KILL) {
        tracing::warn!(pid = child.id(), %error, "cannot kill a program's process group");
    }
}

fn drain(stream: Option<&mut impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(STDERR_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or(text)
}

fn status_in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_its_command_status_and_stderr() {
        let shell = Invocation::new("sh").args(["-c", "cat; echo no >&2; exit 3"]).stdin("fed");
        let error = Runner::default().run(&shell).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'cat; echo no >&2; exit 3'` failed with exit code 3; it said: no");
        assert_eq!(Runner::default().run_unchecked(&shell).unwrap().text(), "fed");
        assert_eq!(Runner::default().run(&shell.accepting(3)).unwrap().text(), "fed");
        assert!(Runner::default().run(&Invocation::new("false").accepting(3)).is_err());
    }

    #[test]
    fn an_absent_program_is_named() {
        let error = Runner::default().run(&Invocation::new("kairn-no-such-program")).unwrap_err();
        assert!(matches!(error, Error::NoProgram { program } if program == "kairn-no-such-program"));
    }

    #[test]
    fn an_absent_working_directory_is_not_taken_for_an_absent_program() {
        let error = Runner::default().run(&Invocation::new("true").dir("/no/such")).unwrap_err();
        assert!(matches!(error, Error::Path { path, .. } if path.as_os_str() == "/no/such"));
    }

    #[test]
    fn a_program_past_its_deadline_is_killed_with_its_children() {
        let slow = Invocation::new("sh").args(["-c", "sleep 600 & sleep 600"]).deadline(Duration::from_millis(50));
        assert!(matches!(Runner::default().run(&slow).unwrap_err(), Error::Deadline { .. }));
    }

    #[test]
    fn a_stand_in_takes_the_place_of_a_program() {
        let runner = Runner { overrides: [("mkfs.none".to_owned(), PathBuf::from("/bin/echo"))].into() };
        assert_eq!(runner.run(&Invocation::new("mkfs.none").arg("hi")).unwrap().text(), "hi\n");
    }
}
