//! The attendant: a process of its own that shows texts on consoles and runs what a member with a shell asks for.
//!
//! The node itself may do little on its machine (its unit says what), and what it starts may do no more. So the service manager starts an
//! attendant for each connection to a socket that only root can open; where there is no such socket, the node starts one itself. The node
//! says first, in JSON after two bytes of length, what it wants; the attendant answers two bytes of length and why not, or nothing. For a shell the
//! frames of the member follow.

use crate::services::{read_answer, write_answer};
use crate::shell::program;
use kairn_host::{Invocation, Runner, files, terminal};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Where the service manager takes connections for attendants.
pub const SOCKET: &str = "/run/kairn/mesh-shell.sock";
/// What stands above the login prompts of the machine's consoles (agetty(8), ISSUE FILES).
const ISSUE: &str = "/run/issue.d/kairn-shell.issue";
/// How long an attendant may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the login prompts may take to be told.
const RELOAD: Duration = Duration::from_secs(5);

/// What the node wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// To show something.
    Show {
        /// The consoles, those of the kernel where none is named.
        consoles: Vec<PathBuf>,
        /// What is shown now.
        text: String,
        /// What stands above the login prompts from now on; nothing takes away what stood there.
        standing: Option<String>,
    },
    /// To run what a member asks for.
    Serve {
        /// The consoles, as above.
        consoles: Vec<PathBuf>,
        /// Who it is, for people.
        who: String,
    },
}

/// How the node comes by an attendant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// The service manager's socket, if it is there.
    pub socket: PathBuf,
    /// The arguments that make this program one.
    pub arguments: Vec<String>,
}

impl Attendance {
    /// Has an attendant do something; the stream is for what follows.
    ///
    /// # Errors
    /// There is none, or why it does not.
    pub async fn order(&self, order: &Order) -> Result<UnixStream, String> {
        let asked = async {
            let mut stream = self.stream().await?;
            let text = serde_json::to_vec(order).map_err(io::Error::other)?;
            let length = u16::try_from(text.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &text].concat()).await?;
            let answer = read_answer(&mut stream).await?;
            Ok::<_, io::Error>((stream, answer))
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok((stream, None))) => Ok(stream),
            Ok(Ok((_, Some(why)))) => Err(why),
            Ok(Err(error)) => Err(format!("the process for shells cannot be asked: {error}")),
            Err(_) => Err("the process for shells does not answer within 20 s".to_owned()),
        }
    }

    async fn stream(&self) -> io::Result<UnixStream> {
        match UnixStream::connect(&self.socket).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            connected => return connected,
        }
        // What is started from here could do as little as this process.
        if rustix::thread::no_new_privs()? {
            let why = format!("{} is not there: `systemctl status kairn-mesh-shell.socket`", self.socket.display());
            return Err(io::Error::other(why));
        }
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let stream = kairn_host::start_own(&arguments).map_err(io::Error::other)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }
}

