//! Whose move it is after an error, and the exit code that says so.

use serde::{Deserialize, Serialize};

/// Says whose move it is after an error; fixes the exit code of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The request was wrong: an argument, a name, a refused operation. Exit code 2.
    User,
    /// A configuration file is wrong. Exit code 3.
    Config,
    /// The machine, network or an image does not offer what is needed. Exit code 4.
    Environment,
    /// Kairn broke its own promise. Exit code 70 (`EX_SOFTWARE` of sysexits.h).
    Bug,
}

impl Kind {
    /// Returns the exit code of a program that ends with this kind of error.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::User => 2,
            Self::Config => 3,
            Self::Environment => 4,
            Self::Bug => 70,
        }
    }
}
