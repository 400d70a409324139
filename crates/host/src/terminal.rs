//! Terminals: the one that this process talks to a person by, pairs of them for programs, and the consoles of the machine.

use crate::{Error, files};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

/// The consoles that the kernel writes to, by the names of their devices (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "sys/class/tty/console/active";
/// The most bytes of a line that is typed.
const LONGEST_LINE: u64 = 4_096;
/// What is mended if this process falls over while its terminal is raw: the terminal, and how it was.
static RAW: Mutex<Option<Termios>> = Mutex::new(None);

/// A size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// How wide.
    pub columns: u16,
    /// How high.
    pub rows: u16,
}

/// The terminal at standard input, for as long as it hands on what is typed as it is, signals and all. Dropping it makes it as it was, and so
/// does a panic.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Makes the terminal at standard input raw.
    ///
    /// # Errors
    /// There is none.
    pub fn enter() -> Result<Self, Error> {
        static HOOK: Once = Once::new();
        let failed = || Error::errno("take over the terminal at", "/dev/stdin");
        let was = tcgetattr(std::io::stdin()).map_err(failed())?;
        let mut raw = was.clone();
        raw.make_raw();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        *RAW.lock().unwrap_or_else(PoisonError::into_inner) = Some(was);
        let guard = Self(());
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw).map_err(failed())?;
        Ok(guard)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let was = RAW.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(was) = was
        && let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Drain, &was)
    {
        tracing::warn!(%error, "the terminal stays as it is: `reset` mends it");
    }
}

/// How large the terminal at standard input is; nothing where it is none.
#[must_use]
pub fn own_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(std::io::stdin()).ok()?;
    Some(TerminalSize { columns: size.ws_col, rows: size.ws_row })
}

/// Asks the person at the terminal of this process, and returns the line that is typed.
///
/// # Errors
/// This process has no terminal, or its end was typed.
pub fn ask(question: &str) -> Result<String, Error> {
    let failed = || Error::path("ask at", "/dev/tty");
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed())?;
    terminal.write_all(question.as_bytes()).map_err(failed())?;
    let mut line = String::new();
    match BufReader::new(terminal).take(LONGEST_LINE).read_line(&mut line).map_err(failed())? {
        0 => Err(failed()(std::io::ErrorKind::UnexpectedEof.into())),
        _ => Ok(line),
    }
}

/// Says how large a terminal is, which tells the programs in it.
///
/// # Errors
/// It is none.
pub fn resize(terminal: impl AsFd, size: TerminalSize) -> Result<(), Error> {
    let TerminalSize { columns, rows } = size;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).map_err(Error::errno("resize", "/dev/ptmx"))
}

/// Makes a pair of terminals: what is written to the first is typed at the second, where a program runs.
///
/// # Errors
/// There are none left, or devpts is not mounted.
pub fn pair(size: TerminalSize) -> Result<(OwnedFd, OwnedFd), Error> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let made = || {
        let outer = openpt(flags)?;
        unlockpt(&outer)?;
        let inner = ioctl_tiocgptpeer(&outer, flags)?;
        Ok((outer, inner))
    };
    let (outer, inner) = made().map_err(|errno: Errno| Error::errno("open", "/dev/ptmx")(errno))?;
    resize(&outer, size)?;
    Ok((outer, inner))
}

/// The consoles of the machine: where the kernel's own messages are seen.
///
/// # Errors
/// The kernel does not say.
pub fn consoles(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let names = files::read_text(&root.join(ACTIVE))?;
    Ok(names.split_whitespace().map(|name| root.join("dev").join(name)).collect())
}

/// Writes a text to a console, whatever else is going on there. One that does not take it at once is not waited for.
///
/// # Errors
/// There is no such console, or it did not take the whole text.
pub fn write_to_console(console: &Path, text: &str) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file: File = open(console, flags, Mode::empty()).map_err(Error::errno("open", console))?.into();
    // A program may have made it raw.
    let lines = text.replace('\n', "\r\n");
    file.write_all(lines.as_bytes()).map_err(Error::path("write to", console))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_at_one_end_is_read_at_the_other_whose_size_is_told() {
        let (outer, inner) = match pair(TerminalSize { columns: 101, rows: 33 }) {
            Ok(pair) => pair,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let (mut outer, mut inner) = (File::from(outer), File::from(inner));
        outer.write_all(b"line\n").unwrap();
        let mut line = [0; 5];
        inner.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"line\n");
        let size = tcgetwinsize(&inner).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (101, 33));
        resize(&outer, TerminalSize { columns: 7, rows: 8 }).unwrap();
        assert_eq!(tcgetwinsize(&inner).unwrap().ws_col, 7);
    }

    #[test]
    fn consoles_are_those_that_the_kernel_names_and_take_lines() {
        let dir = tempfile::tempdir().unwrap();
        let active = dir.path().join(ACTIVE);
        std::fs::create_dir_all(active.parent().unwrap()).unwrap();
        std::fs::create_dir(dir.path().join("dev")).unwrap();
        std::fs::write(&active, "tty0 ttyS0\n").unwrap();
        let found = consoles(dir.path()).unwrap();
        assert_eq!(found, [dir.path().join("dev/tty0"), dir.path().join("dev/ttyS0")]);
        std::fs::write(&found[0], "").unwrap();
        for text in ["one\n", "two\n"] {
            write_to_console(&found[0], text).unwrap();
        }
        assert_eq!(std::fs::read(&found[0]).unwrap(), b"one\r\ntwo\r\n");
        assert!(write_to_console(&found[1], "x").unwrap_err().to_string().contains("ttyS0"));
    }
}
