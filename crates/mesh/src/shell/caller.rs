//! The person's end of a shell: what is typed goes there, what comes is shown here.
//!
//! Two things run side by side, so that a terminal or a pipe that takes nothing more keeps neither signals nor input back: one shows
//! what comes, the other sends what is typed.

use super::frames;
use crate::client::Client;
use crate::error::Error;
use kairn_host::terminal::{RawTerminal, TerminalSize, own_size};
use kairn_mesh_protocol::Identity;
use kairn_mesh_protocol::shell::{Code, Frame, LARGEST_DATA, Request, Room, Shell, Size};
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

/// Pieces of output that wait for whoever reads it here.
const WAITING: usize = 2;
/// What a program that writes to nobody is ended by (signal(7)).
const BROKEN_PIPE: u8 = 13;

/// What is wanted of a node.
pub struct Asked<'a> {
    /// What is to be run there.
    pub request: Request,
    /// The administrator's key, if it is at hand.
    pub key: Option<&'a Identity>,
    /// Asks a person for the code on the console of the node that is named.
    pub code: &'a mut dyn FnMut(&Shell) -> Result<Code, String>,
}

/// How what was run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellEnd {
    /// By itself, with this code.
    Code(u8),
    /// By a signal, there or here.
    Signal(u8),
}

impl Client {
    /// Runs something on a node, with this process' streams.
    ///
    /// # Errors
    /// No node answers, it is not let in, or the session breaks off.
    pub fn shell(&self, node: &str, asked: Asked<'_>) -> Result<ShellEnd, Error> {
        self.block_on(async {
            let (shell, stream) = self.line(node).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let broken = |error: io::Error| Error::Shell { node: shell.server, source: error };
            let Asked { request, key, code } = asked;
            enter(&mut reader, &mut writer, &shell, key, code).await?;
            // From here on the terminal is the program's there.
            let raw = request.terminal.as_ref().map(|_| RawTerminal::enter()).transpose()?;
            let has_terminal = raw.is_some();
            frames::write(&mut writer, &Frame::Begin(request)).await.map_err(broken)?;
            let (room, freed) = (Mutex::default(), Notify::new());
            let end = tokio::select! {
                shown = show(&mut reader, &room, &freed) => shown,
                sent = send(&mut writer, &room, &freed, has_terminal) => sent,
            };
            drop(raw);
            match end.map_err(broken)? {
                Ending::There(end) | Ending::Here(end) => Ok(end),
                Ending::NotRun(why) => Err(Error::Declined {
                    status: 400,
                    why: format!("node {}: {why}", shell.server.short()),
                    hints: Vec::new(),
                }),
            }
        })
    }
}

/// Shows the node what it asks for.
async fn enter<S: AsyncRead + AsyncWrite>(
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    shell: &Shell,
    key: Option<&Identity>,
    code: &mut dyn FnMut(&Shell) -> Result<Code, String>,
) -> Result<(), Error> {
    let node = shell.server;
    let broken = |error: io::Error| Error::Shell { node, source: error };
    let declined = |why: String, hints: &[&str]| Error::Declined {
        status: 403,
        why: format!("node {}: {why}", node.short()),
        hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
    };
    frames::write(writer, &Frame::Knock).await.map_err(broken)?;
    let proof = match (answer(reader).await.map_err(broken)?, key) {
        (Frame::Door { key: true, .. }, Some(key)) => {
            Frame::Key { administrator: key.id(), signature: shell.sign(key) }
        }
        (Frame::Door { code: true, .. }, None) => {
            Frame::Code(code(shell).map_err(|why| declined(why, &[]))?.prove(shell))
        }
        (Frame::Door { .. }, None) => {
            let hint = "name its file with --admin-key";
            return Err(declined("only an administrator's key opens its shell".to_owned(), &[hint]));
        }
        (Frame::Door { .. }, Some(_)) => {
            let hint = "leave out --admin-key, and type the code that its console shows";
            return Err(declined("this network has no administrator".to_owned(), &[hint]));
        }
        (Frame::Refused(why), _) => return Err(declined(why.escape_debug().to_string(), &[])),
        (frame, _) => return Err(broken(io::Error::other(format!("a {frame:?} where none belongs")))),
    };
    frames::write(writer, &proof).await.map_err(broken)?;
    match answer(reader).await.map_err(broken)? {
        Frame::Granted => Ok(()),
        Frame::Refused(why) => Err(declined(why.escape_debug().to_string(), &[])),
        frame => Err(broken(io::Error::other(format!("a {frame:?} where none belongs")))),
    }
}

