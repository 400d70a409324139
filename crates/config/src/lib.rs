//! Cloud-config documents with spans: parse, classify, merge, validate, plan stages.
//!
//! Every source is parsed once into a [`Document`], whose nodes keep their places. Two things derive from the same documents:
//! the merged configuration ([`merge()`], with the origin of each value) and the plan of a stage ([`plan()`]). A fault is
//! a [`Diagnostic`] that points at file, line and column; it takes out the smallest thing that holds it, never a neighbour.
//!
//! No input makes anything here panic; sizes, depths and expansions are bounded ([`yaml::LIMITS`]).
#![forbid(unsafe_code)]

mod action;
mod classify;
mod cloud_init;
mod condition;
mod decode;
mod diagnostic;
mod difference;
mod document;
mod install;
mod key_path;
mod keys;
mod login;
mod merge;
mod node;
mod order;
mod plan;
mod reading;
mod redaction;
mod scalar;
mod settings;
mod step;
mod suggest;
mod template;
mod text;
mod user;
mod validate;
pub mod yaml;

pub use action::{
    AccountWork, Action, CommandWork, DEFAULT_ENVIRONMENT_FILE, Directory, Environment, File, FileWork, Group, Mode,
    Owner, SshKey, SystemWork, UnitVerb, UnitWork, User, Work, hostname_fault,
};
pub use condition::{Condition, FileCheck, Pattern, ServiceManager};
pub use diagnostic::{Code, Diagnostic, Error, Severity};
pub use difference::{Change, ChangeKind, diff};
pub use document::{Document, Header};
pub use install::{InstallOptions, install};
pub use key_path::{KeyPath, Step, path_text, value_at};
pub use login::{Login, Means, login};
pub use merge::{Configuration, Merged, MergedValue, merge};
pub use node::{Entry, Node, Scalar, Style, Value};
pub use plan::{PlannedStep, StagePlan, plan};
pub use redaction::{HIDDEN, redact};
pub use scalar::Resolved;
pub use settings::{Frequency, Reference, Settings};
pub use template::{Rendered, Template, TemplateError, TemplateFault, TemplateValues};
pub use text::{Content, Text};
pub use validate::{lenient, readable, strict, validate};
