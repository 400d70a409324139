//! A program that leads a session of its own, on a terminal or with three pipes, for as long as somebody talks to it.
//!
//! Invariant: it does not outlive who started it, nor does what is in its process group: dropping it kills both.
#![allow(unsafe_code, reason = "a child gets its session and its terminal between fork and exec")]

use crate::program::end_with;
use crate::terminal::{self, TerminalSize};
use crate::{Error, Invocation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Where a program is looked for where nobody says so.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What one talks to a program by.
#[derive(Debug)]
pub struct Streams {
    /// What it reads.
    pub input: File,
    /// What it writes, or what its terminal shows.
    pub output: Outlet,
    /// What it writes to its standard error; nothing where it has a terminal.
    pub errors: Option<Outlet>,
    /// The other end of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
}

/// What a program writes, read until the program has ended: what it left running may hold the stream for ever.
#[derive(Debug)]
pub struct Outlet {
    stream: File,
    exit: Exit,
}

/// Tells that a program has ended.
#[derive(Debug)]
pub struct Exit(OwnedFd);

/// A program that runs.
#[derive(Debug)]
pub struct Leader {
    child: Child,
    exit: Exit,
    ended: bool,
}

impl Exit {
    /// Waits until the program has ended.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn wait(&self) -> std::io::Result<()> {
        self.poll(None).map(drop)
    }

    fn is_here(&self) -> std::io::Result<bool> {
        self.poll(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    fn poll(&self, timeout: Option<&Timespec>) -> std::io::Result<bool> {
        loop {
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout) {
                Err(Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }

    fn try_clone(&self) -> std::io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut waits = [PollFd::new(&self.stream, PollFlags::IN), PollFd::new(&self.exit.0, PollFlags::IN)];
            match poll(&mut waits, None) {
                Err(Errno::INTR) => continue,
                ready => ready?,
            };
            if waits.first().is_some_and(|stream| stream.revents().is_empty()) {
                return Ok(0);
            }
            return match rustix::io::read(&self.stream, &mut *buffer) {
                Err(Errno::INTR) => continue,
                // A terminal at which no program is any more.
                Err(Errno::IO) => Ok(0),
                read => Ok(read?),
            };
        }
    }
}

impl Leader {
    /// Starts a program with the invocation's environment and nothing of this process' but the path; its input and deadline are the
    /// caller's business. `name` is what it is told that it is called.
    ///
    /// # Errors
    /// It is not installed or cannot be run, or there is no terminal.
    pub fn start(
        invocation: &Invocation,
        name: &str,
        terminal: Option<TerminalSize>,
    ) -> Result<(Self, Streams), Error> {
        let failed = || Error::path("run", &invocation.program);
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
        let mut command = Command::new(&invocation.program);
        command.arg0(name).args(&invocation.args).env_clear();
        command.env("PATH", path.as_deref().unwrap_or_else(|| OsStr::new(USUAL_PATH))).envs(&invocation.env);
        if let Some(dir) = invocation.dir.as_ref().filter(|dir| dir.is_dir()) {
            command.current_dir(dir);
        }
        let pair = terminal.map(terminal::pair).transpose()?;
        match &pair {
            Some((_, inner)) => {
                let end = || inner.try_clone().map(Stdio::from).map_err(failed());
                command.stdin(end()?).stdout(end()?).stderr(end()?);
            }
            None => drop(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())),
        }
        let (parent, has_terminal) = (rustix::process::getpid(), pair.is_some());
        let begin = move || {
            end_with(parent)?;
            rustix::process::setsid()?;
            if has_terminal {
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            }
            Ok(())
        };
        // SAFETY: `begin` makes system calls and touches no memory.
        unsafe { command.pre_exec(begin) };
        let mut child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoProgram { program: invocation.program.clone() },
            _ => failed()(source),
        })?;
        let streams = streams(&mut child, pair.map(|(outer, _)| outer));
        let exit = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(std::io::Error::from);
        // From here on it is killed if something fails.
        let (exit, (input, output, errors, terminal)) = match exit.and_then(|exit| Ok((exit, streams?))) {
            Ok(all) => all,
            Err(error) => {
                child.kill().map_err(failed())?;
                child.wait().map_err(failed())?;
                return Err(failed()(error));
            }
        };
        let leader = Self { child, exit: Exit(exit), ended: false };
        let outlet = |stream: File| Ok(Outlet { stream, exit: leader.exit.try_clone()? });
        let output = outlet(output).map_err(failed())?;
        let errors = errors.map(outlet).transpose().map_err(failed())?;
        Ok((leader, Streams { input, output, errors, terminal }))
    }

    /// Tells when the program has ended.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn exit(&self) -> Result<Exit, Error> {
        self.exit.try_clone().map_err(Error::path("watch", "a program"))
    }

    /// Sends a signal, by its number, to the program and all in its process group. One that has ended gets none.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn signal(&self, number: u8) -> Result<(), Error> {
        let failed = || Error::errno("signal", format!("process {}", self.child.id()));
        let signal = Signal::from_named_raw(number.into()).ok_or(Errno::INVAL).map_err(failed())?;
        match kill_process_group(Pid::from_child(&self.child), signal) {
            Err(Errno::SRCH) => Ok(()),
            sent => sent.map_err(failed()),
        }
    }

    /// How the program ended, if it has. What else is in its process group is killed then.
    ///
    /// # Errors
    /// The kernel does not know it any more.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        let failed = || Error::path("wait for", "a program");
        if !self.ended {
            if !self.exit.is_here().map_err(failed())? {
                return Ok(None);
            }
            // As long as nobody has waited for it, its number is no other's.
            self.signal(9)?;
            self.ended = true;
        }
        self.child.try_wait().map_err(failed())
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Err(error) = self.signal(9) {
            tracing::warn!(%error, "a program goes on that nobody talks to");
        }
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "a program that ended is not waited for");
        }
    }
}

