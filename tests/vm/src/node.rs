//! A machine with Kairn on it, from one boot to the next.

use crate::fault::{Fault, ensure};
use crate::registry::Registry;
use crate::world::Stage;
use kairn_host::{Finished, Runner};
use kairn_lab::{Disk, Error, Format, Key, Machine, Mark, Pattern, Running, Ssh};
use kairn_lifecycle::status::{DeploymentStatus, Status};
use kairn_lifecycle::{DeploymentState, Role, Sequence};
use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From power on or a reboot to kairn-init's first line; emulated firmware reads a kernel from a CD-ROM slowly.
pub const TO_INIT: Duration = Duration::from_secs(400);
/// From there to a system that lets us in.
pub const TO_SSH: Duration = Duration::from_secs(600);
/// A long command in the guest: an upgrade that unpacks and seals.
pub const LONG: Duration = Duration::from_secs(30 * 60);
/// From the order to shut down to the end of QEMU.
const TO_OFF: Duration = Duration::from_secs(300);
/// A boot that hangs or fails its checks is over after this time.
const TO_GIVE_UP: Duration = Duration::from_secs(20 * 60);
/// Within this time QEMU tells what happened long ago.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What the firmware says when it starts something.
const FIRMWARE: &str = "BdsDxe: ";
/// The name of what is kept of a machine that was installed.
const INSTALLED: &str = "installed";
/// Boots that a fallback may take before it is called a loop.
const BOOTS: usize = 6;

/// A running machine that is entered by ssh.
pub struct Node<'a> {
    stage: &'a Stage<'a>,
    running: Running,
    /// Where the boot that is waited for begins on the console.
    from: Mark,
    ssh: Ssh,
}

impl<'a> Node<'a> {
    /// The disk with a release to upgrade from. By its serial number: the kernel names disks in the order in which it comes to know
    /// them.
    pub const RELEASE_DISK: &'static str = "/dev/disk/by-id/virtio-release";

    /// Starts a machine; [`Self::arrive`] waits for it.
    pub fn power_on(stage: &'a Stage<'a>, machine: &Machine) -> Result<Self, Fault> {
        let running = machine.start()?;
        let ssh = running.ssh()?;
        Ok(Self { stage, running, from: Mark::default(), ssh })
    }

    /// Starts a machine and waits until it lets us in.
    pub fn start(stage: &'a Stage<'a>, machine: &Machine) -> Result<Self, Fault> {
        let mut node = Self::power_on(stage, machine)?;
        node.arrive()?;
        Ok(node)
    }

    /// Starts a machine with a medium that installs by itself, and waits for the installed system.
    pub fn start_installing(stage: &'a Stage<'a>, machine: &Machine, deadline: Duration) -> Result<Self, Fault> {
        let mut running = machine.start()?;
        let live = running.await_init(Mark::default(), TO_INIT)?;
        stage.note("the medium runs");
        Self::await_installed(stage, running, live.end, deadline)
    }

    /// Waits until the medium that a machine runs has installed it, and until what it installed has booted.
    pub fn await_installed(
        stage: &'a Stage<'a>,
        running: Running,
        since: Mark,
        deadline: Duration,
    ) -> Result<Self, Fault> {
        // Nothing is mute about an installation that writes for minutes; the firmware's next line ends it.
        let again = running.console().wait_since(since, FIRMWARE, deadline)?;
        stage.note("installed");
        let ssh = running.ssh()?;
        let mut node = Self { stage, running, from: again.end, ssh };
        node.arrive()?;
        Ok(node)
    }

    /// Starts a machine whose disk lies over that of an installed one, which has its first boot behind it.
    pub fn installed(stage: &'a Stage<'a>, name: &str, more: &[Disk]) -> Result<Self, Fault> {
        let mut node = Self::kept(stage, name, &Self::met_its_disk(stage)?, INSTALLED, more)?;
        node.arrive()?;
        Ok(node)
    }

    /// Starts a machine whose disk lies over one that was kept in a directory, with the variables of that.
    pub fn kept(stage: &'a Stage<'a>, name: &str, dir: &Path, kept: &str, more: &[Disk]) -> Result<Self, Fault> {
        let [image, variables] = files(dir, kept);
        let disk = Disk::qcow2(stage.dir.join(format!("{name}.qcow2")));
        disk.create_over(&Runner::default(), &image, Format::Qcow2, None)?;
        let mut builder = stage.machine(name).disk(disk);
        for disk in more {
            builder = builder.disk(disk.clone());
        }
        let machine = builder.create()?;
        machine.adopt_variables(&variables)?;
        Self::power_on(stage, &machine)
    }

    /// Keeps the machine's first disk and its variables in a directory, as a power cut now would leave them.
    pub fn keep(&self, dir: &Path, name: &str) -> Result<(), Fault> {
        let [image, variables] = files(dir, name);
        Ok(self.running.copy(0, &image, &variables)?)
    }

