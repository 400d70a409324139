//! Asking a node that runs on this machine, over its local socket.

use crate::error::Error;
use crate::state::StateDir;
use crate::status::Status;
use serde::Deserialize;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A node's local socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The node that keeps its files in this directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { socket: StateDir::socket(state_dir) }
    }

    /// Its state.
    ///
    /// # Errors
    /// No node answers.
    pub fn status(&self) -> Result<Status, Error> {
        self.get("/v1/status")
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, route: &str) -> Result<T, Error> {
        let not_running = |source| Error::NotRunning { path: self.socket.clone(), source };
        let mut stream = UnixStream::connect(&self.socket).map_err(not_running)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(not_running)?;
        // HTTP/1.0: the end of the stream is the end of the answer.
        let request = format!("GET {route} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(not_running)?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).map_err(not_running)?;
        let damaged = |why: String| Error::Damaged { path: self.socket.clone(), why };
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = end.and_then(|end| Some((answer.get(..end)?, answer.get(end + 4..)?))).unwrap_or_default();
        if !head.starts_with(b"HTTP/1.0 200") && !head.starts_with(b"HTTP/1.1 200") {
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(damaged(format!("the node answers `{}`", String::from_utf8_lossy(line))));
        }
        serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))
    }
}
