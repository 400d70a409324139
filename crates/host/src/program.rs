//! The one way to run another program: an argument vector, never a shell string; stderr kept for the error; a deadline.
//!
//! Invariant: a program does not outlive who runs it. Should this process be killed, the kernel kills the program too, or it would
//! write on into what the next command takes over.
#![allow(unsafe_code, reason = "a child asks for its parent's death signal between fork and exec")]

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much of stderr an error shows, in bytes from its end.
const STDERR_SHOWN: usize = 4096;
/// How long a program's file may be open for writing before that is an error, and how often it is tried.
const WRITTEN: Duration = Duration::from_secs(5);
const TRY: Duration = Duration::from_millis(10);
/// A century.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Bytes read at a time; also what a pipe holds unless somebody enlarges it (pipe(7)).
const PIPE: usize = 64 << 10;

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
    /// The most bytes that are taken of what it writes to stdout, and of the end of what it writes to stderr.
    #[serde(skip)]
    pub most: Option<usize>,
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
            most: None,
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

    /// Bounds what is kept of its output, for a program that is not trusted to be brief: with more on stdout it is killed, and of stderr
    /// the end is kept.
    #[must_use]
    pub const fn at_most(mut self, bytes: usize) -> Self {
        self.most = Some(bytes);
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

/// The program that copies a tree with owners, times, links and extended attributes; `to` is absent or an empty directory. A link that
/// `from` is is not followed.
#[must_use]
pub fn copy_of_tree(from: &Path, to: &Path, deadline: Duration) -> Invocation {
    Invocation::new("cp")
        .args(["--archive", "--one-file-system", "--no-target-directory", "--"])
        .arg(from.to_string_lossy())
        .arg(to.to_string_lossy())
        .deadline(deadline)
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
        let parent = rustix::process::getpid();
        // SAFETY: `end_with` makes two system calls and touches no memory.
        unsafe { command.pre_exec(move || end_with(parent)) };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &invocation.dir {
            // Looked at first, since the spawn would report its absence as that of the program.
            dir.metadata().map_err(Error::path("enter", dir))?;
            command.current_dir(dir);
        }
        tracing::debug!(command = %invocation, "running");
        spawn_when_written(&mut command).map_err(|source| {
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

/// Has the kernel kill this process, a child before exec, when the thread that forked it ends, which [`finish`] does not before the
/// child does. A program that changes its user or gains capabilities loses the signal (prctl(2)).
pub(crate) fn end_with(parent: Pid) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before that.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}

/// Feeds a started child, collects what it says, and waits for its end. Its three streams are pipes, and it leads a process
/// group, which is killed at the deadline. What processes say that outlive it is not waited for.
pub(crate) fn finish(mut child: Child, invocation: &Invocation) -> Result<Finished, Error> {
    let mut talk = match Talk::begin(&mut child, invocation) {
        Ok(talk) => talk,
        Err(error) => return Err(given_up(child, invocation, error)),
    };
    // A deadline that a configuration names may lie beyond what the clock can say.
    let now = Instant::now();
    let end = now.checked_add(invocation.deadline).unwrap_or_else(|| now + FAR);
    let ended = talk.until_end(&child, end);
    let Talk { stdout, stderr, .. } = talk;
    let stderr = String::from_utf8_lossy(&stderr.bytes).into_owned();
    match ended {
        Ok(Ending::Exit) => {
            let status = child.wait().map_err(broken(invocation))?;
            Ok(Finished { status, stdout: stdout.bytes, stderr })
        }
        Ok(Ending::Flood) => {
            kill_group(&child);
            child.wait().map_err(broken(invocation))?;
            let most = invocation.most.unwrap_or(usize::MAX);
            Err(Error::Flood { command: invocation.to_string(), most, stderr: tail(&stderr).to_owned() })
        }
        Ok(Ending::Deadline) => {
            kill_group(&child);
            child.wait().map_err(broken(invocation))?;
            Err(Error::Deadline {
                command: invocation.to_string(),
                deadline: invocation.deadline,
                stderr: tail(&stderr).to_owned(),
            })
        }
        Err(error) => Err(given_up(child, invocation, error)),
    }
}

fn broken(invocation: &Invocation) -> impl FnOnce(std::io::Error) -> Error {
    Error::path("talk to", &invocation.program)
}

/// Ends a child that can no longer be talked to, so that it neither goes on nor stays as a zombie.
fn given_up(mut child: Child, invocation: &Invocation, error: std::io::Error) -> Error {
    kill_group(&child);
    let error = broken(invocation)(error);
    match child.wait() {
        Ok(_) => error,
        Err(second) => Error::Several(vec![error, broken(invocation)(second)]),
    }
}

/// Why the talk with a child is over.
enum Ending {
    /// It ended.
    Exit,
    /// Its time did.
    Deadline,
    /// It says more than is taken.
    Flood,
}

/// Both directions of talking to a child, by one thread and without blocking, so that neither side waits for the other.
struct Talk<'a> {
    stdin: Option<ChildStdin>,
    unsaid: &'a [u8],
    stdout: Heard<std::process::ChildStdout>,
    stderr: Heard<std::process::ChildStderr>,
}

impl<'a> Talk<'a> {
    fn begin(child: &mut Child, invocation: &'a Invocation) -> std::io::Result<Self> {
        let (input, most) = (invocation.stdin.as_slice(), invocation.most);
        let stdin = child.stdin.take().filter(|_| !input.is_empty());
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        Ok(Self {
            stdin,
            unsaid: input,
            stdout: Heard::begin(child.stdout.take(), most)?,
            stderr: Heard::begin(child.stderr.take(), most)?,
        })
    }

    /// Talks until the child ends, its deadline passes or it says too much. The end is seen on a pidfd, which no signal of another thread
    /// disturbs.
    fn until_end(&mut self, child: &Child, end: Instant) -> std::io::Result<Ending> {
        let exited = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut waits = vec![PollFd::new(&exited, PollFlags::IN)];
            waits.extend(self.stdin.as_ref().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
            let heard = [self.stdout.fd(), self.stderr.fd()].into_iter().flatten();
            waits.extend(heard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            match poll(&mut waits, Some(&timeout)) {
                Ok(0) => return Ok(Ending::Deadline),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ended = waits.first().is_some_and(|wait| !wait.revents().is_empty());
            self.say()?;
            self.stdout.hear()?;
            self.stderr.hear()?;
            if self.stdout.is_too_much() {
                return Ok(Ending::Flood);
            }
            self.stderr.keep_end();
            if ended {
                return Ok(Ending::Exit);
            }
            if left.is_zero() {
                return Ok(Ending::Deadline);
            }
        }
    }

    /// Says what the child takes now, and closes its input after the last of it.
    fn say(&mut self) -> std::io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        match stdin.write(self.unsaid) {
            Ok(said) => self.unsaid = self.unsaid.get(said..).unwrap_or_default(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // A program may end without reading all of its input; its exit status tells, not the broken pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.unsaid = &[],
            Err(error) => return Err(error),
        }
        if self.unsaid.is_empty() {
            self.stdin = None;
        }
        Ok(())
    }
}

/// One stream of a child, and what came over it.
struct Heard<S> {
    stream: Option<S>,
    bytes: Vec<u8>,
    most: Option<usize>,
}

impl<S: Read + AsFd> Heard<S> {
    fn begin(stream: Option<S>, most: Option<usize>) -> std::io::Result<Self> {
        if let Some(stream) = &stream {
            rustix::io::ioctl_fionbio(stream, true)?;
        }
        Ok(Self { stream, bytes: Vec::new(), most })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    fn is_too_much(&self) -> bool {
        self.most.is_some_and(|most| self.bytes.len() > most)
    }

    /// Forgets what came before the last of it.
    fn keep_end(&mut self) {
        if let Some(most) = self.most {
            self.bytes.drain(..self.bytes.len().saturating_sub(most));
        }
    }

    /// Takes what is there, at most what a pipe holds: a child that never stops talking must not hide its deadline.
    fn hear(&mut self) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.by_ref().take(PIPE as u64).read_to_end(&mut self.bytes) {
            Ok(length) if length < PIPE => self.stream = None,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn kill_group(child: &Child) {
    if let Err(error) = kill_process_group(Pid::from_child(child), Signal::KILL) {
        tracing::warn!(pid = child.id(), %error, "cannot kill a program's process group");
    }
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

/// Starts a program that may have been written a moment ago: what another thread starts holds the file open until it has executed its own
/// program (execve(2), ETXTBSY).
fn spawn_when_written(command: &mut Command) -> std::io::Result<Child> {
    let began = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && began.elapsed() < WRITTEN => {
                std::thread::sleep(TRY);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_still_open_for_writing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let open = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                drop(open);
            });
            Runner::default().run(&Invocation::new(path.to_string_lossy())).unwrap();
        });
    }

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
    fn a_deadline_beyond_all_clocks_is_none() {
        Runner::default().run(&Invocation::new("true").deadline(Duration::MAX)).unwrap();
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
    fn a_process_that_keeps_the_output_open_is_not_waited_for() {
        let start = Instant::now();
        let daemon = Invocation::new("sh").args(["-c", "sleep 600 & echo $!"]).deadline(Duration::from_secs(60));
        let said = Runner::default().run(&daemon).unwrap().text();
        assert!(start.elapsed() < Duration::from_secs(60));
        let pid = said.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn long_input_and_output_pass_at_the_same_time_and_a_flood_ends_at_the_deadline() {
        let input: Vec<u8> = (0..3 << 20).map(|n| (n % 251) as u8).collect();
        let cat = Invocation::new("sh").args(["-c", "cat; cat /dev/zero | head -c 300000 >&2"]).stdin(input.clone());
        let finished = Runner::default().run(&cat).unwrap();
        assert!(finished.stdout == input && finished.stderr.len() == 300_000);
        let flood = Invocation::new("cat").arg("/dev/zero").deadline(Duration::from_millis(50));
        assert!(matches!(Runner::default().run(&flood).unwrap_err(), Error::Deadline { .. }));
    }

    #[test]
    fn a_program_that_says_too_much_is_killed_and_of_its_talk_the_end_is_kept() {
        let flood =
            Invocation::new("sh").args(["-c", "echo first >&2; cat /dev/zero & cat /dev/zero"]).at_most(100_000);
        let error = Runner::default().run(&flood).unwrap_err();
        assert!(matches!(&error, Error::Flood { most: 100_000, .. }), "{error}");
        let talk =
            Invocation::new("sh").args(["-c", "head -c 300000 /dev/zero >&2; echo last >&2; echo ok"]).at_most(99);
        let finished = Runner::default().run(&talk).unwrap();
        assert_eq!((finished.text().as_str(), finished.stderr.len()), ("ok\n", 99));
        assert!(finished.stderr.ends_with("last\n"));
    }

    /// Being forked, running a program and being killed needs a process of its own: this test, once more.
    #[test]
    fn a_program_is_killed_with_who_runs_it() {
        if std::env::var_os("KAIRN_TEST_RUNS_ON").is_some() {
            Runner::default().run(&Invocation::new("sh").args(["-c", "echo $$ >&3; exec sleep 600"])).unwrap();
            return;
        }
        let name = "program::tests::a_program_is_killed_with_who_runs_it";
        let (read, write) = std::io::pipe().unwrap();
        let mut parent = Command::new(std::env::current_exe().unwrap());
        parent.args(["--exact", name, "--nocapture"]).env("KAIRN_TEST_RUNS_ON", "1");
        let mut parent = with_descriptor(parent, &write).spawn().unwrap();
        drop(write);
        let mut line = String::new();
        let mut reader = std::io::BufReader::new(read);
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        let watched =
            pidfd_open(line.trim().parse().ok().and_then(Pid::from_raw).unwrap(), PidfdFlags::empty()).unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&patience)).unwrap(), 1);
    }

    /// Hands a pipe on as descriptor 3.
    fn with_descriptor(mut command: Command, pipe: &std::io::PipeWriter) -> Command {
        use std::os::fd::AsRawFd;
        let fd = pipe.as_raw_fd();
        // SAFETY: dup2 touches no memory; the pipe lives until the spawn.
        unsafe {
            command.pre_exec(move || if libc::dup2(fd, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
        }
        command
    }

    #[test]
    fn a_stand_in_takes_the_place_of_a_program() {
        let runner = Runner { overrides: [("mkfs.none".to_owned(), PathBuf::from("/bin/echo"))].into() };
        assert_eq!(runner.run(&Invocation::new("mkfs.none").arg("hi")).unwrap().text(), "hi\n");
    }
}
