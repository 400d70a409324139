//! A node that a member sends anything to: sealed datagrams with any text, questions, answers, an administrator's orders and letters of
//! ballots, in any order and at any time.
#![no_main]

use kairn_mesh_protocol::address::Range;
use kairn_mesh_protocol::ballot::{BallotName, Letter, Rules, Scope};
use kairn_mesh_protocol::datagram::Sealer;
use kairn_mesh_protocol::entry::{Bucket, Content, Entry};
use kairn_mesh_protocol::hlc::Stamp;
use kairn_mesh_protocol::message::{self, Question};
use kairn_mesh_protocol::node::{Memory, Node, Start};
use kairn_mesh_protocol::order::{Order, Rotation};
use kairn_mesh_protocol::swim::Incarnation;
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{ClusterName, Identity, Moment, Now, Token, TunnelKey, Wall};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fn administrator() -> Identity {
    Identity::from_seed(&[9; 32])
}

/// What the administrator signed, as a member hands it on.
fn signed(token: &Token, now: Now, order: &Order) -> Option<Vec<u8>> {
    let (key, value) = (order.key(), Some(order.encode().ok()?));
    let (author, stamp) = (administrator().id(), Stamp::new(now.1.0 << 16));
    let content = Content { bucket: Bucket::Administration, key, author, stamp, lifetime: 0, value };
    Entry::sign(&token.network().id, &administrator(), content).ok()?.encode_aged(Duration::ZERO).ok()
}

/// A rotation for those who stay, of whom one may be put out.
fn rotation(token: &Token, victim: &Node, text: &[u8]) -> Vec<Order> {
    let (first, network) = (text.first().copied().unwrap_or_default(), token.network().id);
    let members: Vec<_> = victim.store().members().map(|(id, _)| id).collect();
    let revoked: Vec<_> = members.iter().copied().filter(|id| *id != victim.id() && first & 1 > 0).collect();
    let rotation = Rotation {
        network: &network,
        epochs: victim.store().epochs(),
        secret: &[first; 32],
        seed: &[first | 1; 32],
        lot: first.into(),
        members: &members,
        revoked: &revoked,
    };
    rotation.orders().unwrap_or_default()
}

fn node(seed: u8, token: &Token) -> Node {
    let start = Start {
        identity: Identity::from_seed(&[seed; 32]),
        network: token.network(),
        epochs: vec![token.epoch()],
        secret: None,
        administrators: vec![administrator().id()],
        allowed: None,
        generation: 1,
        incarnation: Incarnation::FIRST,
        seed: seed.into(),
        clock: Clock::Sure,
        range: Some(Range::default()),
        lease: None,
    };
    Node::new(start, Moment::default())
}

fuzz_target!(|bytes: &[u8]| {
    let token = Token::new([1; 32], None);
    let mut now = (Moment::default(), Wall(1_800_000_000_000));
    let (mut victim, mut member) = (node(1, &token), node(2, &token));
    for node in [&mut victim, &mut member] {
        node.introduce(now, &TunnelKey::new([7; 32]), "edge", "0.1.0").expect("a first record is taken");
    }
    let record = member.record().and_then(|record| record.encode().ok()).expect("it has a record");
    victim.hold_ballots(Rules::default(), Memory { is_whole: true, ..Memory::default() }, now.0);
    let name = BallotName::try_from("cluster".to_owned()).expect("a name");
    let scope = Scope::new(token.network().id, ClusterName::default(), name);
    let mut orders = 0;
    victim.joined(now, member.id(), Some(&record), None);
    let mut sealer = Sealer::new(Identity::from_seed(&[2; 32]), 2, [0; 8]);
    // Each message: what is done, how many seconds pass, how long it is, and its text.
    let mut rest = bytes;
    while let [kind, seconds, length, tail @ ..] = rest {
        let (text, next) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = next;
        now.0 = now.0 + Duration::from_secs(u64::from(*seconds) / 8);
        match kind % 8 {
            0 | 4 => {
                // Unless it was put out, or there were so many rotations that this epoch is forgotten.
                let is_kept = victim.store().epochs().iter().any(|keys| keys.epoch == token.epoch().epoch);
                let is_heard = is_kept && victim.store().member(&member.id()).is_some();
                if let Some(sealed) = sealer.seal(&token.epoch(), &victim.id(), text) {
                    let taken = victim.datagram(now, &sealed);
                    assert!(!is_heard || taken == Ok(member.id()));
                }
            }
            5 => {
                let order =
                    postcard::from_bytes(text).map_or_else(|_| rotation(&token, &victim, text), |one| vec![one]);
                let signed: Vec<Vec<u8>> = order.iter().filter_map(|order| signed(&token, now, order)).collect();
                orders += signed.len();
                let question = message::encode("question", &Question::Push(signed)).expect("there is memory");
                victim.question(now, member.id(), &question);
            }
            6 => {
                let body = postcard::from_bytes(text).ok();
                let letter = body.map(|body| Letter { to: vec![victim.id()], body });
                let sealed = letter.and_then(|letter| letter.seal(&scope, &Identity::from_seed(&[2; 32])).ok());
                let question = Question::Ballot(sealed.unwrap_or_else(|| text.to_vec()));
                let question = message::encode("question", &question).expect("there is memory");
                victim.question(now, member.id(), &question);
            }
            1 => drop(victim.question(now, member.id(), text)),
            2 => victim.answered(now, u64::from(*seconds), Ok(text)),
            _ => drop(victim.datagram(now, text)),
        }
        victim.vote(now, &mut |_, _| Ok(()));
        victim.tick(now);
        drop((victim.take_outgoing(), victim.take_events()));
    }
    assert!(victim.store().len() <= 3 + orders);
});
