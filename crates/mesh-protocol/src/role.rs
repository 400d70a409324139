//! What a machine is in the clusters that are built on the mesh.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A role: fixed by the machine's configuration (`p2p.role`), or assigned by whoever leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is in the control plane.
    Master,
    /// It runs what the masters give it.
    Worker,
    /// It takes no part.
    None,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Master, Self::Worker, Self::None];

    /// The word for it, as in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Worker => "worker",
            Self::None => "none",
        }
    }

    /// The byte that stands for a fixed role, or for none, in what is signed and proven.
    pub(crate) const fn byte(role: Option<Self>) -> u8 {
        match role {
            None => 0,
            Some(Self::Master) => 1,
            Some(Self::Worker) => 2,
            Some(Self::None) => 3,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A text that is no role.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no role: there are `master`, `worker` and `none`")]
pub struct ParseRoleError(String);

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let role = Self::ALL.into_iter().find(|role| role.word() == text);
        role.ok_or_else(|| ParseRoleError(text.escape_debug().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_is_written_and_nothing_else_is_one() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_ne!(Role::byte(Some(role)), Role::byte(None));
        }
        for text in ["", "Master", "auto", "\u{1b}[2J"] {
            let error = text.parse::<Role>().unwrap_err().to_string();
            assert!(error.contains("there are `master`") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
