//! The serial console of a running machine: read as it grows, searched with deadlines, written like a keyboard.
//!
//! QEMU appends every byte of the guest to a log file; a thread follows that file by inotify(7) and QEMU's end by its process
//! descriptor, and wakes who waits. Invariant: nobody sleeps, and a wait that fails shows what the console said last.

use crate::process::Process;
use crate::text::Cleaner;
use crate::{Error, command::file, socket};
use regex::Regex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines of the console that an error shows.
const TAIL_LINES: usize = 15;

/// What is looked for on a console.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A text within a line or across lines.
    Text(String),
    /// A regular expression within a line; it may match a line that is not complete yet.
    Regex(Regex),
}

impl Pattern {
    /// Finds itself in a text; returns start and end.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        match self {
            Self::Text(wanted) => text.find(wanted.as_str()).map(|start| (start, start + wanted.len())),
            Self::Regex(regex) => {
                let mut offset = 0;
                for line in text.split_inclusive('\n') {
                    if let Some(found) = regex.find(line.trim_end_matches('\n')) {
                        return Some((offset + found.start(), offset + found.end()));
                    }
                    offset += line.len();
                }
                None
            }
        }
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        Self::Regex(regex)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "`{}`", text.escape_debug()),
            Self::Regex(regex) => write!(f, "/{regex}/"),
        }
    }
}

/// A place in the console's text; later places compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// Something found on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which of the patterns, counted from 0.
    pub pattern: usize,
    /// The matching text.
    pub text: String,
    /// The whole line in which it begins, as far as it had come.
    pub line: String,
    /// Where it ends.
    pub end: Mark,
    /// When its last byte came, since the machine was started or attached to.
    pub at: Duration,
}

/// The console of one run of a machine.
#[derive(Debug)]
pub struct Console {
    machine: String,
    dir: PathBuf,
    shared: Arc<Shared>,
    stop: OwnedFd,
    reader: Option<JoinHandle<()>>,
    keyboard: Mutex<Option<UnixStream>>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
struct State {
    text: String,
    /// Length of the text and time, after each piece that came.
    arrivals: Vec<(usize, Instant)>,
    /// Up to where `wait_for` has consumed.
    cursor: usize,
    /// Why nothing more will come.
    ended: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// Follows the log in a machine's directory from an offset in bytes on, while the process lives.
    pub(crate) fn follow(machine: &str, dir: &Path, from: u64, process: Option<Process>) -> Result<Self, Error> {
        let shared = Shared { began: Instant::now(), state: Mutex::default(), changed: Condvar::new() };
        Self::follow_into(shared, machine, dir, from, process)
    }

    /// Follows another process of the same machine, from an offset in bytes on, with all that came before: places and times stay valid.
    pub(crate) fn follow_next(&self, from: u64, process: Process) -> Result<Self, Error> {
        let before = State { ended: None, ..self.shared.lock().clone() };
        let shared = Shared { began: self.shared.began, state: Mutex::new(before), changed: Condvar::new() };
        Self::follow_into(shared, &self.machine, &self.dir, from, Some(process))
    }

    fn follow_into(
        shared: Shared,
        machine: &str,
        dir: &Path,
        from: u64,
        process: Option<Process>,
    ) -> Result<Self, Error> {
        let path = dir.join(file::CONSOLE_LOG);
        let mut log = File::open(&path).map_err(Error::path("open", &path))?;
        log.seek(SeekFrom::Start(from)).map_err(Error::path("read", &path))?;
        let changes =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(Error::errno("watch", &path))?;
        inotify::add_watch(&changes, &path, WatchFlags::MODIFY).map_err(Error::errno("watch", &path))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(Error::errno("watch", &path))?;
        let stopped = stop.try_clone().map_err(Error::path("watch", &path))?;
        let shared = Arc::new(shared);
        let reader = {
            let shared = Arc::clone(&shared);
            let follower = Follower { log, changes, stopped, process, cleaner: Cleaner::default() };
            thread::Builder::new()
                .name(format!("console-{machine}"))
                .spawn(move || follower.run(&shared))
                .map_err(Error::path("follow", &path))?
        };
        Ok(Self {
            machine: machine.into(),
            dir: dir.into(),
            shared,
            stop,
            reader: Some(reader),
            keyboard: Mutex::new(None),
        })
    }

    /// Returns the place where the console ends now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.shared.lock().text.len())
    }

