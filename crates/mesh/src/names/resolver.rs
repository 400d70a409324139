//! The machine's own resolver, told to ask the mesh for the mesh's names, and made as it was at the end.
//!
//! Where systemd-resolved runs it is told for the mesh's interface only (split DNS), and forgets it with the interface. Elsewhere the
//! node goes first in resolv.conf: what stood there stays below it, so that a node that was killed leaves the machine its names. A
//! resolv.conf that leads into /run is another program's, which has its own ways to be told, and is never written.

use super::forward::servers;
use crate::error::Error;
use kairn_host::{Invocation, Runner as ProgramRunner};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The line above ours.
const MARK: &str = "# kairn mesh: the next line leads to the names of the mesh, and goes when the node ends";
/// How long `resolvectl` may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many links are followed (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// How the machine finds names.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The file.
    pub conf: PathBuf,
    /// What is there where systemd-resolved runs.
    pub resolved: PathBuf,
    /// What programs keep of this run of the machine, by its names.
    pub run: Vec<PathBuf>,
    /// Runs `resolvectl`.
    pub programs: ProgramRunner,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            conf: "/etc/resolv.conf".into(),
            // Made by the service in each run (systemd-resolved.service(8)).
            resolved: "/run/systemd/resolve/stub-resolv.conf".into(),
            run: vec!["/run".into(), "/var/run".into()],
            programs: ProgramRunner::default(),
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// systemd-resolved asks for these domains on this interface.
    Resolved {
        /// The interface.
        interface: String,
    },
    /// The node stands first in resolv.conf, and asks these for what is not its own.
    Conf {
        /// The servers that stood there before.
        before: Vec<SocketAddr>,
    },
}

impl Resolver {
    /// Has the machine ask `server` for these domains; the interface is the mesh's.
    ///
    /// # Errors
    /// `resolvectl` or the file, or the file is another program's.
    pub fn tell(&self, server: IpAddr, interface: Option<&str>, domains: &[String]) -> Result<Told, Error> {
        if let (Some(interface), true) = (interface, self.resolved.exists()) {
            let routed: Vec<String> = domains.iter().map(|domain| format!("~{domain}")).collect();
            self.resolvectl(&["dns", interface, &server.to_string()])?;
            let words = ["domain", interface].into_iter().chain(routed.iter().map(String::as_str));
            self.resolvectl(&words.collect::<Vec<_>>())?;
            self.resolvectl(&["default-route", interface, "no"])?;
            return Ok(Told::Resolved { interface: interface.to_owned() });
        }
        if let Some(to) = self.leads_to() {
            return Err(Error::ForeignNames { path: self.conf.clone(), to });
        }
        let before = without_ours(&self.read()?);
        self.write(&format!("{MARK}\nnameserver {server}\n{before}"))?;
        Ok(Told::Conf { before: servers(&before, server) })
    }

    /// Makes it as it was before.
    ///
    /// # Errors
    /// `resolvectl` or the file.
    pub fn restore(&self, told: &Told) -> Result<(), Error> {
        match told {
            Told::Resolved { interface } => self.resolvectl(&["revert", interface]),
            Told::Conf { .. } => {
                let text = self.read()?;
                let before = without_ours(&text);
                // What another program wrote since, or put in its place, is that program's.
                if before == text || self.leads_to().is_some() { Ok(()) } else { self.write(&before) }
            }
        }
    }

    /// Whether another program wrote the file since.
    pub fn is_lost(&self, told: &Told) -> bool {
        matches!(told, Told::Conf { .. }) && self.read().is_ok_and(|text| !text.starts_with(MARK))
    }

    /// Where a file is that another program keeps in /run, and that resolv.conf leads to; it need not be there yet.
    fn leads_to(&self) -> Option<PathBuf> {
        let mut path = self.conf.clone();
        for _ in 0..MOST_LINKS {
            let to = std::fs::read_link(&path).ok()?;
            path = path.parent().map_or_else(|| to.clone(), |directory| without_dots(&directory.join(&to)));
            if self.run.iter().any(|run| path.starts_with(run)) {
                return Some(path);
            }
        }
        None
    }

    fn resolvectl(&self, words: &[&str]) -> Result<(), Error> {
        let mut invocation = Invocation::new("resolvectl").args(words.iter().copied());
        invocation.deadline = PATIENCE;
        self.programs.run(&invocation)?;
        Ok(())
    }

