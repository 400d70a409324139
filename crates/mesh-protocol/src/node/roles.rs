//! Who has which role: what its configuration fixes, else what the leader assigned.

use super::Node;
use crate::assignment::{Assignment, GOVERNING, Sheet};
use crate::ballot::{BallotName, Hold, Term};
use crate::cluster::ClusterName;
use crate::entry::Bucket;
use crate::error::Error;
use crate::identity::NodeId;
use crate::role::Role;
use crate::store::Refused;
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error as ThisError;

/// Why a role is not assigned.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum NoRole {
    /// This node does not lead.
    #[error("this node does not hold the lease `{GOVERNING}` exclusively, and who holds it assigns roles")]
    NoLease,
    /// What it assigned before may be overwritten.
    #[error("this node has not yet learned from another what was assigned before")]
    TooEarly,
    /// It is nobody.
    #[error("node {} is no member", .0.short())]
    Stranger(NodeId),
    /// It has a leader of its own.
    #[error("node {} is of the cluster `{cluster}`, and roles are assigned there", node.short())]
    Elsewhere {
        /// The node.
        node: NodeId,
        /// Its cluster.
        cluster: ClusterName,
    },
    /// Its configuration says otherwise.
    #[error("the configuration of node {} fixes its role as `{fixed}`", node.short())]
    Fixed {
        /// The node.
        node: NodeId,
        /// What its configuration says.
        fixed: Role,
    },
    /// The entry was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<Error> for NoRole {
    fn from(error: Error) -> Self {
        Self::Refused(error.into())
    }
}

/// The role of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleView {
    /// What its configuration fixes: its own word.
    pub fixed: Option<Role>,
    /// What was assigned to it.
    pub assigned: Option<Role>,
    /// Who assigned that, or took it away, and under which term.
    pub by: Option<(NodeId, Term)>,
}

impl RoleView {
    /// What it is: what its configuration fixes goes before what was assigned.
    pub fn role(&self) -> Option<Role> {
        self.fixed.or(self.assigned)
    }

    /// What it is trusted with: what was assigned to it, where its configuration does not say otherwise. Anybody with the token can fix
    /// a role for themselves, so that alone opens nothing.
    pub fn trusted(&self) -> Option<Role> {
        self.assigned.filter(|assigned| self.fixed.is_none_or(|fixed| fixed == *assigned))
    }
}

pub(super) fn governing() -> Option<BallotName> {
    // A name that fits, so there is always one.
    BallotName::try_from(GOVERNING.to_owned()).ok()
}

impl Node {
    /// The roles of all members, this node among them. Of those of another cluster only what their configuration fixes is known.
    pub fn roles(&self, now: Moment) -> BTreeMap<NodeId, RoleView> {
        let (mut roles, mut mates) = (BTreeMap::new(), BTreeSet::from([self.id()]));
        for (node, record) in self.store.members() {
            roles.insert(node, RoleView { fixed: record.role, ..RoleView::default() });
            if record.cluster == self.cluster {
                mates.insert(node);
            }
        }
        roles.entry(self.id()).or_default().fixed = self.role;
        let Some(name) = governing() else { return roles };
        for content in self.store.bucket(Bucket::Roles, now) {
            // Whoever did not lead assigns nothing, and nobody under a term that it has not proven.
            let Some(led) = self.led_until(&name, &content.author) else { continue };
            let Some(key) = self.cluster.within(&content.key) else { continue };
            let Ok(sheet) = Sheet::decode(key, content.value.as_deref().unwrap_or_default()) else { continue };
            for (node, Assignment { term, role }) in sheet.assignments() {
                let Some(view) = roles.get_mut(node).filter(|_| *term <= led && mates.contains(node)) else { continue };
                if view.by.is_none_or(|(by, last)| (last, by) < (*term, content.author)) {
                    (view.assigned, view.by) = (*role, Some((content.author, *term)));
                }
            }
        }
        roles
    }

    /// Assigns a role to a member, or takes its role away.
    ///
    /// # Errors
    /// This node does not lead, or the member's configuration fixes another role.
    pub fn assign(&mut self, now: Now, node: NodeId, role: Option<Role>) -> Result<(), NoRole> {
        let (hold, term) = governing().map_or((Hold::Lapsed, Term::default()), |name| self.holds(now.0, &name));
        if hold != Hold::Exclusive {
            return Err(NoRole::NoLease);
        }
        // After a restart it has to get its own sheets back first.
        if self.counters.comparisons == 0 && !self.swim.live().is_empty() {
            return Err(NoRole::TooEarly);
        }
        let record = self.store.member(&node).ok_or(NoRole::Stranger(node))?;
        if record.cluster != self.cluster {
            return Err(NoRole::Elsewhere { node, cluster: record.cluster });
        }
        if let (Some(fixed), Some(role)) = (record.role, role)
            && fixed != role
        {
            return Err(NoRole::Fixed { node, fixed });
        }
        let (own, letter) = (self.id(), Sheet::key(&node));
        let key = self.cluster.key(&letter);
        let held = self.store.bucket(Bucket::Roles, now.0).find(|content| content.author == own && content.key == key);
        let mut sheet = match held.and_then(|content| content.value.as_deref()) {
            Some(value) => Sheet::decode(&letter, value)?,
            None => Sheet::default(),
        };
        let assignment = Assignment { term, role };
        if sheet.assignments().get(&node) != Some(&assignment) {
            sheet.assign(node, assignment, |node| self.is_mate(node));
            self.write(now, (Bucket::Roles, key), Some(sheet.encode()?), 0)?;
        }
        Ok(())
    }
}