    /// Returns the text that came after a place.
    #[must_use]
    pub fn since(&self, mark: Mark) -> String {
        self.shared.lock().text.get(mark.0..).unwrap_or_default().to_owned()
    }

    /// Returns the whole text since the start.
    #[must_use]
    pub fn text(&self) -> String {
        self.since(Mark::default())
    }

    /// Tells when the byte before a place came, since the machine was started or attached to.
    #[must_use]
    pub fn time_of(&self, mark: Mark) -> Duration {
        time_of(&self.shared.lock(), mark.0, self.shared.began)
    }

    /// Waits for a pattern after the last one that was waited for, and consumes up to its end.
    ///
    /// # Errors
    /// It did not come in time, or QEMU ended.
    pub fn wait_for(&self, pattern: impl Into<Pattern>, deadline: Duration) -> Result<Seen, Error> {
        self.wait_any(&[pattern.into()], deadline)
    }

    /// Waits for the first of several patterns after the last one that was waited for, and consumes up to its end.
    ///
    /// # Errors
    /// None came in time, or QEMU ended.
    pub fn wait_any(&self, patterns: &[Pattern], deadline: Duration) -> Result<Seen, Error> {
        let from = Mark(self.shared.lock().cursor);
        let seen = self.search(from, patterns, deadline, None)?;
        let mut state = self.shared.lock();
        state.cursor = state.cursor.max(seen.end.0);
        Ok(seen)
    }

    /// Waits for a pattern after a place; consumes nothing.
    ///
    /// # Errors
    /// It did not come in time, or QEMU ended.
    pub fn wait_since(&self, from: Mark, pattern: impl Into<Pattern>, deadline: Duration) -> Result<Seen, Error> {
        self.search(from, &[pattern.into()], deadline, None)
    }

    /// Makes the next [`Console::wait_for`] search from a place on.
    pub fn rewind(&self, to: Mark) {
        self.shared.lock().cursor = to.0;
    }

    /// Waits for the first of several patterns after a place; with `mute`, gives up when no byte came for so long.
    pub(crate) fn search(
        &self,
        from: Mark,
        patterns: &[Pattern],
        deadline: Duration,
        mute: Option<Duration>,
    ) -> Result<Seen, Error> {
        let asked = Instant::now();
        let end = asked + deadline;
        let mut state = self.shared.lock();
        let mut begin = from.0;
        loop {
            let unseen = state.text.get(begin..).unwrap_or_default();
            let first = patterns
                .iter()
                .enumerate()
                .filter_map(|(index, pattern)| pattern.find(unseen).map(|found| (found, index)))
                .min();
            if let Some(((start, stop), pattern)) = first {
                return Ok(seen(&state, pattern, begin + start, begin + stop, self.shared.began));
            }
            begin = reconsider(&state.text, begin, from.0, patterns);
            let last = state.arrivals.last().map_or(asked, |(_, at)| (*at).max(asked));
            let now = Instant::now();
            let quiet_until = mute.map(|mute| last + mute);
            let what = || patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            if state.ended.is_some() {
                return Err(Error::Ended { machine: self.machine.clone(), what: what(), tail: tail(&state.text) });
            }
            if now >= end {
                let machine = self.machine.clone();
                return Err(Error::Waited { machine, what: what(), deadline, tail: tail(&state.text) });
            }
            if let (Some(limit), Some(true)) = (mute, quiet_until.map(|quiet| now >= quiet)) {
                return Err(Error::Mute {
                    machine: self.machine.clone(),
                    what: what(),
                    limit,
                    processors: String::new(),
                    tail: tail(&state.text),
                });
            }
            let until = quiet_until.map_or(end, |quiet| quiet.min(end));
            let left = until.saturating_duration_since(now);
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until QEMU ends or the time is over; says whether it ended.
    pub(crate) fn wait_end(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let mut state = self.shared.lock();
        while state.ended.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Types a text on the console.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn send(&self, text: &str) -> Result<(), Error> {
        let mut keyboard = self.keyboard.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = match keyboard.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let sent = (&stream).write_all(text.as_bytes()).map_err(Error::path("type on", self.dir.join(file::CONSOLE)));
        *keyboard = sent.is_ok().then_some(stream);
        sent
    }

    /// Types a line and Enter.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn send_line(&self, line: &str) -> Result<(), Error> {
        self.send(&format!("{line}\r"))
    }

    /// Connects to the console. The connection stays open, since QEMU drops what it has not read when it is closed; what comes
    /// over it is thrown away by a thread, since QEMU stops the guest when nobody takes it.
    fn connect(&self) -> Result<UnixStream, Error> {
        let path = || self.dir.join(file::CONSOLE);
        let stream = socket::connect(&self.dir, file::CONSOLE)?;
        let mut output = stream.try_clone().map_err(Error::path("read", path()))?;
        thread::Builder::new()
            .name("console-drain".into())
            .spawn(move || {
                if let Err(error) = io::copy(&mut output, &mut io::sink()) {
                    tracing::debug!(%error, "the console's connection ended");
                }
            })
            .map_err(Error::path("read", path()))?;
        Ok(stream)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let keyboard = self.keyboard.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = keyboard.map(|stream| stream.shutdown(std::net::Shutdown::Both)) {
            tracing::debug!(%error, "cannot close the console's connection");
        }
        if let Err(error) = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()) {
            tracing::warn!(%error, "cannot stop the console's reader");
            return;
        }
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            tracing::warn!(machine = self.machine, "the console's reader died");
        }
    }
}

