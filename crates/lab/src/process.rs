//! A process that is not our child, held by a descriptor so that its number cannot come to mean another one.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// Finds the process that a pid file names, if it still runs and is the one meant: its command line must hold `token`.
    pub(crate) fn find(pid_file: &Path, token: &str) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(pid_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path("read", pid_file)(error)),
        };
        let Some((number, pid)) = text.trim().parse().ok().and_then(|n: i32| Some((n, Pid::from_raw(n)?))) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(Error::errno("watch the process of", pid_file)(errno)),
        };
        // Read after the descriptor was opened: what is read is of the very process that it holds, or of none.
        let line = match fs::read(format!("/proc/{number}/cmdline")) {
            Ok(line) => line,
            Err(_gone) => return Ok(None),
        };
        let meant = String::from_utf8_lossy(&line).split('\0').any(|argument| argument.contains(token));
        Ok(meant.then_some(Self { pid: number, fd }))
    }

    /// Returns its number.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the descriptor, which becomes readable when the process ends.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes a second handle.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { pid: self.pid, fd: self.fd.try_clone()? })
    }

    /// Sends a signal; a process that has ended is fine.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::errno("send a signal to", format!("/proc/{}", self.pid))(errno)),
        }
    }

    /// Waits until it has ended; says whether it has.
    pub(crate) fn wait(&self, deadline: Duration) -> Result<bool, Error> {
        let end = Instant::now() + deadline;
        loop {
            let left = timespec(end.saturating_duration_since(Instant::now()));
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::errno("wait for", format!("/proc/{}", self.pid))(errno)),
            }
        }
    }
}

/// Converts a duration for `poll`.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}
