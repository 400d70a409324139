//! Ballots and leases with a member that signs anything: rounds, votes, outcomes, leases; and the record on disk, whatever became of it.
#![no_main]

use kairn_mesh_protocol::ballot::{
    Ballot, BallotName, Body, Cast, LeaseBody, Letter, Request, Roll, Round, Rules, Scope, Term, Withheld,
};
use kairn_mesh_protocol::message::{self, Question};
use kairn_mesh_protocol::node::{Memory, Node, Start};
use kairn_mesh_protocol::swim::Incarnation;
use kairn_mesh_protocol::timekeeper::Clock;
use kairn_mesh_protocol::{ClusterName, Identity, Moment, NodeId, Now, Token, TunnelKey, Wall};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn node(seed: u8, token: &Token) -> Node {
    let start = Start {
        identity: identity(seed),
        network: token.network(),
        epochs: vec![token.epoch()],
        secret: None,
        administrators: Vec::new(),
        allowed: None,
        generation: 1,
        incarnation: Incarnation::FIRST,
        seed: seed.into(),
        clock: Clock::Sure,
        range: None,
        lease: None,
    };
    Node::new(start, Moment::default())
}

/// A record with any content behind what is right before and after it.
fn forged(scope: &Scope, node: NodeId, rules: Rules, content: &[u8]) -> Vec<u8> {
    let sound = Ballot::newborn(scope.clone(), rules, node).record().encode(scope);
    // The kind with its zero, and a frame.
    let head = sound.get(..b"kairn ballot 1\0".len() + 32).expect("a record has a head");
    let body = [head, content].concat();
    let digest = Sha256::digest(&body);
    [body.as_slice(), &digest].concat()
}

/// What the member says, from few bytes or any.
fn body(scope: &Scope, ids: &[NodeId; 2], kind: u8, text: &[u8]) -> Option<Body> {
    let [pick, number, ..] = *text else { return None };
    let id = |bit: u8| ids[usize::from(pick >> bit & 1)];
    let voters = if pick & 8 > 0 { ids.to_vec() } else { vec![ids[0], ids[1], NodeId::new([pick; 32])] };
    let roll = Roll::new(2, voters.into_iter().collect::<BTreeSet<_>>())?;
    let (round, frame) = (Round { number: u64::from(number), proposer: id(0) }, scope.frame(&roll));
    let vote =
        (pick & 2 > 0).then(|| Cast { round: Round { number: u64::from(pick >> 4), proposer: id(1) }, winner: id(2) });
    let request = Request {
        term: Term(u64::from(number)),
        holder: id(0),
        milliseconds: u32::from(pick) * 1_000,
        number: u64::from(pick) << 32 | u64::from(number),
    };
    Some(match kind {
        0 => Body::Prepare { round, roll },
        1 => Body::Promise { round, frame, vote },
        2 => Body::Propose { round, roll, winner: id(1) },
        3 => Body::Vote { round, frame, winner: id(1) },
        4 => Body::Lease(LeaseBody::Ask(request)),
        5 => Body::Lease(LeaseBody::Grant(request)),
        6 => Body::Lease(LeaseBody::Withhold(
            request,
            Withheld { term: Term(pick.into()), holder: id(1), milliseconds: 5 },
        )),
        7 => Body::Lease(LeaseBody::Release(request)),
        _ => postcard::from_bytes(text).ok()?,
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (token, rules) = (Token::new([1; 32], None), Rules::default());
    let name = BallotName::try_from("cluster".to_owned()).expect("a name");
    let scope = Scope::new(token.network().id, ClusterName::default(), name.clone());
    let mut now: Now = (Moment::default(), Wall(1_800_000_000_000));
    let (mut victim, mut member) = (node(1, &token), node(2, &token));
    let mut disk: BTreeMap<BallotName, Vec<u8>> = BTreeMap::new();
    if first & 1 > 0 {
        let record = forged(&scope, victim.id(), rules, bytes);
        if let Ok(ballot) = Ballot::restore(scope.clone(), rules, victim.id(), &record) {
            let again = ballot.record().encode(&scope);
            assert_eq!(Ballot::restore(scope.clone(), rules, victim.id(), &again), Ok(ballot));
        }
        disk.insert(name.clone(), record);
    }
    let records = disk.iter().map(|(name, record)| (name.clone(), Some(record.clone()))).collect();
    victim.hold_ballots(rules, Memory { is_whole: first & 2 > 0, records }, now.0);
    for node in [&mut victim, &mut member] {
        node.introduce(now, &TunnelKey::new([7; 32]), "edge", "0.1.0").expect("a first record is taken");
    }
    let record = member.record().and_then(|record| record.encode().ok()).expect("it has a record");
    victim.joined(now, member.id(), Some(&record), None);
    let (own, ids) = (victim.id(), [victim.id(), member.id()]);
    let mut rest = bytes;
    // Each message: what is done, how many eighths of a second pass, how long it is, and its text.
    while let [kind, eighths, length, tail @ ..] = rest {
        let (text, next) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = next;
        now.0 = now.0 + Duration::from_millis(125 * u64::from(*eighths));
        match kind % 16 {
            kind @ 0..=9 => {
                let letter = body(&scope, &ids, kind, text).map(|body| Letter { to: vec![own], body });
                let sealed = letter.and_then(|letter| letter.seal(&scope, &identity(2)).ok());
                let question = Question::Ballot(sealed.unwrap_or_else(|| text.to_vec()));
                let question = message::encode("question", &question).expect("there is memory");
                victim.question(now, member.id(), &question);
            }
            10 | 11 => drop(victim.stand(&name)),
            12 => drop(victim.want_lease(now, &name, Duration::from_secs(20))),
            13 => victim.give_up_lease(now, &name),
            _ => drop(victim.question(now, member.id(), text)),
        }
        // A disk that fails now and then.
        victim.vote(now, &mut |name, record| {
            if kind & 0x80 > 0 {
                return Err("the disk is full".to_owned());
            }
            let scope = Scope::new(token.network().id, ClusterName::default(), name.clone());
            let back = Ballot::restore(scope.clone(), rules, own, record);
            assert_eq!(back.map(|ballot| ballot.record().encode(&scope)).as_deref(), Ok(record));
            disk.insert(name.clone(), record.to_vec());
            Ok(())
        });
        victim.tick(now);
        drop((victim.take_outgoing(), victim.take_events()));
        assert!(victim.ballots().count() <= kairn_mesh_protocol::node::MOST_BALLOTS);
    }
});
