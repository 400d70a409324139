//! TPMs 2.0 by swtpm: one process per machine that ends when QEMU closes the connection, and for tests one without a machine.

use crate::command::file;
use crate::{Error, program};
use kairn_host::{Invocation, Runner};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

/// Starts the TPM of a machine; its state stays in the machine's directory.
pub(crate) fn start(dir: &Path, runner: &Runner) -> Result<(), Error> {
    let state = dir.join("tpm");
    fs::create_dir_all(&state).map_err(Error::path("create", &state))?;
    let swtpm = Invocation::new(program::SWTPM)
        .args(["socket", "--tpm2", "--terminate", "--daemon"])
        .arg("--tpmstate")
        .arg(format!("dir={}", state.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", file::TPM))
        .arg("--log")
        .arg(format!("file={},level=1", dir.join("tpm.log").display()))
        .dir(dir)
        .deadline(DEADLINE);
    runner.run(&swtpm).map_err(Error::from_run).map(drop)
}

/// A TPM for programs of this machine: it takes commands at a socket as they are, one program at a time, and ends with this value. It has
/// no resource manager, so what a program leaves in it stays there.
#[derive(Debug)]
pub struct Emulator {
    dir: PathBuf,
    pid: Pid,
}

impl Emulator {
    /// Starts one whose state is in this directory: the same TPM as before, if there was one.
    ///
    /// # Errors
    /// swtpm is not installed, or does not start.
    pub fn start(dir: &Path) -> Result<Self, Error> {
        // Relative to the directory that it leaves it would not be found again.
        fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
        let dir = dir.canonicalize().map_err(Error::path("open", dir))?;
        let (socket, pid) = (dir.join("socket"), dir.join("pid"));
        if socket.exists() {
            fs::remove_file(&socket).map_err(Error::path("remove", &socket))?;
        }
        // It goes to the background when it listens.
        let swtpm = Invocation::new(program::SWTPM)
            .args(["socket", "--tpm2", "--daemon", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", dir.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--pid")
            .arg(format!("file={}", pid.display()))
            .arg("--log")
            .arg(format!("file={},level=1", dir.join("log").display()))
            .deadline(DEADLINE);
        Runner::default().run(&swtpm).map_err(Error::from_run)?;
        let text = fs::read_to_string(&pid).map_err(Error::path("read", &pid))?;
        let number = text.trim().parse().ok().and_then(Pid::from_raw);
        let wrong = || std::io::Error::other(format!("`{}` is no process", text.trim()));
        let pid = number.ok_or_else(|| Error::path("read", &pid)(wrong()))?;
        Ok(Self { dir, pid })
    }

    /// Where it takes commands.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        match kill_process(self.pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.pid.as_raw_nonzero().get(), %error, "swtpm stays"),
        }
    }
}
