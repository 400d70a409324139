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
    lossy: Option<Lossy>,
}

#[derive(Clone, Debug)]
struct Lossy {
    seed: u64,
    /// How many of a hundred writes are lost; of the others some are torn.
    lost: u8,
}

impl Cut {
    /// A cut after so many requests that loses nothing.
    pub const fn at(count: usize) -> Self {
        Self { count, lossy: None }
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
                |rng: &mut Rng| Lossy { seed: rng.u64(..), lost: *rng.choice(&[10, 50, 90, 100]).unwrap_or(&50) };
            cuts.push(Self { count: *count, lossy: (number % 2 == 1).then(|| draw(rng)) });
        }
        cuts
    }

    /// Returns the disk that it leaves.
    pub fn state(&self, replay: &Replay) -> DiskState {
        let Some(lossy) = &self.lossy else { return replay.cut(self.count, |_, length| 0..length) };
        let mut rng = Rng::with_seed(lossy.seed);
        replay.cut(self.count, |_, length| match rng.u8(..100) {
            roll if roll < lossy.lost => 0..0,
            roll if roll % 4 == 0 => {
                let torn = rng.u64(0..=length / SECTOR) * SECTOR;
                if rng.bool() { 0..torn } else { torn..length }
            }
            _ => 0..length,
        })
    }

    /// Returns how many requests it may lose.
    pub fn losable(&self, replay: &Replay) -> usize {
        if self.lossy.is_some() { replay.log().losable(self.count).len() } else { 0 }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after request {}", self.count)?;
        match &self.lossy {
            Some(Lossy { seed, lost }) => write!(f, ", {lost} of 100 unflushed writes lost (seed {seed:#018x})"),
            None => write!(f, ", nothing lost"),
        }
    }
}
