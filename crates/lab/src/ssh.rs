//! Commands in the guest by ssh, with a key pair of the lab's own and no memory of host keys: a lab machine is reinstalled at
//! will, and the connection never leaves loopback.

use crate::Error;
use kairn_host::{Finished, Invocation, Runner};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command in the guest may take unless said otherwise.
const COMMAND: Duration = Duration::from_secs(300);
/// Bytes of a socket's path (`sun_path`, unix(7)), less the suffix under which ssh makes its socket (`muxserver_listen`).
const LONGEST_SOCKET: usize = 107 - 17;
/// How long one try to get in may take.
const LOGIN: Duration = Duration::from_secs(60);
/// How long the guest may take to say its banner; emulated, key exchange alone takes seconds.
const BANNER: Duration = Duration::from_secs(20);
/// ssh's own exit code when the connection failed (ssh(1), EXIT STATUS).
const CONNECTION_FAILED: i32 = 255;
/// How much of a failing command's output an error shows, in bytes from its end.
const SHOWN: usize = 4096;

/// An ed25519 key pair in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    private: PathBuf,
}

impl KeyPair {
    /// Names an existing pair by its private half; the public half lies beside it with `.pub`.
    #[must_use]
    pub fn at(private: impl Into<PathBuf>) -> Self {
        Self { private: private.into() }
    }

    /// Returns the pair of a directory, making it when there is none.
    ///
    /// # Errors
    /// `ssh-keygen` is missing or failed.
    pub fn in_dir(dir: &Path, runner: &Runner) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
        let pair = Self::at(dir.join("id_ed25519"));
        let lock_path = dir.join("id_ed25519.lock");
        let lock = File::create(&lock_path).map_err(Error::path("create", &lock_path))?;
        lock.lock().map_err(Error::path("lock", &lock_path))?;
        if !pair.public_path().is_file() || !pair.private.is_file() {
            match fs::remove_file(&pair.private) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::path("remove", &pair.private)(error));
                }
                _ => {}
            }
            let generate = Invocation::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "kairn-lab", "-f"])
                .arg(pair.private.to_string_lossy());
            runner.run(&generate).map_err(Error::from_run)?;
        }
        Ok(pair)
    }

    /// Returns the file of the private half.
    #[must_use]
    pub fn private(&self) -> &Path {
        &self.private
    }

    /// Returns the line for `ssh_authorized_keys`.
    ///
    /// # Errors
    /// The public half cannot be read.
    pub fn public(&self) -> Result<String, Error> {
        let path = self.public_path();
        fs::read_to_string(&path).map(|line| line.trim().to_owned()).map_err(Error::path("read", path))
    }

    fn public_path(&self) -> PathBuf {
        let mut path = self.private.clone().into_os_string();
        path.push(".pub");
        path.into()
    }
}

/// The way into a guest.
#[derive(Clone, Debug)]
pub struct Ssh {
    machine: String,
    port: u16,
    key: KeyPair,
    user: String,
    runner: Runner,
    /// Where one connection is kept for all commands: emulated, a key exchange takes longer than most of them.
    kept: Option<PathBuf>,
}

impl Ssh {
    pub(crate) fn new(machine: &str, port: u16, key: KeyPair, user: &str, runner: Runner) -> Self {
        Self { machine: machine.into(), port, key, user: user.into(), runner, kept: None }
    }

    /// Keeps one connection for all commands, by a socket of this name; where the name is too long for one, each command has its own.
    pub(crate) fn keeping(mut self, socket: PathBuf) -> Self {
        self.kept = Some(socket).filter(|path| path.as_os_str().len() <= LONGEST_SOCKET);
        self
    }

