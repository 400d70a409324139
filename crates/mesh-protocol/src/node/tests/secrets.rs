//! Secrets among nodes: who opens them, who gets one later, and who is believed.

use super::*;
use crate::secret::{Audience, LARGEST_SECRET};
use crate::{AdminKey, Role};

pub(super) const WORKERS: Audience = Audience::Role(Role::Worker);

impl Network {
    /// Nodes of which the first leads and is a master, and the others have these roles.
    fn with_roles(roles: &[Option<Role>]) -> (Self, Vec<NodeId>) {
        let count = u8::try_from(roles.len()).unwrap() + 1;
        let (mut network, ids) = Self::led(count);
        network.assign(ids[0], ids[0], Some(Role::Master)).unwrap();
        for (id, role) in ids[1..].iter().zip(roles) {
            network.assign(ids[0], *id, *role).unwrap();
        }
        network.run(Duration::from_secs(3));
        (network, ids)
    }

    pub(super) fn put(
        &mut self,
        id: NodeId,
        key: &str,
        audience: Audience,
        seconds: u32,
        value: &[u8],
    ) -> Result<(), NoSecret> {
        let now = self.clocks_of(&id);
        let node = self.nodes.get_mut(&id).unwrap();
        let put = node.put_secret(now, key, audience, seconds, value.to_vec()).map(drop);
        self.run(Duration::from_secs(3));
        put
    }

    pub(super) fn open(&self, id: &NodeId, key: &str) -> Result<Vec<u8>, NoSecret> {
        self.nodes[id].secret_of(self.clocks_of(id), key, None).map(|(opened, _)| opened.value.reveal().clone())
    }
}

#[test]
fn a_secret_for_a_role_is_opened_by_that_and_by_masters_and_by_nobody_else() {
    let (mut network, ids) = Network::with_roles(&[Some(Role::Worker), Some(Role::Master), None]);
    network.put(ids[0], "join", WORKERS, 40, b"K10 secret").unwrap();
    network.put(ids[0], "server", Audience::Role(Role::Master), 600, b"server").unwrap();
    for id in &ids[..3] {
        assert_eq!(network.open(id, "join").as_deref(), Ok(&b"K10 secret"[..]));
    }
    assert_eq!(network.open(&ids[3], "join"), Err(NoSecret::Absent));
    assert_eq!(network.open(&ids[1], "server"), Err(NoSecret::Absent));
    assert_eq!(network.open(&ids[2], "server").as_deref(), Ok(&b"server"[..]));
    // Everybody sees that there is one, and nobody what it says.
    for id in &ids {
        let views = network.nodes[id].secrets(network.clocks_of(id));
        let seen: Vec<_> = views.iter().map(|view| (view.label.key.as_str(), view.receivers, view.is_open)).collect();
        assert_eq!(seen, [("join", 3, *id != ids[3]), ("server", 2, [ids[0], ids[2]].contains(id))]);
        for content in network.nodes[id].store().bucket(Bucket::Secrets, network.now) {
            let value = content.value.as_ref().unwrap();
            assert!(!value.windows(6).any(|bytes| bytes == b"secret" || bytes == b"server"));
        }
    }
    // Its time is over everywhere.
    network.run(Duration::from_secs(41));
    assert!(ids.iter().all(|id| network.open(id, "join") == Err(NoSecret::Absent)));
}

#[test]
fn a_newcomer_with_the_role_gets_a_copy_and_one_without_gets_none() {
    let (mut network, ids) = Network::with_roles(&[None, None]);
    network.put(ids[0], "join", WORKERS, 3_600, b"token").unwrap();
    network.run(Duration::from_secs(20));
    assert!(ids[1..].iter().all(|id| network.open(id, "join").is_err()));
    network.assign(ids[0], ids[1], Some(Role::Worker)).unwrap();
    network.run(Duration::from_secs(5));
    assert_eq!(network.open(&ids[1], "join").as_deref(), Ok(&b"token"[..]));
    assert!(network.open(&ids[2], "join").is_err());
    // Whose role is taken away gets no copy of what is written then.
    network.assign(ids[0], ids[1], None).unwrap();
    network.assign(ids[0], ids[2], Some(Role::Worker)).unwrap();
    network.put(ids[0], "join", WORKERS, 3_600, b"another").unwrap();
    network.run(Duration::from_secs(20));
    assert_eq!(network.open(&ids[1], "join"), Err(NoSecret::Absent));
    assert_eq!(network.open(&ids[2], "join").as_deref(), Ok(&b"another"[..]));
}

#[test]
fn a_master_seals_anew_what_an_author_left_and_takes_it_back_when_that_is_deleted() {
    let (mut network, ids) = Network::with_roles(&[Some(Role::Master), Some(Role::Worker), None]);
    network.put(ids[0], "join", WORKERS, 3_600, b"token").unwrap();
    // Another master leads, and the author is away.
    network.lead(ids[1]);
    network.cut = BTreeSet::from([ids[0]]);
    network.run(Duration::from_secs(15));
    network.assign(ids[1], ids[3], Some(Role::Worker)).unwrap();
    network.run(Duration::from_secs(30));
    assert_eq!(network.open(&ids[3], "join").as_deref(), Ok(&b"token"[..]));
    let opened = network.nodes[&ids[3]].secret_of(network.clocks(), "join", None).unwrap();
    assert_eq!(opened.0.label.author, ids[0], "whoever seals it");
    assert!(opened.1.is_some_and(|left| left < Duration::from_secs(3_600)));
    // The author comes back, and deletes it.
    network.cut.clear();
    assert!(network.meet(ids[0], ids[1]));
    network.run(Duration::from_secs(20));
    let now = network.clocks();
    assert_eq!(network.nodes.get_mut(&ids[0]).unwrap().delete_secret(now, "join"), Ok(true));
    network.run(Duration::from_secs(20));
    for node in network.nodes.values() {
        assert_eq!(network.open(&node.id(), "join"), Err(NoSecret::Absent));
        assert_eq!(node.store().bucket(Bucket::Secrets, network.now).count(), 0, "the copies are gone too");
    }
}

