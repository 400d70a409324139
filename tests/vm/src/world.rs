//! What scenarios share: the built programs, the registry's program, a cache of images, and a place to work in. `cargo xtask`
//! hands it over in the environment:
//!
//! - `KAIRN_VM_KAIRN`, `KAIRN_VM_INIT`: the static programs under test
//! - `KAIRN_VM_GUEST`: the static payload of the loader conformance suite; absent, what needs it is skipped
//! - `KAIRN_VM_CACHE`: a directory for what is cached and kept
//! - `KAIRN_VM_REGISTRY`: the registry's program; absent, what needs it is skipped
//! - `KAIRN_VM_SPECIFICATION`: the file that benchmarks write their figures into; absent, they only say them

use crate::fault::Fault;
use crate::registry::Registry;
use kairn_host::{Invocation, Runner};
use kairn_lab::{Builder, Cache, Key, KeyPair, Machine, Model, Tally};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long building a base system with its media may take when two run at a time on a small machine.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// Lines of the console that a failure shows.
const TAIL: usize = 30;

/// What scenarios share.
pub struct World {
    /// The program `kairn`.
    pub kairn: PathBuf,
    /// The program `kairn-init`.
    pub init: PathBuf,
    /// The payload of the loader conformance suite.
    pub guest: Option<PathBuf>,
    /// The registry's program.
    pub registry: Option<PathBuf>,
    /// Tests of tunnels that need WireGuard in the kernel.
    pub kernel_tests: Option<PathBuf>,
    /// Directories of scenarios.
    pub work: PathBuf,
    /// Images of the programs under test, by the hash of what else they were made from.
    pub cache: Cache,
    /// Logs of consoles, one directory for each scenario; they stay.
    pub logs: PathBuf,
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
        let (kairn, init) = (given("KAIRN_VM_KAIRN")?, given("KAIRN_VM_INIT")?);
        // The programs are in all images. Those of the build before stay, for who goes back and forth between two.
        let programs = Key::new("programs").file(&kairn)?.file(&init)?;
        Ok(Self {
            kairn,
            init,
            guest: path("KAIRN_VM_GUEST"),
            registry: path("KAIRN_VM_REGISTRY"),
            kernel_tests: path("KAIRN_VM_KERNEL_TESTS"),
            cache: Cache::open_generation(&root.join("images"), &programs, 1)?,
            logs: root.join("vm-logs"),
            key: KeyPair::in_dir(&work, &runner)?,
            tally: Tally::new(work.join("tally")),
            work,
            runner,
        })
    }

    /// Runs `kairn build` into a cached directory: the same source, options and files give the same directory. Options must not
    /// name the output; `files` are those that the options name.
    pub fn build(&self, name: &str, source: &str, options: &[&str], files: &[&Path]) -> Result<PathBuf, Fault> {
        let mut key = Key::new(name).text("source", source);
        for option in options {
            key = key.text("option", option);
        }
        for file in files {
            key = key.file(file)?;
        }
        let entry = self.cache.get_or_build(&key, |dir| self.build_into(&dir.join("out"), source, options))?;
        Ok(entry.join("out"))
    }

    /// Runs `kairn build` into a directory.
    pub fn build_into(&self, output: &Path, source: &str, options: &[&str]) -> Result<(), Fault> {
        let build = Invocation::new(self.kairn.to_string_lossy()).args(["build", source, "--output"]);
        let build = build.arg(output.to_string_lossy()).arg("--init").arg(self.init.to_string_lossy());
        self.runner.run(&build.args(options.iter().copied()).deadline(BUILD)).map(drop).map_err(Fault::from)
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

    /// Begins a machine in the scenario's directory, with the lab's key and the tally of boots. It has one processor, since others run
    /// beside it, and the instructions that are emulated best.
    pub fn machine(&self, name: &str) -> Builder {
        let (key, tally) = (&self.world.key, self.world.tally.clone());
        let machine = Machine::builder(name, self.dir.join(name)).cpus(1).model(Model::V2);
        machine.key(key).tally(tally).user(crate::images::USER).watchdog()
    }

    /// Starts a registry with a store of its own. `None` when there is no program for it.
    pub fn registry(&self) -> Result<Option<Registry>, Fault> {
        self.world.registry.as_deref().map(|program| Registry::start(program, &self.dir.join("registry"))).transpose()
    }

    /// Copies the consoles of its machines, and what processors of mute ones did, to where logs stay, and returns the end of the console
    /// written last.
    pub fn keep_logs(&self) -> Result<String, Fault> {
        let kept = self.world.logs.join(self.name);
        clear(&kept)?;
        fs::create_dir_all(&kept).map_err(Fault::io(format!("create {}", kept.display())))?;
        let mut last = None;
        for entry in fs::read_dir(&self.dir).map_err(Fault::io("list the scenario's directory"))? {
            let entry = entry.map_err(Fault::io("list the scenario's directory"))?;
            let console = entry.path().join("console.log");
            let Ok(written) = console.metadata().and_then(|meta| meta.modified()) else { continue };
            let to = kept.join(entry.file_name()).with_extension("log");
            fs::copy(&console, &to).map_err(Fault::io(format!("keep {}", console.display())))?;
            let processors = entry.path().join("processors.log");
            if processors.exists() {
                let to = kept.join(entry.file_name()).with_extension("processors.log");
                fs::copy(&processors, &to).map_err(Fault::io(format!("keep {}", processors.display())))?;
            }
            last = last.max(Some((written, to)));
        }
        let Some((_, path)) = last else { return Ok(String::new()) };
        let text = fs::read(&path).map_err(Fault::io(format!("read {}", path.display())))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut tail: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(TAIL).collect();
        tail.reverse();
        Ok(tail.iter().map(|line| format!("\n      | {}", line.trim_end())).collect())
    }

    /// Keeps what a scenario that begins anew has left there, under another name.
    pub fn set_logs_aside(world: &World, name: &str) -> Result<(), Fault> {
        let aside = world.logs.join(format!("{name}.mute"));
        clear(&aside)?;
        fs::rename(world.logs.join(name), &aside).map_err(Fault::io(format!("set aside {}", aside.display())))
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