async fn answer(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    frames::read(reader).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

enum Ending {
    /// The program there ended.
    There(ShellEnd),
    /// It is over here.
    Here(ShellEnd),
    /// It could not be run.
    NotRun(String),
}

/// Shows what comes until the program there has ended and all of it is out.
async fn show(reader: &mut (impl AsyncRead + Unpin), room: &Mutex<Room>, freed: &Notify) -> io::Result<Ending> {
    let (out, err) = (Writer::start(io::stdout), Writer::start(io::stderr));
    let end = loop {
        match frames::read(reader).await? {
            Some(Frame::Output(data)) => {
                if !out.write(data).await {
                    return Ok(Ending::Here(ShellEnd::Signal(BROKEN_PIPE)));
                }
            }
            Some(Frame::Errors(data)) => {
                if !err.write(data).await {
                    tracing::debug!("standard error is closed");
                }
            }
            Some(Frame::Taken(count)) => {
                room.lock().unwrap_or_else(PoisonError::into_inner).empty(count).map_err(io::Error::other)?;
                freed.notify_one();
            }
            Some(Frame::Ended(code)) => break Ending::There(ShellEnd::Code(code)),
            Some(Frame::Killed(signal)) => break Ending::There(ShellEnd::Signal(signal)),
            Some(Frame::Failed(why)) => break Ending::NotRun(why.escape_debug().to_string()),
            Some(frame) => return Err(io::Error::other(format!("a {frame:?} where none belongs"))),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    out.finish().await?;
    err.finish().await?;
    Ok(end)
}

/// Sends what is typed, and what happens to this process, for as long as it lasts.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    room: &Mutex<Room>,
    freed: &Notify,
    has_terminal: bool,
) -> io::Result<Ending> {
    let mut typed = Some(stdin());
    let mut resized = signal(SignalKind::window_change())?;
    let (mut hup, mut int) = (signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?);
    let (mut quit, mut term) = (signal(SignalKind::quit())?, signal(SignalKind::terminate())?);
    let mut before = None;
    loop {
        let left = room.lock().unwrap_or_else(PoisonError::into_inner).left();
        let frame = tokio::select! {
            data = next(typed.as_mut()), if typed.is_some() && left >= LARGEST_DATA => match data {
                Some(data) => {
                    room.lock().unwrap_or_else(PoisonError::into_inner).fill(data.len()).map_err(io::Error::other)?;
                    Frame::Input(data)
                }
                None => {
                    typed = None;
                    Frame::InputEnd
                }
            },
            () = freed.notified(), if left < LARGEST_DATA => continue,
            _ = resized.recv(), if has_terminal => match own_size() {
                Some(size) => Frame::Resize(of(size)),
                None => continue,
            },
            number = any([&mut hup, &mut int, &mut quit, &mut term]) => {
                // At a terminal what is typed goes there; so this is for the process here. The second time it is too.
                if has_terminal || before.replace(number) == Some(number) {
                    return Ok(Ending::Here(ShellEnd::Signal(number)));
                }
                Frame::Signal(number)
            }
        };
        frames::write(writer, &frame).await?;
    }
}

const fn of(size: TerminalSize) -> Size {
    Size { columns: size.columns, rows: size.rows }
}

async fn next(typed: Option<&mut mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    typed?.recv().await
}

/// The number of the signal that comes first.
async fn any([hup, int, quit, term]: [&mut Signal; 4]) -> u8 {
    tokio::select! {
        _ = hup.recv() => 1,
        _ = int.recv() => 2,
        _ = quit.recv() => 3,
        _ = term.recv() => 15,
    }
}

/// What is read from standard input, by a thread: what stands there may be a file, which cannot be waited for, or a terminal that others
/// read too. The thread ends with the process.
fn stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = vec![0; LARGEST_DATA];
        loop {
            let data = match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => buffer.get(..length).unwrap_or_default().to_vec(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return tracing::debug!(%error, "standard input ends"),
            };
            if sender.blocking_send(data).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A thread that writes to a stream of this process, which may stand still.
struct Writer {
    pieces: mpsc::Sender<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Writer {
    fn start<W: Write>(stream: impl FnOnce() -> W + Send + 'static) -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING);
        let thread = std::thread::spawn(move || {
            let mut stream = stream();
            while let Some(piece) = waiting.blocking_recv() {
                stream.write_all(&piece)?;
                stream.flush()?;
            }
            Ok(())
        });
        Self { pieces, thread }
    }

    /// Says whether somebody still takes it.
    async fn write(&self, piece: Vec<u8>) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all is out. A pipe that was closed is its reader's choice.
    async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined.map_err(io::Error::other)? {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(written) => written,
            Err(_) => Err(io::Error::other("what writes the output fell over")),
        }
    }
}
