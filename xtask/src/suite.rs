//! All checks and tests in one run, with one line at its end that counts them. A test that could not run is counted as skipped,
//! with its reason: none is silent.

use crate::build::{self, Programs, TestProgram};
use crate::run::{Failure, Run, cache, print, root, say};
use crate::tools::Tools;
use crate::{evidence, layers, lengths, setup};
use std::fs;
use std::io::Write;
use std::num::NonZero;
use std::time::Instant;

/// Package and directory of the tests that run one after another. They write programs and mount file systems, and start others
/// meanwhile: between fork and exec a program holds all that the process has open, so one test's program would keep another's
/// from being run or unmounted. They take six seconds. Doc tests would not run: a test below sees to it that it has none.
const ONE_BY_ONE: (&str, &str) = ("kairn-stages", "crates/stages");

/// Which part of the suite runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// What runs on this machine itself.
    WithoutMachines,
    /// What runs in virtual machines.
    OnlyMachines,
}

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the suite and prints the counts; fails when anything failed. Later steps run after an earlier one failed, so that one
/// run tells all, but machines are started only when the programs were built.
pub fn test(yes: bool, part: Part, filter: &[&str]) -> Result<(), Failure> {
    let tools = setup::set_up(yes)?;
    let mut counts = Counts::default();
    // It keeps one processor alone for minutes at its end; checks and the tests' own build have the others meanwhile.
    let building = std::thread::spawn(build::build);
    if part != Part::OnlyMachines {
        counts.step("format", || {
            Run::cargo().args(["fmt", "--all", "--check"]).check()?;
            // A workspace of its own.
            Run::cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]).check()
        });
        counts.step("lints", || {
            let lint = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
            Run::cargo().args(lint).check()
        });
        counts.step("fuzz targets", lint_fuzz_targets);
        counts.step("layers", layers::check);
        counts.step("lengths", lengths::check);
        counts.step("evidence", evidence::check);
        deny(&mut counts)?;
    }
    let mut one_by_one = Vec::new();
    if part != Part::OnlyMachines {
        counts.step("build of the tests", || {
            Run::cargo().args(["test", "--workspace", "--locked", "--no-run"]).check()?;
            one_by_one = build::test_programs(ONE_BY_ONE.1, &[])?;
            Ok(())
        });
    }
    let mut programs = None;
    counts.step("build", || {
        let built = building.join().map_err(|_| Failure::failed("the build panicked"))?;
        programs = Some(built?);
        Ok(())
    });
    if part != Part::OnlyMachines {
        listen("tests", runs_of_tests(&tools, &one_by_one, filter), libtest_result, &mut counts)?;
    }
    match programs {
        Some(programs) if part != Part::WithoutMachines => {
            let kernel = build::test_programs("crates/tunnel", &["--test", "kernel"])?.swap_remove(0).path;
            let run = machines(&tools, &programs)?.env("KAIRN_VM_KERNEL_TESTS", kernel).args(["test"]).args(filter);
            listen("machines", vec![run], own_result, &mut counts)?;
        }
        None => say("machines: not started, since the programs were not built"),
        Some(_) => {}
    }
    print(&format!("{} passed, {} failed, {} skipped\n", counts.passed, counts.failed, counts.skipped))?;
    if counts.failed > 0 {
        return Err(Failure::failed(format!("{} of the above failed", counts.failed)));
    }
    Ok(())
}

/// Prepares the runs of what `cargo test` runs.
fn runs_of_tests(tools: &Tools, one_by_one: &[TestProgram], filter: &[&str]) -> Vec<Run> {
    let others = ["test", "--workspace", "--exclude", ONE_BY_ONE.0, "--locked", "--no-fail-fast"];
    // Most of the time goes into tests that wait, for nodes and their deadlines.
    let threads = 2 * std::thread::available_parallelism().map_or(1, NonZero::get);
    let others = Run::cargo().args(others).args(filter).args(["--", "--show-output"]);
    let mut runs = vec![others.env("RUST_TEST_THREADS", threads.to_string())];
    runs.extend(one_by_one.iter().map(|program| {
        let run = Run::new(&program.path).dir(&program.dir).args(filter).args(["--show-output"]);
        run.env("RUST_TEST_THREADS", "1")
    }));
    match &tools.registry {
        Some(registry) => runs.into_iter().map(|run| run.env("KAIRN_DOCKER_REGISTRY", registry)).collect(),
        None => runs,
    }
}

/// Prepares a run of `kairn-vm`, the package of scenarios in virtual machines, of the demo and of the benchmarks. It takes its
/// world from the environment: the programs to put on machines, the registry, and a directory for what it caches and keeps.
pub fn machines(tools: &Tools, programs: &Programs) -> Result<Run, Failure> {
    let dir = cache();
    fs::create_dir_all(&dir).map_err(Failure::io(format!("create {}", dir.display())))?;
    let run = Run::cargo().args(["run", "--quiet", "--locked", "--package", "kairn-vm", "--"]);
    let run = run.env("KAIRN_VM_KAIRN", &programs.kairn).env("KAIRN_VM_INIT", &programs.init);
    let run = run.env("KAIRN_VM_GUEST", &programs.guest).env("KAIRN_VM_CACHE", &dir);
    let run = run.env("KAIRN_VM_SPECIFICATION", root().join("SPECIFICATION.md"));
    Ok(match &tools.registry {
        Some(registry) => run.env("KAIRN_VM_REGISTRY", registry),
        None => run,
    })
}