    /// Boots a disk image once, and keeps the disk and the EFI variables of that machine for all who begin with an installed one.
    fn met_its_disk(stage: &'a Stage<'a>) -> Result<PathBuf, Fault> {
        let image = stage.world.disk_image()?;
        let key = Key::new("installed").text("image", &image.to_string_lossy());
        stage.world.cache.get_or_build(&key, |dir| {
            let [image_over, variables] = files(dir, INSTALLED);
            let disk = Disk::qcow2(image_over);
            disk.create_over(&Runner::default(), &image, Format::Raw, None)?;
            let machine = stage.machine("first-boot").disk(disk).create()?;
            let node = Self::start(stage, &machine)?;
            node.expect_good(1)?;
            node.shut_down()?;
            fs::copy(machine.variables(), variables).map(drop).map_err(Fault::io("keep the variables"))
        })
    }

    /// Waits for the next kairn-init and then until the system lets us in and its start is over, health included.
    pub fn arrive(&mut self) -> Result<(), Fault> {
        self.running.await_init(self.from, TO_INIT)?;
        self.ssh = self.running.wait_ssh(TO_SSH)?;
        self.settle()
    }

    /// Waits until systemd has nothing left to start, and fails where a unit has; that health follows from it is for the caller to see.
    fn settle(&self) -> Result<(), Fault> {
        let settled = self.ssh.run_within("sudo systemctl is-system-running --wait", TO_SSH)?;
        let (name, state) = (self.running.machine().name(), settled.text());
        self.stage.note(&format!("{name}: {}", state.trim()));
        if state.trim() == "running" {
            return Ok(());
        }
        let failed = self.sh("systemctl --failed --no-legend --plain")?;
        Err(Fault::Failed(format!("{name} is {}: {failed}", state.trim())))
    }

    /// Runs a shell command that must succeed.
    pub fn sh(&self, command: &str) -> Result<String, Fault> {
        Ok(self.ssh.check(command)?.trim_end().to_owned())
    }

    /// Runs a long shell command; its status is the caller's to judge.
    pub fn long(&self, command: &str) -> Result<Finished, Fault> {
        Ok(self.ssh.run_within(command, LONG)?)
    }

    /// Returns a disk with a release that was built into a directory, to upgrade from.
    pub fn release_disk(built: &Path) -> Disk {
        Disk { read_only: true, ..Disk::raw(built.join("release.img")).serial("release") }
    }

    /// Upgrades from such a disk; how that ends is the caller's to judge.
    pub fn upgrade_from_disk(&self) -> Result<Finished, Fault> {
        let disk = Self::RELEASE_DISK;
        self.long(&format!(
            "sudo mount -o ro {disk} /mnt && sudo kairn upgrade --source release:/mnt; code=$?; sudo umount /mnt; exit $code"
        ))
    }

    /// Upgrades from an image in a registry, which must succeed.
    pub fn upgrade(&self, registry: &Registry, source: &str) -> Result<(), Fault> {
        let insecure = registry.for_machines();
        let done = self.long(&format!("sudo kairn upgrade --source {source} --allow-insecure-registry {insecure}"))?;
        ensure(done.status.success(), || format!("the upgrade failed: {}{}", done.text(), done.stderr))?;
        self.stage.note("upgraded");
        Ok(())
    }

    /// Runs a shell script with an argument as root; its status is the caller's to judge.
    pub fn script(&self, script: &str, argument: &str, deadline: Duration) -> Result<Finished, Fault> {
        Ok(self.ssh.run_with_input(&format!("sudo sh -s {argument}"), script.into(), deadline)?)
    }

    /// Reads the machine's status.
    pub fn status(&self) -> Result<Status, Fault> {
        let text = self.ssh.check("sudo kairn status --output json")?;
        serde_json::from_str(&text)
            .map_err(|error| Fault::Failed(format!("the status cannot be read: {error}: {text}")))
    }

    /// Fails unless a deployment runs and is good.
    pub fn expect_good(&self, sequence: u32) -> Result<Status, Fault> {
        let status = self.status()?;
        let sequence = Sequence(sequence);
        ensure(status.running == Role::Deployment { sequence }, || {
            format!("deployment {sequence} should run:\n{status}")
        })?;
        let state = deployment(&status, sequence).map(|found| found.state);
        ensure(state == Some(DeploymentState::Good), || format!("deployment {sequence} should be good:\n{status}"))?;
        Ok(status)
    }

    /// Reboots and waits for the system that comes.
    pub fn reboot(&mut self) -> Result<(), Fault> {
        self.order_reboot()?;
        self.arrive()
    }

