//! What a step does, as values that an engine can carry out without looking at the document again.

mod accounts;
mod disk;
mod entity;
mod files;
mod setting;
mod software;
mod sources;
mod storage;
mod system;
mod units;

pub use accounts::{AccountWork, Credential, EntityVerb, Group, KeySource, Lock, Password, SshDaemon, SshKey, User};
pub use disk::{
    DiskName, DiskSetup, DiskShare, DiskShares, FileSystemKind, FileSystemSetup, Growth, Layout, NewPartition,
    PartitionChoice, ShareKind, TableKind, label_fault,
};
pub use entity::{Day, Entity, EntityError, EntityFields, Number};
pub use files::{DEFAULT_ENVIRONMENT_FILE, Directory, Download, Environment, File, FileWork, Mode, Owner, Sourced};
pub use setting::{
    HostsFile, Keyboard, Locale, MachineName, NameServers, PhoneHome, PhoneHomeFact, PowerCondition, PowerMode,
    PowerState, SettingWork, TimeClient, TimeSync, Trust,
};
pub use software::{ChosenPackage, Git, GitLogin, Packages, SoftwareWork, UnpackedImage};
pub use sources::{DATASOURCES, Datasource, NetworkWork};
pub use storage::{Mount, StorageWork, SwapFile, SwapSize, mount_point_fault, mount_source_fault};
pub use system::{
    DEFAULT_RESOLVER_FILE, FirstBootOption, KernelModule, Parameter, Resolver, SystemWork, hostname_fault,
};
pub use units::{DropIn, UnitVerb, UnitWork, unit_name};

use crate::Text;
use kairn_report::{Secret, Span};
use serde::Serialize;

/// One thing that a step does.
#[derive(Clone, Debug, Serialize)]
pub struct Action {
    /// What a person reads: the kind and the object, never a secret. `file /etc/motd`, `command 2`.
    pub label: String,
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub work: Work,
}

/// What an action does, by the room of the engine that does it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Something about files and directories.
    Files(FileWork),
    /// Something about users and groups.
    Accounts(AccountWork),
    /// A command runs.
    Command(CommandWork),
    /// A setting of the system.
    System(SystemWork),
    /// Something about units of systemd.
    Units(UnitWork),
    /// Something about software.
    Software(SoftwareWork),
    /// A setting that a top-level key of cloud-init makes.
    Setting(SettingWork),
    /// Something about disks, file systems and swap space.
    Storage(StorageWork),
    /// Datasources are asked who the machine is.
    Datasource(Datasource),
    /// The network is set up.
    Network(NetworkWork),
    /// Known and not done yet: to be reported as skipped, with this reason.
    NotSupported(String),
    /// Wrong in itself: to be reported as failed, with this reason.
    Invalid(String),
}

/// A command.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandWork {
    /// A line for the shell runs.
    Shell(Secret<Text>),
    /// A program runs, without a shell.
    Program(Secret<Vec<Text>>),
}
