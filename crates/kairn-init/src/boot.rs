//! The boot, in the one order that the contract names.

use crate::attempts::{AttemptFile, History, ThisBoot, judge};
use crate::blocks;
use crate::check::{Checked, Policy, check};
use crate::devices::{Devices, Modules};
use crate::disk::Wanted;
use crate::fstab::{self, Entry};
use crate::journal::{Journal, Level};
use crate::layout::{Layout, LayoutFiles, Volume, VolumeName};
use crate::machine_id::{self, Identity};
use crate::places::{self, Kind, Place};
use crate::role::{self, Booted, Hints};
use crate::seed::{Seed, seed_once};
use crate::source::{self, Own, Patience};
use crate::tree::Tree;
use crate::{Error, esp, handover, root, stage};
use kairn_firmware::variables;
use kairn_host::efivars::{EfiVars, LOADER};
use kairn_host::mount::{self, Access, FileSystem};
use kairn_host::{Clock, Error as HostError, SystemClock, Watchdog, files};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::attempt::Verdict;
use kairn_lifecycle::cmdline::{Cmdline, RootTokens};
use kairn_lifecycle::kmod::{Load, wanted_names};
use kairn_lifecycle::{BootReport, Counter, DeploymentState, EntryName, ReleaseId, Role, Sequence};
use kairn_report::{Event, Sink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the root is mounted until it becomes `/`.
pub const SYSROOT: &str = "/sysroot";
const EFIVARS: &str = "/sys/firmware/efi/efivars";
const NAMES: &str = "/etc/kairn/modules.names";
const STATE_FOR_RECOVERY: &str = "/run/kairn-state";

/// How long the disk, or a live medium, may take to appear, unless the command line says otherwise.
const DISK_DEADLINE: Duration = Duration::from_secs(60);
/// Live media come at once or by USB; after this, disks are searched.
const LIVE_DEADLINE: Duration = Duration::from_secs(30);
const OEM_DEADLINE: Duration = Duration::from_secs(30);
/// A large volume with a journal to replay takes seconds; one that is really repaired takes minutes.
const PERSISTENT_DEADLINE: Duration = Duration::from_secs(900);
const STAGE_DEADLINE: Duration = Duration::from_secs(60);
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
    cmdline: Cmdline,
    fstab: Vec<Entry>,
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
    fn failed(&mut self, step: &str, error: Error) {
        self.journal.event(Event::failed(step, error.line()));
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
        let init = self.cmdline.get("init").unwrap_or("/sbin/init").to_owned();
        handover::read_init(sysroot, &init)?;
        self.leave(release, &disk, state)?;
        Ok(Ready { init })
    }

    fn load_modules(&mut self, root_format: &str) -> Result<(), Error> {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = Modules::open(&Path::new("/lib/modules").join(kernel))?;
        let listed = files::read_text_if_any(Path::new(NAMES))?.unwrap_or_default();
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
        let given = given.map(Duration::from_secs);
        if self.role.is_none() && self.hints.disk.is_none() {
            self.load(&["isofs"]);
        }
        let Self { devices, journal, watchdog, hints, role, .. } = self;
        let devices = devices
            .as_mut()
            .ok_or_else(|| HostError::Waited { what: "device events".into(), deadline: Duration::ZERO })?;
        let mut pings = || {
            if let Some(watchdog) = watchdog {
                watchdog.ping().unwrap_or_default();
            }
        };
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

    /// Mounts the file system that holds the release and returns where. STATE is writable until the boot hands over.
    fn mount_holder(&mut self, medium: Option<PathBuf>) -> Result<PathBuf, Error> {
        if let Some(medium) = medium {
            self.mounted(&medium.display().to_string(), paths::run::LIVE, "iso9660", "ro,nosuid,nodev,noexec");
            return Ok(paths::run::LIVE.into());
        }
        let (label, access) = match self.role {
            Some(Role::Recovery) => (PartLabel::Recovery, Access::ReadOnly),
            _ => (PartLabel::State, Access::ReadWrite),
        };
        let target = Path::new(paths::run::STATE);
        let own = self.own.as_ref().ok_or(Error::NoVolume(label.to_string()))?;
        let device = own.partition(label)?.to_owned();
        files::make_dir(target, 0o755)?;
        // The mount replays the journal; a check belongs to the running system, which can wait for it.
        FileSystem::new("ext4", access).mount(&device, target)?;
        self.mounted(&device.display().to_string(), paths::run::STATE, "ext4", "ro");
        Ok(target.to_owned())
    }

    /// Opens this boot's record and judges the earlier ones. Returns where STATE is mounted when that is not the release's file system.
    /// A STATE that cannot be written is reported: a full file system must not stop a boot.
    fn open_attempt(&mut self, release: ReleaseId) -> Option<PathBuf> {
        let sequence = match self.role? {
            Role::Deployment { sequence } => Some(sequence),
            Role::Recovery => None,
            Role::Live => return None,
        };
        let state = match self.mount_state() {
            Ok(state) => state,
            Err(error) => {
                self.failed("attempt", error);
                return None;
            }
        };
        let name = match (self.booted, sequence) {
            (Some(booted), _) => booted.name,
            (None, Some(sequence)) => EntryName::Deployment { sequence, counter: None },
            (None, None) => EntryName::Recovery,
        };
        let boot_id = files::read_text(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
        let boot = ThisBoot {
            sequence,
            release,
            entry: self.hints.entry.clone().unwrap_or_else(|| name.to_string()),
            boot_id: boot_id.trim().to_owned(),
            at: SystemClock.since_epoch().as_secs(),
        };
        let id = boot.boot_id.clone();
        match AttemptFile::open(&state, boot, &self.journal.phases) {
            Ok((attempt, earlier)) => {
                self.attempt = Some(attempt);
                if let Some(sequence) = sequence {
                    self.act_on_history(judge(&earlier, sequence, name, &id), sequence);
                }
            }
            Err(error) => self.failed("attempt", error.into()),
        }
        (state != Path::new(paths::run::STATE)).then_some(state)
    }

    fn mount_state(&mut self) -> Result<PathBuf, Error> {
        if self.role != Some(Role::Recovery) {
            return Ok(paths::run::STATE.into());
        }
        let own = self.own.as_ref().ok_or(Error::NoVolume(PartLabel::State.to_string()))?;
        let target = Path::new(STATE_FOR_RECOVERY);
        files::make_dir(target, 0o700)?;
        FileSystem::new("ext4", Access::ReadWrite).data_only().mount(own.partition(PartLabel::State)?, target)?;
        Ok(target.to_owned())
    }

    /// Does what the loader failed to do. When that fails too, the boot goes on: another try is better than none.
    fn act_on_history(&mut self, history: History, sequence: Sequence) {
        let (counter, why) = match history {
            History::Fine => return,
            History::Exhausted { failed } => (
                Counter { left: 0, done: failed },
                format!("deployment {sequence} failed {failed} times uncounted by the loader; it is marked bad"),
            ),
            History::Silent { ended } => (
                Counter { left: 1, done: 0 },
                format!("the last {ended} boots of deployment {sequence} ended without a word; it is on trial again"),
            ),
        };
        self.journal.event(Event::warning(why));
        match self.change_esp(&|esp| Ok(esp.mark(sequence, Some(counter))?)) {
            Ok(()) if counter.left == 0 => {
                // Its bad name is durable: the next boot is of another deployment.
                self.close_attempt(Verdict::Failed { reason: "its tries were used up uncounted".into() });
                crate::failure::restart(&mut self.journal);
            }
            Ok(()) => {}
            Err(error) => self.failed("mark-deployment", error),
        }
    }

    /// Changes the ESP of the own disk.
    ///
    /// # Errors
    /// There is none, or the change failed.
    pub fn change_esp(
        &mut self,
        decide: &dyn Fn(&kairn_firmware::Esp) -> Result<Vec<kairn_host::Effect>, Error>,
    ) -> Result<(), Error> {
        let own = self.own.as_ref().ok_or(Error::NoVolume(PartLabel::Esp.to_string()))?;
        let device = own.partition(PartLabel::Esp)?.to_owned();
        match &mut self.devices {
            Some(devices) => esp::change(&device, &mut devices.modules, &mut self.journal, decide),
            None => Err(Error::NoVolume(PartLabel::Esp.to_string())),
        }
    }

    /// Closes the record, if there is one, and returns its name.
    pub fn close_attempt(&mut self, verdict: Verdict) -> Option<String> {
        match self.attempt.take()?.close(verdict) {
            Ok(name) => Some(name),
            Err(error) => {
                self.failed("attempt", error.into());
                None
            }
        }
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

    fn mount_oem(&mut self, sysroot: &Path) {
        if self.role == Some(Role::Live) {
            return;
        }
        let label = self.cmdline.get("kairn.oem.label").unwrap_or(PartLabel::Oem.fs_label()).to_owned();
        let Some(device) = self.own.as_ref().and_then(|own| own.labelled(&label)) else {
            self.journal.event(Event::skipped("oem", format!("the disk has no {label}")));
            return;
        };
        let access = match self.check(sysroot, &device, OEM_DEADLINE) {
            Ok(Checked::Bad(said)) => {
                self.failed("oem", Error::Beyond { label, device: device.clone(), said });
                // What can still be read of the owner's configuration is better than nothing of it.
                Access::ReadOnly
            }
            Ok(Checked::Good | Checked::Skipped(_)) => Access::ReadWrite,
            Err(error) => {
                self.failed("oem", error);
                Access::ReadOnly
            }
        };
        match FileSystem::new("ext4", access).no_privileges().mount(&device, &sysroot.join("oem")) {
            Ok(()) => {
                let options = if access == Access::ReadOnly { "ro,nosuid,nodev" } else { "rw,nosuid,nodev" };
                self.mounted(&device.display().to_string(), "/oem", "ext4", options);
            }
            Err(error) => self.failed("oem", error.into()),
        }
    }

    fn check(&mut self, sysroot: &Path, device: &Path, deadline: Duration) -> Result<Checked, Error> {
        let policy = Policy {
            skip: self.cmdline.get("fsck.mode") == Some("skip"),
            force: self.cmdline.get("fsck.mode") == Some("force"),
            all: self.cmdline.get("fsck.repair") == Some("yes"),
            look_only: self.cmdline.get("fsck.repair") == Some("no"),
        };
        let Self { journal, watchdog, .. } = self;
        let mut pings = || {
            if let Some(watchdog) = watchdog {
                watchdog.ping().unwrap_or_default();
            }
        };
        check(sysroot, device, policy, deadline, journal, &mut pings)
    }

    fn run_stage(&mut self, name: &str) {
        let Self { journal, watchdog, .. } = self;
        let mut pings = || {
            if let Some(watchdog) = watchdog {
                watchdog.ping().unwrap_or_default();
            }
        };
        let step = format!("stage-{name}");
        match stage::run(Path::new(SYSROOT), name, STAGE_DEADLINE, journal, &mut pings) {
            Ok(()) => self.journal.event(Event::done(step)),
            Err(error) => self.failed(&step, error),
        }
    }

    fn read_layout(&mut self) -> Layout {
        let dir = Path::new(paths::run::SENTINELS);
        let mut read = |name: &str| match files::read_text_if_any(&dir.join(name)) {
            Ok(text) => text,
            Err(error) => {
                self.journal.event(Event::failed("layout", Error::from(error).line()));
                None
            }
        };
        let (main, extra, custom) = (read("cos-layout.env"), read("extra-layout.env"), read("custom-layout.env"));
        let files = LayoutFiles { main: main.as_deref(), extra: extra.as_deref(), custom: custom.as_deref() };
        let mounts: Vec<&str> = self.cmdline.all("kairn.mount").collect();
        let role = self.role.unwrap_or(Role::Live);
        let (layout, notes) = Layout::read(role, files, self.cmdline.get("kairn.overlay"), &mounts);
        for note in notes {
            self.journal.event(Event::warning(note));
        }
        layout
    }

    /// Mounts overlays, volumes and binds. Returns where the persistent volume is mounted.
    fn mount_places(&mut self, tree: &Tree, layout: &Layout, release: ReleaseId) -> Result<Option<PathBuf>, Error> {
        let on_target = |volume: &&Volume| layout.target.starts_with(&format!("{}/", volume.path));
        let persistent = layout.volumes.iter().find(on_target).is_some();
        let (places, left_out) = places::decide(layout, persistent, &|path| tree.kind(path));
        for left in left_out {
            self.journal.event(Event::skipped(format!("mount {}", left.path), left.reason));
        }
        if let Err(error) = tree.mount_overlay_base(&layout.overlay_size) {
            self.failed("overlay", error.into());
        }
        let (mut seeds, mut identity) = (Vec::new(), None);
        for place in &places {
            match place {
                Place::Overlay { path } => match tree.overlay(path) {
                    Ok(()) => {
                        let upper = format!("/run/overlay/{}/upper", places::dashed(path));
                        let work = format!("/run/overlay/{}/work", places::dashed(path));
                        let options = format!("lowerdir={path},upperdir={upper},workdir={work}");
                        self.mounted("overlay", path, "overlay", &options);
                    }
                    Err(error) => self.failed(&format!("overlay {path}"), error.into()),
                },
                Place::Volume { volume, make } => {
                    if *make && let Err(error) = tree.make_mount_point(&volume.path) {
                        self.failed(&format!("mount {}", volume.path), error.into());
                        continue;
                    }
                    let ours = volume.name == VolumeName::Label(PartLabel::Persistent.fs_label().to_owned());
                    match self.mount_volume(tree, volume) {
                        Ok(()) if ours => identity = Some(tree.at(&volume.path)),
                        Ok(()) => {}
                        Err(error) if ours => {
                            self.persistent_failed = true;
                            return Err(error);
                        }
                        Err(error) => self.failed(&format!("mount {}", volume.path), error),
                    }
                }
                Place::Bind { path, source, make, file: _ } => {
                    let image = (!*make && tree.kind(path) != Kind::Missing).then(|| tree.at(path));
                    seeds.push(Seed { path: path.clone(), source: source.clone(), image });
                }
            }
        }
        self.bind(tree, layout, &places, &seeds, release);
        Ok(identity)
    }

    fn mount_volume(&mut self, tree: &Tree, volume: &Volume) -> Result<(), Error> {
        let device = self.volume_device(&volume.name).ok_or_else(|| Error::NoVolume(volume.name.to_string()))?;
        if let Checked::Bad(said) = self.check(&tree.root, &device, PERSISTENT_DEADLINE)? {
            return Err(Error::Beyond { label: volume.name.to_string(), device, said });
        }
        FileSystem::new("ext4", Access::ReadWrite).mount(&device, &tree.at(&volume.path))?;
        self.mounted(&device.display().to_string(), &volume.path, "ext4", "rw");
        Ok(())
    }

    /// A label is looked up on the own disk only; a UUID is nobody else's.
    fn volume_device(&self, name: &VolumeName) -> Option<PathBuf> {
        match name {
            VolumeName::Label(label) => self.own.as_ref()?.labelled(label),
            VolumeName::Uuid(uuid) => {
                let blocks = blocks::scan(Path::new("/sys")).ok()?;
                let found = blocks.into_iter().find(|block| source::ext(block).is_some_and(|ext| ext.uuid == *uuid));
                found.map(|block| block.node)
            }
        }
    }

    fn bind(&mut self, tree: &Tree, layout: &Layout, places: &[Place], seeds: &[Seed], release: ReleaseId) {
        if seeds.is_empty() {
            return;
        }
        let target = tree.at(&layout.target);
        let seeded = files::make_dir(&target, 0o755).and_then(|()| seed_once(&target, seeds, release));
        match seeded {
            Ok(outcome) => {
                if outcome.seeded > 0 {
                    self.journal.say(Level::Notice, &format!("{} persistent paths seeded", outcome.seeded));
                }
                for (path, error) in outcome.failed {
                    self.failed(&format!("seed {path}"), error.into());
                }
            }
            Err(error) => self.failed("seed", error.into()),
        }
        for place in places {
            let Place::Bind { path, source, make, file: _ } = place else { continue };
            // What could not be seeded was reported; the overlay, or the image itself, stays in its place.
            if target.join(source).symlink_metadata().is_err() {
                continue;
            }
            let made = if *make { tree.make_mount_point(path) } else { Ok(()) };
            match made.and_then(|()| tree.bind(&layout.target, source, path)) {
                Ok(()) => self.mounted(&format!("{}/{source}", layout.target), path, "none", "bind"),
                Err(error) => self.failed(&format!("bind {path}"), error.into()),
            }
        }
    }

    /// Puts the machine's identity in place; a system without a persistent volume gets one for this boot.
    fn give_identity(&mut self, tree: &Tree, persistent: Option<&Path>) {
        let mut random = [0; 16];
        if let Err(errno) = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty()) {
            self.failed("identity", HostError::errno("get", "random bytes")(errno).into());
            return;
        }
        let id = match persistent.map(|volume| machine_id::ensure(volume, random)) {
            None => machine_id::make(random),
            Some(Ok((id, identity))) => {
                match identity {
                    Identity::Keep(_) => {}
                    Identity::First => self.journal.say(Level::Notice, "machine-id made"),
                    Identity::Damaged => {
                        let text = "the machine-id on COS_PERSISTENT was damaged; a new one was made";
                        self.journal.event(Event::warning(text));
                    }
                }
                id
            }
            Some(Err(error)) => {
                self.failed("identity", error.into());
                machine_id::make(random)
            }
        };
        let (text, path) = (format!("{id}\n"), tree.at("/etc/machine-id"));
        if files::write_whole(&path, text.as_bytes(), 0o444).is_ok() {
            return;
        }
        // Without an overlay on /etc: the image has an empty file there.
        let aside = Path::new("/run/kairn/machine-id");
        let bound = files::make_dir(Path::new("/run/kairn"), 0o755)
            .and_then(|()| files::write_whole(aside, text.as_bytes(), 0o444))
            .and_then(|()| mount::bind(aside, &path));
        if let Err(error) = bound {
            self.failed("identity", error.into());
        }
    }

    fn write_fstab(&mut self, tree: &Tree) {
        let path = tree.at("/etc/fstab");
        let written = files::read_text_if_any(&path).and_then(|image| {
            let text = fstab::render(&image.unwrap_or_default(), &self.fstab);
            files::write_whole(&path, text.as_bytes(), 0o644)
        });
        if let Err(error) = written {
            self.failed("fstab", error.into());
        }
    }

    /// The watchdog stays armed when this program ends, so systemd must take it over even where no configuration says so. The file's
    /// name sorts before others: any of them wins.
    fn hand_watchdog_over(&mut self) {
        let Some(watchdog) = &self.watchdog else { return };
        let dir = Path::new("/run/systemd/system.conf.d");
        let text = format!("[Manager]\nRuntimeWatchdogSec={}s\n", watchdog.timeout.as_secs().min(60));
        let written = files::make_dir(dir, 0o755)
            .and_then(|()| files::write_whole(&dir.join("00-kairn-watchdog.conf"), text.as_bytes(), 0o644));
        if let Err(error) = written {
            self.failed("watchdog", error.into());
        }
    }

    /// Closes the record, makes the release's file system read-only, and leaves the report.
    fn leave(&mut self, release: ReleaseId, disk: &Path, state: Option<PathBuf>) -> Result<(), Error> {
        let attempt = self.close_attempt(Verdict::HandedOver);
        let left = match (&state, self.role) {
            (Some(state), _) => mount::unmount(state),
            (None, Some(Role::Deployment { .. })) => mount::remount(Path::new(paths::run::STATE), Access::ReadOnly),
            _ => Ok(()),
        };
        if let Err(error) = left {
            self.failed("state", error.into());
        }
        let partitions = self.own.as_ref().map(|own| own.partitions.clone()).unwrap_or_default();
        let report = BootReport {
            format: 1,
            role: self.role.unwrap_or(Role::Live),
            entry: self.hints.entry.clone(),
            release,
            disk: disk.display().to_string(),
            partitions: partitions.into_iter().map(|(label, node)| (label, node.display().to_string())).collect(),
            attempt,
            phases: self.journal.phases.clone(),
            events: self.journal.events.clone(),
        };
        let path = Path::new(paths::run::BOOT_REPORT);
        let text = serde_json::to_vec(&report).map_err(|error| HostError::path("describe", path)(error.into()))?;
        files::make_dir(Path::new("/run/kairn"), 0o755)?;
        Ok(files::write_whole(path, &text, 0o644)?)
    }

    fn mounted(&mut self, what: &str, path: &str, kind: &str, options: &str) {
        let entry = Entry { what: what.into(), path: path.into(), kind: kind.into(), options: options.into() };
        self.fstab.push(entry);
    }
}

impl Default for Boot {
    fn default() -> Self {
        Self::new()
    }
}

fn ping(watchdog: &mut Option<Watchdog>, journal: &mut Journal) {
    if let Some(armed) = watchdog
        && let Err(error) = armed.ping()
    {
        *watchdog = None;
        journal.event(Event::failed("watchdog", Error::from(error).line()));
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
        counted: vars.get(&format!("LoaderBootCountPath-{LOADER}"))?.is_some(),
        entries: listed.map(|variable| role::entries(&variable.data)).unwrap_or_default(),
    })
}
