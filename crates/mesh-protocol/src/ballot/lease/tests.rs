use super::*;
use crate::ClusterName;
use crate::ballot::BallotName;
use crate::identity::Identity;
use crate::token::Token;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::convert::Infallible;

const LENGTH: Duration = Duration::from_secs(20);

fn scope() -> Scope {
    let name = BallotName::try_from("cluster".to_owned()).unwrap();
    Scope::new(Token::new([1; 32], None).network().id, ClusterName::default(), name)
}

fn at(milliseconds: u64) -> Moment {
    Moment::after(Duration::from_millis(milliseconds))
}

fn id(number: usize) -> NodeId {
    NodeId::new([u8::try_from(number).unwrap() + 1; 32])
}

fn roll(count: usize) -> Roll {
    let quorum = u16::try_from(count / 2 + 1).unwrap();
    Roll::new(quorum, (0..count).map(id).collect()).unwrap()
}

/// A machine: its voter, the lease that it wants, and what is on its disk. Its clock runs fast or slow.
struct Machine {
    voter: LeaseVoter,
    lease: Lease,
    disk: Option<(Term, NodeId)>,
    rate: f64,
    is_up: bool,
}

/// Machines and what is on its way: when it comes, from whom, to whom.
struct World {
    machines: Vec<Machine>,
    letters: Vec<(u64, usize, usize, LeaseBody)>,
    now: u64,
    random: fastrand::Rng,
    loss: f64,
    /// Which machines are on the one side of a partition.
    side: BTreeSet<usize>,
}

impl World {
    fn new(count: usize, seed: u64, loss: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let machines = (0..count).map(|number| Machine {
            voter: LeaseVoter::new(None, at(0)),
            lease: Lease::new(id(number), LENGTH, Term::default(), random.u64(..), at(0)),
            disk: None,
            // Two such clocks run apart by less than a tenth.
            rate: 0.96 + 0.08 * random.f64(),
            is_up: true,
        });
        let machines = machines.collect();
        Self { machines, letters: Vec::new(), now: 0, random, loss, side: BTreeSet::new() }
    }

    fn clock(&self, machine: usize) -> Moment {
        Moment::after(Duration::from_secs_f64(self.now as f64 / 1_000.0 * self.machines[machine].rate))
    }

    fn send(&mut self, from: usize, to: usize, body: &LeaseBody) {
        let is_cut = self.side.contains(&from) != self.side.contains(&to);
        for _ in 0..=u8::from(self.random.f64() < self.loss / 2.0) {
            if is_cut || (from != to && self.random.f64() < self.loss) {
                continue;
            }
            let slow = if self.random.f64() < self.loss / 2.0 { 30_000 } else { 100 };
            self.letters.push((self.now + 1 + self.random.u64(..slow), from, to, body.clone()));
        }
    }

    fn say(&mut self, from: usize, body: Option<LeaseBody>) {
        if let Some(body) = body {
            (0..self.machines.len()).for_each(|to| self.send(from, to, &body));
        }
    }

    fn crash(&mut self, number: usize) {
        self.machines[number].is_up = false;
    }

    fn restart(&mut self, number: usize) {
        let (now, seed) = (self.clock(number), self.random.u64(..));
        let machine = &mut self.machines[number];
        let seen = machine.disk.map_or(Term::default(), |(term, _)| term);
        machine.voter = LeaseVoter::new(machine.disk, now);
        machine.lease = Lease::new(id(number), LENGTH, seen, seed, now);
        machine.is_up = true;
    }

    fn hear(&mut self, from: usize, to: usize, body: &LeaseBody) {
        let (now, electorate) = (self.clock(to), roll(self.machines.len()));
        let machine = &mut self.machines[to];
        if !machine.is_up {
            return;
        }
        match body {
            LeaseBody::Ask(request) => {
                let disk = &mut machine.disk;
                let write = |term, holder| {
                    *disk = Some((term, holder));
                    Ok::<_, Infallible>(())
                };
                let answer = match machine.voter.grant(now, request, write) {
                    Ok(Ok(())) => LeaseBody::Grant(*request),
                    Ok(Err(why)) => LeaseBody::Withhold(*request, why),
                };
                self.send(to, from, &answer);
            }
            LeaseBody::Grant(request) => {
                machine.lease.granted(&electorate, id(from), request, Signature::new(Vec::new()));
            }
            LeaseBody::Withhold(request, why) => {
                let said = machine.lease.withheld((now, &electorate), id(from), request, *why);
                self.say(to, said);
            }
            LeaseBody::Release(request) => machine.voter.release(request),
        }
    }

