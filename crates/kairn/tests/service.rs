//! A node of the mesh under a service manager: what it says, when it is silent, and what of the configuration it takes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(60);

/// The service manager with its one service.
struct Manager {
    socket: UnixDatagram,
    process: Child,
}

impl Manager {
    /// Starts a node without a private network, of which a sign of life is wanted every three seconds.
    fn start(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let token = Command::new(KAIRN).args(["mesh", "token"]).output().unwrap().stdout;
        std::fs::write(dir.join("token"), token).unwrap();
        let mut command = Command::new(KAIRN);
        command.args(["mesh", "up", "--no-vpn", "--port", "0", "--token-file"]).arg(dir.join("token"));
        command.arg("--state-dir").arg(dir.join("state"));
        let process = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "3000000").spawn().unwrap();
        Self { socket, process }
    }

    fn hear(&self) -> Option<String> {
        let mut room = [0; 1024];
        let length = self.socket.recv(&mut room).ok()?;
        Some(String::from_utf8_lossy(room.get(..length).unwrap_or_default()).into_owned())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("KILL");
            self.process.wait().unwrap();
        }
    }
}

#[test]
fn a_node_says_that_it_is_ready_lives_and_ends_and_one_that_hangs_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut manager = Manager::start(dir.path());
    assert_eq!(manager.hear().unwrap(), "READY=1\nSTATUS=0 of 0 others alive\n");
    for _ in 0..2 {
        assert_eq!(manager.hear().unwrap(), "WATCHDOG=1\n");
    }
    manager.signal("STOP");
    manager.socket.set_read_timeout(Some(Duration::from_millis(3_500))).unwrap();
    let begun = Instant::now();
    // One may have been on its way.
    while manager.hear().is_some() {
        assert!(begun.elapsed() < DEADLINE, "a stopped node goes on to give signs of life");
    }
    manager.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    manager.signal("CONT");
    assert_eq!(manager.hear().unwrap(), "WATCHDOG=1\n");
    manager.signal("TERM");
    let mut last = manager.hear().unwrap();
    while last == "WATCHDOG=1\n" {
        last = manager.hear().unwrap();
    }
    assert_eq!(last, "STOPPING=1\n");
    assert!(manager.process.wait().unwrap().success());
}

#[test]
fn a_service_manager_that_cannot_be_reached_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(KAIRN);
    command.args(["mesh", "up", "--no-vpn", "--state-dir"]).arg(dir.path().join("state"));
    let said = command.env("NOTIFY_SOCKET", dir.path().join("absent")).output().unwrap();
    assert_eq!(said.status.code(), Some(4), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("reach the service manager"), "{said:?}");
}
