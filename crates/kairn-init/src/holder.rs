//! The file system that holds the release, and this boot's record on STATE.

use crate::attempts::{AttemptFile, History, ThisBoot, judge};
use crate::boot::Boot;
use crate::{Error, esp};
use kairn_host::mount::{self, Access, FileSystem};
use kairn_host::{Clock, Error as HostError, SystemClock, files};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::attempt::Verdict;
use kairn_lifecycle::{BootReport, Counter, EntryName, ReleaseId, Role, Sequence};
use kairn_report::{Event, Sink};
use std::path::{Path, PathBuf};

const STATE_FOR_RECOVERY: &str = "/run/kairn-state";

impl Boot {
    /// Mounts the file system that holds the release and returns where. STATE is writable until the boot hands over.
    pub(crate) fn mount_holder(&mut self, medium: Option<PathBuf>) -> Result<PathBuf, Error> {
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
    pub(crate) fn open_attempt(&mut self, release: ReleaseId) -> Option<PathBuf> {
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

    pub(crate) fn mount_state(&mut self) -> Result<PathBuf, Error> {
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
    pub(crate) fn act_on_history(&mut self, history: History, sequence: Sequence) {
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

    /// Closes the record, makes the release's file system read-only, and leaves the report.
    pub(crate) fn leave(&mut self, release: ReleaseId, disk: &Path, state: Option<PathBuf>) -> Result<(), Error> {
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
}
