//! The boot, in the one order that the contract names.

use crate::attempts::AttemptFile;
use crate::devices::{Devices, Modules};
use crate::disk::Wanted;
use crate::fstab::Entry;
use crate::journal::{Journal, Level};
use crate::readahead::Readahead;
use crate::role::{self, Booted, Hints};
use crate::source::{self, Own, Patience};
use crate::tree::Tree;
use crate::{Error, esp, handover, root};
use kairn_firmware::variables;
use kairn_host::efivars::{EfiVars, LOADER};
use kairn_host::mount::{Access, FileSystem};
use kairn_host::{Error as HostError, Watchdog, files};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::cmdline::{Cmdline, RootTokens};
use kairn_lifecycle::kmod::{Load, wanted_names};
use kairn_lifecycle::{DeploymentState, EntryName, ReleaseId, Role, Sequence};
use kairn_report::{Event, Sink, in_one_line};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the root is mounted until it becomes `/`.
pub const SYSROOT: &str = "/sysroot";
const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// How long the disk, or a live medium, may take to appear, unless the command line says otherwise.
const DISK_DEADLINE: Duration = Duration::from_secs(60);
/// The longest time that the command line can give; without a bound a slip of the pen would overflow the clock.
const LONGEST_DEADLINE: u64 = 24 * 60 * 60;
/// Live media come at once or by USB; after this, disks are searched.
const LIVE_DEADLINE: Duration = Duration::from_secs(30);
/// Longer than any step between two signs of life.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(120);

/// What is left to do when everything is in place.
#[derive(Debug)]
pub struct Ready {
    /// The root's init.
    pub init: String,
}

/// The boot as far as it has come; a failure is judged by what is known here.
#[derive(Debug)]
pub struct Boot {
    /// The log.
    pub journal: Journal,
    /// The armed watchdog.
    pub watchdog: Option<Watchdog>,
    /// The record in STATE.
    pub attempt: Option<AttemptFile>,
    /// Devices and modules.
    pub devices: Option<Devices>,
    /// The own disk.
    pub own: Option<Own>,
    /// What the loader said.
    pub hints: Hints,
    /// This boot's entry.
    pub booted: Option<Booted>,
    /// What is booted.
    pub role: Option<Role>,
    /// It is the persistent volume that failed.
    pub persistent_failed: bool,
    pub(crate) cmdline: Cmdline,
    pub(crate) fstab: Vec<Entry>,
}

impl Boot {
    /// Begins; `/dev` is there when it could be mounted.
    #[must_use]
    pub fn new() -> Self {
        Self {
            journal: Journal::open(Path::new("/dev")),
            watchdog: None,
            attempt: None,
            devices: None,
            own: None,
            hints: Hints::default(),
            booted: None,
            role: None,
            persistent_failed: false,
            cmdline: Cmdline::default(),
            fstab: Vec::new(),
        }
    }

    /// Begins a phase: log, watchdog, record.
    pub fn phase(&mut self, name: &str) {
        self.journal.phase(name);
        ping(&mut self.watchdog, &mut self.journal);
        let at = self.journal.phases.last().map_or(0, |phase| phase.at_ms);
        if let Some(attempt) = &mut self.attempt
            && let Err(error) = attempt.advance(name, at)
        {
            self.attempt = None;
            self.failed("attempt", error.into());
        }
    }

    /// Reports a step that failed without stopping the boot.
    pub(crate) fn failed(&mut self, step: &str, error: Error) {
        self.journal.event(Event::failed(step, in_one_line(&error)));
    }

    /// Goes through the boot up to where the root's init can be started.
    ///
    /// # Errors
    /// What stops the boot.
    pub fn run(&mut self) -> Result<Ready, Error> {
        self.cmdline = Cmdline::parse(&files::read_text(Path::new("/proc/cmdline"))?);
        let tokens = self.cmdline.root()?;
        let release = ReleaseId::of_root_hash(&tokens.root_hash);
        self.phase("modules");
        self.load_modules(&tokens.format.to_string())?;
        self.phase("watchdog");
        self.arm_watchdog();
        self.phase("disk");
        self.read_hints();
        let medium = self.find(release)?;
        let disk = self.own.as_ref().map_or_else(|| medium.clone().unwrap_or_default(), |own| own.disk.clone());
        self.journal.say(Level::Notice, &format!("release {release} of {}", disk.display()));

        self.phase("state");
        let holder = self.mount_holder(medium)?;
        let state = self.open_attempt(release);
        let dir = source::release_dir(&holder, release);
        if !source::holds(&holder, release) {
            return Err(Error::NoRelease { release, place: disk.display().to_string() });
        }

        self.phase("root");
        let device = self.open_root(&dir, &tokens)?;
        let sysroot = Path::new(SYSROOT);
        crate::early::move_into(Path::new("/"), sysroot)?;
        let readahead = self.begin_readahead(sysroot);
        self.mounted(&device.display().to_string(), "/", &tokens.format.to_string(), "ro");
        self.mounted("tmpfs", "/tmp", "tmpfs", "mode=1777,nosuid,nodev");

        self.phase("sentinels");
        self.write_sentinel()?;
        self.phase("oem");
        self.mount_oem(sysroot);
        self.phase("stage rootfs");
        self.run_stage("rootfs");
        self.phase("layout");
        let layout = self.read_layout();
        let tree = Tree { root: sysroot.to_owned(), overlays: sysroot.join("run/overlay") };
        self.phase("mounts");
        let persistent = self.mount_places(&tree, &layout, release)?;
        self.phase("identity");
        self.give_identity(&tree, persistent.as_deref());
        self.phase("stage initramfs");
        self.run_stage("initramfs");
        self.phase("fstab");
        self.write_fstab(&tree);
        self.hand_watchdog_over();
        self.phase("hand over");
        if let Some(readahead) = readahead {
            let read = readahead.end();
            self.journal.say(Level::Notice, &format!("{read} files read ahead"));
        }
        let init = self.cmdline.get("init").unwrap_or("/sbin/init").to_owned();
        handover::read_init(sysroot, &init)?;
        self.leave(release, &disk, state)?;
        Ok(Ready { init })
    }

