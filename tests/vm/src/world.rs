//! What scenarios share: the built programs, the registry's program, a cache of images, and a place to work in. `cargo xtask`
//! hands it over in the environment:
//!
//! - `KAIRN_VM_KAIRN`, `KAIRN_VM_INIT`: the static programs under test
//! - `KAIRN_VM_CACHE`: a directory for what is cached and kept
//! - `KAIRN_VM_REGISTRY`: the registry's program; absent, what needs it is skipped

use crate::fault::Fault;
use crate::registry::Registry;
use kairn_host::{Invocation, Runner};
use kairn_lab::{Builder, Cache, Key, KeyPair, Machine, Tally};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long building a base system with its media may take when two run at a time on a small machine.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// What scenarios share.
pub struct World {
    /// The program `kairn`.
    pub kairn: PathBuf,
    /// The program `kairn-init`.
    pub init: PathBuf,
    /// The registry's program.
    pub registry: Option<PathBuf>,
    /// Directories of scenarios.
    pub work: PathBuf,
    /// Images by the hash of what they were made from.
    pub cache: Cache,
    /// The key that scenarios put on their machines.
    pub key: KeyPair,
    /// Boots and restarts of mute guests in this run.
    pub tally: Tally,
    /// Runs programs.
    pub runner: Runner,
}

impl World {
    /// Takes the world that `cargo xtask` hands over.
    pub fn from_environment() -> Result<Self, Fault> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let given = |name: &str| {
            path(name).ok_or_else(|| Fault::Failed(format!("{name} is not set; start this by `cargo xtask test`")))
        };
        let root = given("KAIRN_VM_CACHE")?;
        let work = root.join("scenarios");
        fs::create_dir_all(&work).map_err(Fault::io(format!("create {}", work.display())))?;
        let runner = Runner::default();
        Ok(Self {
            kairn: given("KAIRN_VM_KAIRN")?,
            init: given("KAIRN_VM_INIT")?,
            registry: path("KAIRN_VM_REGISTRY"),
            cache: Cache::open(root.join("images"))?,
            key: KeyPair::in_dir(&work, &runner)?,
            tally: Tally::new(work.join("tally")),
            work,
            runner,
        })
    }

    /// Runs `kairn build` into a cached directory: the same programs, source, options and files give the same directory.
    /// Options must not name the output; `files` are those that the options name.
    pub fn build(&self, name: &str, source: &str, options: &[&str], files: &[&Path]) -> Result<PathBuf, Fault> {
        let mut key = Key::new(name).file(&self.kairn)?.file(&self.init)?.text("source", source);
        for option in options {
            key = key.text("option", option);
        }
        for file in files {
            key = key.file(file)?;
        }
        let entry = self.cache.get_or_build(&key, |dir| {
            let build = Invocation::new(self.kairn.to_string_lossy()).args(["build", source, "--output"]);
            let build = build.arg(dir.join("out").to_string_lossy()).arg("--init").arg(self.init.to_string_lossy());
            self.runner.run(&build.args(options.iter().copied()).deadline(BUILD)).map(drop).map_err(Fault::from)
        })?;
        Ok(entry.join("out"))
    }
}

/// One scenario at work.
pub struct Stage<'a> {
    /// What all share.
    pub world: &'a World,
    /// The scenario's own directory; empty at its start.
    pub dir: PathBuf,
    name: &'static str,
    began: Instant,
}

impl<'a> Stage<'a> {
    /// Clears the scenario's directory.
    pub fn set(world: &'a World, name: &'static str) -> Result<Self, Fault> {
        let dir = world.work.join(name);
        clear(&dir)?;
        fs::create_dir_all(&dir).map_err(Fault::io(format!("create {}", dir.display())))?;
        Ok(Self { world, dir, name, began: Instant::now() })
    }

    /// Begins a machine in the scenario's directory, with the lab's key and the tally of boots.
    pub fn machine(&self, name: &str) -> Builder {
        let (key, tally) = (&self.world.key, self.world.tally.clone());
        Machine::builder(name, self.dir.join(name)).key(key).tally(tally)
    }

    /// Starts a registry with a store of its own. `None` when there is no program for it.
    pub fn registry(&self) -> Result<Option<Registry>, Fault> {
        self.world.registry.as_deref().map(|program| Registry::start(program, &self.dir.join("registry"))).transpose()
    }

    /// Says what has been reached.
    pub fn note(&self, text: &str) {
        crate::runner::say(&format!("      {} {:>5.1} s  {text}", self.name, self.began.elapsed().as_secs_f64()));
    }
}

/// Stops machines that an earlier run left behind in a scenario's directory, and removes it.
fn clear(dir: &Path) -> Result<(), Fault> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok) {
        if entry.path().join("machine.json").is_file()
            && let Some(running) = Machine::open(&entry.path())?.running()?
        {
            running.cut_power()?;
        }
    }
    fs::remove_dir_all(dir).map_err(Fault::io(format!("remove {}", dir.display())))
}
