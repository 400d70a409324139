//! Which cluster of the mesh a node belongs to, and who belongs to it beside it.

use super::Node;
use crate::cluster::ClusterName;
use crate::identity::NodeId;
use std::collections::BTreeSet;

impl Node {
    /// Puts the node into a cluster, as its configuration says, before it introduces itself and takes part in ballots.
    pub fn join_cluster(&mut self, cluster: ClusterName) {
        self.cluster = cluster;
    }

    /// A record of a member is new: it may have come over from another cluster.
    pub(super) fn record_came(&mut self) {
        if let Some(ballots) = &mut self.ballots {
            ballots.looked = None;
        }
    }

    /// The cluster of this node.
    pub const fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The cluster of a member, or of this node.
    pub fn cluster_of(&self, node: &NodeId) -> Option<ClusterName> {
        if *node == self.id() {
            return Some(self.cluster.clone());
        }
        self.store.member(node).map(|record| record.cluster)
    }

    /// Whether a node is a member of this node's cluster now.
    pub fn is_mate(&self, node: &NodeId) -> bool {
        self.cluster_of(node).is_some_and(|cluster| cluster == self.cluster)
    }

    /// Whether a node is a member of another cluster. Whoever is no member at all may be one of a ballot still.
    pub(super) fn is_elsewhere(&self, node: &NodeId) -> bool {
        self.cluster_of(node).is_some_and(|cluster| cluster != self.cluster)
    }

    /// The members of this node's cluster, alive or not.
    pub(super) fn mates(&self) -> BTreeSet<NodeId> {
        self.store.mates(&self.cluster)
    }

    /// Those others of them that are alive, in the order of membership.
    pub(super) fn live_mates(&self) -> Vec<NodeId> {
        self.swim.live().iter().filter(|node| self.is_mate(node)).copied().collect()
    }
}