    fn read(&self) -> Result<String, Error> {
        match std::fs::read_to_string(&self.conf) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|source| self.failed("reading it", source)),
        }
    }

    /// In place: the file may be a mount of its own, as in containers, or a link that another program follows.
    fn write(&self, text: &str) -> Result<(), Error> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).open(&self.conf);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| self.failed("writing it", source))
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> Error {
        Error::State { path: Path::to_owned(&self.conf), doing, source }
    }
}

/// A path with `..` taken up by what stands before it.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The text without the two lines that are ours.
fn without_ours(text: &str) -> String {
    let mut lines = text.split_inclusive('\n');
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if line.trim_end() == MARK {
            lines.next();
        } else {
            kept.push_str(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn resolver(dir: &Path) -> Resolver {
        Resolver {
            conf: dir.join("resolv.conf"),
            resolved: dir.join("stub"),
            run: vec![dir.join("run")],
            programs: ProgramRunner::default(),
        }
    }

    #[test]
    fn the_node_stands_first_while_it_runs_and_what_stood_there_is_whole_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = resolver(dir.path());
        let before = "search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53 # second\noptions edns0\n";
        std::fs::write(&resolver.conf, before).unwrap();
        let own = "127.0.0.153".parse().unwrap();
        let told = resolver.tell(own, Some("edgevpn0"), &["mesh.internal".to_owned()]).unwrap();
        let wanted = ["192.0.2.53:53", "[2001:db8::53]:53"].map(|text| text.parse().unwrap());
        assert_eq!(told, Told::Conf { before: wanted.to_vec() });
        let text = std::fs::read_to_string(&resolver.conf).unwrap();
        assert_eq!(text, format!("{MARK}\nnameserver 127.0.0.153\n{before}"));
        assert!(!resolver.is_lost(&told));
        // A node that was killed left it; the next finds the same servers, and one line of its own.
        assert_eq!(resolver.tell(own, None, &[]).unwrap(), told);
        assert_eq!(std::fs::read_to_string(&resolver.conf).unwrap(), text);
        resolver.restore(&told).unwrap();
        assert_eq!(std::fs::read_to_string(&resolver.conf).unwrap(), before);
        assert!(resolver.is_lost(&told));
    }

    #[test]
    fn a_file_of_another_program_in_run_is_never_written_whichever_links_lead_there() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = Resolver { conf: dir.path().join("etc/resolv.conf"), ..resolver(dir.path()) };
        let stub = dir.path().join("run/systemd/resolve/stub-resolv.conf");
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(stub.parent().unwrap()).unwrap();
        let own = "127.0.0.153".parse().unwrap();
        std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", dir.path().join("etc/second")).unwrap();
        for link in ["../run/systemd/resolve/stub-resolv.conf", "second"] {
            std::os::unix::fs::symlink(link, &resolver.conf).unwrap();
            // Also before that program has made it.
            for text in [None, Some("nameserver 127.0.0.53\n")] {
                text.into_iter().for_each(|text| std::fs::write(&stub, text).unwrap());
                let error = resolver.tell(own, None, &[]).unwrap_err();
                assert!(matches!(&error, Error::ForeignNames { to, .. } if *to == stub), "{error:?}");
                assert_eq!(std::fs::read_to_string(&stub).ok().as_deref(), text);
            }
            std::fs::remove_file(&stub).unwrap();
            std::fs::remove_file(&resolver.conf).unwrap();
        }
        // A link to elsewhere is followed, as before.
        std::os::unix::fs::symlink("plain", &resolver.conf).unwrap();
        assert!(resolver.tell(own, None, &[]).is_ok());
        assert!(std::fs::read_to_string(dir.path().join("etc/plain")).unwrap().contains("127.0.0.153"));
    }

    #[test]
    fn systemd_resolved_is_told_for_the_interface_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut resolver = resolver(dir.path());
        let (program, log) = (dir.path().join("resolvectl"), dir.path().join("log"));
        std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        resolver.programs.overrides.insert("resolvectl".to_owned(), program);
        std::fs::write(&resolver.resolved, "").unwrap();
        let domains = ["mesh.internal".to_owned(), "0.1.10.in-addr.arpa".to_owned()];
        let told = resolver.tell("127.0.0.153".parse().unwrap(), Some("edgevpn0"), &domains).unwrap();
        resolver.restore(&told).unwrap();
        let wanted = "dns edgevpn0 127.0.0.153\ndomain edgevpn0 ~mesh.internal ~0.1.10.in-addr.arpa\n\
                      default-route edgevpn0 no\nrevert edgevpn0\n";
        assert_eq!(std::fs::read_to_string(log).unwrap(), wanted);
        assert!(!resolver.conf.exists());
    }
}
