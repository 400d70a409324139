//! Two peers in memory: what one says is handed to the other by hand.

use super::*;
use crate::settings::SecretKey;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use kairn_report::Secret;
use std::sync::Arc;

/// One end: what it is to others, and the other as it sees it.
struct End {
    keys: Keys,
    other: Peer,
    at: SocketAddr,
}

type Said = Vec<(Way, Vec<u8>)>;

fn key(seed: u8) -> SecretKey {
    Secret::new([seed; 32])
}

fn end(own: u8, other: u8, preshared: Option<[u8; 32]>, index: u32) -> End {
    let private = x25519::StaticSecret::from(*key(own).reveal());
    let public = x25519::PublicKey::from(&private);
    let keys = Keys { limiter: Arc::new(RateLimiter::new(&public, 1000)), private, public };
    let peer = Peer::new(&keys, crate::public_key(&key(other)), preshared, index, Instant::now());
    End { keys, other: peer, at: address(own) }
}

fn address(seed: u8) -> SocketAddr {
    SocketAddr::new([192, 0, 2, seed].into(), 51820)
}

fn packet(mark: u8) -> Vec<u8> {
    let mut packet = vec![0; 28];
    (packet[0], packet[3], packet[20]) = (0x45, 28, mark);
    packet
}

impl End {
    /// Says where the other is; what is said to it then.
    fn place(&self, endpoint: Endpoint, keepalive: Option<Duration>) -> Said {
        let mut said = Said::new();
        self.other.place(endpoint, keepalive, Instant::now(), &mut |way, text| said.push((way, text.to_vec())));
        said
    }

    fn seal(&self, packet: &[u8]) -> Said {
        let (mut out, mut said) = (vec![0; 2000], Said::new());
        let sealed =
            self.other.seal(packet, &mut out, Instant::now(), &mut |way, text| said.push((way, text.to_vec())));
        if let Some((way, length)) = sealed.unwrap() {
            said.push((way, out[..length].to_vec()));
        }
        said
    }

    /// Takes a datagram; the packet in it, and what is said to it.
    fn open(&self, bytes: &[u8], from: Option<SocketAddr>) -> (Result<Option<Vec<u8>>, Dropped>, Said) {
        let (mut room, mut said) = (vec![0; 2000], Said::new());
        let index = match crate::demux::classify(bytes) {
            crate::demux::Kind::Answer(index) | crate::demux::Kind::Data(index) => Some(index >> 8),
            _ => None,
        };
        let datagram = Datagram { bytes, from, now: Instant::now() };
        let opened = self.other.open(index, &datagram, &mut room, &mut |way, text| said.push((way, text.to_vec())));
        let packet = opened.map(|opened| match opened {
            Opened::Packet(length) => Some(room[..length].to_vec()),
            Opened::Nothing => None,
        });
        (packet, said)
    }
}

/// Hands everything to and fro until nobody has anything to say; the packets that came out at each end.
fn converse(here: &End, there: &End, said: Said) -> [Vec<Vec<u8>>; 2] {
    let mut arrived = [Vec::new(), Vec::new()];
    let mut under_way: Vec<(bool, Vec<u8>)> = said.into_iter().map(|(_, text)| (true, text)).collect();
    while !under_way.is_empty() {
        let (to_there, text) = under_way.remove(0);
        let (from, to) = if to_there { (here, there) } else { (there, here) };
        let (opened, said) = to.open(&text, Some(from.at));
        arrived[usize::from(to_there)].extend(opened.ok().flatten());
        under_way.extend(said.into_iter().map(|(_, text)| (!to_there, text)));
    }
    arrived
}

fn introduced(preshared: [Option<[u8; 32]>; 2]) -> (End, End) {
    let (here, there) = (end(1, 2, preshared[0], 10), end(2, 1, preshared[1], 20));
    here.place(Endpoint::At(there.at), None);
    there.place(Endpoint::At(here.at), None);
    (here, there)
}

#[test]
fn a_packet_waits_for_the_handshake_that_it_causes() {
    let (here, there) = introduced([None, None]);
    let first = here.seal(&packet(1));
    assert_eq!((first.len(), first[0].1.len()), (1, 148));
    assert!(here.seal(&packet(2)).is_empty());
    assert_eq!(converse(&here, &there, first), [vec![], vec![packet(1), packet(2)]]);
    assert_eq!(converse(&there, &here, there.seal(&packet(3))), [vec![], vec![packet(3)]]);
    let (sent, got) = (here.other.report(Instant::now()), there.other.report(Instant::now()));
    assert_eq!((sent.tx, sent.rx), (got.rx, got.tx));
    assert!(sent.last_handshake.is_some() && got.last_handshake.is_some());
}