/// Lints the readers' fuzz targets, a workspace of its own. Nothing is linked, so the fuzzer, for which a C++ compiler is needed, has only to
/// be named.
fn lint_fuzz_targets() -> Result<(), Failure> {
    let lint = Run::cargo().args(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--locked", "--", "-D", "warnings"]);
    lint.env("RUSTFLAGS", "--cfg fuzzing").env("CUSTOM_LIBFUZZER_PATH", "not-built/libfuzzer.a").check()
}

/// Licences, banned crates and sources, where the tool is there; advisories, where their database can be had too.
fn deny(counts: &mut Counts) -> Result<(), Failure> {
    let deny = |arguments: &[&str]| Run::cargo().args(["deny", "--locked"]).args(arguments);
    if Run::cargo().args(["deny", "--version"]).output()?.is_err() {
        counts.skipped += 1;
        say("skipped: deny: `cargo deny` is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    counts.step("deny", || deny(&["check", "licenses", "bans", "sources"]).check());
    // It fetches their database; so that no stale copy passes for it, what cannot be fetched is not asked.
    match deny(&["check", "advisories"]).output()? {
        Err(said) if is_unreachable(&said) => {
            counts.skipped += 1;
            say("skipped: advisories: their database cannot be reached");
        }
        Err(said) => counts.step("advisories", || Err(Failure::failed(said))),
        Ok(_) => counts.step("advisories", || Ok(())),
    }
    Ok(())
}

/// Says whether `cargo deny` ended since it got no database of advisories, rather than for what one says.
fn is_unreachable(said: &str) -> bool {
    said.contains("failed to fetch advisory database")
}

impl Counts {
    /// Runs a step that passes or fails as a whole.
    fn step(&mut self, name: &str, step: impl FnOnce() -> Result<(), Failure>) {
        say(&format!("== {name}"));
        let began = Instant::now();
        match step() {
            Ok(()) => {
                self.passed += 1;
                say(&format!("== {name}: passed in {} s", began.elapsed().as_secs()));
            }
            Err(failure) => {
                self.failed += 1;
                say(&format!("== {name}: FAILED: {failure}"));
            }
        }
    }
}

/// Runs tests and counts them from what they print; everything goes to a log, the terminal sees what matters.
fn listen(name: &str, runs: Vec<Run>, result: fn(&str) -> Option<Counts>, counts: &mut Counts) -> Result<(), Failure> {
    let path = cache().join(format!("{name}.log"));
    fs::create_dir_all(cache()).map_err(Failure::io("create the cache"))?;
    let mut log = fs::File::create(&path).map_err(Failure::io(format!("create {}", path.display())))?;
    say(&format!("== {name}: all their output goes to {}", path.display()));
    let began = Instant::now();
    let (mut listener, mut written, mut succeeded) = (Listener::new(result), Ok(()), true);
    for run in runs {
        succeeded &= run.lines(|line| {
            if written.is_ok() {
                written = writeln!(log, "{line}");
            }
            if listener.hear(line) {
                say(line);
            }
        })?;
    }
    written.map_err(Failure::io(format!("write {}", path.display())))?;
    let heard = listener.counts;
    say(&format!("== {name}: {} s", began.elapsed().as_secs()));
    // A run that broke without naming a failed test (it did not compile, it was killed) is a failure all the same.
    let broke = u64::from(!succeeded && heard.failed == 0);
    if broke > 0 {
        say(&format!("== {name}: FAILED; the log says why"));
    }
    counts.passed += heard.passed;
    counts.failed += heard.failed + broke;
    counts.skipped += heard.skipped;
    Ok(())
}

/// Understands the output of libtest with `--show-output`, or of our own runner.
struct Listener {
    /// Understands the line that counts.
    result: fn(&str) -> Option<Counts>,
    counts: Counts,
    /// Tests of the program that runs that returned early; libtest will count them as passed.
    early: u64,
    /// Within the names and output of tests that passed.
    successes: bool,
    /// Within the output of one of them: whether it has said `skipped:` yet.
    shown_test: Option<bool>,
    /// Within the list of failures and their output.
    failures: bool,
}

impl Listener {
    fn new(result: fn(&str) -> Option<Counts>) -> Self {
        let counts = Counts::default();
        Self { result, counts, early: 0, successes: false, shown_test: None, failures: false }
    }

    /// Takes a line; says whether the terminal should see it.
    fn hear(&mut self, line: &str) -> bool {
        if let Some(counts) = (self.result)(line) {
            self.counts.passed += counts.passed.saturating_sub(std::mem::take(&mut self.early));
            self.counts.failed += counts.failed;
            self.counts.skipped += counts.skipped;
            (self.successes, self.shown_test, self.failures) = (false, None, false);
            return true;
        }
        match line {
            "successes:" => (self.successes, self.shown_test, self.failures) = (true, None, false),
            "failures:" => (self.successes, self.shown_test, self.failures) = (false, None, true),
            _ if line.starts_with("---- ") && line.ends_with(" ----") => self.shown_test = Some(false),
            _ => {}
        }
        if self.failures {
            return true;
        }
        if line.starts_with("skipped: ") && self.shown_test != Some(true) {
            // A test that says so twice is one.
            if self.shown_test.is_some() {
                self.early += 1;
                self.shown_test = Some(true);
            }
            self.counts.skipped += 1;
            return true;
        }
        let noise = line.trim().is_empty() || line.starts_with("test ") && line.ends_with(" ... ok");
        let running = line.starts_with("running ") && line.contains(" test");
        !self.successes && !noise && !running
    }
}

/// `test result: ok. 33 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.45s`
fn libtest_result(line: &str) -> Option<Counts> {
    let fields = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = Counts::default();
    for field in fields.split("; ") {
        let (number, word) = field.split_once(' ')?;
        match (word, number.parse()) {
            ("passed", Ok(number)) => counts.passed = number,
            ("failed", Ok(number)) => counts.failed = number,
            ("ignored", Ok(number)) => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

/// `12 passed, 0 failed, 1 skipped`
fn own_result(line: &str) -> Option<Counts> {
    let mut numbers = ["passed", "failed", "skipped"].into_iter().zip(line.split(", ")).map(|(word, field)| {
        let (number, found) = field.split_once(' ')?;
        if found == word { number.parse().ok() } else { None }
    });
    let counts = Counts { passed: numbers.next()??, failed: numbers.next()??, skipped: numbers.next()?? };
    (line.split(", ").count() == 3).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(result: fn(&str) -> Option<Counts>, text: &str) -> (Counts, Vec<&str>) {
        let mut listener = Listener::new(result);
        let seen = text.lines().filter(|line| listener.hear(line)).collect();
        (listener.counts, seen)
    }

    #[test]
    fn a_test_that_returned_early_is_counted_as_skipped_with_its_reason() {
        let (counts, seen) = hear(
            libtest_result,
            "     Running tests/gpt.rs\n\nrunning 3 tests\ntest a ... ok\ntest b ... ok\ntest c ... ignored\n\nsuccesses:\n\n\
             ---- a stdout ----\nskipped: cannot run sgdisk\nskipped: again\n\n---- b stdout ----\nchatter\n\n\n\
             successes:\n    a\n    b\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(counts, Counts { passed: 1, failed: 0, skipped: 2 });
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert!(seen.contains(&"skipped: cannot run sgdisk") && !seen.contains(&"chatter"), "{seen:?}");
    }

    #[test]
    fn the_package_whose_tests_run_one_by_one_has_no_doc_tests_which_would_not_run() {
        let listed = Run::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard", ONE_BY_ONE.1]);
        let listed = listed.output().unwrap().unwrap();
        let sources: Vec<&str> = listed.lines().filter(|name| name.ends_with(".rs")).collect();
        assert!(!sources.is_empty(), "{listed}");
        for name in sources {
            // A file that was removed and not yet committed is still listed.
            let text = fs::read_to_string(root().join(name)).unwrap_or_default();
            let fence = |line: &str| ["/// ```", "//! ```"].iter().any(|start| line.trim_start().starts_with(start));
            assert!(!text.lines().any(fence), "{name}: a doc test here would never run");
        }
    }

    #[test]
    fn what_a_failed_test_said_is_shown() {
        let (counts, seen) = hear(
            libtest_result,
            "running 1 test\ntest a ... FAILED\n\nsuccesses:\n\nsuccesses:\n\nfailures:\n\n---- a stdout ----\nthread panicked\n\n\n\
             failures:\n    a\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(counts, Counts { passed: 0, failed: 1, skipped: 0 });
        assert!(seen.contains(&"thread panicked") && seen.contains(&"test a ... FAILED"), "{seen:?}");
    }

    #[test]
    fn advisories_without_a_database_are_told_from_an_advisory() {
        assert!(is_unreachable(
            "2026-11-21 12:47:46 [ERROR] failed to fetch advisory database https://example.invalid/db with cli: failed to clone"
        ));
        assert!(!is_unreachable("error[vulnerability]: out of bounds in `a`\nadvisories FAILED"));
    }

    #[test]
    fn our_own_runner_is_understood() {
        let (counts, seen) = hear(own_result, "PASS  install-cdrom (61 s)\n12 passed, 1 failed, 2 skipped\n");
        assert_eq!(counts, Counts { passed: 12, failed: 1, skipped: 2 });
        assert_eq!(seen.len(), 2);
        for other in ["12 passed", "1 failed, 2 passed, 3 skipped", "1 passed, 2 failed, 3 skipped, 4 lost"] {
            assert_eq!(own_result(other), None, "{other}");
        }
    }
}