/// Returns where the search must go on after nothing was found: a text may have begun at the end, a regular expression in the
/// last line.
fn reconsider(text: &str, begin: usize, from: usize, patterns: &[Pattern]) -> usize {
    let unseen = text.get(begin..).unwrap_or_default();
    let line = unseen.rfind('\n').map_or(0, |at| at + 1);
    let longest = patterns.iter().map(|pattern| match pattern {
        Pattern::Text(wanted) => wanted.len(),
        Pattern::Regex(_) => 0,
    });
    let mut keep = line.min(unseen.len().saturating_sub(longest.max().unwrap_or(0)));
    while !unseen.is_char_boundary(keep) {
        keep -= 1;
    }
    (begin + keep).max(from)
}

fn seen(state: &State, pattern: usize, start: usize, stop: usize, began: Instant) -> Seen {
    let text = state.text.as_str();
    let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    Seen {
        pattern,
        text: text.get(start..stop).unwrap_or_default().to_owned(),
        line: line.to_owned(),
        end: Mark(stop),
        at: time_of(state, stop, began),
    }
}

fn time_of(state: &State, end: usize, began: Instant) -> Duration {
    let piece = state.arrivals.partition_point(|(length, _)| *length < end);
    let at = state.arrivals.get(piece).or_else(|| state.arrivals.last()).map_or(began, |(_, at)| *at);
    at.saturating_duration_since(began)
}

