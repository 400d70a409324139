//! When a node looks for others in the local network, by multicast: always while it is alone, and now and then in company, where
//! members tell each other of everybody.
//!
//! All that are there answer a look, and all receive each answer. So the more there are, the rarer and the shorter looks are: what a
//! node of any network receives of them stays within [`BUDGET`] on average, even where all members are in one local network.

use crate::time::Moment;
use std::time::Duration;

/// What a node receives of the looks of all members at most, in bytes per second, averaged over the time between two looks.
pub const BUDGET: f64 = 250.0;

/// What a node receives of each other that answers a look, in bytes of IP packets over IPv4 and IPv6 together.
///
/// Measured with `cargo test -p kairn-mesh -- --ignored --nocapture a_look_costs`: 10, 20 and 40 machines on one bridge, each with one
/// address of either family, answered with 430 to 450 bytes each, once; what repeated questions list is not in it.
pub const ANSWER: u64 = 440;
/// What a question is, both families together: measured there too, 158 bytes without answers that are known already.
pub const QUESTION: u64 = 158;
/// What a repeated question is longer for each answer that its asker has (RFC 6762, 7.1): measured there too, 25 bytes in either family.
/// Those who are listed do not answer again.
pub const KNOWN: u64 = 50;
/// What a node that starts tells all others of itself, unasked: probes of its names and two announcements (RFC 6762, 8), measured
/// there too as 2,602 to 2,614 bytes, in which some of IPv6 itself are.
pub const ANNOUNCEMENT: u64 = 2_600;
/// When the questions of a look go, in seconds after the first; so on by powers of two.
pub const QUESTIONS: [u64; 5] = [0, 1, 3, 7, 15];

/// How long a node of a small network looks in company.
const LENGTH: Duration = Duration::from_secs(20);
/// The shortest look: answers to its question come well within that, and it is over before the second question.
const SHORTEST: Duration = Duration::from_millis(800);
/// Up to so many members a network is small. Beyond, what a repeated question lists and how many may ask it grow both.
const SMALL: f64 = 30.0;
/// How often some member of a small network looks: two parts of one that never heard of each other meet within this, about.
const PERIOD: Duration = Duration::from_secs(120);

/// The least chance that is taken: it makes a wait of seven mean ones.
const RAREST: f64 = 0.000_912;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Ask who is there, again and again.
    Begin,
    /// Ask no more; who asks is answered all the same.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It looks, since then, and has had company since then.
    Looks { since: Moment, company: Option<Moment> },
    /// It does not, and at that moment had so much to wait, in the waits of a network as large as it is.
    Rests { at: Moment, left: f64 },
}

/// Whether a node looks, and until or from when.
#[derive(Clone, Copy, Debug)]
pub struct Looking(State);

/// How many there are.
fn all(others: usize) -> f64 {
    u32::try_from(others).map_or(f64::INFINITY, f64::from) + 1.0
}

/// How long a node looks in company of so many.
fn length(others: usize) -> Duration {
    LENGTH.mul_f64((SMALL / all(others)).powi(2).min(1.0))
}

/// How long a node of so many waits between two looks, on average.
fn wait(others: usize) -> Duration {
    let all = all(others).min(1e6);
    let one = (ANSWER + KNOWN * (QUESTIONS.len() as u64 - 1)) as f64;
    PERIOD.max(Duration::from_secs_f64(all * one / BUDGET)).mul_f64(all)
}

/// How much a node waits, in mean waits. Without memory, so that of many that start together some look soon, and as many each hour
/// as in any other.
fn left(chance: f64) -> f64 {
    -chance.clamp(RAREST, 1.0).ln()
}

impl Looking {
    /// Looks since that moment, and was alone then.
    pub const fn since(now: Moment) -> Self {
        Self(State::Looks { since: now, company: None })
    }

