//! A machine while it runs.

use crate::command::file;
use crate::console::{Console, Mark, Seen};
use crate::machine::LastStart;
use crate::process::Process;
use crate::processors;
use crate::qmp::{Qmp, QmpEvent};
use crate::{Accel, Disk, Error, Layer, Machine, Protocol, Ssh};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the guest reaches the loopback of the host, e.g. a registry on it.
pub const HOST_ADDRESS: &str = "10.0.2.2";
/// The first line that kairn-init writes.
pub const INIT_STARTS: &str = "kairn-init: start";
/// A guest that gives no byte for so long before [`INIT_STARTS`] is mute: QEMU without hardware help loses a timer now and then.
pub const MUTE_LIMIT: Duration = Duration::from_secs(120);
/// Within this time a killed QEMU is gone.
const GONE: Duration = Duration::from_secs(30);

/// A running machine. One that [`Machine::start`] returned loses its power when this value is dropped.
#[derive(Debug)]
pub struct Running {
    machine: Machine,
    process: Process,
    console: Console,
    /// The connection for events; made at the start, so that no event is lost.
    events: Option<Qmp>,
    ports: BTreeMap<(Protocol, u16), u16>,
    accel: Accel,
    owned: bool,
    /// How often it was started anew since it was mute.
    restarts: usize,
}

impl Running {
    pub(crate) fn own(machine: Machine, process: Process, console_from: u64, accel: Accel) -> Result<Self, Error> {
        let handle = process.duplicate().map_err(Error::path("watch", machine.dir()));
        let followed =
            handle.and_then(|handle| Console::follow(machine.name(), machine.dir(), console_from, Some(handle)));
        let console = match followed {
            Ok(console) => console,
            // Nobody would own it.
            Err(error) => {
                let errors = [Some(error), process.signal(Signal::KILL).err()].into_iter().flatten().collect();
                return Err(Error::Several(errors));
            }
        };
        let mut running = Self::new(machine, process, console, accel, true);
        running.get_acquainted(VecDeque::new())?;
        Ok(running)
    }

    /// Begins to take its events, behind those that came before, and asks which ports lead to it.
    fn get_acquainted(&mut self, before: VecDeque<QmpEvent>) -> Result<(), Error> {
        self.events = Some(Qmp::connect(self.machine.dir(), file::EVENTS)?.after(before));
        self.ports = self.forwards()?;
        Ok(())
    }

    pub(crate) fn attach(machine: Machine, process: Process, start: &LastStart) -> Result<Self, Error> {
        let handle = process.duplicate().map_err(Error::path("watch", machine.dir()))?;
        let console = Console::follow(machine.name(), machine.dir(), start.console_from, Some(handle))?;
        let mut running = Self::new(machine, process, console, start.accel, false);
        running.ports = running.forwards()?;
        Ok(running)
    }

    fn new(machine: Machine, process: Process, console: Console, accel: Accel, owned: bool) -> Self {
        Self { machine, process, console, events: None, ports: BTreeMap::new(), accel, owned, restarts: 0 }
    }

    /// Returns the machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the serial console.
    #[must_use]
    pub const fn console(&self) -> &Console {
        &self.console
    }

    /// Tells with what it runs.
    #[must_use]
    pub const fn accel(&self) -> Accel {
        self.accel
    }

    /// Returns QEMU's process id.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Connects to the monitor; QEMU serves one connection at a time.
    ///
    /// # Errors
    /// QEMU has ended or another one is connected.
    pub fn qmp(&self) -> Result<Qmp, Error> {
        Qmp::connect(self.machine.dir(), file::QMP)
    }

    /// Waits for an event of QEMU, e.g. `RESET`, `SHUTDOWN`, `WATCHDOG`; `None` when the deadline passed. For the owner, events
    /// since the start count; each is seen once.
    ///
    /// # Errors
    /// QEMU ended.
    pub fn wait_event(&mut self, names: &[&str], deadline: Duration) -> Result<Option<QmpEvent>, Error> {
        let mut events = match self.events.take() {
            Some(events) => events,
            None => Qmp::connect(self.machine.dir(), file::EVENTS)?,
        };
        let event = events.wait_event(names, deadline);
        self.events = Some(events);
        event
    }