    /// Without a list, as in a release of before there was one, nothing is read ahead.
    fn begin_readahead(&mut self, sysroot: &Path) -> Option<Readahead> {
        match files::read_text_if_any(&in_initramfs(paths::initramfs::READAHEAD)) {
            Ok(list) => Readahead::begin(sysroot, &list?),
            Err(error) => {
                self.failed("readahead", error.into());
                None
            }
        }
    }

    fn load_modules(&mut self, root_format: &str) -> Result<(), Error> {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = Modules::open(&Path::new("/lib/modules").join(kernel))?;
        let listed = files::read_text_if_any(&in_initramfs(paths::initramfs::MODULES))?.unwrap_or_default();
        let on_use: Vec<&str> = wanted_names(Some(Load::OnUse)).chain(esp::MODULES).collect();
        let names = listed.lines().map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#'));
        let names = names.filter(|name| !on_use.contains(name)).chain([root_format]);
        let names: Vec<&str> = names.collect();
        let devices = Devices::begin(Path::new("/sys"), modules, &names, &mut self.journal)?;
        self.devices = Some(devices);
        Ok(())
    }

    fn load(&mut self, names: &[&str]) {
        if let Some(devices) = &mut self.devices {
            devices.modules.load(names, &mut self.journal);
        }
    }

    fn arm_watchdog(&mut self) {
        let path = Path::new("/dev/watchdog0");
        if !path.exists() {
            self.load(&["softdog"]);
        }
        match Watchdog::arm(path, WATCHDOG_TIMEOUT) {
            Ok(watchdog) => {
                let seconds = watchdog.timeout.as_secs();
                self.journal.say(Level::Notice, &format!("watchdog armed, {seconds} s"));
                self.watchdog = Some(watchdog);
            }
            Err(error) => self.failed("watchdog", error.into()),
        }
    }

    /// Reads what the loader left in EFI variables. Without any this is a BIOS machine or a test, and the command line speaks.
    fn read_hints(&mut self) {
        if self.cmdline.get("kairn.entry").is_none() && Path::new(EFIVARS).is_dir() {
            match read_variables() {
                Ok(hints) => self.hints = hints,
                Err(error) => self.failed("efi-variables", error),
            }
        }
        self.hints = std::mem::take(&mut self.hints).with_cmdline(&self.cmdline);
        self.booted = self.hints.booted();
        self.role = self.booted.map(Booted::role);
        match (&self.hints.entry, self.booted) {
            (Some(entry), Some(booted)) => {
                let how = if booted.trial { "on trial" } else { "not counted" };
                self.journal.say(Level::Notice, &format!("entry {entry}, {how}"));
            }
            (Some(entry), None) => {
                self.journal.event(Event::warning(format!("the boot entry `{entry}` is not one of Kairn's")));
            }
            (None, _) => {}
        }
    }