#[test]
fn only_masters_are_believed_but_for_whom_one_asks_by_name() {
    let (mut network, ids) = Network::with_roles(&[Some(Role::Worker), None]);
    let liar = network.put(ids[2], "join", WORKERS, 600, b"forged");
    assert_eq!(liar, Err(NoSecret::NotMaster));
    // To one node anybody may write; it is taken from whom it is expected of.
    network.put(ids[2], "join", Audience::Node(ids[1]), 0, b"forged").unwrap();
    assert_eq!(network.open(&ids[1], "join"), Err(NoSecret::Unbelieved(ids[2])));
    let asked = network.nodes[&ids[1]].secret_of(network.clocks(), "join", Some(ids[2])).unwrap().0;
    assert_eq!(asked.value.reveal(), b"forged");
    network.put(ids[0], "join", WORKERS, 600, b"true").unwrap();
    assert_eq!(network.open(&ids[1], "join").as_deref(), Ok(&b"true"[..]));
    // A copy by nobody who is a master does not count, whoever signed what is in it.
    let now = network.clocks();
    let opened = network.nodes[&ids[1]].secret_of(now, "join", Some(ids[0])).unwrap().0;
    let worker = Identity::from_seed(&[2; 32]);
    let part = opened.seal(network.nodes[&ids[1]].store().network(), &worker, &[ids[2]]).unwrap();
    let (key, value) = (opened.label.entry_key(0), part.encode().unwrap());
    network.nodes.get_mut(&ids[1]).unwrap().write(now, (Bucket::Secrets, key), Some(value), 600).unwrap();
    network.run(Duration::from_secs(3));
    assert_eq!(network.open(&ids[2], "join"), Err(NoSecret::Absent));
}

#[test]
fn a_secret_for_administrators_is_opened_with_their_key_and_by_no_node() {
    let admin = Identity::from_seed(&[0xad; 32]);
    let token = Token::new([1; 32], Some(AdminKey::new(*admin.id().as_bytes()).unwrap()));
    let mut network = Network::new();
    let (one, other) = (network.add(1, &token), network.add(2, &token));
    network.meet(one, other);
    network.run(Duration::from_secs(2));
    network.put(one, "kubeconfig", Audience::Administrators, 0, b"apiVersion: v1").unwrap();
    for id in [one, other] {
        assert_eq!(network.open(&id, "kubeconfig"), Err(NoSecret::Absent));
        let sealed = network.nodes[&id].sealed_secrets(network.clocks(), "kubeconfig");
        let Sealed { label, sealer, part, .. } = &sealed[0];
        let opened = part.open(network.nodes[&id].store().network(), &admin, sealer, label).unwrap();
        assert_eq!((opened.value.reveal().as_slice(), label.author), (&b"apiVersion: v1"[..], one));
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let (mut network, ids) = Network::with_roles(&[None]);
    let nobody = NodeId::new([7; 32]);
    for (key, audience, seconds, length, wanted) in [
        ("", WORKERS, 60, 1, "1 to 128 bytes"),
        ("a\nb", WORKERS, 60, 1, "1 to 128 bytes"),
        ("a", WORKERS, 0, 1, "1 to 86400 seconds"),
        ("a", WORKERS, 86_401, 1, "1 to 86400 seconds"),
        ("a", Audience::Administrators, 0, 1, "no administrator"),
        ("a", Audience::Node(nobody), 0, 1, "is no member"),
        ("a", WORKERS, 60, LARGEST_SECRET + 1, "the most is 16384"),
    ] {
        let refused = network.put(ids[0], key, audience, seconds, &vec![0; length]).unwrap_err().to_string();
        assert!(refused.contains(wanted), "{refused}");
    }
    assert_eq!(network.nodes[&ids[0]].secrets(network.clocks()), []);
}

#[test]
fn a_revoked_node_gets_no_copy_and_its_own_secrets_count_no_more() {
    let (mut network, ids) = Network::with_roles(&[Some(Role::Master), Some(Role::Worker)]);
    network.put(ids[1], "join", WORKERS, 3_600, b"token").unwrap();
    assert!(network.open(&ids[2], "join").is_ok());
    for id in [ids[0], ids[2]] {
        let now = network.clocks();
        network.nodes.get_mut(&id).unwrap().put_out(now, ids[1]);
    }
    network.run(Duration::from_secs(2));
    assert_eq!(network.open(&ids[2], "join"), Err(NoSecret::Absent));
    network.put(ids[0], "join", WORKERS, 3_600, b"newer").unwrap();
    let views = network.nodes[&ids[0]].secrets(network.clocks());
    assert_eq!(views.iter().map(|view| view.receivers).collect::<Vec<_>>(), [2]);
}