    /// Returns the port on the host's loopback that leads to a port of the guest.
    #[must_use]
    pub fn port(&self, protocol: Protocol, guest: u16) -> Option<u16> {
        self.ports.get(&(protocol, guest)).copied()
    }

    /// Resets it, as the button would.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn reset(&self) -> Result<(), Error> {
        self.qmp()?.execute("system_reset", Value::Null).map(drop)
    }

    /// Takes the power away and gives it again: another QEMU has the machine's disks and variables. Places of the console stay valid and
    /// events that nobody took are kept; other ports of the host lead to the guest unless the description says which.
    ///
    /// # Errors
    /// The one QEMU does not end or the other one does not start.
    pub fn power_cycle(&mut self) -> Result<(), Error> {
        let owned = self.owned;
        let unseen = self.events.take().map_or_else(|| Ok(VecDeque::new()), Qmp::into_events)?;
        if let Err(error) = self.end() {
            tracing::warn!(machine = self.machine.name(), %error, "QEMU does not end in order; it is killed");
            self.kill()?;
        }
        if !self.console.wait_end(GONE) {
            return Err(Error::NotEnded { what: "the console's reader to end with QEMU".into(), deadline: GONE });
        }
        let (process, console_from, accel) = self.machine.launch()?;
        // Before anything fails, so that it has an owner.
        (self.process, self.accel, self.owned) = (process, accel, owned);
        let handle = self.process.duplicate().map_err(Error::path("watch", self.machine.dir()))?;
        self.console = self.console.follow_next(console_from, handle)?;
        self.get_acquainted(unseen)
    }

    /// Pulls out a disk by its place in the description; on USB at once, on other buses the guest must play along.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn unplug(&self, disk: usize) -> Result<(), Error> {
        self.qmp()?.execute("device_del", json!({"id": format!("device{disk}")})).map(drop)
    }

    /// Takes the disc out of a CD-ROM drive by its place in the description, locked or not.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn eject(&self, disk: usize) -> Result<(), Error> {
        let id = format!("device{disk}");
        let mut qmp = self.qmp()?;
        qmp.execute("blockdev-open-tray", json!({"id": id, "force": true}))?;
        qmp.execute("blockdev-remove-medium", json!({"id": id})).map(drop)
    }

    /// Copies a disk by its place in the description and the EFI variables, as they would be after a power cut at this moment; the
    /// guest stands still meanwhile.
    ///
    /// # Errors
    /// There is no such disk, QEMU does not answer, or a copy cannot be written.
    pub fn copy(&self, disk: usize, image: &Path, variables: &Path) -> Result<(), Error> {
        let described = self.machine.spec().disks.get(disk).ok_or_else(|| Error::Spec {
            machine: self.machine.name().into(),
            reason: format!("it has no disk {disk}"),
        })?;
        let mut qmp = self.qmp()?;
        // QEMU writes to the image then what it holds of it.
        qmp.execute("stop", Value::Null)?;
        let own = self.machine.variables();
        let copies = [(&described.image, image), (&own, variables)];
        let copied = copies.map(|(from, to)| fs::copy(from, to).map_err(Error::path("copy", from)).err());
        let goes_on = qmp.execute("cont", Value::Null).err();
        Error::collect(copied.into_iter().flatten().chain(goes_on).collect())
    }

    /// Waits for the first line of kairn-init after a place. A guest that is mute before that is started anew once, by another QEMU,
    /// and counted; the line must come then within the same deadline counted anew. One that is mute for what its disks hold stays so.
    ///
    /// # Errors
    /// The line did not come, QEMU ended, or the guest was mute twice.
    pub fn await_init(&mut self, from: Mark, deadline: Duration) -> Result<Seen, Error> {
        if let Some(tally) = self.machine.tally() {
            tally.boot(self.machine.name())?;
        }
        match self.search_init(from, deadline) {
            Err(mute @ Error::Mute { .. }) => {
                tracing::warn!(error = %mute, "a mute guest is started anew once");
                if let Some(tally) = self.machine.tally() {
                    tally.retry(self.machine.name())?;
                }
                self.restarts += 1;
                // Another QEMU would begin another log of writes.
                let logs = |disk: &Disk| matches!(disk.layer, Some(Layer::LogWrites { .. }));
                if self.machine.spec().disks.iter().any(logs) {
                    self.reset()?
                } else {
                    self.power_cycle()?
                }
                self.search_init(from, deadline)
            }
            answer => answer,
        }
    }

    /// Waits for that line once. Of a mute guest it says where its processors stand, and records more of them.
    fn search_init(&self, from: Mark, deadline: Duration) -> Result<Seen, Error> {
        let found = self.console.search(from, &[INIT_STARTS.into()], deadline, Some(self.machine.mute_limit()));
        let Err(Error::Mute { machine, what, limit, tail, .. }) = found else { return found };
        let processors = self.record_processors().unwrap_or_else(|error| format!("  | not seen: {error}"));
        Err(Error::Mute { machine, what, limit, processors, tail })
    }

    /// Writes what QEMU tells of the processors behind what was recorded before; returns where they stand.
    fn record_processors(&self) -> Result<String, Error> {
        let sight = processors::look(&mut self.qmp()?)?;
        let path = self.machine.dir().join(file::PROCESSORS);
        let mut log = File::options().create(true).append(true).open(&path).map_err(Error::path("open", &path))?;
        log.write_all(sight.record.as_bytes()).map_err(Error::path("write", &path))?;
        Ok(sight.summary)
    }

    /// Returns how often it was started anew since it was mute. Each may have cost the entry that was booted one of its tries.
    #[must_use]
    pub const fn restarts(&self) -> usize {
        self.restarts
    }

    /// Returns ssh into the guest as the machine's user.
    ///
    /// # Errors
    /// The machine forwards no ssh port, or has no key.
    pub fn ssh(&self) -> Result<Ssh, Error> {
        let port = self.port(Protocol::Tcp, 22).ok_or_else(|| Error::Spec {
            machine: self.machine.name().into(),
            reason: "no port of the host leads to its ssh".into(),
        })?;
        let (name, user) = (self.machine.name(), &self.machine.spec().user);
        let ssh = Ssh::new(name, port, self.machine.key()?, user, self.machine.runner().clone());
        Ok(ssh.keeping(self.machine.dir().join(file::SSH)))
    }

    /// Waits until the guest lets us in by ssh.
    ///
    /// A connection that is refused tells nobody when it would be accepted, so there is no event to wait for: it is tried again
    /// after half a second, until the deadline or QEMU's end.
    ///
    /// # Errors
    /// It did not in time; the error holds the last reason.
    pub fn wait_ssh(&self, deadline: Duration) -> Result<Ssh, Error> {
        let ssh = self.ssh()?;
        let end = Instant::now() + deadline;
        loop {
            let last = match ssh.attempt() {
                Ok(()) => return Ok(ssh),
                Err(reason) => reason?,
            };
            let machine = self.machine.name().to_owned();
            if Instant::now() >= end {
                return Err(Error::NoSsh { machine, port: ssh.port(), deadline, last });
            }
            if self.console.wait_end(Duration::from_millis(500)) {
                return Err(Error::Ended { machine, what: "ssh".into(), tail: last });
            }
        }
    }

    /// Waits until QEMU ends by itself, e.g. since the guest powered off.
    ///
    /// # Errors
    /// It did not in time.
    pub fn wait_exit(&self, deadline: Duration) -> Result<(), Error> {
        if self.process.wait(deadline)? {
            return Ok(());
        }
        Err(Error::NotEnded { what: format!("the end of lab machine `{}`", self.machine.name()), deadline })
    }

    /// Presses the power button and waits until the guest has powered off; past the deadline the power is cut and that is an
    /// error.
    ///
    /// # Errors
    /// The guest did not power off in time.
    pub fn shut_down(mut self, deadline: Duration) -> Result<(), Error> {
        self.qmp()?.execute("system_powerdown", Value::Null)?;
        let ended = self.wait_exit(deadline);
        let mut errors: Vec<Error> = ended.err().into_iter().collect();
        errors.extend(self.kill().err());
        Error::collect(errors)
    }

    /// Ends QEMU in order, without asking the guest: what the guest wrote reaches the images, also their logs of writes.
    ///
    /// # Errors
    /// QEMU did not end.
    pub fn quit(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        // QEMU may close the connection before the answer is read; its end is what counts.
        let asked = self.qmp()?.execute("quit", Value::Null);
        match self.wait_exit(GONE) {
            Ok(()) => {
                self.owned = false;
                Ok(())
            }
            Err(error) => Err(asked.err().unwrap_or(error)),
        }
    }

    /// Cuts the power: QEMU is killed, and what it had not yet written to the images is lost.
    ///
    /// # Errors
    /// QEMU could not be killed.
    pub fn cut_power(mut self) -> Result<(), Error> {
        self.kill()
    }

    /// Lets it run on without us.
    #[must_use = "the machine runs on; its directory leads to it"]
    pub fn detach(mut self) -> Machine {
        self.owned = false;
        self.machine.clone()
    }

    fn kill(&mut self) -> Result<(), Error> {
        self.owned = false;
        self.process.signal(Signal::KILL)?;
        self.wait_exit(GONE)
    }

    /// Asks QEMU which ports it forwards: with port zero only it knows. The lines look like
    /// `TCP[HOST_FORWARD]  16  127.0.0.1 46415  10.0.2.15 22 0 0`.
    fn forwards(&self) -> Result<BTreeMap<(Protocol, u16), u16>, Error> {
        if self.machine.spec().network.is_none() {
            return Ok(BTreeMap::new());
        }
        Ok(parse_forwards(&self.qmp()?.human("info usernet")?))
    }
}