/// Returns the last lines that say something.
fn tail(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(TAIL_LINES).collect();
    lines.reverse();
    lines.iter().map(|line| format!("  | {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// The thread that reads the log.
struct Follower {
    log: File,
    changes: OwnedFd,
    stopped: OwnedFd,
    process: Option<Process>,
    cleaner: Cleaner,
}

impl Follower {
    fn run(mut self, shared: &Shared) {
        let ended = match self.follow(shared) {
            Ok(ended) => ended,
            Err(error) => format!("the log cannot be read: {error}"),
        };
        shared.lock().ended = Some(ended);
        shared.changed.notify_all();
    }

    fn follow(&mut self, shared: &Shared) -> io::Result<String> {
        loop {
            self.take(shared)?;
            let (stopped, exited) = self.wait()?;
            if stopped {
                return Ok("not followed any more".into());
            }
            if exited {
                self.take(shared)?;
                return Ok("QEMU ended".into());
            }
        }
    }

    /// Takes what has come.
    fn take(&mut self, shared: &Shared) -> io::Result<()> {
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            let count = match self.log.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            let mut state = shared.lock();
            self.cleaner.feed(buffer.get(..count).unwrap_or_default(), &mut state.text);
            let length = state.text.len();
            state.arrivals.push((length, now));
            drop(state);
            shared.changed.notify_all();
        }
    }

    /// Waits for a change of the log, the stop or the end of the process; says whether it was one of the latter.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut waited: Vec<BorrowedFd<'_>> = vec![self.changes.as_fd(), self.stopped.as_fd()];
        waited.extend(self.process.as_ref().map(Process::fd));
        let mut polled: Vec<PollFd<'_>> =
            waited.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is = |index: usize| ready.get(index).copied().unwrap_or(false);
        if is(0) {
            // The events say only "modified"; they are thrown away.
            let mut events = [0_u8; 4096];
            match rustix::io::read(&self.changes, &mut events) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok((is(1), is(2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    struct Desk {
        dir: tempfile::TempDir,
        console: Console,
    }

    impl Desk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(file::CONSOLE_LOG), "old boot login:\n").unwrap();
            let console = Console::follow("m", dir.path(), 16, None).unwrap();
            Self { dir, console }
        }

        fn guest_says(&self, text: &str) {
            let path = self.dir.path().join(file::CONSOLE_LOG);
            OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_wait_ends_when_the_text_comes_in_pieces() {
        let desk = Desk::new();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| desk.console.wait_for("login:", LONG).unwrap());
            desk.guest_says("\x1b[1mDebian\x1b[0m lo");
            desk.console.wait_since(Mark::default(), "Debian lo", LONG).unwrap();
            desk.guest_says("gin: ");
            let seen = waiter.join().unwrap();
            assert_eq!((seen.text.as_str(), seen.line.trim()), ("login:", "Debian login:"));
            assert!(desk.console.time_of(seen.end) >= desk.console.time_of(Mark(8)));
        });
    }

    #[test]
    fn what_was_waited_for_is_consumed_and_marks_look_back() {
        let desk = Desk::new();
        let start = desk.console.mark();
        desk.guest_says("boot 1\nboot 2\n");
        let boot = || Pattern::from(Regex::new(r"boot (\d)").unwrap());
        assert_eq!(desk.console.wait_for(boot(), LONG).unwrap().text, "boot 1");
        assert_eq!(desk.console.wait_for(boot(), LONG).unwrap().text, "boot 2");
        assert_eq!(desk.console.wait_since(start, boot(), LONG).unwrap().text, "boot 1");
        desk.console.rewind(start);
        let first = desk.console.wait_any(&["boot 2".into(), "boot 1".into()], LONG).unwrap();
        assert_eq!((first.pattern, first.line.as_str()), (1, "boot 1"));
        assert_eq!(desk.console.since(start), "boot 1\nboot 2\n");
    }

    #[test]
    fn a_deadline_says_what_was_waited_for_and_what_came() {
        let desk = Desk::new();
        desk.guest_says("Kernel panic\n");
        desk.console.wait_for("panic", LONG).unwrap();
        let error = desk.console.wait_for("login:", Duration::from_millis(10)).unwrap_err().to_string();
        assert!(
            error.contains("`login:`") && error.contains("| Kernel panic") && !error.contains("old boot"),
            "{error}"
        );
    }

    #[test]
    fn a_mute_guest_is_told_from_a_slow_one() {
        let desk = Desk::new();
        let patterns = [Pattern::from("init")];
        let search =
            |deadline, mute| desk.console.search(Mark::default(), &patterns, deadline, Some(mute)).unwrap_err();
        assert!(matches!(search(LONG, Duration::from_millis(10)), Error::Mute { .. }));
        assert!(matches!(search(Duration::from_millis(10), LONG), Error::Waited { .. }));
    }

    #[test]
    fn the_end_of_qemu_ends_a_wait_after_its_last_words_and_the_next_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file::CONSOLE_LOG), "").unwrap();
        let piped = std::process::Stdio::piped;
        let mut child = std::process::Command::new("cat").stdin(piped()).stdout(piped()).spawn().unwrap();
        // Only once it answers is it sure that the kernel has set up its command line.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid_file = dir.path().join("pid");
        std::fs::write(&pid_file, child.id().to_string()).unwrap();
        let process = Process::find(&pid_file, "cat").unwrap();
        assert!(process.is_some() && Process::find(&pid_file, "dog").unwrap().is_none());
        let console = Console::follow("m", dir.path(), 0, process).unwrap();
        std::fs::write(dir.path().join(file::CONSOLE_LOG), "last words\n").unwrap();
        drop(child.stdin.take());
        console.wait_for("last words", LONG).unwrap();
        assert!(matches!(console.wait_for("more", LONG), Err(Error::Ended { .. })));

        std::fs::write(&pid_file, std::process::id().to_string()).unwrap();
        let next = Process::find(&pid_file, "").unwrap().unwrap();
        let end = console.mark();
        let again = console.follow_next(11, next).unwrap();
        OpenOptions::new().append(true).open(dir.path().join(file::CONSOLE_LOG)).unwrap().write_all(b"anew\n").unwrap();
        let seen = again.wait_for("anew", LONG).unwrap();
        assert_eq!((again.since(end).as_str(), again.text().as_str()), ("anew\n", "last words\nanew\n"));
        assert!(seen.at >= console.time_of(end), "its times are counted as before");
        child.wait().unwrap();
    }
}