#[test]
fn nothing_is_sealed_for_one_whose_place_is_unknown_until_it_speaks() {
    let (here, there) = (end(1, 2, None, 10), end(2, 1, None, 20));
    let mut out = [0; 200];
    let sealed = here.other.seal(&packet(1), &mut out, Instant::now(), &mut |_, _| panic!("to whom?"));
    assert_eq!(sealed, Err(Dropped::NoEndpoint));
    there.place(Endpoint::At(here.at), None);
    converse(&there, &here, there.seal(&packet(2)));
    assert_eq!(here.other.endpoint(), Endpoint::At(there.at));
    assert_eq!(converse(&here, &there, here.seal(&packet(3))), [vec![], vec![packet(3)]]);
}

#[test]
fn an_old_first_message_from_elsewhere_is_answered_there_and_moves_nobody() {
    let (here, there) = introduced([None, None]);
    let recorded = here.seal(&packet(1));
    converse(&here, &there, recorded.clone());
    // The same again is refused.
    let elsewhere = address(99);
    let (again, said) = there.open(&recorded[0].1, Some(elsewhere));
    assert_eq!((again, said), (Err(Dropped::Replayed), vec![]));
    // One who has forgotten it cannot refuse it, but does not follow it either.
    let forgetful = end(2, 1, None, 30);
    forgetful.place(Endpoint::At(here.at), None);
    let (answered, said) = forgetful.open(&recorded[0].1, Some(elsewhere));
    assert_eq!((answered, said.len(), said[0].0), (Ok(None), 1, Way::To(elsewhere)));
    assert_eq!(forgetful.other.endpoint(), Endpoint::At(here.at));
}

#[test]
fn a_datagram_that_came_before_or_was_changed_is_dropped_and_moves_nobody() {
    let (here, there) = introduced([None, None]);
    converse(&here, &there, here.seal(&packet(1)));
    let sealed = here.seal(&packet(2));
    assert_eq!(there.open(&sealed[0].1, Some(here.at)).0, Ok(Some(packet(2))));
    assert_eq!(there.open(&sealed[0].1, Some(address(99))).0, Err(Dropped::Replayed));
    let mut changed = here.seal(&packet(3)).remove(0).1;
    changed[30] ^= 1;
    assert_eq!(there.open(&changed, Some(address(99))).0, Err(Dropped::Unauthentic));
    assert_eq!(there.other.endpoint(), Endpoint::At(here.at));
    let mut other_index = here.seal(&packet(4)).remove(0).1;
    other_index[5] ^= 1;
    assert_eq!(there.open(&other_index, Some(here.at)).0, Err(Dropped::NoSession));
}

#[test]
fn one_who_is_relayed_stays_so_whatever_comes_directly() {
    let (here, there) = introduced([None, None]);
    converse(&here, &there, here.seal(&packet(1)));
    there.place(Endpoint::Relayed, None);
    assert_eq!(there.open(&here.seal(&packet(2))[0].1, Some(here.at)).0, Ok(Some(packet(2))));
    assert_eq!(there.other.endpoint(), Endpoint::Relayed);
    assert_eq!(there.seal(&packet(3))[0].0, Way::Relay);
    there.place(Endpoint::Unknown, None);
    assert_eq!(there.other.endpoint(), Endpoint::Relayed);
}

#[test]
fn with_different_preshared_keys_there_is_no_session() {
    let (here, there) = introduced([Some([1; 32]), Some([2; 32])]);
    assert_eq!(converse(&here, &there, here.seal(&packet(1))), [Vec::<Vec<u8>>::new(), vec![]]);
    assert_eq!(here.other.report(Instant::now()).last_handshake, None);
}

fn switch(end: &End, preshared: [u8; 32], index: u32) -> Said {
    let mut said = Said::new();
    let now = Instant::now();
    end.other.switch(&end.keys, Some(preshared), index, now, &mut |way, text| said.push((way, text.to_vec())));
    said
}