fn parse_forwards(text: &str) -> BTreeMap<(Protocol, u16), u16> {
    let forward = |line: &str| {
        let (protocol, rest) = line.trim_start().split_once("[HOST_FORWARD]")?;
        let protocol = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|known| known.to_string().eq_ignore_ascii_case(protocol))?;
        let mut fields = rest.split_ascii_whitespace().skip(2);
        let host = fields.next()?.parse().ok()?;
        let guest = fields.nth(1)?.parse().ok()?;
        Some(((protocol, guest), host))
    };
    text.lines().filter_map(forward).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = self.kill()
        {
            tracing::error!(machine = self.machine.name(), %error, "the machine may still run");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_ports_are_read_from_qemus_table() {
        let table = "Hub -1 (net0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
            TCP[HOST_FORWARD]  16       127.0.0.1 46415       10.0.2.15    22     0     0\n  \
            TCP[ESTABLISHED]   20       127.0.0.1 46415       10.0.2.15    22     0     0\n  \
            TCP[HOST_FORWARD]  17       127.0.0.1  8080       10.0.2.15    80     0     0\n  \
            UDP[HOST_FORWARD]  18       127.0.0.1 41234       10.0.2.15    80     0     0\n  \
            UDP[236 sec]       23       10.0.2.15 35061       10.0.2.3     53     0     0\n";
        let [tcp, udp] = [Protocol::Tcp, Protocol::Udp];
        assert_eq!(parse_forwards(table), BTreeMap::from([((tcp, 22), 46415), ((tcp, 80), 8080), ((udp, 80), 41234)]));
    }
}
