//! Glue of this repository: sets up the machine, builds, checks, tests, shows. What needs the project's own crates (virtual
//! machines, the demo) lives in the package `kairn-vm`, which this starts.
#![forbid(unsafe_code)]

mod build;
mod evidence;
mod layers;
mod lengths;
mod packages;
mod run;
mod setup;
mod suite;
mod tools;

use run::{Failure, Run};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task> [--yes]

  setup          install the Debian packages that building, testing and the demo need; asks once, --yes does not ask
  demo           set up, build, then take a machine through its life in QEMU and leave it running
  test [FILTER]  set up, then pass all checks and tests, the ones in virtual machines included
                   --no-vm      leave out the virtual machines
                   --only-vm    only the virtual machines (FILTER: those whose name holds it)
  bench WHAT [N] set up, build, then measure on an otherwise idle machine, N times, and write the figures to SPECIFICATION.md
                   boot     boots of the sealed image against initramfs-tools and dracut on ext4
                   install  an installation against a plain copy of what it writes
                   lan      nodes of the mesh in a local network: how fast they find each other, and what they use at rest
                   mesh     the mesh's kernel tier against a WireGuard link made by hand
                   steps    steps of a configuration: files that are there already, and commands against a shell's loop
  sim mesh [NAME...] [--seed N]
                 simulate networks of the mesh in full, print what was measured, and fail when a figure does not hold
  build          build the static programs
  check-layers   check the arrows between the crates against ARCHITECTURE.md
  check-evidence check that the tests that SPECIFICATION.md names are there
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, words): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let done = match words.first() {
        // Its options have values, which it reads itself.
        Some(&"sim") => simulate(arguments.get(1..).unwrap_or_default()),
        _ => task(&words, &options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            run::say(&format!("error: {failure}"));
            ExitCode::from(failure.code)
        }
    }
}

fn task(words: &[&str], options: &[&str]) -> Result<(), Failure> {
    let allowed: &[&str] = match words.first() {
        Some(&"test") => &["--yes", "--no-vm", "--only-vm"],
        Some(&("setup" | "demo" | "bench")) => &["--yes"],
        _ => &["--help"],
    };
    if let Some(option) = options.iter().find(|option| !allowed.contains(option)) {
        return Err(Failure::user(format!("there is no option `{option}` here\n\n{USAGE}")));
    }
    let has = |option: &str| options.contains(&option);
    match words {
        ["setup"] => setup::set_up(has("--yes")).map(drop),
        ["build"] => build::build().map(drop),
        ["check-layers"] => layers::check(),
        ["check-evidence"] => evidence::check(),
        ["demo"] => vm(has("--yes"), &["demo"]),
        ["bench", what @ ..] => vm(has("--yes"), &[&["bench"], what].concat()),
        ["test", filter @ ..] => {
            let part = match (has("--no-vm"), has("--only-vm")) {
                (true, true) => return Err(Failure::user("--no-vm and --only-vm leave nothing")),
                (true, false) => suite::Part::WithoutMachines,
                (false, true) => suite::Part::OnlyMachines,
                (false, false) => suite::Part::All,
            };
            suite::test(has("--yes"), part, filter)
        }
        [] if has("--help") => run::print(USAGE),
        _ => Err(Failure::user(format!("a task is missing or unknown\n\n{USAGE}"))),
    }
}

/// Hands over to the package that simulates what is named.
fn simulate(arguments: &[String]) -> Result<(), Failure> {
    match arguments.split_first() {
        Some((what, rest)) if what == "mesh" => {
            let run =
                Run::cargo().args(["run", "--quiet", "--release", "--locked", "--package", "kairn-mesh-sim", "--"]);
            run.args(rest).check()
        }
        _ => Err(Failure::user(format!("what is simulated is missing or unknown\n\n{USAGE}"))),
    }
}

/// Sets up, builds, and hands over to `kairn-vm`.
fn vm(yes: bool, arguments: &[&str]) -> Result<(), Failure> {
    let tools = setup::set_up(yes)?;
    let programs = build::build()?;
    suite::machines(&tools, &programs)?.args(arguments).check()
}
