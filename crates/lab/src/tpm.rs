//! A TPM 2.0 by swtpm: one process per machine that ends when QEMU closes the connection.

use crate::command::file;
use crate::{Error, program};
use kairn_host::{Invocation, Runner};
use std::fs;
use std::path::Path;
use std::time::Duration;

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
        .deadline(Duration::from_secs(30));
    runner.run(&swtpm).map_err(Error::from_run).map(drop)
}
