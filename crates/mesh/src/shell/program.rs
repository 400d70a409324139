//! What an attendant runs for a member: a program, and the frames between its streams and the member's.
//!
//! Nothing is gathered: output is read when the last of it has been sent, and of input no more is taken than the window holds.

use super::frames;
use kairn_host::identity::users;
use kairn_host::terminal::{TerminalSize, resize};
use kairn_host::{Invocation, Leader, Outlet, Streams};
use kairn_mesh_protocol::shell::{Frame, LARGEST_DATA, Request, Room, Size};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the member may take to say what is to be run.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a program has to end whose member is gone, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// Frames that wait to be sent.
const WAITING: usize = 2;
/// What is typed at a terminal to say that there is no more (VEOF, termios(3)).
const NO_MORE: u8 = 4;
/// Hang up, and go on after a stop (signal(7)).
const GONE: [u8; 2] = [1, 18];
/// The shell where the machine's own cannot be run.
const USUAL_SHELL: &str = "/bin/sh";

/// Runs what the member asks for, until it ends or the member is gone.
///
/// # Errors
/// The member does not keep to the protocol.
pub async fn serve(stream: UnixStream, root: &Path, who: &str) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let begun = timeout(PATIENCE, frames::read(&mut reader)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let Some(Frame::Begin(request)) = begun else {
        return Err(io::Error::other("it does not say what is to be run"));
    };
    let invocation = invocation(&request, root, who);
    let size = request.terminal.as_ref().map(|terminal| size(terminal.size));
    let started = Leader::start(&invocation, &name(&request, &invocation), size);
    let (mut leader, streams) = match started {
        Ok(started) => started,
        Err(error) => {
            frames::write(&mut writer, &Frame::Failed(kairn_report::in_one_line(&error))).await?;
            drop(writer);
            return hear_out(&mut reader).await;
        }
    };
    let (say, says) = mpsc::channel(WAITING);
    let told = tokio::spawn(tell(writer, says));
    let (room, (feed, fed)) = (Arc::default(), mpsc::unbounded_channel());
    let Streams { input, output, errors, terminal } = streams;
    let (shared, taken) = (Arc::clone(&room), say.clone());
    let is_terminal = terminal.is_some();
    std::thread::spawn(move || feed_program(fed, input, is_terminal, &shared, &taken));
    let carried = [Some(carry(output, Frame::Output, &say)), errors.map(|errors| carry(errors, Frame::Errors, &say))];
    let (over, mut ended) = oneshot::channel();
    let exit = leader.exit().map_err(io::Error::other)?;
    std::thread::spawn(move || over.send(exit.wait()).is_ok());
    let is_over = tokio::select! {
        all = all(carried, &mut ended) => all.map(|()| true),
        heard = hear(&mut reader, &leader, terminal.as_ref(), &room, feed) => heard.map(|()| false),
    };
    if matches!(is_over, Ok(true))
        && let Some(status) = leader.ended().map_err(io::Error::other)?
        && say.send(last_word(status)).await.is_ok()
    {
        // What it wrote last may take as long as the member takes to read it; whoever is gone ends the waiting.
        drop(say);
        tokio::select! {
            told = told => told.map_err(io::Error::other)??,
            gone = rest(&mut reader) => return gone,
        }
        return hear_out(&mut reader).await;
    }
    told.abort();
    for signal in GONE {
        leader.signal(signal).map_err(io::Error::other)?;
    }
    if !ended.is_terminated() && timeout(GRACE, &mut ended).await.is_err() {
        tracing::info!("a program whose member is gone is killed");
    }
    is_over.map(drop)
}

/// Takes what the member says still, and does nothing with it, until it is gone.
async fn rest(reader: &mut OwnedReadHalf) -> io::Result<()> {
    while frames::read(reader).await?.is_some() {}
    Ok(())
}

/// The same for a while, after the last word: a socket that is closed with something unread breaks off, and the member may not hear that word.
async fn hear_out(reader: &mut OwnedReadHalf) -> io::Result<()> {
    timeout(PATIENCE, rest(reader)).await.unwrap_or(Ok(()))
}

