//! Roles of members, for programs to read and the leader's to assign.

use super::Runner;
use crate::fault::Fault;
use crate::roles::RoleStatus;
use hyper::StatusCode;
use kairn_mesh_protocol::node::NoRole;
use kairn_mesh_protocol::{NodeId, Role};

impl Runner {
    /// The roles of all members of this node's cluster, this node among them.
    pub(crate) fn roles(&self) -> Vec<RoleStatus> {
        let roles = self.node.roles(self.now().0).into_iter();
        roles
            .filter(|(node, _)| self.node.is_mate(node))
            .map(|(node, view)| RoleStatus {
                node: node.to_string(),
                name: self.called(&node),
                role: view.role(),
                fixed: view.fixed,
                assigned: view.assigned,
                by: view.by.map(|(by, _)| by.to_string()),
                term: view.by.map(|(_, term)| term.0),
            })
            .collect()
    }

    /// Assigns a role to a member, or takes its role away.
    ///
    /// # Errors
    /// This node does not lead, or the member's configuration says otherwise.
    pub(crate) fn assign(&mut self, node: &str, role: Option<Role>) -> Result<RoleStatus, Fault> {
        let (id, now) = (self.member_called(node)?, self.now());
        self.node.assign(now, id, role).map_err(|why| fault(&why))?;
        self.keep_own();
        let assigned = role.map_or("none at all", Role::word);
        tracing::info!(node = %id.short(), role = assigned, "assigned a role");
        self.role_of(&id).ok_or_else(|| Fault::missing("the member went away"))
    }

    fn role_of(&self, id: &NodeId) -> Option<RoleStatus> {
        let text = id.to_string();
        self.roles().into_iter().find(|status| status.node == text)
    }
}

fn fault(why: &NoRole) -> Fault {
    let fault = Fault::new(StatusCode::CONFLICT, why.to_string());
    match why {
        NoRole::NoLease => fault.hint("GET /v1/leases/cluster says who does; a POST there has this node ask for it"),
        NoRole::TooEarly => fault.hint("that takes a few seconds after a start: try again"),
        NoRole::Fixed { .. } => fault.hint("it is `p2p.role` of that machine"),
        NoRole::Elsewhere { .. } => fault.hint("`p2p.network_id` of a machine says which cluster it is in"),
        NoRole::Stranger(_) | NoRole::Refused(_) => fault,
    }
}
