//! A person at the serial console.

use crate::command::file;
use crate::{Error, Machine, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Ctrl-], which ends the session.
const LEAVE: u8 = 0x1d;
/// How much of what was said before is shown first, in bytes.
const BEFORE: u64 = 8 * 1024;

/// Connects a terminal with the console of a running machine until Ctrl-] or QEMU's end: first shows the end of the log, then
/// copies both ways.
///
/// # Errors
/// Another one is connected, or the terminal or QEMU fails.
pub fn attach(machine: &Machine, input: &impl AsFd, output: &mut impl Write) -> Result<(), Error> {
    if machine.process()?.is_none() {
        return Err(Error::NotRunning { name: machine.name().into() });
    }
    let path = machine.dir().join(file::CONSOLE);
    let broken = |error| Error::path("talk to", &path)(error);
    let mut stream = socket::connect(machine.dir(), file::CONSOLE)?;
    show_before(machine, output)?;
    let raw = Raw::of(input.as_fd())?;
    let mut buffer = [0_u8; 4096];
    loop {
        let mut waited = [PollFd::new(input, PollFlags::IN), PollFd::new(&stream, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(broken(errno.into())),
        }
        let [typed, said] = waited.map(|fd| !fd.revents().is_empty());
        if said {
            let count = stream.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            output.write_all(buffer.get(..count).unwrap_or_default()).and_then(|()| output.flush()).map_err(broken)?;
        }
        if typed {
            let count = rustix::io::read(input, &mut buffer).map_err(|errno| broken(errno.into()))?;
            let typed = buffer.get(..count).unwrap_or_default();
            let before_leaving = typed.split(|byte| *byte == LEAVE).next().unwrap_or_default();
            stream.write_all(before_leaving).map_err(broken)?;
            if typed.is_empty() || before_leaving.len() < typed.len() {
                break;
            }
        }
    }
    raw.restore()
}

fn show_before(machine: &Machine, output: &mut impl Write) -> Result<(), Error> {
    let path = machine.console_log();
    let shown = File::open(&path).and_then(|mut log| {
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(BEFORE)))?;
        let mut end = Vec::new();
        log.read_to_end(&mut end)?;
        output.write_all(&end)?;
        output.flush()
    });
    shown.map_err(Error::path("show", path))
}

/// A terminal in raw mode, which goes back to what it was.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    /// Absent when the input is no terminal.
    before: Option<Termios>,
}

impl<'a> Raw<'a> {
    fn of(terminal: BorrowedFd<'a>) -> Result<Self, Error> {
        if !isatty(terminal) {
            return Ok(Self { terminal, before: None });
        }
        let before = tcgetattr(terminal).map_err(Error::errno("read the modes of", "/dev/tty"))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw).map_err(Error::errno("set the modes of", "/dev/tty"))?;
        Ok(Self { terminal, before: Some(before) })
    }

    fn restore(mut self) -> Result<(), Error> {
        self.put_back().map_err(Error::errno("set the modes of", "/dev/tty"))
    }

    fn put_back(&mut self) -> rustix::io::Result<()> {
        match self.before.take() {
            Some(before) => tcsetattr(self.terminal, OptionalActions::Now, &before),
            None => Ok(()),
        }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            tracing::warn!(%error, "cannot put the terminal back");
        }
    }
}