/// A login shell of root, or the program that is named.
fn invocation(request: &Request, root: &Path, who: &str) -> Invocation {
    let user = users(root).ok().and_then(|users| users.into_iter().find(|user| user.uid == 0));
    let shell = user.as_ref().map(|user| user.shell.to_string_lossy().into_owned());
    // An account that nobody logs in to has a program there that only says so.
    let is_shell = |shell: &String| !shell.is_empty() && !shell.ends_with("/nologin") && !shell.ends_with("/false");
    let shell = shell.filter(is_shell).unwrap_or_else(|| USUAL_SHELL.to_owned());
    let home = user.as_ref().map_or_else(|| "/root".to_owned(), |user| user.home.to_string_lossy().into_owned());
    let name = user.map_or_else(|| "root".to_owned(), |user| user.name);
    let (program, args) = match request.command.split_first() {
        Some((program, args)) => (program.clone(), args.to_vec()),
        None => (shell.clone(), Vec::new()),
    };
    let mut invocation = Invocation::new(program).args(args).dir(&home);
    for (key, value) in
        [("HOME", home.as_str()), ("USER", &name), ("LOGNAME", &name), ("SHELL", &shell), ("KAIRN_SHELL", who)]
    {
        invocation = invocation.env(key, value);
    }
    match &request.terminal {
        Some(terminal) if !terminal.name.is_empty() => invocation.env("TERM", &terminal.name),
        _ => invocation,
    }
}

/// What the program is told that it is called: a shell by whose name begins with a hyphen reads what logins read.
fn name(request: &Request, invocation: &Invocation) -> String {
    let last = invocation.program.rsplit('/').next().unwrap_or_default();
    if request.command.is_empty() { format!("-{last}") } else { invocation.program.clone() }
}

const fn size(size: Size) -> TerminalSize {
    TerminalSize { columns: size.columns, rows: size.rows }
}

fn last_word(status: ExitStatus) -> Frame {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => Frame::Ended(byte(code)),
        (None, signal) => Frame::Killed(byte(signal.unwrap_or_default())),
    }
}

/// Sends what is said to the member.
async fn tell(mut writer: OwnedWriteHalf, mut says: Receiver<Frame>) -> io::Result<()> {
    while let Some(frame) = says.recv().await {
        frames::write(&mut writer, &frame).await?;
    }
    Ok(())
}

/// Carries what a program writes, by a thread of its own: terminals and pipes are read alike there. The receiver hears of the end.
fn carry(mut outlet: Outlet, frame: fn(Vec<u8>) -> Frame, say: &Sender<Frame>) -> oneshot::Receiver<io::Result<()>> {
    let (over, ended) = oneshot::channel();
    let say = say.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; LARGEST_DATA];
        let end = loop {
            match outlet.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    let data = buffer.get(..length).unwrap_or_default().to_vec();
                    if say.blocking_send(frame(data)).is_err() {
                        break Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        // Otherwise the member is gone already.
        drop(over.send(end));
    });
    ended
}

/// Waits until all that the program wrote is said, and it has ended.
async fn all(
    carried: [Option<oneshot::Receiver<io::Result<()>>>; 2],
    ended: &mut oneshot::Receiver<io::Result<()>>,
) -> io::Result<()> {
    for end in carried.into_iter().flatten() {
        end.await.map_err(io::Error::other)??;
    }
    ended.await.map_err(io::Error::other)?
}

/// Does what the member says, until it is gone.
async fn hear(
    reader: &mut OwnedReadHalf,
    leader: &Leader,
    terminal: Option<&OwnedFd>,
    room: &Mutex<Room>,
    feed: UnboundedSender<Vec<u8>>,
) -> io::Result<()> {
    let mut feed = Some(feed);
    while let Some(frame) = frames::read(reader).await? {
        match (frame, &feed, terminal) {
            (Frame::Input(data), Some(to), _) => {
                let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
                room.fill(data.len()).map_err(io::Error::other)?;
                // A program that does not read any more is no reason to end.
                if to.send(data).is_err() {
                    tracing::debug!("nobody reads the input");
                }
            }
            (Frame::InputEnd, ..) => feed = None,
            (Frame::Resize(to), _, Some(terminal)) => resize(terminal, size(to)).map_err(io::Error::other)?,
            (Frame::Signal(number), ..) => {
                if let Err(error) = leader.signal(number) {
                    tracing::info!(%error, "a signal that is not passed on");
                }
            }
            (frame, ..) => return Err(io::Error::other(format!("a {frame:?} where none belongs"))),
        }
    }
    Ok(())
}

/// Has the program read what comes for it, by a thread of its own.
fn feed_program(
    mut fed: UnboundedReceiver<Vec<u8>>,
    mut input: File,
    is_terminal: bool,
    room: &Mutex<Room>,
    say: &Sender<Frame>,
) {
    let mut open = true;
    while let Some(data) = fed.blocking_recv() {
        if open && let Err(error) = input.write_all(&data) {
            tracing::debug!(%error, "the program reads no more");
            open = false;
        }
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if let Err(error) = room.lock().unwrap_or_else(PoisonError::into_inner).empty(count) {
            return tracing::error!(%error, "the input is not counted");
        }
        if say.blocking_send(Frame::Taken(count)).is_err() {
            return;
        }
    }
    if is_terminal
        && open
        && let Err(error) = input.write_all(&[NO_MORE])
    {
        tracing::debug!(%error, "the program reads no more");
    }
}

#[cfg(test)]
mod tests;
