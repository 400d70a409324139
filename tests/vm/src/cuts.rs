//! Moments at which the power goes, and what the disk has lost by then.

use fastrand::Rng;
use kairn_lab::{DiskState, Replay};
use std::fmt;
use std::ops::Range;

/// Sectors of a request are written one by one.
const SECTOR: u64 = 512;

/// A power cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// After so many requests.
    pub count: usize,
    /// What decides about the writes since the last flush; `None` when all of them reached the disk.
    loss: Option<Loss>,
}

#[derive(Clone, Debug)]
enum Loss {
    /// So many of a hundred writes are lost; of the others some are torn.
    Drawn { seed: u64, lost: u8 },
    /// This one alone is lost.
    Only(usize),
    /// All others are lost.
    AllBut(usize),
}

impl Cut {
    /// A cut after so many requests that loses nothing.
    pub const fn at(count: usize) -> Self {
        Self { count, loss: None }
    }

    /// Draws cuts within a window of requests: by turns anywhere, where the disk's `place` is written, and before a flush, where most
    /// can be lost; every other one loses writes.
    pub fn draw(replay: &Replay, window: &Range<usize>, place: &Range<u64>, many: usize, rng: &mut Rng) -> Vec<Self> {
        let writes = replay.log().writes();
        let at = |wanted: &dyn Fn(usize) -> bool| window.clone().filter(|count| wanted(*count)).collect::<Vec<_>>();
        let there = at(&|count| {
            let write = count.checked_sub(1).and_then(|last| writes.get(last));
            write.is_some_and(|write| write.length > 0 && place.contains(&write.offset))
        });
        let before_flush = at(&|count| writes.get(count).is_some_and(|next| next.flush));
        let kinds = [at(&|_| true), there, before_flush];
        let can_lose = |count: &usize| !replay.log().losable(*count).is_empty();
        let lossy = kinds.each_ref().map(|kind| kind.iter().copied().filter(can_lose).collect::<Vec<_>>());
        let mut cuts = Vec::new();
        for number in 0..many {
            let kinds = if number % 2 == 1 { &lossy } else { &kinds };
            let kind = kinds.get(number % kinds.len()).filter(|kind| !kind.is_empty());
            let Some(count) = kind.or(kinds.first()).and_then(|kind| rng.choice(kind)) else { continue };
            let draw =
                |rng: &mut Rng| Loss::Drawn { seed: rng.u64(..), lost: *rng.choice(&[10, 50, 90, 100]).unwrap_or(&50) };
            cuts.push(Self { count: *count, loss: (number % 2 == 1).then(|| draw(rng)) });
        }
        cuts
    }

    /// For each write to a place within a window of requests the two cuts before the flush that makes it durable which tell its order
    /// among the writes beside it: it alone was lost, or it alone was not. On FAT, which has no journal, each write counts.
    pub fn each(replay: &Replay, window: &Range<usize>, place: &Range<u64>) -> Vec<Self> {
        let writes = replay.log().writes();
        let is_there = |number: &usize| writes.get(*number).is_some_and(|write| place.contains(&write.offset));
        let before_flush = window.clone().filter(|count| writes.get(*count).is_some_and(|next| next.flush));
        let losable = before_flush.map(|count| (count, replay.log().losable(count)));
        let there =
            losable.flat_map(|(count, losable)| losable.into_iter().filter(is_there).map(move |one| (count, one)));
        let both = |(count, one)| [Loss::Only(one), Loss::AllBut(one)].map(|loss| Self { count, loss: Some(loss) });
        there.flat_map(both).collect()
    }

    /// Returns the disk that it leaves.
    pub fn state(&self, replay: &Replay) -> DiskState {
        let whole_if = |is_kept: bool, length| if is_kept { 0..length } else { 0..0 };
        match self.loss {
            None => replay.cut(self.count, |_, length| 0..length),
            Some(Loss::Only(one)) => replay.cut(self.count, |number, length| whole_if(number != one, length)),
            Some(Loss::AllBut(one)) => replay.cut(self.count, |number, length| whole_if(number == one, length)),
            Some(Loss::Drawn { seed, lost }) => {
                let mut rng = Rng::with_seed(seed);
                replay.cut(self.count, |_, length| drawn(&mut rng, lost, length))
            }
        }
    }

    /// Returns how many requests it may lose.
    pub fn losable(&self, replay: &Replay) -> usize {
        if self.loss.is_some() { replay.log().losable(self.count).len() } else { 0 }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after request {}", self.count)?;
        match self.loss {
            Some(Loss::Drawn { seed, lost }) => {
                write!(f, ", {lost} of 100 unflushed writes lost (seed {seed:#018x})")
            }
            Some(Loss::Only(one)) => write!(f, ", request {one} lost"),
            Some(Loss::AllBut(one)) => write!(f, ", all unflushed writes lost but request {one}"),
            None => write!(f, ", nothing lost"),
        }
    }
}

/// What is left of a write of which so many of a hundred are lost.
fn drawn(rng: &mut Rng, lost: u8, length: u64) -> Range<u64> {
    match rng.u8(..100) {
        roll if roll < lost => 0..0,
        roll if roll % 4 == 0 => {
            let torn = rng.u64(0..=length / SECTOR) * SECTOR;
            if rng.bool() { 0..torn } else { torn..length }
        }
        _ => 0..length,
    }
}
