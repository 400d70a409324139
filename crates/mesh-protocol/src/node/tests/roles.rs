//! Roles among nodes: who assigns them, and whose word counts.

use super::ballots::{first, members};
use super::*;
use crate::ballot::Rules;
use crate::{Role, assignment};

const LENGTH: Duration = Duration::from_secs(20);

impl Network {
    /// Nodes of which the first leads.
    pub(super) fn led(count: u8) -> (Self, Vec<NodeId>) {
        let (mut network, ids) = members(count, Rules::new(2, Some(count.into())).unwrap());
        network.stand(&ids);
        network.decide(&ids, Duration::from_secs(60));
        network.lead(ids[0]);
        (network, ids)
    }

    /// Has a node ask for the lease until it has it, and those before it give it up.
    pub(super) fn lead(&mut self, id: NodeId) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let now = self.clocks_of(&node);
            self.nodes.get_mut(&node).unwrap().give_up_lease(now, &first());
        }
        let now = self.clocks_of(&id);
        self.nodes.get_mut(&id).unwrap().want_lease(now, &first(), LENGTH).unwrap();
        self.run(Duration::from_secs(5));
        assert_eq!(self.leader(), Some(id));
    }

    pub(super) fn assign(&mut self, leader: NodeId, node: NodeId, role: Option<Role>) -> Result<(), NoRole> {
        let now = self.clocks_of(&leader);
        self.nodes.get_mut(&leader).unwrap().assign(now, node, role)
    }

    pub(super) fn role(&self, at: &NodeId, of: &NodeId) -> Option<Role> {
        self.nodes[at].roles(self.now)[of].role()
    }
}

#[test]
fn the_leader_assigns_roles_that_all_know_and_nobody_else_does() {
    let (mut network, ids) = Network::led(3);
    network.assign(ids[0], ids[0], Some(Role::Master)).unwrap();
    network.assign(ids[0], ids[1], Some(Role::Worker)).unwrap();
    assert_eq!(network.assign(ids[1], ids[1], Some(Role::Master)), Err(NoRole::NoLease));
    let nobody = NodeId::new([7; 32]);
    assert_eq!(network.assign(ids[0], nobody, Some(Role::Worker)), Err(NoRole::Stranger(nobody)));
    network.run(Duration::from_secs(3));
    for at in &ids {
        let roles: Vec<_> = ids.iter().map(|of| network.role(at, of)).collect();
        assert_eq!(roles, [Some(Role::Master), Some(Role::Worker), None]);
    }
    network.assign(ids[0], ids[1], None).unwrap();
    network.run(Duration::from_secs(3));
    assert!(ids.iter().all(|at| network.role(at, &ids[1]).is_none()));
    // A newcomer learns them with everything else.
    let late = network.add(9, &token());
    network.hold(late, Rules::new(2, Some(3)).unwrap());
    assert!(network.meet(late, ids[1]));
    network.run(Duration::from_secs(20));
    assert_eq!(network.role(&late, &ids[0]), Some(Role::Master));
}

#[test]
fn a_lower_term_never_takes_the_place_of_a_higher_one_whoever_wrote_last() {
    let (mut network, ids) = Network::led(3);
    network.assign(ids[0], ids[2], Some(Role::Worker)).unwrap();
    network.run(Duration::from_secs(2));
    network.lead(ids[1]);
    network.assign(ids[1], ids[2], Some(Role::Master)).unwrap();
    network.run(Duration::from_secs(2));
    // The first leader writes after it, as one that does not know yet that it leads no more.
    let (now, key) = (network.clocks(), assignment::Sheet::key(&ids[2]));
    let mut sheet = assignment::Sheet::default();
    let stale = assignment::Assignment { term: crate::ballot::Term(1), role: Some(Role::None) };
    sheet.assign(ids[2], stale, |_| true);
    let value = Some(sheet.encode().unwrap());
    let key = ClusterName::default().key(&key);
    network.nodes.get_mut(&ids[0]).unwrap().write(now, (Bucket::Roles, key), value, 0).unwrap();
    network.run(Duration::from_secs(2));
    for at in &ids {
        assert_eq!(network.role(at, &ids[2]), Some(Role::Master));
    }
}

#[test]
fn a_member_that_never_led_assigns_nothing_under_any_term() {
    let (mut network, ids) = Network::led(3);
    let (now, key) = (network.clocks(), assignment::Sheet::key(&ids[2]));
    let mut sheet = assignment::Sheet::default();
    let forged = assignment::Assignment { term: crate::ballot::Term(1 << 40), role: Some(Role::Master) };
    sheet.assign(ids[2], forged, |_| true);
    let liar = network.nodes.get_mut(&ids[2]).unwrap();
    let key = ClusterName::default().key(&key);
    liar.write(now, (Bucket::Roles, key), Some(sheet.encode().unwrap()), 0).unwrap();
    // And copies the leader's proof.
    let name = ClusterName::default().key(&first().to_string());
    let copied = liar.store().bucket(Bucket::Leases, now.0).find(|content| content.key == name).unwrap().value.clone();
    liar.write(now, (Bucket::Leases, name), copied, 0).unwrap();
    network.run(Duration::from_secs(2));
    for at in &ids[..2] {
        assert_eq!(network.role(at, &ids[2]), None);
        assert!(network.nodes[at].counters().refused > 0);
    }
}

#[test]
fn what_a_configuration_fixes_goes_before_what_is_assigned_and_opens_nothing_by_itself() {
    let (mut network, ids) = Network::led(3);
    let fixed = network.nodes.get_mut(&ids[1]).unwrap();
    fixed.fix_role(Some(Role::Worker));
    let now = network.clocks();
    let (tunnel, node) = (TunnelKey::new([2; 32]), network.nodes.get_mut(&ids[1]).unwrap());
    node.introduce(now, &tunnel, "edge-2", "0.1.0").unwrap();
    network.run(Duration::from_secs(2));
    let view = network.nodes[&ids[0]].roles(network.now)[&ids[1]];
    assert_eq!((view.role(), view.trusted()), (Some(Role::Worker), None));
    let refused = network.assign(ids[0], ids[1], Some(Role::Master)).unwrap_err();
    assert_eq!(refused, NoRole::Fixed { node: ids[1], fixed: Role::Worker });
    network.assign(ids[0], ids[1], Some(Role::Worker)).unwrap();
    network.run(Duration::from_secs(2));
    assert_eq!(network.nodes[&ids[2]].roles(network.now)[&ids[1]].trusted(), Some(Role::Worker));
}
