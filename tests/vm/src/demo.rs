//! A machine's life in one run: installed, upgraded, a broken release rolled back by itself, and left running for who watched.

use crate::fault::{Fault, ensure};
use crate::node::{Node, deployment};
use crate::runner::say;
use crate::scenarios::{fallback, upgrade};
use crate::world::{Stage, World};
use kairn_host::Runner;
use kairn_lab::Disk;
use kairn_lifecycle::Sequence;
use std::time::{Duration, Instant};

/// From kairn-init's first line on the medium to the reboot of the finished installation.
const TO_INSTALLED: Duration = Duration::from_secs(20 * 60);
/// Size of the disk that is installed on; it is sparse.
const DISK: u64 = 16 << 30;

/// What happened when.
struct Timeline {
    began: Instant,
    events: Vec<(Duration, String)>,
}

impl Timeline {
    fn reached(&mut self, text: impl Into<String>) {
        let (at, text) = (self.began.elapsed(), text.into());
        say(&format!("{:>6.0} s  {text}", at.as_secs_f64()));
        self.events.push((at, text));
    }
}

/// Shows it; the machine stays.
pub fn run(world: &World) -> Result<bool, Fault> {
    let stage = Stage::set(world, "demo")?;
    let mut timeline = Timeline { began: Instant::now(), events: Vec::new() };
    let registry = stage.registry()?;
    let registry = registry.ok_or_else(|| Fault::Failed("there is no program of a registry to upgrade from".into()))?;

    let medium = world.install_medium()?;
    timeline.reached("a Debian base is converted and sealed, and its installation medium is made");
    let second = world.push(&registry, &world.variant("second", upgrade::WITH_UNIT)?, "v2")?;
    let third = world.push(&registry, &world.variant("health-fails", fallback::UNHEALTHY)?, "v3")?;
    timeline.reached("a second release is in a registry, and a third that breaks its own promise");

    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), DISK)?;
    let machine = stage.machine("node").disk(disk).disk(Disk::cdrom(medium)).create()?;
    let mut node = Node::start_installing(&stage, &machine, TO_INSTALLED)?;
    let first = node.expect_good(1)?;
    timeline.reached(format!("the machine installed itself and runs release {}, which is healthy", first.release));

    node.upgrade(&registry, &second)?;
    timeline.reached("it pulled, sealed and staged the second release");
    node.reboot()?;
    let status = node.expect_good(2)?;
    timeline.reached(format!("it runs release {}, which is healthy", status.release));

    node.upgrade(&registry, &third)?;
    timeline.reached("it staged the broken release");
    let boots = node.reboot_until(2)?.len();
    let status = node.expect_good(2)?;
    let gave_up = deployment(&status, Sequence(3)).is_some() && status.fallback.is_some();
    ensure(gave_up, || format!("nothing says that the third release was given up:\n{status}"))?;
    let reason = status.fallback.as_ref().map(|fallback| fallback.reason.clone()).unwrap_or_default();
    timeline.reached(format!("after {boots} boots it was back by itself; the broken release {reason}"));

    say("\nWhat happened:");
    for (at, text) in &timeline.events {
        say(&format!("{:>6.0} s  {text}", at.as_secs_f64()));
    }
    say(&format!("\nIts status now:\n\n{status}"));
    let (machine, session) = node.detach();
    say(&format!(
        "The machine `{}` runs on, in {}. Enter it:\n\n    {}",
        machine.name(),
        machine.dir().display(),
        session.join(" ")
    ));
    say("\nIt ends when it is powered off inside (`sudo poweroff`), or with the next demo.");
    Ok(true)
}
