//! What a relay passes on, and what comes of it: limits on the one side, datagrams made whole on the other.

use super::probe::{MOST_PIECES, Piece};
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What this node passes on between two members, in bytes a second.
pub const PAIR_RATE: u64 = 2 << 20;
/// What it passes on in all, in bytes a second.
pub const TOTAL_RATE: u64 = 8 << 20;
/// How long a limit may be saved up.
const BURST: Duration = Duration::from_millis(250);
/// Pairs that are counted at a time; those that are idle make room.
const MOST_PAIRS: usize = 1_024;
/// Incomplete datagrams of one sender; the oldest gives way.
const MOST_OPEN: usize = 16;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: u64,
    at: Moment,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: u64, burst: Duration, now: Moment) -> Self {
        Self { left: saved(rate, burst), at: now }
    }

    /// Fills it up to now.
    fn fill(&mut self, rate: u64, burst: Duration, now: Moment) {
        let gained = saved(rate, now.since(self.at));
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(saved(rate, burst));
            self.at = now;
        }
    }

    /// Takes so many out, if they are there.
    pub fn take(&mut self, count: u64, rate: u64, burst: Duration, now: Moment) -> bool {
        self.fill(rate, burst, now);
        let enough = self.left >= count;
        if enough {
            self.left -= count;
        }
        enough
    }

    fn is_full(&mut self, rate: u64, burst: Duration, now: Moment) -> bool {
        self.fill(rate, burst, now);
        self.left >= saved(rate, burst)
    }
}

fn saved(rate: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    rate.saturating_mul(micros) / 1_000_000
}

/// The limits of what is passed on.
#[derive(Debug)]
pub(super) struct Limits {
    total: Bucket,
    pairs: BTreeMap<(NodeId, NodeId), Bucket>,
}

impl Limits {
    pub fn new(now: Moment) -> Self {
        Self { total: Bucket::full(TOTAL_RATE, BURST, now), pairs: BTreeMap::new() }
    }

    /// Whether so many bytes may go from one member to another now.
    pub fn take(&mut self, one: NodeId, other: NodeId, bytes: usize, now: Moment) -> bool {
        let pair = if one < other { (one, other) } else { (other, one) };
        if self.pairs.len() >= MOST_PAIRS && !self.pairs.contains_key(&pair) {
            self.pairs.retain(|_, bucket| !bucket.is_full(PAIR_RATE, BURST, now));
            if self.pairs.len() >= MOST_PAIRS {
                return false;
            }
        }
        let bytes = bytes as u64;
        let bucket = self.pairs.entry(pair).or_insert_with(|| Bucket::full(PAIR_RATE, BURST, now));
        // Of the pair's first: what one pair has too much of must not use up what is for all.
        bucket.take(bytes, PAIR_RATE, BURST, now) && self.total.take(bytes, TOTAL_RATE, BURST, now)
    }

    pub fn forget(&mut self, id: &NodeId) {
        self.pairs.retain(|(one, other), _| one != id && other != id);
    }
}

#[derive(Debug)]
struct Open {
    number: u16,
    pieces: Vec<Option<Vec<u8>>>,
}

/// Datagrams of others of which pieces came.
#[derive(Debug, Default)]
pub(super) struct Assembly(BTreeMap<NodeId, VecDeque<Open>>);

impl Assembly {
    /// Takes a sound piece in; the datagram, where that was the last one missing.
    pub fn take(&mut self, from: NodeId, piece: Piece) -> Option<Vec<u8>> {
        if piece.count == 1 {
            return Some(piece.bytes);
        }
        let count = usize::from(piece.count.min(MOST_PIECES));
        let open = self.0.entry(from).or_default();
        let is_it = |open: &Open| open.number == piece.number && open.pieces.len() == count;
        let at = match open.iter().position(is_it) {
            Some(at) => at,
            None => {
                if open.len() >= MOST_OPEN {
                    open.pop_front();
                }
                open.push_back(Open { number: piece.number, pieces: vec![None; count] });
                open.len() - 1
            }
        };
        let one = open.get_mut(at)?;
        *one.pieces.get_mut(usize::from(piece.index))? = Some(piece.bytes);
        if one.pieces.iter().any(Option::is_none) {
            return None;
        }
        let whole = open.remove(at)?;
        Some(whole.pieces.into_iter().flatten().flatten().collect())
    }