#[test]
fn the_old_session_carries_on_until_both_have_the_new_key_and_then_what_was_under_way_still_arrives() {
    let (here, there) = introduced([None, None]);
    converse(&here, &there, here.seal(&packet(1)));
    // Here first: its handshake is in vain, and packets pass both ways all the same.
    let begun = switch(&here, [7; 32], 11);
    assert_eq!(begun[0].1.len(), 148);
    assert_eq!(converse(&here, &there, begun), [Vec::<Vec<u8>>::new(), vec![]]);
    assert_eq!(converse(&here, &there, here.seal(&packet(2))), [vec![], vec![packet(2)]]);
    assert_eq!(converse(&there, &here, there.seal(&packet(3))), [vec![], vec![packet(3)]]);
    assert_eq!(here.other.indices(), [10, 11]);
    // There too, with a packet under way in each direction.
    let (late_here, late_there) = (here.seal(&packet(4)), there.seal(&packet(5)));
    let begun = switch(&there, [7; 32], 21);
    converse(&there, &here, begun);
    assert_eq!(there.open(&late_here[0].1, Some(here.at)).0, Ok(Some(packet(4))));
    assert_eq!(here.open(&late_there[0].1, Some(there.at)).0, Ok(Some(packet(5))));
    assert_eq!((here.other.indices(), there.other.indices()), (vec![11, 10], vec![21, 20]));
    assert_eq!(converse(&here, &there, here.seal(&packet(6))), [vec![], vec![packet(6)]]);
    assert_eq!(converse(&there, &here, there.seal(&packet(7))), [vec![], vec![packet(7)]]);
    assert_eq!(here.other.preshared(), Some([7; 32]));
}

#[test]
fn a_peer_is_quiet_when_nobody_has_spoken_for_long_and_slow_with_a_keepalive() {
    let (here, there) = introduced([None, None]);
    let now = Instant::now();
    let pace = |end: &End, after: u64| pace(&end.other.state(), now + Duration::from_secs(after));
    assert_eq!(pace(&here, 5), Pace::Quiet);
    converse(&here, &there, here.seal(&packet(1)));
    assert_eq!([5, 100, 600].map(|after| pace(&here, after)), [Pace::Busy, Pace::Slow, Pace::Quiet]);
    here.place(Endpoint::Unknown, Some(Duration::from_secs(25)));
    assert_eq!(pace(&here, 600), Pace::Slow);
    // What a keepalive says opens at the other end, and is no packet.
    let mut said = Said::new();
    here.other.tick(now + Duration::from_secs(26), &mut |way, text| said.push((way, text.to_vec())));
    assert_eq!(said.len(), 1);
    assert_eq!(there.open(&said[0].1, Some(here.at)).0, Ok(None));
    // A new peer with one is spoken to at once.
    let (new, _) = introduced([None, None]);
    new.place(Endpoint::Unknown, Some(Duration::from_secs(25)));
    let mut first = Said::new();
    new.other.tick(now + Duration::from_secs(1), &mut |way, text| first.push((way, text.to_vec())));
    assert_eq!(first.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [148]);
    let mut early = Said::new();
    here.other.tick(now + Duration::from_secs(30), &mut |way, text| early.push((way, text.to_vec())));
    assert!(early.is_empty());
}

#[test]
fn a_handshake_that_went_to_the_wrong_place_is_said_again_at_the_right_one() {
    let (here, there) = introduced([None, None]);
    assert!(here.place(Endpoint::At(address(9)), None).is_empty());
    let lost = here.seal(&packet(1));
    assert!(lost.iter().all(|(way, _)| *way == Way::To(address(9))) && !lost.is_empty());
    let again = here.place(Endpoint::At(there.at), None);
    assert!(matches!(&again[..], [(Way::To(to), text)] if *to == there.at && text[0] == INITIATION));
    assert_eq!(converse(&here, &there, again)[1], [packet(1)]);
    // With a session there is nothing to be said again, and without a move neither.
    assert!(here.place(Endpoint::At(address(9)), None).is_empty());
    assert!(here.place(Endpoint::At(address(9)), None).is_empty());
}

#[test]
fn a_first_handshake_that_nobody_answers_is_soon_said_again_a_few_times() {
    let (here, there) = introduced([None, None]);
    assert_eq!(here.seal(&packet(1)).len(), 1);
    let began = Instant::now();
    let tick = |millis| {
        let mut said = Said::new();
        here.other.tick(began + Duration::from_millis(millis), &mut |way, text| said.push((way, text.to_vec())));
        said
    };
    let counts: Vec<usize> =
        [250, 600, 700, 1_700, 2_700, 3_800].into_iter().map(|millis| tick(millis).len()).collect();
    assert_eq!(counts, [0, 1, 0, 1, 0, 1]);
    assert!(tick(7_000).is_empty(), "after that it is WireGuard's own time");
    // The last one is as good as the first, and with a session there is nothing to be said again.
    let again = here.place(Endpoint::At(address(9)), None);
    assert_eq!(converse(&here, &there, again)[1], [packet(1)]);
    assert!(tick(7_500).is_empty());
}