    /// Finds the release's place. Returns the live medium, which is mounted, or nothing for the own disk.
    fn find(&mut self, release: ReleaseId) -> Result<Option<PathBuf>, Error> {
        let given = self.cmdline.get("kairn.root.timeout").and_then(|text| text.trim_end_matches('s').parse().ok());
        let given = given.map(|seconds: u64| Duration::from_secs(seconds.min(LONGEST_DEADLINE)));
        if self.role.is_none() && self.hints.disk.is_none() {
            self.load(&["isofs"]);
        }
        let Self { devices, journal, watchdog, hints, role, .. } = self;
        let devices = devices
            .as_mut()
            .ok_or_else(|| HostError::Waited { what: "device events".into(), deadline: Duration::ZERO })?;
        let mut pings = pings(watchdog);
        let deadline = given.unwrap_or(DISK_DEADLINE);
        let wanted = hints.disk.clone().map(Wanted::Disk).or_else(|| hints.partition.clone().map(Wanted::Partition));
        match (*role, wanted) {
            (Some(known), Some(wanted)) => {
                let patience = Patience { deadline, tick: &mut pings };
                let needed = if known == Role::Recovery { PartLabel::Recovery } else { PartLabel::State };
                self.own = Some(source::find_own(devices, journal, patience, &wanted, needed)?);
                return Ok(None);
            }
            (None, None | Some(Wanted::Partition(_))) => {
                let patience = Patience { deadline: given.unwrap_or(LIVE_DEADLINE), tick: &mut pings };
                let target = Path::new(paths::run::LIVE);
                if let Some(medium) = source::find_live(devices, journal, patience, release, target)? {
                    *role = Some(Role::Live);
                    return Ok(Some(medium));
                }
                journal.say(Level::Notice, "no live medium holds the release; searching the disks");
            }
            _ => {}
        }
        let patience = Patience { deadline, tick: &mut pings };
        let (own, found) = source::find_anywhere(devices, journal, patience, release)?;
        self.own = Some(own);
        self.role.get_or_insert(found);
        Ok(None)
    }

    fn open_root(&mut self, dir: &Path, tokens: &RootTokens) -> Result<PathBuf, Error> {
        let trial = self.booted.is_some_and(|booted| booted.trial);
        root::open(dir, tokens, trial, Path::new(SYSROOT))
    }

    fn write_sentinel(&mut self) -> Result<(), Error> {
        let role = self.role;
        let name = match role {
            Some(Role::Live) => "live_mode",
            Some(Role::Recovery) => "recovery_mode",
            Some(Role::Deployment { sequence }) if self.is_active(sequence) => "active_mode",
            _ => "passive_mode",
        };
        let dir = Path::new(paths::run::SENTINELS);
        files::make_dir(dir, 0o755)?;
        let path = dir.join(name);
        std::fs::write(&path, "1").map_err(HostError::path("write", path))?;
        self.journal.say(Level::Notice, name);
        Ok(())
    }

    /// The loader's own list tells in most boots; else the ESP does. When that cannot be read, what was booted counts as active.
    fn is_active(&mut self, sequence: Sequence) -> bool {
        if let Some(active) = self.hints.is_active(sequence) {
            return active;
        }
        let device = self.own.as_ref().and_then(|own| own.partitions.get(&PartLabel::Esp)).cloned();
        let (Some(device), Some(devices)) = (device, &mut self.devices) else { return true };
        match esp::read(&device, &mut devices.modules, &mut self.journal) {
            Ok(esp) => !esp.entries.iter().any(|file| {
                let above = matches!(file.name, EntryName::Deployment { sequence: other, .. } if other > sequence);
                above && file.name.state() != DeploymentState::Bad
            }),
            Err(error) => {
                self.failed("esp", error);
                true
            }
        }
    }

    pub(crate) fn mounted(&mut self, what: &str, path: &str, kind: &str, options: &str) {
        let entry = Entry { what: what.into(), path: path.into(), kind: kind.into(), options: options.into() };
        self.fstab.push(entry);
    }
}

impl Default for Boot {
    fn default() -> Self {
        Self::new()
    }
}

fn in_initramfs(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn ping(watchdog: &mut Option<Watchdog>, journal: &mut Journal) {
    if let Some(armed) = watchdog
        && let Err(error) = armed.ping()
    {
        *watchdog = None;
        journal.event(Event::failed("watchdog", in_one_line(&Error::from(error))));
    }
}

/// Signs of life during a wait; a watchdog that is gone is reported at the next phase.
pub(crate) fn pings(watchdog: &mut Option<Watchdog>) -> impl FnMut() {
    move || {
        if let Some(watchdog) = watchdog {
            watchdog.ping().unwrap_or_default();
        }
    }
}

fn read_variables() -> Result<Hints, Error> {
    let directory = Path::new(EFIVARS);
    FileSystem::new("efivarfs", Access::ReadWrite).data_only().mount(Path::new("efivarfs"), directory)?;
    let vars = EfiVars::at(directory);
    let text = |name: &str| -> Result<Option<String>, Error> {
        Ok(vars.get(name)?.and_then(|variable| variables::decode_text(&variable.data)))
    };
    let listed = vars.get(&format!("LoaderEntries-{LOADER}"))?;
    Ok(Hints {
        entry: text(variables::SELECTED)?.filter(|entry| !entry.is_empty()),
        partition: text(variables::DEVICE_PART)?,
        disk: None,
        counted: text(&format!("LoaderBootCountPath-{LOADER}"))?,
        entries: listed.map(|variable| role::entries(&variable.data)).unwrap_or_default(),
    })
}