    pub fn forget(&mut self, id: &NodeId) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::cut;
    use super::*;
    use proptest::prelude::*;

    fn id(byte: u8) -> NodeId {
        NodeId::new([byte; 32])
    }

    #[test]
    fn a_pair_has_its_share_and_all_pairs_have_theirs() {
        let start = Moment::default();
        let sent = |pairs: u8, seconds: u64| -> u64 {
            let mut limits = Limits::new(start);
            let (mut sent, step) = (0, Duration::from_millis(10));
            for tick in 0..seconds * 100 {
                let now = start + step * u32::try_from(tick).unwrap();
                for pair in 0..pairs {
                    // Four times what a pair may have.
                    (0..80).filter(|_| limits.take(id(0), id(pair + 1), 1_024, now)).for_each(|_| sent += 1_024);
                }
            }
            sent / seconds
        };
        for (pairs, rate) in [(1, PAIR_RATE), (2, 2 * PAIR_RATE), (8, TOTAL_RATE)] {
            let sent = sent(pairs, 10);
            assert!(sent <= rate + rate / 20 && sent > rate * 9 / 10, "{pairs} pairs: {sent} of {rate}");
        }
    }

    #[test]
    fn either_direction_is_the_same_pair_and_pairs_do_not_pile_up() {
        let now = Moment::default();
        let mut limits = Limits::new(now);
        let ends = (0_u8..2).cycle().take(2_000);
        let taken = ends.filter(|end| limits.take(id(*end), id(1 - end), 1_024, now)).count();
        assert_eq!(taken as u64 * 1_024, PAIR_RATE / 4);
        let later = now + Duration::from_secs(10);
        for number in 0..3_000_u16 {
            let [high, low] = number.to_be_bytes();
            let mut name = [9; 32];
            (name[0], name[1]) = (high, low);
            limits.take(NodeId::new(name), id(1), 1, later + Duration::from_millis(u64::from(number)));
        }
        assert!(limits.pairs.len() <= MOST_PAIRS);
        limits.forget(&id(1));
        assert!(limits.pairs.keys().all(|pair| *pair == (id(0), id(1)) || pair.1 != id(1)));
    }

    proptest! {
        #[test]
        fn a_datagram_is_made_whole_from_its_pieces_in_any_order(
            length in 1_usize..9_000, seed in any::<u64>(), repeat in any::<bool>(),
        ) {
            let datagram: Vec<u8> = (0..=255).cycle().take(length).collect();
            let mut pieces = cut(7, &datagram);
            if repeat && pieces.len() > 1 {
                pieces.push(pieces[0].clone());
            }
            fastrand::Rng::with_seed(seed).shuffle(&mut pieces);
            let mut assembly = Assembly::default();
            let whole: Vec<_> = pieces.into_iter().filter_map(|piece| assembly.take(id(1), piece)).collect();
            prop_assert_eq!(whole, [datagram]);
        }

        #[test]
        fn pieces_whose_rest_never_comes_take_bounded_room(numbers in proptest::collection::vec(any::<u16>(), 0..200)) {
            let mut assembly = Assembly::default();
            for number in numbers {
                let piece = Piece { number, index: 0, count: 16, bytes: vec![1; 1_100] };
                prop_assert_eq!(assembly.take(id(1), piece), None);
            }
            prop_assert!(assembly.0.values().all(|open| open.len() <= MOST_OPEN));
        }
    }
}
