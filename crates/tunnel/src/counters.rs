//! What was dropped and why, and how often the threads woke up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a packet or datagram was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Dropped {
            $($(#[$doc])* $name,)*
        }

        impl Dropped {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it in metrics.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// A packet to an address that is behind no peer.
    NoRoute = "no_route",
    /// A packet to a peer of which nobody knows where it is.
    NoEndpoint = "no_endpoint",
    /// An authentic packet whose source address is not one of its sender's.
    Source = "source",
    /// A datagram that the named session or key did not make.
    Unauthentic = "unauthentic",
    /// A datagram that came before, or far too late.
    Replayed = "replayed",
    /// A handshake with somebody who is no peer.
    Stranger = "stranger",
    /// A datagram of a session that nobody knows here.
    NoSession = "no_session",
    /// A datagram or packet that is malformed.
    Malformed = "malformed",
    /// A datagram or packet that is larger than an interface carries.
    Oversize = "oversize",
    /// A handshake that was asked to prove its address first.
    UnderLoad = "under_load",
    /// A datagram that is neither WireGuard's nor a probe.
    Foreign = "foreign",
    /// A datagram from inside the tunnel: it would go round in circles.
    Looped = "looped",
    /// A probe for which the caller had no room.
    ProbesFull = "probes_full",
    /// A datagram to a relay for which the caller had no room.
    RelayFull = "relay_full",
    /// A datagram by relay of a peer that is not relayed.
    NotRelayed = "not_relayed",
    /// A datagram that the system did not send.
    Send = "send",
    /// A packet that the interface did not take.
    Write = "write",
}

/// Counters of one tunnel. All only grow.
#[derive(Debug, Default)]
pub struct Counters {
    dropped: [AtomicU64; Dropped::ALL.len()],
    wakeups: AtomicU64,
}

impl Counters {
    /// How many were dropped for a reason.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(why as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// How often a thread of the tunnel woke up.
    pub fn wakeups(&self) -> u64 {
        self.wakeups.load(Relaxed)
    }

    pub(crate) fn drop_one(&self, why: Dropped) {
        if let Some(count) = self.dropped.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn wake(&self) {
        self.wakeups.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_word_of_its_own() {
        let counters = Counters::default();
        for (place, why) in Dropped::ALL.iter().enumerate() {
            assert_eq!(*why as usize, place);
            counters.drop_one(*why);
            assert_eq!(counters.dropped(*why), 1, "{}", why.word());
        }
        let words: std::collections::BTreeSet<_> = Dropped::ALL.iter().map(|why| why.word()).collect();
        assert_eq!(words.len(), Dropped::ALL.len());
    }
}
