//! Runs scenarios, several at a time as far as processors go, and counts them. Its last line is `N passed, N failed, N skipped`.

use crate::fault::Fault;
use crate::world::{Stage, World};
use std::any::Any;
use std::collections::VecDeque;
use std::fs;
#[cfg(not(test))]
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// What there is to share: three machines that compute keep the two processors of a small machine busy, since each waits now and then.
const SLOTS: usize = 3 * COMPUTES;
/// The slots of a machine that computes most of its time.
pub const COMPUTES: usize = 2;
/// The slots of a machine that waits most of its time, e.g. for a watchdog.
pub const WAITS: usize = 1;

/// How a scenario ended that did not fail.
pub enum Verdict {
    /// All that it promises holds.
    Passed,
    /// It cannot run here; the reason.
    Skipped(String),
}

/// A scenario.
pub struct Scenario {
    /// Its name: letters, digits and `-`.
    pub name: &'static str,
    /// What it shows, as a sentence.
    pub about: &'static str,
    /// How many slots it needs: those of all its machines that run at a time.
    pub slots: usize,
    /// What it does.
    pub run: fn(&Stage<'_>) -> Result<Verdict, Fault>,
}

/// The same into what the test harness captures.
#[cfg(test)]
pub fn say(line: &str) {
    println!("{line}");
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Says a line on stdout at once, whole. A stdout that is closed leaves nobody to tell.
#[cfg(not(test))]
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap_or_default();
}

/// Runs the scenarios whose names hold one of the filters, all without a filter; says whether none failed and mute guests were
/// rare.
pub fn run(world: &World, all: &[Scenario], filter: &[&str]) -> Result<bool, Fault> {
    let wanted = |scenario: &&Scenario| filter.is_empty() || filter.iter().any(|part| scenario.name.contains(part));
    let queue: VecDeque<&Scenario> = all.iter().filter(wanted).collect();
    if queue.is_empty() {
        return Err(Fault::Failed(format!("no scenario has `{}` in its name", filter.join("` or `"))));
    }
    world.tally.clear()?;
    let (queue, slots, counts) = (Mutex::new(queue), Slots::new(SLOTS), Mutex::new(Counts::default()));
    thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| {
                loop {
                    // Who waits for slots keeps the queue: one that needs many is not passed by those behind it. A statement of its
                    // own, so that the queue is free while the scenario runs.
                    let next = {
                        let mut queue = lock(&queue);
                        queue.pop_front().map(|scenario| (scenario, slots.take(scenario.slots)))
                    };
                    let Some((scenario, taken)) = next else { break };
                    say(&format!("START {}: {}", scenario.name, scenario.about));
                    let began = Instant::now();
                    let ended = match perform(world, scenario) {
                        Err(fault @ Fault::Mute) => {
                            say(&format!("AGAIN {}: {fault}", scenario.name));
                            Stage::set_logs_aside(world, scenario.name).and_then(|()| perform(world, scenario))
                        }
                        ended => ended,
                    };
                    drop(taken);
                    conclude(scenario, ended, began, &mut lock(&counts));
                }
            });
        }
    });
    let mut counts = lock(&counts);
    let boots = world.tally.counts()?;
    say(&format!(
        "guests: {} boots, {} restarted since they were mute {:?}",
        boots.boots,
        boots.retried.len(),
        boots.retried
    ));
    if let Err(error) = world.tally.verdict() {
        counts.failed += 1;
        say(&format!("FAIL  guests: {error}"));
    }
    say(&format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped));
    Ok(counts.failed == 0)
}

