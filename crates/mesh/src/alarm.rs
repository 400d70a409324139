//! One alarm clock for all that the loop of a node waits for. The runtime's own timers lie in wheels of 64 slots: one that is far away
//! wakes the process at each finer wheel that it falls into, and the runtime wakes itself for each that is set nearer than the others.
//! A node at rest does little else than wait.

use crate::watched::{Watched, watch};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::task::coop::consume_budget;

/// The pause after which it would ring again by itself: it does not (timerfd_settime(2)).
const NEVER: Duration = Duration::ZERO;

/// The clock.
#[derive(Debug)]
pub struct Alarm {
    timer: Watched,
    set: Option<Instant>,
}

impl Alarm {
    /// A clock that is not set.
    ///
    /// # Errors
    /// The kernel has no more descriptors.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { timer: watch(timer, Interest::READABLE)?, set: None })
    }

    /// Waits until then, to the next millisecond. Who waits no longer, and then for the same moment again, has not set it anew.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn ring(&mut self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            // What is always due does not keep others from their turn.
            consume_budget().await;
            return Ok(());
        }
        if self.set != Some(at) {
            // Whole milliseconds: what is due in one of them has one alarm.
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX - 1) + 1);
            let value = Itimerspec { it_interval: spec(NEVER), it_value: spec(left) };
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &value)?;
            self.set = Some(at);
        }
        loop {
            let mut ready = self.timer.readable().await?;
            let count = &mut [0; 8];
            if let Ok(rung) = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), count)?)) {
                rung?;
                // It rings once each time that it is set.
                ready.clear_ready();
                self.set = None;
                return Ok(());
            }
        }
    }
}

fn spec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_rings_when_it_was_set_for_and_not_before_also_where_it_is_set_anew() {
        let mut alarm = Alarm::new().unwrap();
        let begin = Instant::now();
        let (soon, later) = (begin + Duration::from_millis(30), begin + Duration::from_hours(1));
        assert!(timeout(Duration::from_millis(5), alarm.ring(later)).await.is_err());
        for at in [soon, soon + Duration::from_millis(20), begin] {
            timeout(DEADLINE, alarm.ring(at)).await.unwrap().unwrap();
            assert!(Instant::now() >= at);
        }
        // It rings while nobody waits, and is set for later before anybody does.
        let (first, second) = (Instant::now() + Duration::from_millis(5), Instant::now() + Duration::from_millis(60));
        assert!(timeout(Duration::from_millis(1), alarm.ring(first)).await.is_err());
        tokio::time::sleep(Duration::from_millis(20)).await;
        timeout(DEADLINE, alarm.ring(second)).await.unwrap().unwrap();
        assert!(Instant::now() >= second);
    }
}
