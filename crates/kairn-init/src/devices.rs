//! Drivers and the devices that they bring, without udev: modules by modalias and by name, and waiting for a device by event.

use crate::journal::{Journal, Level};
use kairn_host::kmod::{self, Probe};
use kairn_host::{Error, Signal, Uevents, files};
use kairn_lifecycle::kmod::{IndexTexts, ModuleIndex};
use kairn_report::{Event, Sink};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a wait gives a sign of life to the watchdog, and looks even without an event: one may have been lost.
const SLICE: Duration = Duration::from_secs(1);
/// Events that keep coming for so long do not end; a slow machine loads its drivers in less.
const STORM: Duration = Duration::from_secs(10);

/// The modules of the initramfs.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
    index: ModuleIndex,
    /// Files that were tried, with whatever result.
    tried: BTreeSet<String>,
    /// Aliases that were looked up; a bus has many devices of one kind.
    asked: BTreeSet<String>,
}

impl Modules {
    /// Reads the index of `dir`, `/lib/modules/<release>`. Without one there is nothing to load, which is not an error: a kernel may
    /// have everything built in.
    ///
    /// # Errors
    /// An index that exists cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let text = |name: &str| files::read_text_if_any(&dir.join(name)).map(Option::unwrap_or_default);
        let (dep, softdep, alias, builtin) =
            (text("modules.dep")?, text("modules.softdep")?, text("modules.alias")?, text("modules.builtin")?);
        let index = ModuleIndex::parse(&IndexTexts {
            dep: &dep,
            softdep: &softdep,
            alias: &alias,
            builtin: &builtin,
            builtin_modinfo: "",
        });
        Ok(Self { dir: dir.to_owned(), index, tried: BTreeSet::new(), asked: BTreeSet::new() })
    }

    /// Loads modules by name, with all that they need; what fails is reported and the rest goes on.
    pub fn load<S: AsRef<str>>(&mut self, names: impl IntoIterator<Item = S>, journal: &mut Journal) {
        let files = self.files(names, journal);
        report(&load_files(&self.dir, &files, Probe::Now), journal);
    }

    /// Returns the files that these names need and that were not tried yet; from now on they were.
    fn files<S: AsRef<str>>(&mut self, names: impl IntoIterator<Item = S>, journal: &mut Journal) -> Vec<String> {
        let closure = self.index.closure(names);
        for name in closure.missing {
            journal.say(Level::Notice, &format!("the initramfs has no module `{name}`"));
        }
        closure.files.into_iter().filter(|file| self.tried.insert(file.clone())).collect()
    }

    /// Returns the files that devices ask for: those to load now, and those of drivers with disks behind them.
    fn asked_for(&mut self, modaliases: &[String], journal: &mut Journal) -> [Vec<String>; 2] {
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for modalias in modaliases {
            if !self.asked.insert(modalias.clone()) {
                continue;
            }
            let names: Vec<String> = self.index.matches(modalias).into_iter().map(str::to_owned).collect();
            for name in names {
                // What needs a module that comes later comes later, too.
                let waits = |file: &String| is_slow(file) || later.contains(file);
                let slow = self.index.closure([&name]).files.iter().any(waits);
                let files = self.files([name], journal);
                if slow { later.extend(files) } else { now.extend(files) }
            }
        }
        [now, later]
    }

    /// Loads what devices ask for.
    fn load_for(&mut self, modaliases: &[String], journal: &mut Journal) {
        let [now, later] = self.asked_for(modaliases, journal);
        report(&load_files(&self.dir, &now, Probe::Now), journal);
        report(&load_files(&self.dir, &later, Probe::Later), journal);
    }
}

/// Lists what the devices that are there say of themselves. Every device with a modalias is on a bus.
fn modaliases(sys: &Path) -> Result<Vec<String>, Error> {
    let buses = sys.join("bus");
    let mut found = Vec::new();
    for bus in files::names(&buses)? {
        let devices = buses.join(bus).join("devices");
        for device in files::names(&devices)? {
            // Many devices have none, and one may go away meanwhile.
            if let Ok(modalias) = std::fs::read_to_string(devices.join(device).join("modalias")) {
                found.push(modalias.trim().to_owned());
            }
        }
    }
    Ok(found)
}

/// Drivers below these directories have disks behind them, which take their time and come with events. Others, watchdogs above all,
/// are to be there when they are looked for, and are loaded first: a load that waits for its probe waits for all that are under way.
const SLOW: [&str; 8] = ["/ata/", "/scsi/", "/nvme/", "/block/", "/usb/", "/mmc/", "/message/", "/hv/"];

fn is_slow(file: &str) -> bool {
    SLOW.iter().any(|part| file.contains(part))
}

fn load_files(dir: &Path, files: &[String], probe: Probe) -> Vec<Error> {
    files.iter().filter_map(|file| kmod::load(&dir.join(file), probe).err()).collect()
}

fn report(errors: &[Error], journal: &mut Journal) {
    for error in errors {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        journal.event(Event::warning(format!("{error}{cause}")));
    }
}

/// Modules and the events of devices.
#[derive(Debug)]
pub struct Devices {
    events: Uevents,
    /// The modules.
    pub modules: Modules,
    sys: PathBuf,
}

