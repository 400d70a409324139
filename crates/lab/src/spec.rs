//! The description of a machine: all that its QEMU command line depends on, kept as `machine.json` in its directory.

use crate::{Disk, Error};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What starts the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// UEFI (OVMF, 4 MiB build) with a variable store of the machine's own.
    #[default]
    Uefi,
    /// Legacy BIOS (SeaBIOS, which comes with QEMU).
    Bios,
}

/// Which instructions the guest's processors have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// All that QEMU can give.
    #[default]
    Max,
    /// Those of x86-64-v2 (System V ABI, 3.1.1), which Debian and most other distributions ask for at most. Emulated, a boot takes two
    /// thirds of the time: programs choose wider vectors where a processor has them, and those are slow to emulate.
    V2,
}

impl Model {
    /// Returns QEMU's name for it.
    pub(crate) const fn argument(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::V2 => "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand",
        }
    }
}

/// What QEMU does when the guest reboots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReboot {
    /// The guest reboots.
    #[default]
    Reset,
    /// QEMU ends, so that a test sees each boot alone.
    Exit,
}

/// What ports are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host's loopback that leads to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// What both are of.
    #[serde(default)]
    pub protocol: Protocol,
    /// Port on the host; zero lets the system choose a free one at each start.
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
}

/// An address that the guest sees, served by a program on the host: one process per connection, on its stdin and stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestForward {
    /// Address in the guest's network 10.0.2.0/24, other than .2, .3 and .15.
    pub address: Ipv4Addr,
    /// Port there.
    pub port: u16,
    /// The program with its arguments, without spaces or commas in any (QEMU splits it itself).
    pub command: String,
}

/// The guest's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Ports from the host.
    pub forwards: Vec<Forward>,
    /// Addresses served by programs on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guest_forwards: Vec<GuestForward>,
    /// The guest reaches nothing but `guest_forwards`; without it, it reaches the internet, and the host's loopback at
    /// [`crate::HOST_ADDRESS`].
    #[serde(default)]
    pub isolated: bool,
}

/// All that a machine's QEMU depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the machine: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u8,
    /// Their instructions.
    #[serde(default)]
    pub model: Model,
    /// What starts it.
    #[serde(default)]
    pub firmware: Firmware,
    /// Its disks, in the order in which they are plugged in.
    pub disks: Vec<Disk>,
    /// Its network; absent, it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// It has an i6300ESB watchdog that resets it.
    #[serde(default)]
    pub watchdog: bool,
    /// It has a TPM 2.0 (swtpm).
    #[serde(default)]
    pub tpm: bool,
    /// What a reboot does.
    #[serde(default)]
    pub on_reboot: OnReboot,
    /// Flushes of the guest reach the host's disk. Off, a killed QEMU still loses nothing, only the host's own crash would;
    /// tests run several times faster.
    #[serde(default)]
    pub durable: bool,
    /// User that ssh logs in as.
    pub user: String,
    /// Private key that ssh logs in with; absent, `id_ed25519` in the machine's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Further QEMU arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<String>,
}

impl Spec {
    /// Describes a machine with 1 GiB of memory, two processors, UEFI and a network that forwards ssh; without disks.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            memory_mib: 1024,
            cpus: 2,
            model: Model::Max,
            firmware: Firmware::Uefi,
            disks: Vec::new(),
            network: Some(Network {
                forwards: vec![Forward { protocol: Protocol::Tcp, host: 0, guest: 22 }],
                ..Network::default()
            }),
            watchdog: false,
            tpm: false,
            on_reboot: OnReboot::Reset,
            durable: false,
            user: "root".into(),
            key: None,
            extra: Vec::new(),
        }
    }

    /// Checks what QEMU would refuse late or misread.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Spec { machine: self.name.clone(), reason });
        if !valid_name(&self.name) {
            return wrong(
                "a name has 1 to 48 letters, digits, `-`, `_` or `.` and starts with a letter or digit".into(),
            );
        }
        if self.memory_mib < 128 || self.cpus == 0 {
            return wrong(format!("{} MiB and {} processors start nothing", self.memory_mib, self.cpus));
        }
        if let Some(disk) = self.disks.iter().find(|disk| !disk.image.is_absolute()) {
            return wrong(format!("the image `{}` must be an absolute path", disk.image.display()));
        }
        let ahci = |disk: &&Disk| matches!(disk.bus, crate::Bus::Ahci | crate::Bus::AhciCdrom);
        if self.disks.iter().filter(ahci).count() > 6 {
            return wrong("the AHCI controller has six ports".into());
        }
        for forward in self.network.iter().flat_map(|network| &network.guest_forwards) {
            let [a, b, c, d] = forward.address.octets();
            if [a, b, c] != [10, 0, 2] || matches!(d, 0 | 2 | 3 | 15 | 255) {
                return wrong(format!(
                    "{} cannot be served to the guest; choose a free one in 10.0.2.0/24",
                    forward.address
                ));
            }
            if forward.command.contains(',') {
                return wrong(format!("QEMU cannot run `{}`: it takes no commas", forward.command));
            }
        }
        Ok(())
    }
}

/// Says whether a name may be a directory's and a machine's.
pub(crate) fn valid_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=48).contains(&name.len()) && name.chars().all(allowed) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}