/// Runs one scenario; a panic in it is a failure like others. Its directory stays when it failed.
fn perform(world: &World, scenario: &Scenario) -> Result<Verdict, Fault> {
    let stage = Stage::set(world, scenario.name)?;
    let ended = panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(&stage)));
    let verdict =
        ended.unwrap_or_else(|panic| Err(Fault::Failed(format!("it panicked: {}", panic_text(panic.as_ref())))));
    let tail = stage.keep_logs()?;
    let verdict = match verdict {
        Err(Fault::Cannot(reason)) => Ok(Verdict::Skipped(reason)),
        Err(Fault::Lab(kairn_lab::Error::NoPackage { object, package })) => {
            Ok(Verdict::Skipped(format!("`{object}` is not installed; it is in the package {package}")))
        }
        verdict => verdict,
    };
    match verdict {
        Ok(verdict) => fs::remove_dir_all(&stage.dir).map(|()| verdict).map_err(Fault::io("remove its directory")),
        Err(Fault::Mute) => Err(Fault::Mute),
        Err(fault) => Err(Fault::Failed(format!("{fault}\n      what it left: {}{tail}", stage.dir.display()))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

fn conclude(scenario: &Scenario, ended: Result<Verdict, Fault>, began: Instant, counts: &mut Counts) {
    let (name, seconds) = (scenario.name, began.elapsed().as_secs());
    match ended {
        Ok(Verdict::Passed) => {
            counts.passed += 1;
            say(&format!("PASS  {name} ({seconds} s)"));
        }
        Ok(Verdict::Skipped(reason)) => {
            counts.skipped += 1;
            // Not `skipped: `, which `cargo xtask` counts by itself in the output of libtest.
            say(&format!("SKIP  {name}: {reason}"));
        }
        Err(fault) => {
            counts.failed += 1;
            say(&format!("FAIL  {name} ({seconds} s): {fault}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts free slots; who needs several takes them all at once, so nobody waits while holding some.
struct Slots {
    all: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    const fn new(all: usize) -> Self {
        Self { all, free: Mutex::new(all), freed: Condvar::new() }
    }

    fn take(&self, count: usize) -> Taken<'_> {
        let count = count.clamp(1, self.all);
        let mut free =
            self.freed.wait_while(lock(&self.free), |free| *free < count).unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Taken { slots: self, count }
    }
}

struct Taken<'a> {
    slots: &'a Slots,
    count: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *lock(&self.slots.free) += self.count;
        self.slots.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_host::Runner;
    use kairn_lab::{Cache, KeyPair, Tally};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn world(dir: &tempfile::TempDir) -> World {
        World {
            kairn: PathBuf::new(),
            init: PathBuf::new(),
            guest: None,
            registry: None,
            kernel_tests: None,
            work: dir.path().into(),
            logs: dir.path().join("logs"),
            cache: Cache::open(dir.path().join("images")).unwrap(),
            key: KeyPair::at("/none"),
            tally: Tally::new(dir.path().join("tally")),
            runner: Runner::default(),
        }
    }

    const fn scenario(name: &'static str, run: fn(&Stage<'_>) -> Result<Verdict, Fault>) -> Scenario {
        Scenario { name, about: "", slots: 1, run }
    }

    #[test]
    fn a_failure_or_panic_fails_the_run_and_leaves_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            scenario("good", |stage| {
                fs::write(stage.dir.join("x"), "").map(|()| Verdict::Passed).map_err(Fault::io("write"))
            }),
            scenario("bad", |stage| {
                fs::write(stage.dir.join("x"), "").map_err(Fault::io("write")).and(Err(Fault::Failed("no".into())))
            }),
            scenario("wild", |_| panic!("boom")),
        ];
        assert!(!run(&world(&dir), &all, &[]).unwrap());
        assert!(
            dir.path().join("bad/x").exists() && dir.path().join("wild").exists() && !dir.path().join("good").exists()
        );
        assert!(run(&world(&dir), &all, &["good"]).unwrap());
        assert!(run(&world(&dir), &all, &["absent"]).is_err());
    }

    #[test]
    fn too_many_mute_guests_fail_a_run_in_which_all_passed() {
        let dir = tempfile::tempdir().unwrap();
        let all = [scenario("mute", |stage| {
            stage.world.tally.boot("m")?;
            stage.world.tally.retry("m")?;
            Ok(Verdict::Passed)
        })];
        assert!(!run(&world(&dir), &all, &[]).unwrap());
    }

    #[test]
    fn a_scenario_that_a_mute_guest_has_spoiled_begins_anew_once() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let dir = tempfile::tempdir().unwrap();
        let spoiled = scenario("spoiled", |_| match BEGUN.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Fault::Mute),
            _ => Ok(Verdict::Passed),
        });
        assert!(run(&world(&dir), &[spoiled], &[]).unwrap());
        assert!(world(&dir).logs.join("spoiled.mute").is_dir() && world(&dir).logs.join("spoiled").is_dir());
        assert!(!run(&world(&dir), &[scenario("always", |_| Err(Fault::Mute))], &[]).unwrap());
        assert_eq!(BEGUN.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn scenarios_run_at_a_time_as_far_as_slots_go() {
        static HERE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
        fn meets(_: &Stage<'_>) -> Result<Verdict, Fault> {
            let mut here = lock(&HERE.0);
            *here += 1;
            HERE.1.notify_all();
            let deadline = std::time::Duration::from_secs(30);
            let (here, timed) = HERE.1.wait_timeout_while(here, deadline, |here| *here < 2).unwrap();
            drop(here);
            if timed.timed_out() { Err(Fault::Failed("the other did not come".into())) } else { Ok(Verdict::Passed) }
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(run(&world(&dir), &[scenario("a", meets), scenario("b", meets)], &[]).unwrap());
    }

    #[test]
    fn a_scenario_that_needs_all_slots_runs_alone() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        fn measured(alone: bool) -> Result<Verdict, Fault> {
            let now = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
            MOST.fetch_max(now, Ordering::SeqCst);
            let others = now > 1;
            thread::yield_now();
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            if alone && others { Err(Fault::Failed("not alone".into())) } else { Ok(Verdict::Passed) }
        }
        let light = |name| scenario(name, |_| measured(false));
        let mut all = vec![light("a"), light("b"), light("c"), light("d")];
        all.push(Scenario { slots: SLOTS, ..scenario("heavy", |_| measured(true)) });
        all.extend([light("e"), light("f")]);
        let dir = tempfile::tempdir().unwrap();
        assert!(run(&world(&dir), &all, &[]).unwrap());
        assert!(MOST.load(Ordering::SeqCst) <= SLOTS);
    }
}
