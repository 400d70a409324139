//! A real registry on loopback, as a child of the scenario; machines reach it at 10.0.2.2.

use crate::fault::Fault;
use kairn_lab::HOST_ADDRESS;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

/// Times that another port is tried when somebody took the one that was free.
const PORTS: usize = 5;

/// A running registry; it ends when this is dropped.
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry that stores in a directory.
    pub fn start(program: &Path, dir: &Path) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(Fault::io(format!("create {}", dir.display())))?;
        let mut said = String::new();
        for _ in 0..PORTS {
            match Self::try_port(program, dir, free_port()?)? {
                Ok(registry) => return Ok(registry),
                Err(reason) => said = reason,
            }
        }
        Err(Fault::Failed(format!("the registry did not start; it said: {said}")))
    }

    /// Starts it on a port and reads its log until it listens. The inner error is what it said when it ended instead.
    fn try_port(program: &Path, dir: &Path, port: u16) -> Result<Result<Self, String>, Fault> {
        let config = dir.join("config.yml");
        fs::write(&config, configuration(dir, port)).map_err(Fault::io("write the registry's configuration"))?;
        let mut child = Command::new(program)
            .args(["serve".into(), config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Fault::io(format!("run {}", program.display())))?;
        let stderr = child.stderr.take();
        let mut registry = Self { child, port };
        let Some(stderr) = stderr else { return Err(Fault::Failed("the registry has no stderr".into())) };
        let mut lines = BufReader::new(stderr);
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let count = lines.read_line(&mut line).map_err(Fault::io("read the registry's log"))?;
            if count == 0 {
                registry.child.wait().map_err(Fault::io("wait for the registry"))?;
                return Ok(Err(said));
            }
            if line.contains("listening on") {
                keep_log(lines, dir.join("registry.log"));
                return Ok(Ok(registry));
            }
            said = line;
        }
    }

    /// Returns where this side reaches it, as `HOST:PORT`.
    pub fn here(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns where machines reach it, as `HOST:PORT`.
    pub fn for_machines(&self) -> String {
        format!("{HOST_ADDRESS}:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to lose either way.
        if self.child.kill().is_ok() {
            self.child.wait().map(drop).unwrap_or_default();
        }
    }
}

/// Writes what the registry says to a file, since it stops when nobody takes it.
fn keep_log(mut lines: BufReader<ChildStderr>, path: PathBuf) {
    thread::spawn(move || {
        let copied = fs::File::create(&path).and_then(|mut log| {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 {
                log.write_all(&line)?;
                line.clear();
            }
            Ok(())
        });
        if let Err(error) = copied {
            crate::runner::say(&format!("cannot keep {}: {error}", path.display()));
        }
    });
}

fn configuration(dir: &Path, port: u16) -> String {
    format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         http:\n  addr: 127.0.0.1:{port}\n",
        dir.join("store").display()
    )
}

fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(Fault::io("find a free port"))
}
