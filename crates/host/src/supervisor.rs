//! What a program tells the service manager that started it (sd_notify(3)): datagrams of `NAME=value` lines to the socket that the
//! variable `NOTIFY_SOCKET` names. Where nobody listens nothing is said.

use crate::Error;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// Signs of life in the time within which one is wanted: a late one is made up for by the next.
const SIGNS: u32 = 3;

/// The service manager.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that started this process, if it listens.
    ///
    /// # Errors
    /// It names a socket that cannot be reached.
    pub fn of_this_process() -> Result<Self, Error> {
        let text = |name| std::env::var(name).ok();
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref(), std::process::id());
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
            return Ok(Self::default());
        };
        let failed = || Error::path("reach the service manager at", Path::new(&socket));
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            path => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path))),
        };
        let bound = UnixDatagram::unbound().map_err(failed())?;
        bound.connect_addr(&address.map_err(failed())?).map_err(failed())?;
        // A manager that does not read must not stop what it watches.
        bound.set_nonblocking(true).map_err(failed())?;
        Ok(Self { socket: Some(bound), watchdog })
    }

    /// Says whether somebody listens.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// How often a sign of life is wanted at least, where it is.
    #[must_use]
    pub const fn period(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says that the program does its work, with a line on how that stands.
    ///
    /// # Errors
    /// The manager does not take it.
    pub fn ready(&self, status: &str) -> std::io::Result<()> {
        self.say(&format!("READY=1\nSTATUS={}\n", line(status)))
    }

    /// Gives a sign of life, with a line on how things stand where that is news.
    ///
    /// # Errors
    /// The manager does not take it.
    pub fn alive(&self, status: Option<&str>) -> std::io::Result<()> {
        let status = status.map_or_else(String::new, |status| format!("STATUS={}\n", line(status)));
        self.say(&format!("WATCHDOG=1\n{status}"))
    }

    /// Says that the program ends because it was told to.
    ///
    /// # Errors
    /// The manager does not take it.
    pub fn stopping(&self) -> std::io::Result<()> {
        self.say("STOPPING=1\n")
    }

    fn say(&self, text: &str) -> std::io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(text.as_bytes()).map(drop))
    }
}

/// How often a sign of life is given where one is wanted of this process within so many microseconds (sd_watchdog_enabled(3)).
fn watchdog(microseconds: Option<&str>, of: Option<&str>, this: u32) -> Option<Duration> {
    let wanted = Duration::from_micros(microseconds?.parse().ok()?);
    let ours = of.is_none_or(|of| of.parse() == Ok(this));
    (ours && !wanted.is_zero()).then_some(wanted / SIGNS)
}

/// A text in one line: a second one would be another message.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_wanted_only_of_the_process_that_is_named() {
        for (microseconds, of, expected) in [
            (Some("30000000"), None, Some(10)),
            (Some("30000000"), Some("7"), Some(10)),
            (Some("30000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some("7"), None),
        ] {
            assert_eq!(
                watchdog(microseconds, of, 7).map(|period| period.as_secs()),
                expected,
                "{microseconds:?} {of:?}"
            );
        }
    }

    #[test]
    fn what_is_said_comes_as_lines_and_nothing_is_said_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        let supervisor = Supervisor { socket: Some(socket), watchdog: None };
        supervisor.ready("two\nlines").unwrap();
        supervisor.alive(None).unwrap();
        supervisor.alive(Some("well")).unwrap();
        supervisor.stopping().unwrap();
        let mut heard = String::new();
        for _ in 0..4 {
            let mut room = [0; 256];
            let length = manager.recv(&mut room).unwrap();
            heard.push_str(std::str::from_utf8(&room[..length]).unwrap());
        }
        assert_eq!(heard, "READY=1\nSTATUS=two lines\nWATCHDOG=1\nWATCHDOG=1\nSTATUS=well\nSTOPPING=1\n");
        let nobody = Supervisor::default();
        assert!(!nobody.listens() && nobody.period().is_none());
        nobody.ready("to nobody").unwrap();
    }
}