type Ends = (File, File, Option<File>, Option<OwnedFd>);

/// The ends of a program's streams that are this process'.
fn streams(child: &mut Child, terminal: Option<OwnedFd>) -> std::io::Result<Ends> {
    let file = |fd: OwnedFd| File::from(fd);
    match (terminal, child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(outer), ..) => Ok((file(outer.try_clone()?), file(outer.try_clone()?), None, Some(outer))),
        (None, Some(input), Some(output), Some(errors)) => {
            Ok((file(input.into()), file(output.into()), Some(file(errors.into())), None))
        }
        _ => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

/// Starts this very program once more, with these arguments and one end of a connection as its standard input, and hands out the other
/// end. It says what it has to say on this process' standard error, and is waited for by a thread of its own.
///
/// # Errors
/// It cannot be started.
pub fn start_own(args: &[&str]) -> Result<UnixStream, Error> {
    let failed = || Error::path("run", "/proc/self/exe");
    let (here, there) = UnixStream::pair().map_err(failed())?;
    let there = Stdio::from(there.as_fd().try_clone_to_owned().map_err(failed())?);
    let mut child =
        Command::new("/proc/self/exe").args(args).stdin(there).stdout(Stdio::null()).spawn().map_err(failed())?;
    std::thread::spawn(move || match child.wait() {
        Ok(status) => tracing::debug!(%status, "a program of this one's own ended"),
        Err(error) => tracing::warn!(%error, "a program of this one's own is not waited for"),
    });
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").args(["-c", script]).env("LODGER", "yes").dir("/")
    }

    fn end(leader: &mut Leader) -> ExitStatus {
        leader.exit().unwrap().wait().unwrap();
        leader.ended().unwrap().unwrap()
    }

    fn read(mut stream: impl Read) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_program_with_pipes_leads_a_session_with_nothing_of_this_process_environment() {
        let script = "echo out $LODGER $CARGO; echo err >&2; [ $(ps -o sid= -p $$) = $$ ] && exit 7";
        let (mut leader, streams) = Leader::start(&shell(script), "sh", None).unwrap();
        assert_eq!(end(&mut leader).code(), Some(7));
        assert_eq!((read(streams.output), read(streams.errors.unwrap())), ("out yes\n".into(), "err\n".into()));
    }

    #[test]
    fn a_program_on_a_terminal_has_it_for_its_own() {
        let size = TerminalSize { columns: 91, rows: 17 };
        let script = "stty size; test -t 0 && test -t 2 && echo here > /dev/tty; kill -TERM $$";
        let (mut leader, streams) = match Leader::start(&shell(script), "-sh", Some(size)) {
            Ok(started) => started,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        assert_eq!(end(&mut leader).signal(), Some(15));
        assert_eq!(read(streams.output), "17 91\r\nhere\r\n");
    }

    #[test]
    fn dropping_it_kills_it_and_its_group() {
        let (leader, streams) = Leader::start(&shell("sleep 600 & sleep 600"), "sh", None).unwrap();
        drop(leader);
        // Both held the pipe.
        assert_eq!(read(streams.output.stream), "");
    }

    #[test]
    fn what_a_program_leaves_running_is_not_waited_for_and_what_it_wrote_is_read() {
        let (mut leader, streams) = Leader::start(&shell("setsid sleep 600 & echo $!"), "sh", None).unwrap();
        let pid: i32 = read(streams.output).trim().parse().unwrap();
        assert_eq!(end(&mut leader).code(), Some(0));
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn an_absent_program_is_named() {
        let error = Leader::start(&Invocation::new("/no/such/shell"), "x", None).unwrap_err();
        assert!(matches!(error, Error::NoProgram { program } if program == "/no/such/shell"));
    }
}
