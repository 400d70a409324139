//! A machine as a directory: its description, variable store, logs, sockets and keys. It outlives the commands that use it.

use crate::command::{Place, arguments, file};
use crate::process::Process;
use crate::spec::Model;
use crate::{
    Accel, Disk, Error, Firmware, Forward, KeyPair, Layer, MUTE_LIMIT, Network, OnReboot, Protocol, Running, Spec,
    Tally, program, tpm,
};
use kairn_host::{Invocation, Runner};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Within this time QEMU has opened its images and left the foreground.
const START: Duration = Duration::from_secs(60);
/// File that tells about the last start.
const LAST_START: &str = "start.json";

/// A machine that can be started.
#[derive(Clone, Debug)]
pub struct Machine {
    dir: PathBuf,
    spec: Spec,
    runner: Runner,
    accel: Option<Accel>,
    tally: Option<Tally>,
    mute_limit: Duration,
}

/// What one start leaves for those who attach later.
#[derive(Serialize, Deserialize)]
pub(crate) struct LastStart {
    /// Where in the console's log it began, in bytes.
    pub(crate) console_from: u64,
    /// With what it runs.
    pub(crate) accel: Accel,
}

/// Describes a new machine step by step.
#[derive(Clone, Debug)]
pub struct Builder {
    machine: Machine,
}

impl Builder {
    /// Sets the memory in MiB.
    #[must_use]
    pub const fn memory_mib(mut self, mib: u32) -> Self {
        self.machine.spec.memory_mib = mib;
        self
    }

    /// Sets the number of processors.
    #[must_use]
    pub const fn cpus(mut self, cpus: u8) -> Self {
        self.machine.spec.cpus = cpus;
        self
    }

    /// Sets the processors' instructions.
    #[must_use]
    pub const fn model(mut self, model: Model) -> Self {
        self.machine.spec.model = model;
        self
    }

    /// Plugs in a disk after those before.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.machine.spec.disks.push(disk);
        self
    }

    /// Puts an ISO image into an AHCI CD-ROM drive.
    #[must_use]
    pub fn cdrom(self, iso: impl Into<PathBuf>) -> Self {
        self.disk(Disk::cdrom(iso))
    }

    /// Plugs in a USB stick with an image on it.
    #[must_use]
    pub fn usb_stick(self, image: impl Into<PathBuf>) -> Self {
        self.disk(Disk::usb_stick(image))
    }

    /// Chooses the firmware.
    #[must_use]
    pub const fn firmware(mut self, firmware: Firmware) -> Self {
        self.machine.spec.firmware = firmware;
        self
    }

    /// Replaces the network; `None` unplugs it.
    #[must_use]
    pub fn network(mut self, network: Option<Network>) -> Self {
        self.machine.spec.network = network;
        self
    }

    /// Forwards a port of the host's loopback to the guest; host port zero takes a free one.
    #[must_use]
    pub fn forward(mut self, protocol: Protocol, host: u16, guest: u16) -> Self {
        self.machine.spec.network.get_or_insert_default().forwards.push(Forward { protocol, host, guest });
        self
    }

    /// Adds a watchdog that resets the machine.
    #[must_use]
    pub const fn watchdog(mut self) -> Self {
        self.machine.spec.watchdog = true;
        self
    }

    /// Adds a TPM 2.0.
    #[must_use]
    pub const fn tpm(mut self) -> Self {
        self.machine.spec.tpm = true;
        self
    }

    /// Says what a reboot of the guest does.
    #[must_use]
    pub const fn on_reboot(mut self, action: OnReboot) -> Self {
        self.machine.spec.on_reboot = action;
        self
    }

    /// Sets the user that ssh logs in as.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.machine.spec.user = user.into();
        self
    }

    /// Sets the key that ssh logs in with.
    #[must_use]
    pub fn key(mut self, key: &KeyPair) -> Self {
        self.machine.spec.key = Some(key.private().to_owned());
        self
    }

    /// Adds QEMU arguments.
    #[must_use]
    pub fn extra<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.machine.spec.extra.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Chooses the accelerator instead of probing.
    #[must_use]
    pub const fn accel(mut self, accel: Accel) -> Self {
        self.machine.accel = Some(accel);
        self
    }

    /// Counts boots and restarts of mute guests.
    #[must_use]
    pub fn tally(mut self, tally: Tally) -> Self {
        self.machine.tally = Some(tally);
        self
    }

    /// Sets how long a guest may say nothing before it is mute, instead of [`MUTE_LIMIT`].
    #[must_use]
    pub const fn mute_limit(mut self, limit: Duration) -> Self {
        self.machine.mute_limit = limit;
        self
    }

    /// Runs programs through a runner with stand-ins.
    #[must_use]
    pub fn runner(mut self, runner: Runner) -> Self {
        self.machine.runner = runner;
        self
    }

    /// Makes the directory and writes the description.
    ///
    /// # Errors
    /// The description is wrong, the directory holds another machine, or it cannot be written.
    pub fn create(self) -> Result<Machine, Error> {
        let Machine { spec, dir, .. } = &self.machine;
        spec.check()?;
        fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
        let dir = dir.canonicalize().map_err(Error::path("find", dir))?;
        let path = dir.join(file::SPEC);
        let text =
            serde_json::to_string_pretty(spec).map_err(|source| Error::Description { path: path.clone(), source })?;
        let mut file = File::create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { name: spec.name.clone() },
            _ => Error::path("create", &path)(error),
        })?;
        file.write_all(format!("{text}\n").as_bytes()).map_err(Error::path("write", &path))?;
        Ok(Machine { dir, ..self.machine })
    }
}

