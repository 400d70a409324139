//! Roles, as programs of the machine see them.

use kairn_mesh_protocol::Role;
use serde::{Deserialize, Serialize};

/// The role of a member of the node's cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleStatus {
    /// The node: 52 letters and digits.
    pub node: String,
    /// The name of its machine.
    pub name: String,
    /// What it is: what its configuration fixes, else what was assigned.
    pub role: Option<Role>,
    /// What its configuration fixes, by its own word.
    pub fixed: Option<Role>,
    /// What was assigned to it.
    pub assigned: Option<Role>,
    /// The leader that assigned that, or took it away.
    pub by: Option<String>,
    /// The term under which it did.
    pub term: Option<u64>,
}
