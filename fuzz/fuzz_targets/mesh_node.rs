//! A node that a member sends anything to: sealed datagrams with any text, questions, answers, in any order and at any time.
#![no_main]

use kairn_mesh_protocol::address::Range;
use kairn_mesh_protocol::datagram::Sealer;
use kairn_mesh_protocol::node::{Node, Start};
use kairn_mesh_protocol::swim::Incarnation;
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{Identity, Moment, Token, TunnelKey, Wall};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fn node(seed: u8, token: &Token) -> Node {
    let start = Start {
        identity: Identity::from_seed(&[seed; 32]),
        network: token.network(),
        epochs: vec![token.epoch()],
            secret: None,
        administrators: Vec::new(),
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
    victim.joined(now, member.id(), Some(&record), None);
    let mut sealer = Sealer::new(Identity::from_seed(&[2; 32]), 2, [0; 8]);
    // Each message: what is done, how many seconds pass, how long it is, and its text.
    let mut rest = bytes;
    while let [kind, seconds, length, tail @ ..] = rest {
        let (text, next) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = next;
        now.0 = now.0 + Duration::from_secs(u64::from(*seconds) / 8);
        match kind % 4 {
            0 => {
                if let Some(sealed) = sealer.seal(&token.epoch(), &victim.id(), text) {
                    assert_eq!(victim.datagram(now, &sealed), Ok(member.id()));
                }
            }
            1 => drop(victim.question(now, member.id(), text)),
            2 => victim.answered(now, u64::from(*seconds), Ok(text)),
            _ => drop(victim.datagram(now, text)),
        }
        victim.tick(now);
        drop((victim.take_outgoing(), victim.take_events()));
    }
    assert!(victim.store().len() <= 3);
});