impl Machine {
    /// Begins to describe a machine that lives in a directory of its own.
    #[must_use]
    pub fn builder(name: impl Into<String>, dir: impl Into<PathBuf>) -> Builder {
        Self::from_spec(Spec::new(name), dir)
    }

    fn new(dir: PathBuf, spec: Spec) -> Self {
        Self { dir, spec, runner: Runner::default(), accel: None, tally: None, mute_limit: MUTE_LIMIT }
    }

    /// Begins with a description.
    #[must_use]
    pub fn from_spec(spec: Spec, dir: impl Into<PathBuf>) -> Builder {
        let machine = Self::new(dir.into(), spec);
        Builder { machine }
    }

    /// Opens the machine that lives in a directory.
    ///
    /// # Errors
    /// There is none, or its description is of another version.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(file::SPEC);
        let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
        let spec = serde_json::from_str(&text).map_err(|source| Error::Description { path, source })?;
        let dir = dir.canonicalize().map_err(Error::path("find", dir))?;
        Ok(Self::new(dir, spec))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Returns its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns its description.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the log of its serial console, over all boots.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.dir.join(file::CONSOLE_LOG)
    }

    pub(crate) const fn runner(&self) -> &Runner {
        &self.runner
    }

    pub(crate) const fn mute_limit(&self) -> Duration {
        self.mute_limit
    }

    pub(crate) const fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Returns its key pair for ssh, making it when it has none yet.
    ///
    /// # Errors
    /// `ssh-keygen` is missing or failed.
    pub fn key(&self) -> Result<KeyPair, Error> {
        match &self.spec.key {
            Some(private) => Ok(KeyPair::at(private)),
            None => KeyPair::in_dir(&self.dir, &self.runner),
        }
    }

    /// Changes the description of a machine that does not run, e.g. to pull the installation medium; what was there before
    /// counts no more from the next start on.
    ///
    /// # Errors
    /// It runs, the new description is wrong, or it cannot be written.
    pub fn change(&mut self, change: impl FnOnce(&mut Spec)) -> Result<(), Error> {
        self.refuse_running()?;
        let mut spec = self.spec.clone();
        change(&mut spec);
        spec.check()?;
        write_json(&self.dir, file::SPEC, &spec)?;
        self.spec = spec;
        Ok(())
    }

    /// Forgets all EFI variables, as a new board would have none.
    ///
    /// # Errors
    /// It runs, or the store cannot be removed.
    pub fn forget_variables(&self) -> Result<(), Error> {
        self.refuse_running()?;
        let path = self.dir.join(file::VARS);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Returns its store of EFI variables; it exists once the machine was started.
    #[must_use]
    pub fn variables(&self) -> PathBuf {
        self.dir.join(file::VARS)
    }

    /// Gives it the EFI variables of another machine, e.g. of the one whose disk it got.
    ///
    /// # Errors
    /// It runs, or the store cannot be copied.
    pub fn adopt_variables(&self, from: &Path) -> Result<(), Error> {
        self.refuse_running()?;
        fs::copy(from, self.variables()).map(drop).map_err(Error::path("copy", from))
    }

    /// Finds its QEMU, when it runs.
    pub(crate) fn process(&self) -> Result<Option<Process>, Error> {
        let pid_file = self.dir.join(file::PID);
        Process::find(&pid_file, &pid_file.to_string_lossy())
    }

    /// Starts it. QEMU runs detached; dropping the returned value cuts its power unless [`Running::detach`] is called.
    ///
    /// # Errors
    /// It runs already, a program or package is missing, or QEMU refused the description.
    pub fn start(&self) -> Result<Running, Error> {
        let (process, console_from, accel) = self.launch()?;
        Running::own(self.clone(), process, console_from, accel)
    }

    /// Starts its QEMU; returns that with the offset in bytes at which its console begins in the log.
    pub(crate) fn launch(&self) -> Result<(Process, u64, Accel), Error> {
        self.refuse_running()?;
        let accel = match self.accel {
            Some(accel) => accel,
            None => Accel::detect(&self.runner)?,
        };
        let uefi = self.prepare_firmware()?;
        for disk in &self.spec.disks {
            if let Some(Layer::LogWrites { log }) = &disk.layer {
                File::create(log).map_err(Error::path("create", log))?;
            }
        }
        let console = self.console_log();
        let log = File::options().create(true).append(true).open(&console).map_err(Error::path("open", &console))?;
        let console_from = log.metadata().map_err(Error::path("read", &console))?.len();
        if self.spec.tpm {
            tpm::start(&self.dir, &self.runner)?;
        }
        let place = Place { dir: self.dir.clone(), accel, uefi };
        let qemu = Invocation::new(program::QEMU).args(arguments(&self.spec, &place)).dir(&self.dir).deadline(START);
        // First, so that nothing but QEMU itself can fail once it runs.
        write_json(&self.dir, LAST_START, &LastStart { console_from, accel })?;
        self.runner.run(&qemu).map_err(Error::from_run)?;
        let process = self.process()?.ok_or_else(|| Error::NotRunning { name: self.spec.name.clone() })?;
        Ok((process, console_from, accel))
    }

    /// Attaches to it when it runs; dropping the returned value leaves it running.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn running(&self) -> Result<Option<Running>, Error> {
        let Some(process) = self.process()? else { return Ok(None) };
        let path = self.dir.join(LAST_START);
        let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
        let start: LastStart = serde_json::from_str(&text).map_err(|source| Error::Description { path, source })?;
        Running::attach(self.clone(), process, &start).map(Some)
    }

    fn refuse_running(&self) -> Result<(), Error> {
        match self.process()? {
            Some(process) => Err(Error::Running { name: self.spec.name.clone(), pid: process.pid() }),
            None => Ok(()),
        }
    }

    /// Returns the UEFI code and puts an empty variable store in place when the machine has none yet.
    fn prepare_firmware(&self) -> Result<Option<PathBuf>, Error> {
        if self.spec.firmware == Firmware::Bios {
            return Ok(None);
        }
        let (code, vars) = program::ovmf()?;
        let own = self.dir.join(file::VARS);
        if !own.exists() {
            fs::copy(&vars, &own).map_err(Error::path("create", &own))?;
        }
        Ok(Some(code))
    }
}