impl Devices {
    /// Listens first and looks second, so that no device is missed. Loads `names` at the same time: drivers wait for hardware, and large
    /// modules for the processor. A module that both need is loaded by one and waited for by the other; the kernel sees to that.
    ///
    /// # Errors
    /// No events, or sysfs cannot be read.
    pub fn begin(sys: &Path, modules: Modules, names: &[&str], journal: &mut Journal) -> Result<Self, Error> {
        let mut devices = Self { events: Uevents::listen()?, modules, sys: sys.to_owned() };
        let named = devices.modules.files(names, journal);
        // Both sides may need them, so none counts as tried for the other.
        devices.modules.tried.clear();
        let dir = devices.modules.dir.clone();
        let (found, errors) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| load_files(&dir, &named, Probe::Later));
            let found = devices.coldplug(journal);
            (found, thread.join().unwrap_or_default())
        });
        devices.modules.tried.extend(named);
        report(&errors, journal);
        found?;
        devices.settle(journal)?;
        Ok(devices)
    }

    /// Loads what the devices that are there ask for, and those that the first drivers bring; drivers with disks behind them last.
    fn coldplug(&mut self, journal: &mut Journal) -> Result<(), Error> {
        let mut last = Vec::new();
        let mut aliases = modaliases(&self.sys)?;
        while !aliases.is_empty() {
            let [now, later] = self.modules.asked_for(&aliases, journal);
            report(&load_files(&self.modules.dir, &now, Probe::Now), journal);
            last.extend(later);
            aliases.clear();
            // Events that do not end are left to the waits that come, which have deadlines.
            let end = Instant::now() + STORM;
            while Instant::now() < end {
                match self.events.wait(Instant::now())? {
                    Signal::Deadline => break,
                    Signal::Event(event) => aliases.extend(event.get("MODALIAS").map(str::to_owned)),
                    Signal::Overrun => aliases = modaliases(&self.sys)?,
                }
            }
        }
        report(&load_files(&self.modules.dir, &last, Probe::Later), journal);
        Ok(())
    }

    /// Returns where sysfs is mounted.
    #[must_use]
    pub fn sys(&self) -> &Path {
        &self.sys
    }

    /// Takes the events that are there, without waiting for more: a driver may have brought a bus with devices of its own.
    ///
    /// # Errors
    /// The events cannot be read.
    pub fn settle(&mut self, journal: &mut Journal) -> Result<(), Error> {
        let end = Instant::now() + STORM;
        while Instant::now() < end {
            match self.events.wait(Instant::now())? {
                Signal::Deadline => break,
                signal => self.take(signal, journal)?,
            };
        }
        Ok(())
    }

    /// Waits until `look` finds what it looks for, loading the modules that appearing devices ask for. `None` when the deadline passed;
    /// `tick` is called at least every second.
    ///
    /// # Errors
    /// `look` fails, or the events do.
    pub fn wait<T, E: From<Error>>(
        &mut self,
        deadline: Duration,
        journal: &mut Journal,
        tick: &mut dyn FnMut(),
        look: &mut dyn FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let end = Instant::now() + deadline;
        let mut changed = true;
        let mut looked = Instant::now();
        loop {
            let now = Instant::now();
            if !changed {
                if now >= end {
                    return Ok(None);
                }
                tick();
            }
            // Bursts of events are taken in whole before the next look, unless they do not end.
            let until = if changed { now } else { end.min(now + SLICE) };
            match self.events.wait(until)? {
                Signal::Deadline => changed = true,
                signal => {
                    changed |= self.take(signal, journal)?;
                    if now < looked + SLICE {
                        continue;
                    }
                }
            }
            if changed {
                if let Some(found) = look()? {
                    return Ok(Some(found));
                }
                (changed, looked) = (false, Instant::now());
            }
        }
    }

    /// Says whether a block device may have come.
    fn take(&mut self, signal: Signal, journal: &mut Journal) -> Result<bool, Error> {
        match signal {
            Signal::Event(event) => {
                if event.action == "add"
                    && let Some(modalias) = event.get("MODALIAS")
                {
                    self.modules.load_for(&[modalias.to_owned()], journal);
                }
                Ok(event.get("SUBSYSTEM") == Some("block") && event.action != "remove")
            }
            Signal::Overrun => {
                journal.say(Level::Notice, "device events were lost; looking at all devices again");
                let aliases = modaliases(&self.sys)?;
                self.modules.load_for(&aliases, journal);
                Ok(true)
            }
            Signal::Deadline => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_names_load_their_modules_once_and_failures_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let modules_dir = dir.path().join("lib/modules/6");
        std::fs::create_dir_all(&modules_dir).unwrap();
        std::fs::write(modules_dir.join("modules.dep"), "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n").unwrap();
        std::fs::write(modules_dir.join("modules.alias"), "alias pci:v00001AF4d* a\n").unwrap();
        let device = dir.path().join("sys/bus/pci/devices/0000:00:01.0");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("modalias"), "pci:v00001AF4d00001001sv\n").unwrap();
        let mut journal = Journal::default();
        let mut modules = Modules::open(&modules_dir).unwrap();
        let aliases = modaliases(&dir.path().join("sys")).unwrap();
        modules.load_for(&aliases, &mut journal);
        modules.load(["a", "nonsense"], &mut journal);
        // Neither file exists, so each is reported once, the dependency first.
        assert_eq!(journal.events.len(), 2, "{:?}", journal.events);
        assert!(matches!(&journal.events[0], Event::Warning { text } if text.contains("b.ko")));
    }

    #[test]
    fn a_device_that_is_there_is_found_at_once_and_one_that_is_not_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("bus")).unwrap();
        let mut journal = Journal::default();
        let modules = Modules::open(dir.path()).unwrap();
        let mut devices = match Devices::begin(dir.path(), modules, &[], &mut journal) {
            Ok(devices) => devices,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let found = devices.wait(Duration::from_secs(60), &mut journal, &mut || {}, &mut || Ok::<_, Error>(Some(7)));
        assert_eq!(found.unwrap(), Some(7));
        let deadline = Duration::from_millis(30);
        let found = devices.wait(deadline, &mut journal, &mut || {}, &mut || Ok::<Option<()>, Error>(None));
        assert_eq!(found.unwrap(), None);
    }
}
