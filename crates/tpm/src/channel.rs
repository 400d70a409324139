//! The way to a TPM: the kernel's device, or the socket of an emulator.

use crate::command::LONGEST;
use crate::error::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The TPM, with handles of its own for each program that has it open.
pub const DEVICE: &str = "/dev/tpmrm0";

/// How long a TPM may take for a command. Slow ones derive an elliptic key in some seconds; the kernel itself gives up after minutes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries commands to a TPM.
pub trait Transport {
    /// Sends a command and returns its answer whole, whatever that says.
    ///
    /// # Errors
    /// It cannot be sent, or no answer comes.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;

    /// Lets a busy TPM have some time.
    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// An open way.
#[derive(Debug)]
pub struct Channel {
    /// Nothing once an answer was not waited for: it would be taken for the next one's.
    file: Option<OwnedFd>,
}

impl Channel {
    /// Opens the kernel's device, or the socket at which an emulator takes commands as they are.
    ///
    /// # Errors
    /// It is not there, or not for this program.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = || -> io::Result<OwnedFd> {
            if path.metadata()?.file_type().is_socket() {
                let socket = UnixStream::connect(path)?;
                socket.set_nonblocking(true)?;
                return Ok(socket.into());
            }
            // So a TPM that hangs has this program wait by `poll`, and for as long as it likes (Linux 4.20).
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
            Ok(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?.into())
        };
        match file() {
            Ok(file) => Ok(Self { file: Some(file) }),
            Err(error) if error.kind() == ErrorKind::NotFound || is_no_device(&error) => {
                Err(Error::Absent { path: path.to_owned() })
            }
            Err(source) => Err(Error::Open { path: path.to_owned(), source }),
        }
    }
}

/// The name is there, and nothing behind it.
fn is_no_device(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NODEV | Errno::NXIO))
}

impl Transport for Channel {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let file = self.file.take().ok_or_else(|| io::Error::new(ErrorKind::TimedOut, "it did not answer before"))?;
        match exchange(&file, command, Instant::now() + PATIENCE) {
            Ok(answer) => {
                self.file = Some(file);
                Ok(answer)
            }
            Err(error) => {
                if error.kind() == ErrorKind::TimedOut {
                    // The kernel's `close` waits for the TPM, which is what this is not to do.
                    std::mem::forget(file);
                }
                Err(error)
            }
        }
    }
}

fn exchange(file: &OwnedFd, command: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut rest = command;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            // The kernel's device takes a command whole or not at all.
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN) => wait(file, PollFlags::OUT, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut answer = Vec::with_capacity(LONGEST);
    while length(&answer).is_none_or(|length| answer.len() < length) {
        let mut buffer = [0; LONGEST];
        wait(file, PollFlags::IN, deadline)?;
        match rustix::io::read(file, &mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if answer.len() > LONGEST || length(&answer).is_some_and(|length| length > LONGEST) {
            return Err(io::Error::new(ErrorKind::InvalidData, "its answer is longer than answers are"));
        }
    }
    Ok(answer)
}

/// How long an answer says that it is.
fn length(answer: &[u8]) -> Option<usize> {
    let length = answer.get(2..6)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn wait(file: &OwnedFd, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(file, flags)], Some(&left)) {
            Ok(0) => {
                let patience = PATIENCE.as_secs();
                return Err(io::Error::new(ErrorKind::TimedOut, format!("it did not answer within {patience} s")));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    /// What comes of a command that is answered with these bytes, in pieces.
    fn asked(pieces: &'static [&'static [u8]]) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpm");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 3]).unwrap();
            for piece in pieces {
                stream.write_all(piece).unwrap();
            }
        });
        let mut channel = Channel::open(&path).unwrap();
        let answer = channel.exchange(b"ask");
        server.join().unwrap();
        if answer.is_err() {
            assert!(channel.exchange(b"ask").is_err(), "a way on which something was lost is not used again");
        }
        answer
    }

    #[test]
    fn an_answer_comes_whole_or_not_at_all() {
        let (head, rest) = (&[0x80, 1, 0, 0, 0][..], &[12, 0, 0, 0, 0, 7, 7][..]);
        assert_eq!(asked(&[&[0x80, 1, 0, 0, 0], &[12, 0, 0, 0, 0, 7, 7]]).unwrap(), [head, rest].concat());
        assert_eq!(asked(&[&[0x80, 1, 0, 0, 0, 12, 0]]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(asked(&[&[0x80, 1, 0, 1, 0, 0, 0]]).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_not_there_is_absent_and_what_is_no_tpm_cannot_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpm");
        assert!(matches!(Channel::open(&path), Err(Error::Absent { .. })));
        assert!(matches!(Channel::open(dir.path()), Err(Error::Open { .. })));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(Channel::open(&path), Err(Error::Open { .. })), "a socket at which nobody listens");
    }
}