/// Writes a JSON file under a temporary name and renames it.
fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), Error> {
    let path = dir.join(name);
    let text =
        serde_json::to_string_pretty(value).map_err(|source| Error::Description { path: path.clone(), source })?;
    let temporary = dir.join(format!("{name}.new"));
    fs::write(&temporary, format!("{text}\n")).map_err(Error::path("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(Error::path("rename", &temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_again_as_it_was_described() {
        let dir = tempfile::tempdir().unwrap();
        let made = Machine::builder("m1", dir.path().join("m1")).memory_mib(512).watchdog().create().unwrap();
        assert_eq!(Machine::open(made.dir()).unwrap().spec(), made.spec());
        let again = Machine::builder("m1", dir.path().join("m1")).create();
        assert!(matches!(again, Err(Error::Exists { name }) if name == "m1"));
    }

    #[test]
    fn a_description_changes_only_when_it_stays_right() {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine::builder("m", dir.path()).create().unwrap();
        assert!(machine.change(|spec| spec.cpus = 0).is_err());
        machine.change(|spec| spec.cpus = 4).unwrap();
        assert_eq!(Machine::open(dir.path()).unwrap().spec().cpus, 4);
    }

    #[test]
    fn a_missing_qemu_is_named_with_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let runner = Runner { overrides: [(program::QEMU.to_owned(), dir.path().join("absent"))].into() };
        let machine = Machine::builder("m", dir.path().join("m"))
            .firmware(Firmware::Bios)
            .accel(Accel::Tcg)
            .runner(runner)
            .create()
            .unwrap();
        let error = machine.start().map(drop).unwrap_err();
        assert!(matches!(error, Error::NoPackage { package: "qemu-system-x86", .. }), "{error}");
    }
}
