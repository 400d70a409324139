//! The machines of a person: a directory with one directory per machine and the key pair of all.

use crate::{Builder, Error, KeyPair, Machine, Protocol, Running, Spec, spec};
use kairn_host::Runner;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Returns `$XDG_STATE_HOME/kairn/lab`, by default below `$HOME/.local/state` (XDG Base Directory Specification 0.8); `None` when
/// neither variable is of use.
#[must_use]
pub fn default_root(state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state = state_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
    Some(state.join("kairn/lab"))
}

/// A directory of machines.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    runner: Runner,
}

/// What `kairn lab list` shows of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// QEMU's process id when it runs.
    pub pid: Option<i32>,
    /// TCP ports of the host's loopback by the guest's ports, when it runs.
    pub ports: BTreeMap<u16, u16>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u8,
    /// Its directory.
    pub dir: PathBuf,
}

impl Store {
    /// Opens a store, making its directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let machines = root.join("machines");
        fs::create_dir_all(&machines).map_err(Error::path("create", machines))?;
        Ok(Self { root, runner: Runner::default() })
    }

    /// Returns its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory that a machine of this name has or would have.
    #[must_use]
    pub fn machine_dir(&self, name: &str) -> PathBuf {
        self.root.join("machines").join(name)
    }

    /// Returns the key pair that lets a person into all machines, making it at the first call.
    ///
    /// # Errors
    /// `ssh-keygen` is missing or failed.
    pub fn key(&self) -> Result<KeyPair, Error> {
        KeyPair::in_dir(&self.root, &self.runner)
    }

    /// Begins a new machine with the store's key.
    ///
    /// # Errors
    /// The name is taken or cannot be a name, or the key cannot be made.
    pub fn builder(&self, spec: Spec) -> Result<Builder, Error> {
        spec.check()?;
        let dir = self.machine_dir(&spec.name);
        if dir.join("machine.json").exists() {
            return Err(Error::Exists { name: spec.name });
        }
        Ok(Machine::from_spec(spec, dir).key(&self.key()?))
    }

    /// Finds a machine.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn get(&self, name: &str) -> Result<Machine, Error> {
        let dir = self.machine_dir(name);
        if !spec::valid_name(name) || !dir.join("machine.json").is_file() {
            return Err(Error::NoMachine { name: name.into(), known: self.names()? });
        }
        Machine::open(&dir)
    }

    /// Finds a machine that runs.
    ///
    /// # Errors
    /// There is none of this name, or it does not run.
    pub fn running(&self, name: &str) -> Result<Running, Error> {
        self.get(name)?.running()?.ok_or_else(|| Error::NotRunning { name: name.into() })
    }

    /// Lists the machines by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let entry = |name: String| {
            let machine = self.get(&name)?;
            let running = machine.running()?;
            let forwards = machine.spec().network.iter().flat_map(|network| &network.forwards);
            let ports = forwards.filter(|port| port.protocol == Protocol::Tcp).map(|port| port.guest);
            Ok(Entry {
                pid: running.as_ref().map(Running::pid),
                ports: running
                    .iter()
                    .flat_map(|running| {
                        ports.clone().filter_map(|port| Some((port, running.port(Protocol::Tcp, port)?)))
                    })
                    .collect(),
                memory_mib: machine.spec().memory_mib,
                cpus: machine.spec().cpus,
                dir: machine.dir().to_owned(),
                name,
            })
        };
        self.names()?.into_iter().map(entry).collect()
    }

    /// Powers a machine off, by the button or, with `force`, by the plug; one that does not run is fine. Says whether it ran.
    ///
    /// # Errors
    /// There is none of this name, or it did not power off in time.
    pub fn stop(&self, name: &str, force: bool, deadline: Duration) -> Result<bool, Error> {
        match self.get(name)?.running()? {
            None => return Ok(false),
            Some(running) if force => running.cut_power()?,
            Some(running) => running.shut_down(deadline)?,
        }
        Ok(true)
    }

    /// Removes a machine with all that its directory holds; one that runs only with `force`, which cuts its power.
    ///
    /// # Errors
    /// There is none of this name, it runs, or its directory cannot be removed.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let machine = self.get(name)?;
        if let Some(process) = machine.process()?
            && !force
        {
            return Err(Error::Running { name: name.into(), pid: process.pid() });
        }
        self.stop(name, true, Duration::ZERO)?;
        fs::remove_dir_all(machine.dir()).map_err(Error::path("remove", machine.dir()))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let dir = self.root.join("machines");
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                if entry.path().join("machine.json").is_file() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(Error::path("list", &dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_follows_the_base_directory_specification() {
        let root = |state: Option<&str>, home: Option<&str>| default_root(state.map(Into::into), home.map(Into::into));
        assert_eq!(root(Some("/s"), Some("/h")), Some("/s/kairn/lab".into()));
        assert_eq!(root(Some("relative"), Some("/h")), Some("/h/.local/state/kairn/lab".into()));
        assert_eq!(root(None, None), None);
    }

    #[test]
    fn machines_are_listed_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for name in ["b", "a"] {
            match store.builder(Spec::new(name)) {
                Err(Error::NoPackage { object, .. }) => return eprintln!("skipped: {object} is not installed"),
                builder => builder.unwrap().create().unwrap(),
            };
        }
        let listed: Vec<_> = store.list().unwrap().into_iter().map(|entry| (entry.name, entry.pid)).collect();
        assert_eq!(listed, [("a".to_owned(), None), ("b".to_owned(), None)]);
        assert!(matches!(store.builder(Spec::new("a")), Err(Error::Exists { .. })));
        store.remove("a", false).unwrap();
        let error = store.get("a").unwrap_err();
        assert!(matches!(&error, Error::NoMachine { known, .. } if *known == ["b"]), "{error}");
        assert!(matches!(store.running("b"), Err(Error::NotRunning { .. })));
        assert!(store.get("../machines/b").is_err());
    }
}