    /// Runs for a while, and looks after each step who leads. `wants` are the machines that ask.
    fn run(&mut self, milliseconds: u64, wants: &BTreeSet<usize>) {
        let end = self.now + milliseconds;
        while self.now < end {
            for number in wants.iter().copied().filter(|number| self.machines[*number].is_up).collect::<Vec<_>>() {
                let now = self.clock(number);
                let said = self.machines[number].lease.due(now);
                self.say(number, said);
                let electorate = roll(self.machines.len());
                if let Some((to, body)) = self.machines[number].lease.again(now, &electorate) {
                    let places = (0..self.machines.len()).filter(|place| to.contains(&id(*place))).collect::<Vec<_>>();
                    places.into_iter().for_each(|to| self.send(number, to, &body));
                }
            }
            let due: Vec<_> = self.letters.extract_if(.., |letter| letter.0 <= self.now).collect();
            due.iter().for_each(|(_, from, to, body)| self.hear(*from, *to, body));
            let leaders = self.leaders();
            assert!(leaders.len() <= 1, "{} ms: {leaders:?}", self.now);
            self.now += 10;
        }
    }

    fn leaders(&self) -> Vec<(usize, Term)> {
        let leads = |number: &usize| {
            self.machines[*number].is_up && self.machines[*number].lease.hold(self.clock(*number)) == Hold::Exclusive
        };
        (0..self.machines.len()).filter(leads).map(|number| (number, self.machines[number].lease.term())).collect()
    }
}

fn all(count: usize) -> BTreeSet<usize> {
    (0..count).collect()
}

#[test]
fn of_several_that_ask_one_leads_and_goes_on_to() {
    for seed in 0..20 {
        let mut world = World::new(5, seed, 0.0);
        world.run(10_000, &all(5));
        let leaders = world.leaders();
        assert_eq!(leaders.len(), 1, "seed {seed}");
        for _ in 0..40 {
            world.run(5_000, &all(5));
            assert_eq!(world.leaders(), leaders, "seed {seed}");
        }
    }
}

#[test]
fn a_leader_that_crashed_is_replaced_once_its_lease_has_run_out() {
    for seed in 0..20 {
        let mut world = World::new(5, seed, 0.0);
        world.run(20_000, &all(5));
        let (leader, term) = world.leaders()[0];
        world.crash(leader);
        // By the voters' clocks, which may be slow; then four that ask at once part ways, which takes some rounds.
        world.run(LENGTH.as_millis() as u64 * 104 / 100 + 15_000, &all(5));
        let next = world.leaders();
        assert!(next.len() == 1 && next[0].0 != leader && next[0].1 > term, "seed {seed}: {next:?}");
        // What it comes back with does not lead beside the other.
        world.restart(leader);
        world.run(60_000, &all(5));
        assert!(world.leaders()[0].1 > term);
    }
}

#[test]
fn a_lease_that_is_given_up_is_free_at_once_and_its_release_frees_no_later_one() {
    let mut world = World::new(3, 7, 0.0);
    world.run(5_000, &BTreeSet::from([0]));
    let (_, term) = world.leaders()[0];
    let release = world.machines[0].lease.give_up();
    world.say(0, release.clone());
    world.run(1_500, &BTreeSet::from([1]));
    assert_eq!(world.leaders().len(), 1);
    assert!(world.leaders()[0].0 == 1 && world.leaders()[0].1 > term);
    world.say(0, release);
    world.run(15_000, &all(3));
    assert_eq!(world.leaders()[0].0, 1);
}

#[test]
fn without_a_quorum_it_is_advisory_and_lapses_by_itself() {
    let mut world = World::new(3, 1, 0.0);
    world.side = BTreeSet::from([0]);
    world.run(3_000, &BTreeSet::from([0]));
    let lease = &world.machines[0].lease;
    assert_eq!((lease.hold(world.clock(0)), lease.tenure()), (Hold::Advisory, None));
    assert_eq!(lease.hold(world.clock(0) + LENGTH), Hold::Lapsed);
}

