//! Whether much passes through the tunnel, and how the scheduler is to take its two threads meanwhile.
//!
//! They hand on what they are woken for, so with every processor busy each wake interrupts whoever would soon have handed over more.
//! While much passes they wait for their turn instead (`SCHED_BATCH`), and find more in it; and the one that receives gives way a few
//! times before it sleeps, since a thread that sleeps for a moment leaves a processor idle that the kernel gives to no waiting one so
//! soon. `benches/throughput.rs` moves a tenth more by the first and some 6 % by the second. A packet that comes alone would be late
//! by that, where other programs keep the processors busy; so they are as others are whenever little passes.

use kairn_host::ThreadPolicy;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes in a second, by either thread: 256 Mb/s. Calls, games and requests stay far below it.
const MUCH: u128 = 32_000_000;
/// How long is looked at for a judgement.
const WINDOW: Duration = Duration::from_millis(100);
/// How often a thread gives way before it sleeps. Three times gain less; thirty gain no more.
const LOOKS: usize = 10;

/// Which of the two threads moves much: the other has its acknowledgements, which are small, and goes with it.
#[derive(Default)]
pub(super) struct Bulk([AtomicBool; 2]);

impl Bulk {
    fn tell(&self, thread: usize, much: bool) {
        if let Some(place) = self.0.get(thread) {
            place.store(much, Relaxed);
        }
    }

    fn passes(&self) -> bool {
        self.0.iter().any(|much| much.load(Relaxed))
    }
}

/// What one thread moved in the window that runs.
struct Gauge {
    since: Instant,
    bytes: u128,
}

impl Gauge {
    /// Counts; whether it was much, at the end of each window.
    fn count(&mut self, bytes: usize, now: Instant) -> Option<bool> {
        self.bytes += bytes as u128;
        let passed = now.saturating_duration_since(self.since);
        if passed < WINDOW {
            return None;
        }
        let moved = std::mem::take(&mut self.bytes);
        self.since = now;
        Some(moved * 1_000_000 >= MUCH * passed.as_micros())
    }
}

/// One of the two threads, as the scheduler takes it.
pub(super) struct Turn<'a> {
    bulk: &'a Bulk,
    thread: usize,
    gauge: Gauge,
    /// None where the administrator chose another than the usual policy, or it cannot be changed.
    policy: Option<ThreadPolicy>,
    /// Those in vain since there was something.
    looks: usize,
}

impl<'a> Turn<'a> {
    /// For the calling thread, which is one of the two.
    pub fn new(bulk: &'a Bulk, thread: usize, now: Instant) -> Self {
        let policy = ThreadPolicy::of_this_thread().unwrap_or_else(|error| {
            tracing::warn!(%error, "a thread of the tunnel cannot ask for its scheduling policy, which stays as it is");
            None
        });
        Self { bulk, thread, gauge: Gauge { since: now, bytes: 0 }, policy, looks: 0 }
    }

    /// Counts what was moved, also when that is nothing.
    pub fn count(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.looks = 0;
        }
        let Some(much) = self.gauge.count(bytes, now) else { return };
        self.bulk.tell(self.thread, much);
        let Some(policy) = &mut self.policy else { return };
        if let Err(error) = policy.set_batch(self.bulk.passes()) {
            tracing::warn!(%error, "a thread of the tunnel cannot change its scheduling policy, which stays as it is");
            self.policy = None;
        }
    }

    /// Gives way to other threads, where it is worth looking again after that instead of sleeping; whether it did.
    pub fn gives_way(&mut self) -> bool {
        let worth = self.looks < LOOKS && self.pause().is_some();
        if worth {
            self.looks += 1;
            std::thread::yield_now();
        }
        worth
    }

    /// How long it may wait at most, so that it does not begin with an old judgement after that.
    pub fn pause(&self) -> Option<Duration> {
        self.policy.as_ref().is_some_and(ThreadPolicy::is_batch).then_some(WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORTION: usize = 64_000;

    proptest! {
        #[test]
        fn what_is_much_depends_on_the_time_that_it_took(portions in 1_usize..200, each in 1_u64..20_000) {
            let mut now = Instant::now();
            let mut gauge = Gauge { since: now, bytes: 0 };
            let (mut began, mut moved) = (now, 0);
            for _ in 0..portions {
                now += Duration::from_micros(each);
                moved += PORTION;
                if let Some(much) = gauge.count(PORTION, now) {
                    let passed = now - began;
                    prop_assert!(passed >= WINDOW);
                    let rate = moved as f64 / passed.as_secs_f64();
                    prop_assert!((rate - 32e6).abs() < 1.0 || much == (rate > 32e6), "{rate}: {much}");
                    (began, moved) = (now, 0);
                } else {
                    prop_assert!(now - began < WINDOW);
                }
            }
        }
    }

    fn is_batch(turn: &Turn<'_>) -> bool {
        let batch = ThreadPolicy::of_this_thread().unwrap().is_none();
        assert_eq!(batch, turn.pause().is_some());
        batch
    }

    #[test]
    fn both_threads_wait_for_their_turn_while_either_moves_much_and_only_then() {
        let (bulk, mut now) = (Bulk::default(), Instant::now());
        let (mut out, mut inwards) = (Turn::new(&bulk, 0, now), Turn::new(&bulk, 1, now));
        // What the second thinks of the policy is of no matter here: both are this thread.
        inwards.policy = None;
        assert!(!is_batch(&out));
        let mut pass = |out: &mut Turn<'_>, outwards: usize, inbound: usize| {
            for _ in 0..20 {
                now += Duration::from_millis(10);
                inwards.count(inbound, now);
                out.count(outwards, now);
            }
        };
        pass(&mut out, 1_000, 1_000);
        assert!(!is_batch(&out), "100 kB/s");
        pass(&mut out, 500_000, 1_000);
        assert!(is_batch(&out), "50 MB/s");
        pass(&mut out, 1_000, 500_000);
        assert!(is_batch(&out), "the other moves much");
        pass(&mut out, 1_000, 0);
        assert!(!is_batch(&out), "neither does");
    }

    #[test]
    fn it_gives_way_some_times_after_each_packet_while_much_passes() {
        let (bulk, now) = (Bulk::default(), Instant::now());
        let mut turn = Turn::new(&bulk, 1, now);
        assert!(!turn.gives_way(), "nothing passes");
        turn.count(10_000_000, now + WINDOW);
        let times = |turn: &mut Turn<'_>| std::iter::repeat_with(|| turn.gives_way()).take_while(|gave| *gave).count();
        assert_eq!((times(&mut turn), times(&mut turn)), (LOOKS, 0));
        turn.count(0, now + WINDOW);
        assert_eq!(times(&mut turn), 0, "that was nothing");
        turn.count(1, now + WINDOW);
        assert_eq!(times(&mut turn), LOOKS);
    }

    #[test]
    fn a_policy_that_the_administrator_chose_stays() {
        let (bulk, now) = (Bulk::default(), Instant::now());
        ThreadPolicy::of_this_thread().unwrap().unwrap().set_batch(true).unwrap();
        let mut turn = Turn::new(&bulk, 0, now);
        turn.count(0, now + WINDOW);
        assert!(ThreadPolicy::of_this_thread().unwrap().is_none(), "it is what it was");
        assert!(turn.pause().is_none() && !turn.gives_way());
    }
}