/// Attends to one connection. `permit` says whether this machine lends a shell at all.
///
/// # Errors
/// The node says nothing that can be understood, or goes away.
pub async fn attend(
    mut stream: UnixStream,
    root: &Path,
    permit: impl FnOnce() -> Result<(), String>,
) -> io::Result<()> {
    let length = timeout(PATIENCE, stream.read_u16()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let mut text = vec![0; length.into()];
    timeout(PATIENCE, stream.read_exact(&mut text)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let order: Order = serde_json::from_slice(&text).map_err(io::Error::other)?;
    if let Err(why) = permit() {
        return write_answer(&mut stream, &why).await;
    }
    match order {
        Order::Show { consoles, text, standing } => {
            let failed: Vec<String> = [show(root, &consoles, &text), stand(root, standing.as_deref())]
                .into_iter()
                .filter_map(Result::err)
                .collect();
            write_answer(&mut stream, &failed.join("; ")).await
        }
        Order::Serve { consoles, who } => {
            let told = |text: &str| {
                if let Err(why) = show(root, &consoles, &format!("kairn: {text}\n")) {
                    tracing::warn!(why, "nobody at the console is told of the shell");
                }
            };
            told(&format!("a shell of this machine is opened by {who}"));
            write_answer(&mut stream, "").await?;
            let ended = program::serve(stream, root, &who).await;
            told(&format!("the shell of {who} has ended"));
            ended
        }
    }
}

/// Shows a text on consoles.
fn show(root: &Path, consoles: &[PathBuf], text: &str) -> Result<(), String> {
    let all = match consoles {
        [] => terminal::consoles(root).map_err(|error| kairn_report::in_one_line(&error))?,
        named => named.to_vec(),
    };
    let failed: Vec<String> = all
        .iter()
        .filter_map(|console| terminal::write_to_console(console, text).err())
        .map(|error| kairn_report::in_one_line(&error))
        .collect();
    // Whoever stands there sees one of them.
    if failed.len() < all.len() || text.is_empty() { Ok(()) } else { Err(format!("no console: {}", failed.join("; "))) }
}

/// Has a text stand above the login prompts, or not any more.
fn stand(root: &Path, text: Option<&str>) -> Result<(), String> {
    let path = root.join(ISSUE.trim_start_matches('/'));
    let changed = match (text, path.parent()) {
        (Some(text), Some(dir)) => {
            files::make_dir(dir, 0o755).and_then(|()| files::write_whole(&path, text.as_bytes(), 0o600))
        }
        _ if path.exists() => files::remove_file(&path),
        _ => return Ok(()),
    };
    changed.map_err(|error| kairn_report::in_one_line(&error))?;
    // Where other programs ask for logins, they do not know this file anyway.
    if root == Path::new("/")
        && let Err(error) = Runner::default().run(&Invocation::new("agetty").arg("--reload").deadline(RELOAD))
    {
        tracing::debug!(%error, "login prompts show it when they are shown anew");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ordered(root: &Path, order: &Order, permit: Result<(), String>) -> (Option<String>, io::Result<()>) {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = here;
        let text = serde_json::to_vec(order).unwrap();
        let asking = async {
            here.write_u16(u16::try_from(text.len()).unwrap()).await.unwrap();
            here.write_all(&text).await.unwrap();
            read_answer(&mut here).await.unwrap()
        };
        tokio::join!(asking, attend(there, root, || permit))
    }

    #[tokio::test]
    async fn a_text_is_shown_on_consoles_and_stands_until_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let console = dir.path().join("console");
        std::fs::write(&console, "").unwrap();
        let mut order =
            Order::Show { consoles: vec![console.clone()], text: "now\n".into(), standing: Some("still\n".into()) };
        let (answer, ended) = ordered(dir.path(), &order, Ok(())).await;
        assert!(answer.is_none() && ended.is_ok());
        let issue = dir.path().join("run/issue.d/kairn-shell.issue");
        assert_eq!(std::fs::read_to_string(&console).unwrap(), "now\r\n");
        assert_eq!(std::fs::read_to_string(&issue).unwrap(), "still\n");
        order = Order::Show { consoles: vec![console], text: String::new(), standing: None };
        assert_eq!(ordered(dir.path(), &order, Ok(())).await.0, None);
        assert!(!issue.exists());
        order = Order::Show { consoles: vec![dir.path().join("none")], text: "x".into(), standing: None };
        assert!(ordered(dir.path(), &order, Ok(())).await.0.unwrap().contains("no console"));
    }

    #[tokio::test]
    async fn nothing_is_run_that_the_machine_does_not_permit_and_nonsense_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let order = Order::Serve { consoles: Vec::new(), who: "x".into() };
        let (answer, ended) = ordered(dir.path(), &order, Err("not here".into())).await;
        assert!(answer.as_deref() == Some("not here") && ended.is_ok());
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"\0\x02{}").await.unwrap();
        assert!(attend(there, dir.path(), || Ok(())).await.is_err());
    }
}