#[test]
fn who_has_not_answered_is_asked_again_soon_and_not_for_ever_and_nobody_where_a_quorum_granted() {
    let (electorate, nothing) = (roll(5), || Signature::new(Vec::new()));
    let mut lease = Lease::new(id(0), LENGTH, Term::default(), 1, at(0));
    let Some(LeaseBody::Ask(request)) = lease.due(at(0)) else { panic!() };
    lease.granted(&electorate, id(0), &request, nothing());
    let why = Withheld { term: Term::default(), holder: id(0), milliseconds: 0 };
    assert_eq!(lease.withheld((at(100), &electorate), id(1), &request, why), None);
    lease.next = at(5_000);
    assert_eq!((lease.next_deadline(at(100)), lease.again(at(499), &electorate)), (at(500), None));
    // It is the same request, to those that said nothing.
    let mut times = Vec::new();
    for now in (0..5_000).step_by(10).map(at) {
        if let Some((to, body)) = lease.again(now, &electorate) {
            assert_eq!((to, body), ((2..5).map(id).collect(), LeaseBody::Ask(request)));
            times.push(now);
        }
    }
    assert_eq!(times, [at(500), at(1_500), at(3_500)]);
    // With a quorum nobody is asked, whoever is silent; what came late counts from when it was asked for first.
    let mut lease = Lease::new(id(0), LENGTH, Term::default(), 1, at(0));
    let Some(LeaseBody::Ask(request)) = lease.due(at(0)) else { panic!() };
    for voter in 0..3 {
        lease.granted(&electorate, id(voter), &request, nothing());
    }
    assert_eq!((lease.again(at(4_000), &electorate), lease.left(at(4_000))), (None, Duration::from_secs(14)));
    assert!(lease.next_deadline(at(0)) >= at(4_000), "nothing is due before it is renewed");
}

/// Letters are lost, and still it does not take a quarter of the lease until the next is sent.
#[test]
fn an_answer_that_was_lost_costs_about_a_second() {
    for seed in 0..20 {
        let mut world = World::new(5, seed, 0.0);
        // Of five letters to others, all but one are lost.
        world.loss = 0.8;
        world.run(20, &BTreeSet::from([0]));
        world.loss = 0.0;
        world.run(1_400, &BTreeSet::from([0]));
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
    }
}

#[test]
fn a_voter_that_comes_back_waits_as_long_as_any_lease_lasts_and_says_nothing_that_it_did_not_store() {
    let (holder, other) = (id(1), id(2));
    let request = |holder, term| Request { term: Term(term), holder, milliseconds: 5_000, number: 1 };
    let mut back = LeaseVoter::new(Some((Term(1), holder)), at(0));
    let write = |_, _| Ok::<_, Infallible>(());
    assert_eq!(
        back.grant(at(59_000), &request(other, 2), write),
        Ok(Err(Withheld { term: Term(1), holder, milliseconds: 1_000 }))
    );
    assert_eq!(back.grant(at(60_000), &request(other, 2), |_, _| Err("no space")), Err("no space"));
    assert_eq!(back.standing(at(60_000)), None);
    assert_eq!(back.grant(at(60_000), &request(other, 2), write), Ok(Ok(())));
    // The holder renews what it has without a write.
    assert_eq!(back.grant(at(61_000), &request(other, 2), |_, _| Err("no space")), Ok(Ok(())));
    assert_eq!(back.standing(at(61_000)), Some((Term(2), other, Duration::from_secs(5))));
    for impossible in [request(other, 0), Request { milliseconds: 60_001, ..request(other, 2) }] {
        assert!(back.grant(at(62_000), &impossible, write).unwrap().is_err());
    }
}

/// A voter and two runs of a holder that it has granted requests: the numbers 1 and 2 of the one, 1 of the other, under terms as given.
fn granted(terms: [u64; 3]) -> (LeaseVoter, [Request; 3]) {
    let request = |term, number| Request { term: Term(term), holder: id(1), milliseconds: 5_000, number };
    let [first, second, other] = terms;
    let requests = [request(first, 1), request(second, 2), request(other, 1 << 32 | 1)];
    (LeaseVoter::new(None, at(0)), requests)
}

