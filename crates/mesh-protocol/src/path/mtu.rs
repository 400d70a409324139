//! How long a packet a path carries, found by asks of several lengths.

use crate::time::Moment;
use std::time::Duration;

/// Lengths of IP packets that paths have, after RFC 1191, section 7, and what tunnels and access lines leave of Ethernet.
const LENGTHS: [u16; 14] =
    [9_080, 9_000, 4_352, 1_500, 1_492, 1_480, 1_472, 1_460, 1_440, 1_420, 1_400, 1_380, 1_340, 1_280];
/// How often one length is tried.
const TRIES: u8 = 3;
/// How long an answer has.
const PAUSE: Duration = Duration::from_millis(400);
/// When it is looked at anew.
const AGAIN: Duration = Duration::from_secs(600);

/// The state of the search.
#[derive(Debug, Default)]
pub(super) struct Mtu {
    found: Option<u16>,
    trying: Option<u16>,
    tries: u8,
    next: Option<Moment>,
    /// Nothing is left to be tried for now.
    is_done: bool,
}

impl Mtu {
    pub const fn found(&self) -> Option<u16> {
        self.found
    }

    /// When the next length is tried; at once where nothing was yet.
    pub fn due(&self) -> Option<Moment> {
        Some(self.next.unwrap_or_default())
    }

    /// The next length to try, if it is time; `longest` is the most that matters.
    pub fn try_next(&mut self, now: Moment, longest: u16) -> Option<u16> {
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        if std::mem::take(&mut self.is_done) {
            (self.trying, self.tries) = (None, 0);
        }
        let length = match self.trying {
            Some(length) if self.tries < TRIES => Some(length),
            Some(failed) => LENGTHS.into_iter().find(|length| *length < failed && *length <= longest),
            None => Some(LENGTHS.into_iter().find(|length| *length <= longest).unwrap_or(longest)),
        };
        let Some(length) = length else {
            // Not even the least passed.
            self.found = None;
            self.rest(now);
            return None;
        };
        self.tries = if self.trying == Some(length) { self.tries + 1 } else { 1 };
        self.trying = Some(length);
        self.next = Some(now + PAUSE);
        Some(length)
    }

    /// An ask of this length was answered.
    pub fn passed(&mut self, length: u16, now: Moment) {
        if self.trying == Some(length) && !self.is_done {
            self.found = Some(length);
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Moment) {
        self.is_done = true;
        self.next = Some(now + AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found on a path that carries so much and loses the first `lost` asks, and how many asks that takes.
    fn search(carries: u16, longest: u16, lost: u32) -> (Option<u16>, u32) {
        let mut mtu = Mtu::default();
        let (mut now, mut asks) = (Moment::default(), 0);
        while now < Moment::after(AGAIN) {
            if let Some(length) = mtu.try_next(now, longest) {
                asks += 1;
                if length <= carries && asks > lost {
                    mtu.passed(length, now);
                }
            }
            now = now + PAUSE;
        }
        (mtu.found(), asks)
    }

    #[test]
    fn the_longest_packet_that_passes_is_found_in_spite_of_loss() {
        for (carries, longest, lost, found, asks) in [
            (1_500, 1_500, 0, Some(1_500), 1),
            (1_500, 1_500, 2, Some(1_500), 3),
            (1_492, 1_500, 0, Some(1_492), 4),
            (1_450, 1_500, 0, Some(1_440), 16),
            (9_000, 9_080, 0, Some(9_000), 4),
            (1_500, 1_300, 0, Some(1_280), 1),
            (576, 1_500, 0, None, 33),
        ] {
            assert_eq!(search(carries, longest, lost), (found, asks), "{carries} of {longest}");
        }
    }
}
