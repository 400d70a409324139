//! Running a program of another root file system: chrooted, its lines handed on as they come, with a deadline.
#![allow(unsafe_code, reason = "a child enters its root between fork and exec")]

use crate::{Error, Invocation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest line that is handed on whole, in bytes.
const LINE: usize = 4096;

/// Runs a program with `root` as its root directory; stdout and stderr go line by line to `line`, and `tick` is called at
/// least every `every`. Only the invocation's own environment is passed. The exit status is the caller's to judge.
///
/// Output of grandchildren that outlive the program is not waited for.
///
/// # Errors
/// It cannot be started, or its deadline passed (then its process group was killed).
pub fn run_in_root(
    root: &Path,
    invocation: &Invocation,
    every: Duration,
    line: &mut dyn FnMut(&str),
    tick: &mut dyn FnMut(),
) -> Result<ExitStatus, Error> {
    let broken = |errno: Errno| Error::errno("run", &invocation.program)(errno);
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(broken)?;
    let second = writer.try_clone().map_err(Error::path("run", &invocation.program))?;
    let enter = CString::new(root.as_os_str().as_bytes()).map_err(|_| broken(Errno::INVAL))?;
    let mut command = Command::new(&invocation.program);
    command.args(&invocation.args).env_clear().envs(&invocation.env).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(Stdio::from(second));
    // SAFETY: between fork and exec only chroot(2) and chdir(2) are called, both async-signal-safe, on memory made before.
    unsafe {
        command.pre_exec(move || {
            rustix::process::chroot(&enter)?;
            rustix::process::chdir(c"/")?;
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NoProgram { program: invocation.program.clone() },
        _ => Error::Path { action: "run", path: invocation.program.clone().into(), source },
    })?;
    // The command holds our ends of the pipe open until it is dropped.
    drop(command);
    rustix::io::ioctl_fionbio(&reader, true).map_err(broken)?;
    let mut lines = Lines { pipe: reader.into(), rest: Vec::new(), open: true };
    let pid = Pid::from_child(&child);
    let exited = pidfd_open(pid, PidfdFlags::empty()).map_err(broken)?;
    let end = Instant::now() + invocation.deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            kill_process_group(pid, Signal::KILL).map_err(broken)?;
            child.wait().map_err(Error::path("wait for", &invocation.program))?;
            lines.drain(line, true)?;
            return Err(Error::Deadline {
                command: invocation.to_string(),
                deadline: invocation.deadline,
                stderr: String::new(),
            });
        }
        let slice = left.min(every);
        let timeout = Timespec {
            tv_sec: i64::try_from(slice.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: slice.subsec_nanos().into(),
        };
        let mut waits = [PollFd::new(&exited, PollFlags::IN), PollFd::new(&lines.pipe, PollFlags::IN)];
        // A pipe whose writers are gone is always ready.
        let watched = if lines.open { waits.get_mut(..) } else { waits.get_mut(..1) };
        match watched.map_or(Ok(0), |waits| poll(waits, Some(&timeout))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(broken(errno)),
        }
        let ended = waits.first().is_some_and(|wait| !wait.revents().is_empty());
        lines.drain(line, ended)?;
        tick();
        if ended {
            return child.wait().map_err(Error::path("wait for", &invocation.program));
        }
    }
}

struct Lines {
    pipe: File,
    rest: Vec<u8>,
    open: bool,
}

impl Lines {
    fn drain(&mut self, line: &mut dyn FnMut(&str), last: bool) -> Result<(), Error> {
        let mut buffer = [0; LINE];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.open = false;
                    break;
                }
                Ok(length) => self.rest.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::path("read the output of", "the program")(error)),
            }
            self.hand_on(line);
        }
        self.hand_on(line);
        if last && !self.rest.is_empty() {
            line(&String::from_utf8_lossy(&self.rest));
            self.rest.clear();
        }
        Ok(())
    }

    fn hand_on(&mut self, line: &mut dyn FnMut(&str)) {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let taken: Vec<u8> = self.rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&taken);
            let text = text.trim_end();
            if !text.is_empty() {
                line(text);
            }
        }
        if self.rest.len() > LINE {
            line(&String::from_utf8_lossy(&self.rest));
            self.rest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, deadline: Duration) -> (Result<ExitStatus, Error>, Vec<String>, u32) {
        let (mut lines, mut ticks) = (Vec::new(), 0);
        let shell = Invocation::new("/bin/sh").args(["-c", script]).env("PATH", "/usr/bin:/bin").deadline(deadline);
        let ended = run_in_root(
            Path::new("/"),
            &shell,
            Duration::from_millis(10),
            &mut |line| lines.push(line.to_owned()),
            &mut || ticks += 1,
        );
        (ended, lines, ticks)
    }

    fn can_chroot() -> bool {
        let can = rustix::process::geteuid().is_root();
        if !can {
            eprintln!("skipped: chroot needs root");
        }
        can
    }

    #[test]
    fn lines_of_both_streams_are_handed_on_with_the_status() {
        if can_chroot() {
            let (ended, lines, _) = run("echo one; echo two >&2; printf three; exit 3", Duration::from_secs(60));
            assert_eq!(ended.unwrap().code(), Some(3));
            assert_eq!(lines, ["one", "two", "three"]);
        }
    }

    #[test]
    fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
        if can_chroot() {
            let start = Instant::now();
            let (ended, lines, _) = run("sleep 60 & echo $!", Duration::from_secs(30));
            assert!(ended.unwrap().success() && start.elapsed() < Duration::from_secs(20));
            let pid = lines[0].parse().ok().and_then(Pid::from_raw).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
    }

    #[test]
    fn a_program_past_its_deadline_is_killed_while_ticks_go_on() {
        if can_chroot() {
            let (ended, lines, ticks) = run("echo begun; sleep 600", Duration::from_millis(300));
            assert!(matches!(ended.unwrap_err(), Error::Deadline { .. }));
            assert!(lines == ["begun"] && ticks >= 3, "{lines:?} {ticks}");
        }
    }

    #[test]
    fn an_absent_program_is_named() {
        if can_chroot() {
            let absent = Invocation::new("/no/such").deadline(Duration::from_secs(5));
            let error =
                run_in_root(Path::new("/"), &absent, Duration::from_secs(1), &mut |_| {}, &mut || {}).unwrap_err();
            assert!(matches!(error, Error::NoProgram { program } if program == "/no/such"));
        }
    }
}