    /// Returns the port on the host's loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Logs in as another user, by a connection of its own for each command.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self.kept = None;
        self
    }

    /// Returns the argument vector for a person's session: `ssh` and its arguments, then the command when there is one.
    #[must_use]
    pub fn session(&self, command: &[String]) -> Vec<String> {
        let mut line = vec!["ssh".to_owned()];
        line.extend(self.options());
        line.extend(["-p".to_owned(), self.port.to_string(), self.destination()]);
        line.extend(command.iter().cloned());
        line
    }

    /// Returns the key pair that it logs in with.
    #[must_use]
    pub const fn key(&self) -> &KeyPair {
        &self.key
    }

    /// Runs a shell command in the guest; its exit status is the caller's to judge. At most five minutes.
    ///
    /// # Errors
    /// The connection failed, `ssh` is missing, or the deadline passed.
    pub fn run(&self, command: &str) -> Result<Finished, Error> {
        self.run_within(command, COMMAND)
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// As [`Ssh::run`].
    pub fn run_within(&self, command: &str, deadline: Duration) -> Result<Finished, Error> {
        self.run_with_input(command, Vec::new(), deadline)
    }

    /// The same with something to read on its standard input.
    ///
    /// # Errors
    /// As [`Ssh::run`].
    pub fn run_with_input(&self, command: &str, input: Vec<u8>, deadline: Duration) -> Result<Finished, Error> {
        let invocation = self.invocation(command).stdin(input).deadline(deadline);
        let finished = self.runner.run_unchecked(&invocation).map_err(Error::from_run)?;
        if finished.status.code() == Some(CONNECTION_FAILED) {
            return Err(self.failed(command, &finished));
        }
        Ok(finished)
    }

    /// Runs a shell command in the guest that must succeed; returns what it wrote to stdout.
    ///
    /// # Errors
    /// It did not; the error holds the end of what it said.
    pub fn check(&self, command: &str) -> Result<String, Error> {
        self.check_within(command, COMMAND)
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// As [`Ssh::check`].
    pub fn check_within(&self, command: &str, deadline: Duration) -> Result<String, Error> {
        let finished = self.run_within(command, deadline)?;
        if finished.status.success() { Ok(finished.text()) } else { Err(self.failed(command, &finished)) }
    }

    /// Copies a file or directory into the guest.
    ///
    /// # Errors
    /// The connection or the copy failed.
    pub fn copy_to(&self, local: &Path, remote: &str) -> Result<(), Error> {
        self.copy(local.to_string_lossy().into_owned(), format!("{}:{remote}", self.destination()))
    }

    /// Copies a file or directory out of the guest.
    ///
    /// # Errors
    /// The connection or the copy failed.
    pub fn copy_from(&self, remote: &str, local: &Path) -> Result<(), Error> {
        self.copy(format!("{}:{remote}", self.destination()), local.to_string_lossy().into_owned())
    }

    fn copy(&self, from: String, to: String) -> Result<(), Error> {
        let copy = Invocation::new("scp").args(["-q", "-r", "-P"]).arg(self.port.to_string());
        let copy = copy.args(self.options()).args(self.by_kept()).args([from, to]).deadline(COMMAND);
        self.runner.run(&copy).map_err(Error::from_run).map(drop)
    }

    /// Tries once to get in. The inner error is the reason why the guest did not let us in yet, the outer one ends all trying.
    pub(crate) fn attempt(&self) -> Result<(), Result<String, Error>> {
        // QEMU accepts on the forwarded port whatever the guest does; only the banner shows that sshd is there. Asking for it
        // by hand is much cheaper than a whole `ssh`.
        if let Err(error) = self.banner() {
            return Err(Ok(error.to_string()));
        }
        match self.keep().and_then(|()| self.run_within("true", LOGIN)) {
            Ok(finished) if finished.status.success() => Ok(()),
            Ok(finished) => Err(Ok(format!("`true` failed: {}", finished.stderr.trim()))),
            Err(Error::Guest { said, .. }) => Err(Ok(said)),
            Err(Error::Host(error @ kairn_host::Error::Deadline { .. })) => Err(Ok(error.to_string())),
            Err(other) => Err(Err(other)),
        }
    }

    /// Makes the connection that commands share, in the place of an earlier one, whose guest may be gone.
    fn keep(&self) -> Result<(), Error> {
        let Some(socket) = &self.kept else { return Ok(()) };
        if socket.exists() {
            let end = self.client(&["-O", "exit"]).deadline(LOGIN);
            // One whose process is gone cannot be ended, and is replaced all the same.
            self.runner.run_unchecked(&end).map_err(Error::from_run)?;
        }
        let begin = self.client(&["-f", "-N", "-o", "ControlMaster=auto"]).deadline(LOGIN);
        let begun = self.runner.run_unchecked(&begin).map_err(Error::from_run)?;
        if begun.status.success() { Ok(()) } else { Err(self.failed("ssh -f -N", &begun)) }
    }

    fn banner(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(BANNER))?;
        let mut start = [0_u8; 4];
        stream.read_exact(&mut start)?;
        if &start == b"SSH-" { Ok(()) } else { Err(io::Error::other("what answers is not ssh")) }
    }

    fn invocation(&self, command: &str) -> Invocation {
        self.client(&[]).args(["--", command])
    }

    fn client(&self, more: &[&str]) -> Invocation {
        let ssh = Invocation::new("ssh").args(self.options()).args(self.by_kept()).args(["-o", "BatchMode=yes"]);
        ssh.args(more.iter().copied()).arg("-p").arg(self.port.to_string()).arg(self.destination())
    }

    /// ssh goes its own way where the kept connection has ended.
    fn by_kept(&self) -> Vec<String> {
        let path = |socket: &PathBuf| vec!["-o".to_owned(), format!("ControlPath={}", socket.display())];
        self.kept.as_ref().map(path).unwrap_or_default()
    }

    fn destination(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec!["-i".to_owned(), self.key.private.to_string_lossy().into_owned()];
        for option in [
            // Nobody's own configuration, agent or known hosts may change what a test sees.
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "UserKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            // Emulated, others take much longer.
            "KexAlgorithms=^curve25519-sha256",
            "ConnectTimeout=30",
            // A guest that is gone (power cut) must not hang the command until its deadline.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options.splice(0..0, ["-F".to_owned(), "none".to_owned()]);
        options
    }

    fn failed(&self, command: &str, finished: &Finished) -> Error {
        let said = format!("{}{}", finished.text(), finished.stderr);
        let mut start = said.len().saturating_sub(SHOWN);
        while !said.is_char_boundary(start) {
            start += 1;
        }
        Error::Guest {
            machine: self.machine.clone(),
            command: command.into(),
            status: finished.status.to_string(),
            said: said.get(start..).unwrap_or_default().trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_pair_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let pair = match KeyPair::in_dir(dir.path(), &Runner::default()) {
            Err(Error::NoPackage { object, .. }) => return eprintln!("skipped: {object} is not installed"),
            made => made.unwrap(),
        };
        let public = pair.public().unwrap();
        assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" kairn-lab"), "{public}");
        assert_eq!(KeyPair::in_dir(dir.path(), &Runner::default()).unwrap().public().unwrap(), public);
    }

    #[test]
    fn a_failing_command_is_told_from_a_failing_connection() {
        let dir = tempfile::tempdir().unwrap();
        let fake = |script: &str| {
            let path = dir.path().join("ssh");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let runner = Runner { overrides: [("ssh".to_owned(), path)].into() };
            Ssh::new("m", 1, KeyPair::at("/key"), "root", runner)
        };
        let failing = fake("echo out; echo broken >&2; exit 3");
        assert_eq!(failing.run("x").unwrap().status.code(), Some(3));
        let error = failing.check("x").unwrap_err().to_string();
        assert_eq!(error, "in `m`: `x` ended with exit status: 3; it said: out\nbroken");
        assert!(
            matches!(fake("echo refused >&2; exit 255").run("x"), Err(Error::Guest { said, .. }) if said == "refused")
        );
    }

    #[test]
    fn commands_go_by_one_connection_that_replaces_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let (log, socket) = (dir.path().join("log"), dir.path().join("s"));
        let path = dir.path().join("ssh");
        fs::write(&path, format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display())).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let runner = Runner { overrides: [("ssh".to_owned(), path)].into() };
        let ssh = Ssh::new("m", 1, KeyPair::at("/key"), "root", runner).keeping(socket.clone());
        ssh.keep().unwrap();
        fs::write(&socket, "").unwrap();
        ssh.keep().unwrap();
        ssh.run("id").unwrap();
        let log = fs::read_to_string(log).unwrap();
        let begun: Vec<bool> = log.lines().map(|line| line.contains(" -f -N -o ControlMaster=auto ")).collect();
        assert_eq!(begun, [true, false, true, false]);
        assert!(log.lines().all(|line| line.contains(&format!("ControlPath={} ", socket.display()))), "{log}");
        assert!(log.lines().nth(1).unwrap().contains(" -O exit "), "{log}");
        let deep = Ssh::new("m", 1, KeyPair::at("/key"), "root", Runner::default()).keeping("/d".repeat(60).into());
        assert_eq!(deep.by_kept(), Vec::<String>::new());
    }

    #[test]
    fn a_session_goes_to_loopback_with_the_labs_key() {
        let ssh = Ssh::new("m", 2222, KeyPair::at("/lab/id_ed25519"), "root", Runner::default()).user("kairn");
        let line = ssh.session(&["kairn".into(), "status".into()]).join(" ");
        assert!(line.starts_with("ssh -F none -i /lab/id_ed25519 "), "{line}");
        assert!(line.ends_with(" -p 2222 kairn@127.0.0.1 kairn status"), "{line}");
    }
}