    /// Runs a long command that must succeed and reboots by itself, and waits for the system that comes.
    pub fn reboot_by(&mut self, command: &str) -> Result<(), Fault> {
        self.from = self.running.console().mark();
        match self.ssh.run_within(command, LONG) {
            Ok(done) if !done.status.success() => {
                return Err(Fault::Failed(format!("`{command}` failed: {}{}", done.text(), done.stderr)));
            }
            // The connection may end before the answer comes.
            Ok(_) | Err(Error::Guest { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.arrive()
    }

    /// Reboots and waits, over failing boots, until a deployment runs; returns what each boot said about its entry.
    pub fn reboot_until(&mut self, sequence: u32) -> Result<Vec<String>, Fault> {
        self.order_reboot()?;
        self.boot_until(sequence)
    }

    /// The same for a machine that has just been powered on.
    pub fn boot_until(&mut self, sequence: u32) -> Result<Vec<String>, Fault> {
        let mut entries = Vec::new();
        let which = Regex::new(r"kairn-init: entry kairn-\S+\.conf, (?:on trial|not counted)").map_err(wrong)?;
        for boot in 1..=BOOTS {
            let firmware = self.running.console().wait_since(self.from, FIRMWARE, TO_GIVE_UP)?;
            let init = self.running.await_init(firmware.end, TO_INIT)?;
            self.from = init.end;
            let console = self.running.console();
            let entry = console.wait_since(init.end, Pattern::Regex(which.clone()), TO_INIT)?;
            self.stage.note(&format!("boot {boot}: {}", entry.line.trim()));
            entries.push(entry.text.clone());
            if entry.text.contains(&format!("kairn-{sequence}.")) || entry.text.contains(&format!("kairn-{sequence}+"))
            {
                self.ssh = self.running.wait_ssh(TO_SSH)?;
                self.settle()?;
                return Ok(entries);
            }
        }
        Err(Fault::Failed(format!("{BOOTS} boots did not lead to deployment {sequence}")))
    }

    fn order_reboot(&mut self) -> Result<(), Fault> {
        self.from = self.running.console().mark();
        match self.ssh.run("sudo systemctl reboot") {
            // The connection may end before the answer comes.
            Ok(_) | Err(Error::Guest { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Powers off by the button and waits for the end.
    pub fn shut_down(self) -> Result<(), Fault> {
        Ok(self.running.shut_down(TO_OFF)?)
    }

    /// Takes the power away. What the machine had written is in its disk and its log.
    pub fn cut_power(self) -> Result<(), Fault> {
        Ok(self.running.quit()?)
    }

    /// Waits for something on the console since the last boot began.
    pub fn says(&self, pattern: &str, deadline: Duration) -> Result<String, Fault> {
        let pattern = Pattern::Regex(Regex::new(pattern).map_err(wrong)?);
        Ok(self.running.console().wait_since(self.from, pattern, deadline)?.text)
    }

    /// Says whether a text has come on the console since power on.
    pub fn has_said(&self, text: &str) -> bool {
        self.running.console().text().contains(text)
    }

    /// Returns how often the machine was started anew since it was mute; each time may have cost an entry one of its tries.
    pub fn restarts(&self) -> usize {
        self.running.restarts()
    }

    /// Counts how often the machine's watchdog fired since this was asked before.
    pub fn watchdogs(&mut self) -> Result<usize, Fault> {
        let mut fired = 0;
        while self.running.wait_event(&["WATCHDOG"], AT_ONCE)?.is_some() {
            fired += 1;
        }
        Ok(fired)
    }

    /// Lets the machine run on; returns it with the command that enters it.
    pub fn detach(self) -> (Machine, Vec<String>) {
        let session = self.ssh.session(&[]);
        (self.running.detach(), session)
    }

    /// Returns what tells this machine from others and must stay over reboots.
    pub fn identity(&self) -> Result<Identity, Fault> {
        Ok(Identity {
            machine_id: self.sh("cat /etc/machine-id")?,
            host_key: self.sh("cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2")?,
            disk: self.sh(&format!("sudo blkid -p -s PTUUID -o value {}", self.status()?.disk))?,
        })
    }
}

/// What tells a machine from others.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of /etc/machine-id.
    pub machine_id: String,
    /// The public half of sshd's key.
    pub host_key: String,
    /// The GUID of its partition table.
    pub disk: String,
}

/// Finds a deployment in a status.
pub fn deployment(status: &Status, sequence: Sequence) -> Option<&DeploymentStatus> {
    status.deployments.iter().find(|found| found.sequence == sequence)
}

/// Makes a fault of an error that is a mistake of ours.
pub fn wrong(error: impl std::fmt::Display) -> Fault {
    Fault::Failed(error.to_string())
}

/// Image and variables of a machine that is kept in a directory under a name.
fn files(dir: &Path, name: &str) -> [PathBuf; 2] {
    [format!("{name}.qcow2"), format!("{name}.fd")].map(|file| dir.join(file))
}

/// Exports a disk of a machine that is off as a raw image.
pub fn export(disk: &Disk, to: &Path) -> Result<(), Fault> {
    if to.exists() {
        fs::remove_file(to).map_err(Fault::io("remove an old export"))?;
    }
    Ok(disk.export_raw(&Runner::default(), to)?)
}
