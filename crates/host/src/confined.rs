//! Running a program of another root file system: chrooted, its lines handed on as they come, with a deadline.
#![allow(unsafe_code, reason = "a child enters its root between fork and exec")]

use crate::{Error, Invocation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, waitpid};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Longest line that is handed on whole, in bytes.
const LINE: usize = 4096;
/// Reads that empty a pipe, which holds 64 KiB unless somebody enlarges it (pipe(7)).
const READS: usize = 16;
/// Exit status of a child that could not become the program, as shells use it; the pipe says why.
const NOT_STARTED: i32 = 127;

/// Runs a program with `root` as its root directory; stdout and stderr go line by line to `line`, and `tick` is called at
/// least every `every`. The program is named by its absolute path in that root, and gets the invocation's environment and input only.
/// Its exit status is the caller's to judge.
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
    let (trouble, child_trouble) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(broken)?;
    let input = input(&invocation.stdin).map_err(Error::path("hand the input to", &invocation.program))?;
    let image = Image::new(root, invocation).map_err(broken)?;
    // std's own way of running programs is not used: it would bring a tenth of the initramfs' size for what these lines do.
    let (args, env) = (pointers(&image.args), pointers(&image.env));
    let descriptors = [input.as_raw_fd(), writer.as_raw_fd(), child_trouble.as_raw_fd()];
    // SAFETY: between fork and exec the child makes system calls only, on memory that was prepared before.
    let pid = match unsafe { libc::fork() } {
        // SAFETY: both are of texts in `image`.
        0 => unsafe { become_it(&image, &args, &env, descriptors) },
        pid => Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(|| broken(Errno::AGAIN))?,
    };
    drop((writer, child_trouble));
    let mut why = Vec::new();
    File::from(trouble).read_to_end(&mut why).map_err(Error::path("run", &invocation.program))?;
    if let Some(bytes) = why.first_chunk() {
        reap(pid).map_err(broken)?;
        return Err(match Errno::from_raw_os_error(i32::from_ne_bytes(*bytes)) {
            Errno::NOENT => Error::NoProgram { program: invocation.program.clone() },
            errno => broken(errno),
        });
    }
    rustix::io::ioctl_fionbio(&reader, true).map_err(broken)?;
    let mut lines = Lines { pipe: reader.into(), rest: Vec::new(), open: true };
    let exited = pidfd_open(pid, PidfdFlags::empty()).map_err(broken)?;
    let end = Instant::now() + invocation.deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            kill_process_group(pid, Signal::KILL).map_err(broken)?;
            reap(pid).map_err(broken)?;
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
            return reap(pid).map_err(broken);
        }
    }
}

/// What a program reads: nothing, or these bytes, whole before it starts, so that nobody has to feed it.
fn input(bytes: &[u8]) -> std::io::Result<File> {
    if bytes.is_empty() {
        return File::open("/dev/null");
    }
    let mut file = File::from(rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Becomes another program, with this one's environment. Returns only with an error.
pub fn become_program(program: &Path, args: &[OsString]) -> Error {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL);
    let all = std::iter::once(program.as_os_str()).chain(args.iter().map(OsString::as_os_str));
    let texts: Result<Vec<CString>, Errno> = all.map(|arg| text(arg.as_bytes())).collect();
    let errno = match texts {
        Ok(texts) => {
            let args = pointers(&texts);
            // SAFETY: the pointers are to texts that live until exec, with a null pointer behind them. The ignored SIGPIPE of Rust
            // programs would be inherited.
            unsafe {
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::execv(args.first().copied().unwrap_or_default(), args.as_ptr());
            }
            Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOEXEC)
        }
        Err(errno) => errno,
    };
    Error::errno("start", program)(errno)
}

/// Everything that the child needs, made before the fork.
struct Image {
    root: CString,
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    fn new(root: &Path, invocation: &Invocation) -> Result<Self, Errno> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL);
        let names = std::iter::once(&invocation.program).chain(&invocation.args);
        let pairs = invocation.env.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            root: text(root.as_os_str().as_bytes())?,
            program: text(invocation.program.as_bytes())?,
            args: names.map(|arg| text(arg.as_bytes())).collect::<Result<_, _>>()?,
            env: pairs.map(|pair| text(pair.as_bytes())).collect::<Result<_, _>>()?,
        })
    }
}

/// Pointers to texts as exec wants them, with a null pointer at the end.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Becomes the program, in the child of a fork.
///
/// # Safety
/// `args` and `env` are from [`pointers`] of texts that still live.
unsafe fn become_it(
    image: &Image,
    args: &[*const libc::c_char],
    env: &[*const libc::c_char],
    [stdin, output, trouble]: [i32; 3],
) -> ! {
    // SAFETY: system calls, all async-signal-safe, on descriptors and texts that live until exec.
    unsafe {
        // Rust ignores it for itself; a program that writes into a closed pipe is to end.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let failed = libc::setpgid(0, 0) < 0
            || libc::dup2(stdin, 0) < 0
            || libc::dup2(output, 1) < 0
            || libc::dup2(output, 2) < 0
            || libc::chroot(image.root.as_ptr()) < 0
            || libc::chdir(c"/".as_ptr()) < 0;
        if !failed {
            libc::execve(image.program.as_ptr(), args.as_ptr(), env.as_ptr());
        }
        let why = (*libc::__errno_location()).to_ne_bytes();
        libc::write(trouble, why.as_ptr().cast(), why.len());
        libc::_exit(NOT_STARTED)
    }
}

fn reap(pid: Pid) -> Result<ExitStatus, Errno> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

struct Lines {
    pipe: File,
    rest: Vec<u8>,
    open: bool,
}

impl Lines {
    /// Hands on what is there, at most what a pipe holds: a program that never stops talking must not hide its deadline.
    fn drain(&mut self, line: &mut dyn FnMut(&str), last: bool) -> Result<(), Error> {
        let mut buffer = [0; LINE];
        for _ in 0..READS {
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
    fn a_program_reads_the_input_that_it_is_given_and_nothing_else() {
        if can_chroot() {
            // The last is more than a pipe holds.
            let long = "x".repeat(200_000);
            for (input, expected) in [("", "0"), ("abc", "3"), (long.as_str(), "200000")] {
                let mut lines = Vec::new();
                let shell = Invocation::new("/bin/sh").args(["-c", "wc -c"]).env("PATH", "/usr/bin:/bin");
                let shell = shell.stdin(input).deadline(Duration::from_secs(60));
                let mut keep = |line: &str| lines.push(line.to_owned());
                let ended = run_in_root(Path::new("/"), &shell, Duration::from_secs(1), &mut keep, &mut || {});
                assert!(ended.unwrap().success());
                assert_eq!(lines, [expected]);
            }
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
    fn a_program_that_never_stops_talking_is_killed_at_its_deadline_while_ticks_go_on() {
        if can_chroot() {
            let (ended, lines, ticks) = run("yes", Duration::from_millis(300));
            assert!(matches!(ended.unwrap_err(), Error::Deadline { .. }));
            assert!(!lines.is_empty() && ticks >= 2, "{} {ticks}", lines.len());
        }
    }

    #[test]
    fn becoming_a_program_that_does_not_exist_is_an_error_that_names_it() {
        let error = become_program(Path::new("/no/such/init"), &["single".into()]);
        assert_eq!(error.to_string(), "cannot start `/no/such/init`");
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
