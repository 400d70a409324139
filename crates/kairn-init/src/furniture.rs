//! What goes into the opened root: OEM, stages, overlays, volumes, binds, identity, fstab.

use crate::blocks;
use crate::boot::{Boot, SYSROOT, pings};
use crate::check::{Checked, Policy, check};
use crate::fstab;
use crate::journal::Level;
use crate::layout::{Layout, LayoutFiles, Volume, VolumeName};
use crate::machine_id::{self, Identity};
use crate::places::{self, Kind, Place};
use crate::seed::{Seed, seed_once};
use crate::source;
use crate::tree::Tree;
use crate::{Error, stage};
use kairn_host::mount::{self, Access, FileSystem};
use kairn_host::{Error as HostError, files};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::{ReleaseId, Role};
use kairn_report::{Event, Sink, in_one_line};
use std::path::{Path, PathBuf};
use std::time::Duration;

const OEM_DEADLINE: Duration = Duration::from_secs(30);
/// A large volume with a journal to replay takes seconds; one that is really repaired takes minutes.
const PERSISTENT_DEADLINE: Duration = Duration::from_secs(900);
const STAGE_DEADLINE: Duration = Duration::from_secs(60);

impl Boot {
    pub(crate) fn mount_oem(&mut self, sysroot: &Path) {
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

    pub(crate) fn check(&mut self, sysroot: &Path, device: &Path, deadline: Duration) -> Result<Checked, Error> {
        let policy = Policy {
            skip: self.cmdline.get("fsck.mode") == Some("skip"),
            force: self.cmdline.get("fsck.mode") == Some("force"),
            all: self.cmdline.get("fsck.repair") == Some("yes"),
            look_only: self.cmdline.get("fsck.repair") == Some("no"),
        };
        let Self { journal, watchdog, .. } = self;
        check(sysroot, device, policy, deadline, journal, &mut pings(watchdog))
    }

    pub(crate) fn run_stage(&mut self, name: &str) {
        let Self { journal, watchdog, .. } = self;
        let step = format!("stage-{name}");
        let run = stage::run(Path::new(SYSROOT), name, STAGE_DEADLINE, journal, &mut pings(watchdog));
        match run {
            Ok(()) => self.journal.event(Event::done(step)),
            Err(error) => self.failed(&step, error),
        }
    }

    pub(crate) fn read_layout(&mut self) -> Layout {
        let dir = Path::new(paths::run::SENTINELS);
        let mut read = |name: &str| match files::read_text_if_any(&dir.join(name)) {
            Ok(text) => text,
            Err(error) => {
                self.journal.event(Event::failed("layout", in_one_line(&Error::from(error))));
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
    pub(crate) fn mount_places(
        &mut self,
        tree: &Tree,
        layout: &Layout,
        release: ReleaseId,
    ) -> Result<Option<PathBuf>, Error> {
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

    pub(crate) fn mount_volume(&mut self, tree: &Tree, volume: &Volume) -> Result<(), Error> {
        let device = self.volume_device(&volume.name).ok_or_else(|| Error::NoVolume(volume.name.to_string()))?;
        if let Checked::Bad(said) = self.check(&tree.root, &device, PERSISTENT_DEADLINE)? {
            return Err(Error::Beyond { label: volume.name.to_string(), device, said });
        }
        FileSystem::new("ext4", Access::ReadWrite).mount(&device, &tree.at(&volume.path))?;
        self.mounted(&device.display().to_string(), &volume.path, "ext4", "rw");
        Ok(())
    }

    /// A label is looked up on the own disk only; a UUID is nobody else's.
    pub(crate) fn volume_device(&self, name: &VolumeName) -> Option<PathBuf> {
        match name {
            VolumeName::Label(label) => self.own.as_ref()?.labelled(label),
            VolumeName::Uuid(uuid) => {
                let blocks = blocks::scan(Path::new("/sys")).ok()?;
                let found = blocks.into_iter().find(|block| source::ext(block).is_some_and(|ext| ext.uuid == *uuid));
                found.map(|block| block.node)
            }
        }
    }

    pub(crate) fn bind(&mut self, tree: &Tree, layout: &Layout, places: &[Place], seeds: &[Seed], release: ReleaseId) {
        if seeds.is_empty() {
            return;
        }
        let target = tree.at(&layout.target);
        let mut pings = pings(&mut self.watchdog);
        let seeded = files::make_dir(&target, 0o755).and_then(|()| seed_once(&target, seeds, release, &mut pings));
        drop(pings);
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
    pub(crate) fn give_identity(&mut self, tree: &Tree, persistent: Option<&Path>) {
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

    pub(crate) fn write_fstab(&mut self, tree: &Tree) {
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
    pub(crate) fn hand_watchdog_over(&mut self) {
        let Some(watchdog) = &self.watchdog else { return };
        let dir = Path::new("/run/systemd/system.conf.d");
        let text = format!("[Manager]\nRuntimeWatchdogSec={}s\n", watchdog.timeout.as_secs().min(60));
        let written = files::make_dir(dir, 0o755)
            .and_then(|()| files::write_whole(&dir.join("00-kairn-watchdog.conf"), text.as_bytes(), 0o644));
        if let Err(error) = written {
            self.failed("watchdog", error.into());
        }
    }
}
