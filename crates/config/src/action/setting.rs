//! What top-level keys of cloud-init set on the machine.

use crate::{Template, Text};
use kairn_report::Secret;
use serde::Serialize;
use std::path::PathBuf;

/// A setting of the machine that cloud-init has a key for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingWork {
    /// The machine is called so, and `/etc/hosts` knows it.
    Name(MachineName),
    /// Names are resolved so.
    NameServers(NameServers),
    /// Local time is that of this zone of the tz database, such as `Europe/Berlin`.
    TimeZone(String),
    /// The time comes from there.
    TimeSync(TimeSync),
    /// Programs speak this language.
    Locale(Locale),
    /// The keyboard of the console is laid out so.
    Keyboard(Keyboard),
    /// These certificates are trusted.
    Trust(Trust),
    /// The console shows this text.
    Message(Text),
    /// An address is told that the machine is up.
    PhoneHome(PhoneHome),
    /// The machine goes down.
    Power(PowerState),
}

/// The names of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineName {
    /// Its short name; the first part of `fqdn`, or the name that it has, when absent.
    pub hostname: Option<Template>,
    /// Its name with its domain.
    pub fqdn: Option<Template>,
    /// The kernel is told the name with its domain.
    pub prefer_fqdn: bool,
    /// The kernel's name and `/etc/hostname` stay as they are.
    pub preserve: bool,
    /// What becomes of `/etc/hosts`.
    pub hosts: HostsFile,
}

/// What becomes of `/etc/hosts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostsFile {
    /// When the name is set, the line of 127.0.1.1 has it.
    Follows,
    /// The line of 127.0.1.1 has both names, whether the name is set or not.
    Line,
    /// The whole file is written.
    Whole,
}

/// How names are resolved (resolv.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameServers {
    /// Addresses of servers.
    pub servers: Vec<String>,
    /// Domains in which a bare name is looked for.
    pub search: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Networks by which addresses are sorted.
    pub sort: Vec<String>,
    /// Options, as they stand in the file.
    pub options: Vec<String>,
}

/// Where the time comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimeSync {
    /// The program that is to do it; the one that is there when absent.
    pub client: Option<TimeClient>,
    /// Servers.
    pub servers: Vec<String>,
    /// Names that stand for many servers.
    pub pools: Vec<String>,
    /// Machines that this one and each other tell the time.
    pub peers: Vec<String>,
    /// Networks that may ask this machine.
    pub allow: Vec<String>,
}

/// A program that keeps the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeClient {
    /// chrony.
    Chrony,
    /// systemd-timesyncd.
    Timesyncd,
}

/// The language that programs speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Locale {
    /// Such as `de_DE.UTF-8`.
    pub name: String,
    /// The file that says so; that of the distribution when absent.
    pub file: Option<PathBuf>,
}

/// How a keyboard is laid out (keyboard(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keyboard {
    /// The layout.
    pub layout: String,
    /// The model.
    pub model: String,
    /// The variant of the layout; may be empty.
    pub variant: String,
    /// Options; may be empty.
    pub options: String,
}

/// Which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// Those of the distribution are not.
    pub remove_defaults: bool,
    /// Certificates in PEM, each with a line break at its end.
    pub trusted: Vec<String>,
}

/// What is told to whom when the machine is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhoneHome {
    /// The address; `$INSTANCE_ID` in it stands for the instance. It may hold a password or a token.
    pub url: Secret<String>,
    /// What is posted.
    pub facts: Vec<PhoneHomeFact>,
    /// How often it is tried.
    pub tries: u32,
}

/// Something that is told of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneHomeFact {
    /// Its own public key of ssh, of this kind.
    HostKey(&'static str),
    /// The instance, as a datasource names it.
    InstanceId,
    /// Its name.
    Hostname,
    /// Its name with its domain.
    Fqdn,
}

impl PhoneHomeFact {
    /// All of them, in cloud-init's order.
    pub const ALL: [Self; 6] = [
        Self::HostKey("rsa"),
        Self::HostKey("ecdsa"),
        Self::HostKey("ed25519"),
        Self::InstanceId,
        Self::Hostname,
        Self::Fqdn,
    ];

    /// Returns the name by which it is wished for and posted.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::HostKey(kind) => format!("pub_key_{kind}"),
            Self::InstanceId => "instance_id".to_owned(),
            Self::Hostname => "hostname".to_owned(),
            Self::Fqdn => "fqdn".to_owned(),
        }
    }
}

/// How the machine goes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PowerState {
    /// What it does.
    pub mode: PowerMode,
    /// After how many minutes; 0 is at once.
    pub delay: u32,
    /// What people who are logged in are told.
    pub message: Option<String>,
    /// When it does.
    pub condition: PowerCondition,
}

/// What a machine that goes down does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerMode {
    /// It is off.
    Poweroff,
    /// It starts again.
    Reboot,
    /// It stands still.
    Halt,
}

/// When the machine goes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerCondition {
    /// Always.
    Always,
    /// When this line of the shell ends with zero.
    Shell(Text),
    /// When this program ends with zero.
    Program(Vec<Text>),
}
