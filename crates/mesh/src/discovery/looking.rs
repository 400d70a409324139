//! When a node looks for others in the local network: always while it is alone, and now and then in company, where members
//! tell each other of everybody and looking costs every machine of the network something.

use std::time::{Duration, Instant};

/// How long it looks after it has found company, and when it looks again.
const LENGTH: Duration = Duration::from_secs(20);
/// How often some member of a network looks: two parts of one that never heard of each other meet within this, about.
const PERIOD: Duration = Duration::from_secs(120);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Ask who is there, again and again.
    Begin,
    /// Ask no more; who asks is answered all the same.
    End,
}

/// Whether a node looks, and until or from when.
#[derive(Clone, Copy, Debug)]
pub enum Looking {
    /// It does, since then or since it was last alone.
    Since(Instant),
    /// It does not before then.
    From(Instant),
}

impl Looking {
    /// What changes now for a node that knows so many live members beside itself; `chance` is between 0 and 1.
    pub fn step(&mut self, now: Instant, others: usize, chance: f64) -> Option<Look> {
        match *self {
            Self::Since(_) if others == 0 => {
                *self = Self::Since(now);
                None
            }
            Self::Since(since) if now >= since + LENGTH => {
                let all = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
                *self = Self::From(now + PERIOD.saturating_mul(all).mul_f64(0.5 + chance.clamp(0.0, 1.0)));
                Some(Look::End)
            }
            Self::From(next) if others == 0 || now >= next => {
                *self = Self::Since(now);
                Some(Look::Begin)
            }
            Self::Since(_) | Self::From(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of a time so many nodes look, stepped every ten seconds.
    fn share(others: usize, length: Duration) -> f64 {
        let mut rng = fastrand::Rng::with_seed(1);
        let (start, step) = (Instant::now(), Duration::from_secs(10));
        let mut looking = Looking::Since(start);
        let (mut looks, mut at, mut time) = (true, Duration::ZERO, Duration::ZERO);
        while at < length {
            at += step;
            match looking.step(start + at, others, rng.f64()) {
                Some(Look::Begin) => looks = true,
                Some(Look::End) => looks = false,
                None => {}
            }
            time += if looks { step } else { Duration::ZERO };
        }
        time.as_secs_f64() / length.as_secs_f64()
    }

    #[test]
    fn a_node_that_is_alone_always_looks_and_one_of_many_seldom() {
        let day = Duration::from_hours(24);
        assert!((share(0, day) - 1.0).abs() < f64::EPSILON);
        // One of all looks a part of the time, however many they are.
        for others in [1, 9, 99] {
            let all = share(others, day) * (others as f64 + 1.0);
            assert!((0.05..0.3).contains(&all), "{others} others: {all}");
        }
    }

    #[test]
    fn a_node_that_lost_its_company_looks_at_once_and_goes_on_for_a_while_when_it_has_some() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut looking = Looking::Since(start);
        assert_eq!(looking.step(at(20), 3, 0.5), Some(Look::End));
        assert_eq!(looking.step(at(30), 3, 0.5), None);
        assert_eq!(looking.step(at(40), 0, 0.5), Some(Look::Begin));
        assert_eq!(looking.step(at(900), 0, 0.5), None);
        assert_eq!(looking.step(at(910), 1, 0.5), None);
        assert_eq!(looking.step(at(920), 1, 0.5), Some(Look::End));
    }

    #[test]
    fn no_number_of_members_is_too_many() {
        let mut looking = Looking::Since(Instant::now());
        assert_eq!(looking.step(Instant::now() + LENGTH, 4_096, 1.0), Some(Look::End));
    }
}
