//! Cloud-config documents with spans: parse, classify, merge, validate, plan stages.
//!
//! Every source is parsed once into a [`Document`], whose nodes keep their places. Two things derive from the same documents:
//! the merged configuration ([`merge()`], with the origin of each value) and the plan of a stage ([`plan()`]). A fault is
//! a [`Diagnostic`] that points at file, line and column; it takes out the smallest thing that holds it, never a neighbour.
//!
//! No input makes anything here panic; sizes, depths and expansions are bounded ([`yaml::LIMITS`]).
#![forbid(unsafe_code)]

mod action;
mod apply;
mod bundled;
mod calendar;
mod classify;
mod cloud_init;
mod cmdline;
mod condition;
mod decode;
mod diagnostic;
mod difference;
mod document;
mod install;
mod jinja;
mod key_path;
mod keys;
mod login;
mod merge;
mod mesh;
pub mod network;
mod node;
mod order;
mod packages;
mod plan;
pub mod providers;
mod reading;
mod redaction;
mod reference;
mod reset;
mod scalar;
mod schema;
mod settings;
mod sources;
mod stage;
mod step;
mod suggest;
mod template;
mod text;
mod user;
pub mod user_data;
mod validate;
pub mod yaml;

pub use action::{
    AccountWork, Action, ChosenPackage, CommandWork, Credential, DATASOURCES, DEFAULT_ENVIRONMENT_FILE,
    DEFAULT_RESOLVER_FILE, Datasource, Day, Directory, DiskName, DiskSetup, DiskShare, DiskShares, Download, DropIn,
    Entity, EntityError, EntityFields, EntityVerb, Environment, File, FileSystemKind, FileSystemSetup, FileWork,
    FirstBootOption, Git, GitLogin, Group, Growth, HostsFile, KernelModule, KeySource, Keyboard, Layout, Locale, Lock,
    MachineName, Mode, Mount, NameServers, NetworkWork, NewPartition, Number, Owner, Packages, Parameter,
    PartitionChoice, Password, PhoneHome, PhoneHomeFact, PowerCondition, PowerMode, PowerState, Resolver, SettingWork,
    ShareKind, SoftwareWork, Sourced, SshDaemon, SshKey, StorageWork, SwapFile, SwapSize, SystemWork, TableKind,
    TimeClient, TimeSync, Trust, UnitVerb, UnitWork, UnpackedImage, User, Work, hostname_fault, label_fault,
    mount_point_fault, mount_source_fault, unit_name,
};
pub use apply::{ApplyPlan, Kept, Named, Waiting, apply};
pub use cmdline::{CommandLine, cmdline};
pub use condition::{Condition, FileCheck, Pattern, ServiceManager};
pub use diagnostic::{Code, Diagnostic, Error, Severity};
pub use difference::{Change, ChangeKind, diff};
pub use document::{Document, Header};
pub use install::{InstallOptions, install, pairing_confirms};
pub use jinja::{InstanceData, render_text};
pub use key_path::{KeyPath, Step, path_text, value_at};
pub use login::{Login, Means, login};
pub use merge::{Configuration, DIRECTORIES, Merged, MergedValue, SHIPPED, Strictness, merge};
pub use mesh::{LogLevel, MeshRole, MeshSettings, Placed, ShellLending};
pub use node::{Entry, Node, Scalar, Style, Value};
pub use packages::{PackageManager, PackageWishes, Pinning, merge_world, package_fault};
pub use plan::{PlannedStep, StagePlan, plan};
pub use reading::duration;
pub use redaction::{HIDDEN, redact};
pub use reference::reference;
pub use reset::ResetOptions;
pub use scalar::Resolved;
pub use schema::schema;
pub use settings::{Frequency, Reference, Settings};
pub use sources::{Address, Remote, address, directories};
pub use stage::{FIRST_BOOT, is_in_release, is_of_operation};
pub use template::{
    Chance, Expanded, Rendered, Template, TemplateData, TemplateError, TemplateFault, TemplateValues, TemplateWarning,
};
pub use text::{Content, Text};
pub use validate::{lenient, readable, strict, validate};
