//! What the shells of this node need of it, and where another's is.

use super::Runner;
use crate::fault::Fault;
use crate::shell::Shells;
use kairn_mesh_protocol::{Moment, NodeId};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

impl Runner {
    /// The shells, and the time for their codes.
    pub(crate) fn shells(&self) -> (Arc<Shells>, Moment) {
        (Arc::clone(&self.shells), self.now().0)
    }

    /// The name of this machine.
    pub(crate) fn machine(&self) -> &str {
        &self.settings.name
    }

    /// The keys of administrators.
    pub(crate) fn administrators(&self) -> &BTreeSet<NodeId> {
        self.node.store().administrators()
    }

    /// Where a member is whose shell is wanted.
    ///
    /// # Errors
    /// No member is called so, it is this node, or nobody has said where it is.
    pub(crate) fn place_of_shell(&self, node: &str) -> Result<(NodeId, Vec<SocketAddr>), Fault> {
        let id = self.member_called(node)?;
        if id == self.node.id() {
            return Err(Fault::wrong(format!("{} is this node itself", id.short())));
        }
        let addresses = self.ways_to(&id);
        if addresses.is_empty() {
            return Err(Fault::missing(format!("nobody has said where node {} is", id.short())));
        }
        Ok((id, addresses))
    }
}
