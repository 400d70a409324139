//! Connections to the sockets in a machine's directory, however long its path is.

use crate::Error;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects to a socket by its name in a directory. The address names the directory by descriptor, since a socket's path
/// holds 107 bytes only (unix(7)).
pub(crate) fn connect(dir: &Path, name: &str) -> Result<UnixStream, Error> {
    let path = dir.join(name);
    let handle = File::open(dir).map_err(Error::path("open", dir))?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd())).map_err(Error::path("connect to", path))
}