fn is_granted(voter: &mut LeaseVoter, request: &Request) -> bool {
    voter.grant(at(0), request, |_, _| Ok::<_, Infallible>(())).unwrap().is_ok()
}

#[test]
fn a_release_frees_what_its_run_was_granted_until_then_in_whatever_order_they_come() {
    let other = Request { term: Term(9), holder: id(2), milliseconds: 5_000, number: 1 };
    // What is granted in this order, which is released after it, and whether another is granted it then.
    let cases: [(&[usize], usize, bool); 8] = [
        (&[0], 0, true),
        (&[0, 1], 1, true),
        (&[0, 1], 0, false),
        (&[1, 0], 0, false),
        (&[1, 0], 1, true),
        (&[1, 2], 1, false),
        (&[1, 2], 2, false),
        (&[2, 1, 2, 1], 1, false),
    ];
    for (asked, released, is_free) in cases {
        let (mut voter, requests) = granted([3, 3, 3]);
        asked.iter().for_each(|number| assert!(is_granted(&mut voter, &requests[*number])));
        voter.release(&requests[released]);
        assert_eq!(is_granted(&mut voter, &other), is_free, "{asked:?} {released}");
    }
    // A letter of a run that is over may have a higher term than the run of now.
    let (mut voter, requests) = granted([3, 4, 2]);
    [2, 1].iter().for_each(|number| assert!(is_granted(&mut voter, &requests[*number])));
    voter.release(&requests[1]);
    assert!(!is_granted(&mut voter, &other));
}

#[test]
fn a_release_does_not_shorten_the_wait_of_a_voter_that_came_back() {
    let (_, [request, ..]) = granted([3, 3, 3]);
    let mut voter = LeaseVoter::new(Some((Term(3), id(1))), at(0));
    assert!(is_granted(&mut voter, &request));
    voter.release(&request);
    assert!(!is_granted(&mut voter, &Request { term: Term(4), holder: id(2), ..request }));
}

#[test]
fn more_runs_than_a_voter_tells_apart_run_out_by_themselves() {
    let mut voter = LeaseVoter::new(None, at(0));
    let request = |run: u64| Request { term: Term(1), holder: id(1), milliseconds: 5_000, number: run << 32 };
    (0..9).for_each(|run| assert!(is_granted(&mut voter, &request(run))));
    assert_eq!(voter.runs.len(), MOST_RUNS);
    (0..9).for_each(|run| voter.release(&request(run)));
    let other = Request { term: Term(2), holder: id(2), ..request(0) };
    let write = |_, _| Ok::<_, Infallible>(());
    assert!(voter.grant(at(4_999), &other, write).unwrap().is_err());
    assert!(voter.grant(at(5_000), &other, write).unwrap().is_ok());
}

/// What is given up frees all voters, so grants of earlier requests that come late must not make a quorum.
#[test]
fn a_grant_of_a_request_before_the_one_that_was_given_up_does_not_count() {
    let (electorate, nothing) = (roll(5), || Signature::new(Vec::new()));
    let asked = |lease: &mut Lease, now| {
        let Some(LeaseBody::Ask(request)) = lease.due(now) else { panic!() };
        request
    };
    let mut lease = Lease::new(id(0), LENGTH, Term::default(), 1, at(0));
    let first = asked(&mut lease, at(0));
    let second = asked(&mut lease, at(7_000));
    let why = |holder| Withheld { term: Term(1), holder, milliseconds: 9_000 };
    let refused = |lease: &mut Lease, from: usize, request| {
        lease.withheld((at(7_100), &electorate), id(from), &request, why(id(from)))
    };
    let mut other = lease.clone();
    // Without a quorum left for the last, all is given up.
    assert!(refused(&mut lease, 2, second).is_none() && refused(&mut lease, 3, second).is_none());
    assert_eq!(refused(&mut lease, 4, second), Some(LeaseBody::Release(second)));
    // Without one for the first, the last may still get there.
    assert!(refused(&mut other, 2, first).is_none() && refused(&mut other, 3, first).is_none());
    assert_eq!(refused(&mut other, 4, first), Some(LeaseBody::Release(first)));
    for voter in 0..5 {
        assert!(!lease.granted(&electorate, id(voter), &first, nothing()));
        assert!(!other.granted(&electorate, id(voter), &first, nothing()));
        assert_eq!(other.granted(&electorate, id(voter), &second, nothing()), voter == 2);
    }
    assert_eq!((lease.hold(at(7_200)), other.hold(at(7_200))), (Hold::Lapsed, Hold::Exclusive));
    // A node that goes first makes another give way.
    let mut lease = Lease::new(id(4), LENGTH, Term::default(), 1, at(0));
    let first = asked(&mut lease, at(0));
    let second = asked(&mut lease, at(7_000));
    assert!(lease.withheld((at(7_100), &electorate), id(1), &second, why(id(1))).is_none());
    assert_eq!(lease.due(at(8_200)), Some(LeaseBody::Release(second)));
    (0..5).for_each(|voter| assert!(!lease.granted(&electorate, id(voter), &first, nothing())));
}

