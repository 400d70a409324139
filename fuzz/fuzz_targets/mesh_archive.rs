//! The file in which a node keeps the shared state, as a bad disk or somebody else left it: read, and taken up by a node.
#![no_main]

use kairn_mesh_protocol::address::Range;
use kairn_mesh_protocol::archive::{self, Growth, Write};
use kairn_mesh_protocol::node::{Node, Start, Whose};
use kairn_mesh_protocol::swim::Incarnation;
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{Identity, Moment, Token, TunnelKey, Wall};
use libfuzzer_sys::fuzz_target;

const NOW: (Moment, Wall) = (Moment::after(std::time::Duration::from_secs(1)), Wall(1_800_000_000_000));

fn node(token: &Token) -> Node {
    let start = Start {
        identity: Identity::from_seed(&[1; 32]),
        network: token.network(),
        epochs: vec![token.epoch()],
        secret: None,
        administrators: Vec::new(),
        allowed: None,
        generation: 1,
        incarnation: Incarnation::FIRST,
        seed: 1,
        clock: Clock::Sure,
        range: Some(Range::default()),
        lease: None,
    };
    Node::new(start, NOW.0)
}

fuzz_target!(|bytes: &[u8]| {
    let token = Token::new([1; 32], None);
    let Ok(contents) = archive::read(&token.network().id, bytes) else { return };
    for record in &contents.records {
        // What is read is written the same.
        let file = [archive::head(&token.network().id, 1), record.encode().expect("there is memory")].concat();
        let again = archive::read(&token.network().id, &file).map(|again| again.records);
        assert_eq!(again.as_deref(), Ok(std::slice::from_ref(record)));
    }
    let count = contents.records.len();
    let mut node = node(&token);
    let recalled = node.recall(NOW, contents.records);
    assert!(recalled.taken + recalled.over + recalled.refused <= count);
    node.introduce(NOW, &TunnelKey::new([7; 32]), "edge", "0.1.0").expect("a first record is taken");
    // What it keeps of it can be read, all of it.
    let Ok(Some(Write::Whole { bytes, left_out: 0 })) = node.to_keep(NOW, Whose::All, &Growth::default()) else {
        panic!("it keeps nothing");
    };
    let kept = archive::read(&token.network().id, &bytes).expect("its own file");
    assert_eq!((kept.damaged, kept.missing), (0, 0));
});
