//! What must hold for a step to run.

use crate::Text;
use serde::Serialize;
use std::fmt;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The host name matches.
    Node(Pattern),
    /// The distribution's pretty name (os-release(5)) matches.
    OnlyOs(Pattern),
    /// The distribution's version matches.
    OnlyOsVersion(Pattern),
    /// The architecture matches: `amd64`, `arm64`, `riscv64`.
    OnlyArch(Pattern),
    /// This is what starts services, and the other is not there.
    OnlyServiceManager(ServiceManager),
    /// Files are there, or are not.
    Files {
        /// Which of them.
        check: FileCheck,
        /// Their paths.
        paths: Vec<String>,
    },
    /// `sh -c` of this exits with zero.
    If(Text),
    /// Never: it cannot be evaluated, for this reason.
    Unmet(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(pattern) => write!(f, "if the host name matches `{}`", pattern.as_str()),
            Self::OnlyOs(pattern) => write!(f, "if the distribution matches `{}`", pattern.as_str()),
            Self::OnlyOsVersion(pattern) => write!(f, "if the distribution's version matches `{}`", pattern.as_str()),
            Self::OnlyArch(pattern) => write!(f, "if the architecture matches `{}`", pattern.as_str()),
            Self::OnlyServiceManager(ServiceManager::Systemd) => f.write_str("if systemd starts services"),
            Self::OnlyServiceManager(ServiceManager::OpenRc) => f.write_str("if OpenRC starts services"),
            Self::Files { check, paths } => {
                let check = match check {
                    FileCheck::Any => "any",
                    FileCheck::All => "all",
                    FileCheck::None => "none",
                };
                write!(f, "if {check} of these files is there: {}", paths.join(", "))
            }
            Self::If(line) => write!(f, "if {}", line.source()),
            Self::Unmet(why) => write!(f, "never: {why}"),
        }
    }
}

/// What starts services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceManager {
    /// systemd.
    Systemd,
    /// OpenRC.
    OpenRc,
}

/// How many of a list of files must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileCheck {
    /// At least one.
    Any,
    /// Every one.
    All,
    /// None.
    None,
}

/// A regular expression, known to be one. It matches anywhere in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a regular expression.
    ///
    /// # Errors
    /// It is none; the sentence says why.
    pub fn parse(text: &str) -> Result<Self, String> {
        match regex_syntax::ast::parse::Parser::new().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(error.kind().to_string()),
        }
    }

    /// Returns its source.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