#[test]
fn a_proof_takes_a_quorum_of_the_electorate_over_this_very_lease() {
    let voters: Vec<Identity> = (1..=4).map(|seed| Identity::from_seed(&[seed; 32])).collect();
    let electorate = Roll::new(2, voters[..3].iter().map(Identity::id).collect()).unwrap();
    let mut lease = Lease::new(voters[0].id(), LENGTH, Term(6), 1, at(0));
    let Some(LeaseBody::Ask(request)) = lease.due(at(0)) else { panic!() };
    let sign = |voter: &Identity, request: &Request| voter.sign(Purpose::Ballot, &text(GRANT, &scope(), request));
    assert!(!lease.granted(&electorate, voters[3].id(), &request, sign(&voters[3], &request)), "no voter");
    assert!(!lease.granted(&electorate, voters[0].id(), &request, sign(&voters[0], &request)));
    assert!(!lease.granted(&electorate, voters[0].id(), &request, sign(&voters[0], &request)), "twice");
    assert!(lease.granted(&electorate, voters[1].id(), &request, sign(&voters[1], &request)));
    let tenure = lease.tenure().unwrap();
    let read = Tenure::decode(voters[0].id(), &tenure.encode().unwrap()).unwrap();
    assert_eq!((&read, read.term(), read.is_over()), (tenure, Term(7), false));
    assert!(read.verify(&scope(), &electorate).is_ok());
    assert!(read.clone().given_up().is_over());
    assert!(Tenure::decode(voters[1].id(), &tenure.encode().unwrap()).is_err(), "another's");
    let stranger = Roll::new(2, voters[1..].iter().map(Identity::id).collect()).unwrap();
    assert!(read.verify(&scope(), &stranger).is_err());
    let higher = Tenure { request: Request { term: Term(8), ..request }, ..read };
    assert!(higher.verify(&scope(), &electorate).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With loss, doubling, delays of half a minute, partitions, clocks that run apart, crashes and restarts there are never two.
    #[test]
    fn there_are_never_two_that_lead_exclusively(seed in any::<u64>(), count in 1_usize..6) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(count, seed, 0.2);
        for _ in 0..60 {
            let number = random.usize(..count);
            match random.u8(..8) {
                0 => world.crash(number),
                1 | 2 => world.restart(number),
                3 => world.side = (0..count).filter(|_| random.bool()).collect(),
                4 => world.side.clear(),
                5 => {
                    let release = world.machines[number].lease.give_up();
                    world.say(number, release);
                }
                _ => {}
            }
            let wants = (0..count).filter(|_| random.u8(..4) > 0).collect();
            world.run(random.u64(..8_000), &wants);
        }
        // Once it is quiet somebody leads.
        world.side.clear();
        world.loss = 0.0;
        (0..count).filter(|number| !world.machines[*number].is_up).collect::<Vec<_>>().into_iter().for_each(|number| world.restart(number));
        world.run(150_000, &all(count));
        prop_assert_eq!(world.leaders().len(), 1);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(tenure) = Tenure::decode(id(1), &bytes) {
            prop_assert!(tenure.verify(&scope(), &roll(3)).is_err());
        }
    }
}