    /// When [`Looking::step`] may have something to change, for a node that knows so many live members beside itself; nothing while it
    /// looks and is alone.
    pub fn due(&self, others: usize) -> Option<Moment> {
        match self.0 {
            State::Looks { company: None, .. } if others == 0 => None,
            State::Looks { since, company: None } => Some(since),
            State::Looks { since, company: Some(company) } => Some((company + length(others)).max(since + SHORTEST)),
            State::Rests { at, .. } if others == 0 => Some(at),
            // A moment late, whatever is lost in rounding: it is not due again and again.
            State::Rests { at, left } => Some(at + wait(others).mul_f64(left.max(0.0)) + Duration::from_millis(1)),
        }
    }

    /// What changes now for a node that knows so many live members beside itself; `chance` is between 0 and 1.
    pub fn step(&mut self, now: Moment, others: usize, chance: f64) -> Option<Look> {
        match &mut self.0 {
            State::Looks { company, .. } if others == 0 => {
                *company = None;
                None
            }
            State::Looks { since, company } => {
                let company = *company.get_or_insert(now);
                if now < (company + length(others)).max(*since + SHORTEST) {
                    return None;
                }
                self.0 = State::Rests { at: now, left: left(chance) };
                Some(Look::End)
            }
            State::Rests { at, left } => {
                // In parts of a wait: where the network grows or shrinks nobody waits as for another, and not all are due at once.
                *left -= now.since(*at).div_duration_f64(wait(others));
                *at = now;
                if others > 0 && *left > 0.0 {
                    return None;
                }
                self.0 = State::Looks { since: now, company: (others > 0).then_some(now) };
                Some(Look::Begin)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chance that makes a mean wait.
    const MEAN: f64 = 1.0 / std::f64::consts::E;
    const DAY: Duration = Duration::from_hours(24);

    fn at(milliseconds: u64) -> Moment {
        Moment::after(Duration::from_millis(milliseconds))
    }

    /// How often a node with so many others looks in a time, and for how long in all, stepped when it is due and every ten seconds.
    fn looks(others: usize, length: Duration) -> (u32, Duration) {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut looking = Looking::since(at(0));
        let (mut begun, mut since, mut time, mut now) = (0, Some(at(0)), Duration::ZERO, at(0));
        while now < Moment::after(length) {
            let later = now + Duration::from_secs(10);
            now = looking.due(others).filter(|due| *due > now).map_or(later, |due| due.min(later));
            match looking.step(now, others, rng.f64()) {
                Some(Look::Begin) => {
                    begun += 1;
                    since = Some(now);
                }
                Some(Look::End) => time += since.take().map_or(Duration::ZERO, |since| now.since(since)),
                None => {}
            }
        }
        (begun, time + since.map_or(Duration::ZERO, |since| now.since(since)))
    }

    #[test]
    fn a_node_that_is_alone_always_looks_and_never_begins_anew() {
        assert_eq!(looks(0, DAY), (0, DAY));
    }

    #[test]
    fn some_member_of_a_small_network_looks_every_two_minutes_for_twenty_seconds() {
        for others in [1, 2, 9, 29] {
            let (begun, time) = looks(others, 60 * DAY);
            let of_all = f64::from(begun) * all(others);
            assert!((0.7..1.3).contains(&(of_all / (60.0 * 720.0))), "{others} others: {of_all}");
            let mean = time.as_secs_f64() / (f64::from(begun) + 1.0);
            assert!((19.0..22.0).contains(&mean), "{others} others: {mean} s");
        }
    }

    #[test]
    fn what_a_node_receives_of_looks_is_within_the_budget_however_many_there_are() {
        for nodes in [2, 10, 31, 47, 100, 300, 1_000, 4_096] {
            let others = nodes - 1;
            let look = length(others).max(SHORTEST).as_secs();
            let questions = QUESTIONS.iter().filter(|second| **second <= look).count() as u64;
            let bytes = nodes as u64 * (ANSWER + (questions - 1) * KNOWN) + questions * QUESTION;
            let rate = bytes as f64 * nodes as f64 / wait(others).as_secs_f64();
            assert!(rate <= BUDGET, "{nodes}: {rate} B/s");
            assert!(nodes < 47 || rate > 0.6 * BUDGET, "{nodes}: {rate} B/s");
        }
    }

    #[test]
    fn in_a_large_network_a_look_is_over_before_its_second_question() {
        let mut looking = Looking::since(at(0));
        assert_eq!((looking.due(0), looking.step(at(100), 0, 0.5)), (None, None));
        // It knows more with every step.
        assert_eq!(looking.step(at(200), 1, 0.5), None);
        assert_eq!(looking.due(1), Some(at(20_200)));
        assert_eq!(looking.due(999), Some(at(800)));
        assert_eq!(looking.step(at(799), 999, 0.5), None);
        assert_eq!(looking.step(at(800), 999, 0.5), Some(Look::End));
    }

    #[test]
    fn a_node_that_lost_its_company_looks_at_once_and_goes_on_for_a_while_when_it_has_some() {
        let mut looking = Looking::since(at(0));
        assert_eq!(looking.step(at(1_000), 3, 0.5), None);
        assert_eq!(looking.step(at(21_000), 3, 0.5), Some(Look::End));
        assert_eq!(looking.step(at(30_000), 3, 0.5), None);
        assert_eq!(looking.due(0), Some(at(30_000)));
        assert_eq!(looking.step(at(40_000), 0, 0.5), Some(Look::Begin));
        assert_eq!(looking.step(at(900_000), 0, 0.5), None);
        assert_eq!(looking.step(at(910_000), 1, 0.5), None);
        // Alone again in between: it has company anew.
        assert_eq!(looking.step(at(920_000), 0, 0.5), None);
        assert_eq!(looking.step(at(925_000), 1, 0.5), None);
        assert_eq!(looking.step(at(944_999), 1, 0.5), None);
        assert_eq!(looking.step(at(945_000), 1, 0.5), Some(Look::End));
    }

    #[test]
    fn a_wait_is_as_long_as_the_network_is_large_now() {
        let hours = |hours: u64| at(hours * 3_600_000);
        let mut looking = Looking::since(at(0));
        looking.step(at(0), 999, MEAN);
        assert_eq!(looking.step(at(800), 999, MEAN), Some(Look::End));
        // A month for a thousand; half of it has gone.
        assert_eq!(looking.step(hours(356), 999, 0.5), None);
        let due = looking.due(4).unwrap();
        assert!((280..320).contains(&due.since(hours(356)).as_secs()), "{due:?}");
        assert_eq!(looking.step(due, 4, 0.5), Some(Look::Begin));
    }

    #[test]
    fn when_a_large_network_is_parted_its_members_do_not_look_all_at_once() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut members: Vec<Looking> =
            (0..1_000).map(|_| Looking(State::Rests { at: at(0), left: left(rng.f64()) })).collect();
        let mut began = |seconds: u64, others: usize| {
            let now = at(seconds * 1_000);
            members.iter_mut().filter_map(|one| one.step(now, others, 0.5)).filter(|look| *look == Look::Begin).count()
        };
        assert!(began(3_600, 999) < 10);
        assert!(began(3_610, 499) < 3);
        // But oftener from then on.
        assert!((4..40).contains(&began(10_800, 499)));
    }

    #[test]
    fn no_number_of_members_is_too_many() {
        for others in [4_096, usize::MAX] {
            let mut looking = Looking::since(at(0));
            assert_eq!(looking.step(at(10), others, 0.0), None);
            assert_eq!(looking.step(at(810), others, 0.0), Some(Look::End));
            assert!(looking.due(others).is_some());
            assert_eq!(looking.step(at(1_000_000), others, 0.0), None);
        }
    }
}
