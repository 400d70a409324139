//! Power cuts: the writes of one run are logged, and the disks that a cut could have left are looked at, some of them booted.

use super::clones;
use super::upgrade::WITH_UNIT;
use crate::cuts::Cut;
use crate::fault::{Fault, ensure};
use crate::inspection::{Bench, Inspected};
use crate::node::{Node, deployment, wrong};
use crate::runner::Verdict;
use crate::world::Stage;
use fastrand::Rng;
use kairn_host::Runner;
use kairn_lab::{Disk, Format, Layer, Replay, StateFile};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::entries::BootableEntry;
use kairn_lifecycle::first_boot::FirstBootAction;
use kairn_lifecycle::{DeploymentState, Release, Role, Sequence};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// States of an upgrade that are looked at.
const UPGRADE_STATES: usize = 120;
/// States of a first boot that are looked at.
const FIRST_BOOT_STATES: usize = 60;
/// How often so many are drawn where the kinds that are to be booted were not among them: which there are follows from the run.
const ROUNDS: usize = 5;
/// The seed of the draw; absent, the clock's.
const SEED: &str = "KAIRN_VM_SEED";
/// The first deployment.
const FIRST: Sequence = Sequence(1);

/// An upgrade is cut anywhere: something whole boots next, always, and the upgrade is finished from there.
pub fn during_upgrade(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let release = stage.world.variant("second", WITH_UNIT)?;
    let description = fs::read(release.join("release").join(paths::release::DESCRIPTION));
    let description = description.map_err(Fault::io("read the second release"))?;
    let second: Release = serde_json::from_slice(&description).map_err(wrong)?;
    let medium = Node::release_disk(&release);
    let image = stage.world.disk_image()?;
    let size = length(&image)?;

    let (log, machine) = logged(stage, &image, size, std::slice::from_ref(&medium))?;
    let node = Node::start(stage, &machine)?;
    node.expect_good(1)?;
    let begun = length(&log)?;
    upgrade(&node)?;
    let ended = length(&log)?;
    node.cut_power()?;

    let replay = Replay::open(&image, size, &log)?;
    let window = replay.log().count_within(begun)..replay.log().count_within(ended) + 1;
    let mut rng = seeded(stage)?;
    let mut bench = Bench::new(&replay, stage.dir.join("bench"))?;
    let esp = bench.inspect(&Cut::at(window.start).state(&replay))?.place(PartLabel::Esp)?;
    let drawn = [("on trial", 2), ("a damaged leftover", 2), ("before", 1)];
    let mut draw = Draw { replay: &replay, window: &window, place: &esp, many: UPGRADE_STATES, rng: &mut rng };
    let is_enough = |states: &[(String, Cut)]| {
        drawn.iter().all(|(kind, many)| counted(states).get(kind).is_some_and(|count| count >= many))
    };
    let judge = |found: &Inspected| {
        all_is_whole(found)?;
        first_is_good(found)?;
        Ok(match found.esp.selection.next_boot().and_then(|next| next.sequence) {
            Some(FIRST) if found.esp.leftovers_damaged => "a damaged leftover",
            Some(FIRST) => "before",
            _ => "on trial",
        }
        .to_owned())
    };
    let states = draw.look(stage, &mut bench, is_enough, judge)?;
    look(stage, &mut bench, &replay, Cut::each(&replay, &window, &esp), &window, &judge)?;

    let chosen = choose(&states, &drawn, &mut rng);
    ensure(chosen.len() == 5, || format!("not all kinds of states were drawn: {:?}", counted(&states)))?;
    let mut whole = StateFile::create(&replay, &stage.dir.join("whole.raw"), 0..size)?;
    for (number, (kind, cut)) in chosen.into_iter().enumerate() {
        stage.note(&format!("booting {cut}: {kind}"));
        whole.hold(&replay, &cut.state(&replay))?;
        let name = format!("cut-{number}");
        let disk = Disk::qcow2(stage.dir.join(format!("{name}.qcow2")));
        disk.create_over(&Runner::default(), whole.path(), Format::Raw, None)?;
        let machine = stage.machine(&name).disk(disk.clone()).disk(medium.clone()).create()?;
        finish(stage, &machine, &second).map_err(|fault| Fault::Failed(format!("{cut}: {fault}")))?;
        fs::remove_file(&disk.image).map_err(Fault::io("remove a disk"))?;
    }
    Ok(Verdict::Passed)
}

/// The first boot of a disk image is cut: the next one finishes it.
pub fn during_first_boot(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let image = stage.world.disk_image()?;
    let small = length(&image)?;
    let size = small * 4;
    let (log, machine) = logged(stage, &image, size, &[])?;
    let node = Node::start(stage, &machine)?;
    node.expect_good(1)?;
    let ended = length(&log)?;
    let untouched = node.identity()?;
    node.cut_power()?;

    let replay = Replay::open(&image, size, &log)?;
    let mut rng = seeded(stage)?;
    let mut bench = Bench::new(&replay, stage.dir.join("bench"))?;
    let original = bench.inspect(&Cut::at(0).state(&replay))?;
    let window = 0..replay.log().count_within(ended) + 1;
    // The steps are seen in the journal, which is on STATE.
    let place = original.place(PartLabel::State)?;
    let mut draw = Draw { replay: &replay, window: &window, place: &place, many: FIRST_BOOT_STATES, rng: &mut rng };
    let is_enough = |states: &[(String, Cut)]| counted(states).keys().filter(|step| is_within(step)).count() >= 3;
    let judge = |found: &Inspected| {
        all_is_whole(found)?;
        let next = found.esp.selection.next_boot().and_then(|next| next.sequence);
        ensure(next == Some(FIRST), || format!("the next boot is of {next:?}"))?;
        step(stage, found)
    };
    let states = draw.look(stage, &mut bench, is_enough, judge)?;
    let esp = original.place(PartLabel::Esp)?;
    look(stage, &mut bench, &replay, Cut::each(&replay, &window, &esp), &window, &judge)?;
    let mut steps: BTreeMap<&str, Vec<&Cut>> = BTreeMap::new();
    for (step, cut) in states.iter().filter(|(step, _)| is_within(step)) {
        steps.entry(step).or_default().push(cut);
    }
    let mut names: Vec<_> = steps.keys().copied().collect();
    rng.shuffle(&mut names);
    ensure(names.len() >= 3, || format!("too few steps were cut: {:?}", counted(&states)))?;
    let mut whole = StateFile::create(&replay, &stage.dir.join("whole.raw"), 0..size)?;
    for name in names.into_iter().take(3) {
        let Some(cut) = steps.get(name).and_then(|cuts| rng.choice(cuts)) else { continue };
        stage.note(&format!("booting {cut}: within {name}"));
        whole.hold(&replay, &cut.state(&replay))?;
        let disk = Disk::qcow2(stage.dir.join(format!("{name}.qcow2")));
        disk.create_over(&Runner::default(), whole.path(), Format::Raw, None)?;
        let node = Node::start(stage, &stage.machine(name).disk(disk.clone()).create()?)?;
        node.expect_good(1)?;
        let identity = node.identity()?;
        let complete = identity.machine_id.len() == 32
            && !identity.host_key.is_empty()
            && identity.disk != original.table.table.disk_guid.to_string();
        ensure(complete, || format!("{cut}: the machine is {identity:?}"))?;
        node.sh("test ! -e /run/initramfs/cos-state/kairn/first-boot")?;
        has_own_names(&node, &original)?;
        clones::has_grown(&node, small, size)?;
        node.shut_down()?;
        clones::verify_table(stage, &disk)?;
        fs::remove_file(&disk.image).map_err(Fault::io("remove a disk"))?;
    }
    stage.note(&format!("the machine that was not cut is {untouched:?}"));
    Ok(Verdict::Passed)
}

/// Describes a machine whose disk lies over an image and whose writes to it are logged.
fn logged(stage: &Stage<'_>, image: &Path, size: u64, more: &[Disk]) -> Result<(PathBuf, kairn_lab::Machine), Fault> {
    let log = stage.dir.join("writes.log");
    let disk = Disk::qcow2(stage.dir.join("logged.qcow2"));
    disk.create_over(&Runner::default(), image, Format::Raw, Some(size))?;
    let mut builder = stage.machine("logged").disk(disk.through(Layer::LogWrites { log: log.clone() }));
    for disk in more {
        builder = builder.disk(disk.clone());
    }
    Ok((log, builder.create()?))
}

/// Whether a first boot was cut within a step of it.
fn is_within(step: &str) -> bool {
    !matches!(step, "before" | "between steps" | "after")
}

/// Where cuts are drawn: in which requests, every third where a place of the disk is written, and how many at a time.
struct Draw<'a> {
    replay: &'a Replay,
    window: &'a Range<usize>,
    place: &'a Range<u64>,
    many: usize,
    rng: &'a mut Rng,
}

impl Draw<'_> {
    /// Looks at states until there are enough kinds of them to go on with.
    fn look(
        &mut self,
        stage: &Stage<'_>,
        bench: &mut Bench<'_>,
        is_enough: impl Fn(&[(String, Cut)]) -> bool,
        judge: impl Fn(&Inspected) -> Result<String, Fault>,
    ) -> Result<Vec<(String, Cut)>, Fault> {
        let mut states = Vec::new();
        for _ in 0..ROUNDS {
            let cuts = Cut::draw(self.replay, self.window, self.place, self.many, self.rng);
            states.extend(look(stage, bench, self.replay, cuts, self.window, &judge)?);
            if is_enough(&states) {
                break;
            }
        }
        Ok(states)
    }
}

/// Looks at the states that cuts leave; returns each with its kind. All that are wrong are told at the end.
fn look(
    stage: &Stage<'_>,
    bench: &mut Bench<'_>,
    replay: &Replay,
    cuts: Vec<Cut>,
    window: &Range<usize>,
    judge: &impl Fn(&Inspected) -> Result<String, Fault>,
) -> Result<Vec<(String, Cut)>, Fault> {
    let (mut states, mut wrong, all) = (Vec::new(), Vec::new(), cuts.len());
    ensure(all > 0, || "there is no state to look at".to_owned())?;
    for cut in cuts {
        match bench.inspect(&cut.state(replay)).and_then(|found| judge(&found)) {
            Ok(kind) => states.push((kind, cut)),
            Err(fault) => wrong.push(format!("{cut}: {fault}")),
        }
    }
    let lossy = states.iter().filter(|(_, cut)| cut.losable(replay) > 0).count();
    stage.note(&format!(
        "looked at {all} states of requests {} to {}, {lossy} of them with lost writes: {:?}",
        window.start,
        window.end,
        counted(&states)
    ));
    ensure(wrong.is_empty(), || format!("{} of {all} states are wrong:\n{}", wrong.len(), wrong.join("\n")))?;
    Ok(states)
}

/// Whatever the loader may start is whole, and the first deployment and recovery are there.
///
/// An entry on trial that is not whole would do no harm, with a good one behind it; but each is written after what it names was
/// read back, and so it must be.
fn all_is_whole(found: &Inspected) -> Result<(), Fault> {
    let order = &found.esp.selection.boot_order;
    let named = |entry: &BootableEntry| (entry.name.clone(), found.is_whole(entry));
    let shown = || format!("{:?}", order.iter().map(named).collect::<Vec<_>>());
    ensure(order.iter().all(|entry| found.is_whole(entry)), || format!("what boots is not whole: {}", shown()))?;
    ensure(order.iter().any(|entry| entry.sequence.is_none()), || format!("there is no recovery: {}", shown()))?;
    ensure(order.iter().any(|entry| entry.sequence == Some(FIRST)), || format!("the first is gone: {}", shown()))
}

/// The first deployment, which runs, stays good while it upgrades.
fn first_is_good(found: &Inspected) -> Result<(), Fault> {
    let state = found.esp.selection.get(FIRST).map(|first| first.state);
    ensure(state == Some(DeploymentState::Good), || format!("the first deployment is {state:?}"))
}

/// Boots a machine that a cut left in its upgrade, upgrades again where that is not done, and expects the second release to be good.
fn finish(stage: &Stage<'_>, machine: &kairn_lab::Machine, second: &Release) -> Result<(), Fault> {
    let mut node = Node::start(stage, machine)?;
    let status = node.status()?;
    if status.running == (Role::Deployment { sequence: FIRST }) {
        node.expect_good(1)?;
        upgrade(&node)?;
        node.reboot()?;
    } else {
        // Whoever asked for it does not know how far it came: the same command finishes it, or says that this is what runs.
        let again = node.upgrade_from_disk()?;
        ensure(matches!(again.status.code(), Some(0 | 2)), || {
            format!("the same upgrade again ended with {}: {}{}", again.status, again.text(), again.stderr)
        })?;
    }
    let status = node.status()?;
    let Role::Deployment { sequence } = status.running else {
        return Err(Fault::Failed(format!("no deployment runs:\n{status}")));
    };
    let good = deployment(&status, sequence).map(|found| (found.state, found.release));
    ensure(good == Some((DeploymentState::Good, Some(second.id))), || {
        format!("the second release is not what runs and is good:\n{status}")
    })?;
    node.sh(
        "test \"$(cat /run/vm-marker)\" = second && test -z \"$(sudo ls -A /run/initramfs/cos-state/kairn/staging)\"",
    )?;
    node.cut_power()
}

/// Upgrades from the release on the second disk, which must succeed.
fn upgrade(node: &Node<'_>) -> Result<(), Fault> {
    let done = node.upgrade_from_disk()?;
    ensure(done.status.success(), || format!("the upgrade failed: {}{}", done.text(), done.stderr))
}

/// The step of the first boot that a disk was cut in; what those before it have done must be there.
fn step(stage: &Stage<'_>, found: &Inspected) -> Result<String, Fault> {
    let texts = found.volumes.get(&PartLabel::State).map(|state| &state.texts).into_iter().flatten();
    let (mut due, mut journal) = (false, None);
    for (path, text) in texts {
        due |= path == paths::FIRST_BOOT;
        journal = if path.starts_with(paths::JOURNAL) { Some(text) } else { journal };
    }
    let Some(journal) = journal else { return Ok("before".into()) };
    let file = stage.dir.join("journal");
    fs::write(&file, journal).map_err(Fault::io("write a journal"))?;
    let story = kairn_deploy::journal::read::<FirstBootAction>(&file).map_err(wrong)?;
    let Some(story) = story else { return Ok("before".into()) };
    for step in story.plan.steps.iter().filter(|step| story.finished.contains(&step.name)) {
        ensure(is_done(&step.action, found), || {
            format!("the journal says that `{}` is done, and it is not", step.name)
        })?;
    }
    Ok(if due { story.interrupted.unwrap_or_else(|| "between steps".into()) } else { "after".into() })
}

/// Says whether a disk holds what an action of a first boot brings about.
fn is_done(action: &FirstBootAction, found: &Inspected) -> bool {
    /// resize2fs(8) leaves out a last block group that would be too small.
    const GROUP: u64 = 128 << 20;
    match action {
        FirstBootAction::WriteTable { guids, .. } => {
            found.table.is_whole() && found.table.table.disk_guid == guids.disk
        }
        FirstBootAction::Grow { size, .. } => {
            found.volumes.get(&PartLabel::Persistent).is_some_and(|volume| volume.size + GROUP > size.0)
        }
        FirstBootAction::Identify { label: PartLabel::Esp, uuid, .. } => found.esp.serial == uuid.as_fields().0,
        FirstBootAction::Identify { label, uuid, .. } => {
            found.volumes.get(label).is_some_and(|volume| volume.uuid == uuid.to_string())
        }
        FirstBootAction::BootOptions { .. } | FirstBootAction::Done => true,
    }
}

/// Expects every file system of a machine to have another identity than the image's.
fn has_own_names(node: &Node<'_>, original: &Inspected) -> Result<(), Fault> {
    let serial = original.esp.serial;
    let esp = format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff);
    for (number, label) in (1..).zip(PartLabel::ALL) {
        let before = original.volumes.get(&label).map_or(&esp, |volume| &volume.uuid);
        let now = node.sh(&format!("sudo blkid -p -s UUID -o value /dev/vda{number}"))?;
        ensure(!now.is_empty() && now != *before, || format!("{label} is still {before}, or has no name: {now}"))?;
    }
    Ok(())
}

/// Draws states of each kind.
fn choose<'a>(states: &'a [(String, Cut)], wanted: &[(&str, usize)], rng: &mut Rng) -> Vec<(&'a str, &'a Cut)> {
    let mut chosen = Vec::new();
    for (kind, many) in wanted {
        let mut of_kind: Vec<_> = states.iter().filter(|(found, _)| found == kind).collect();
        rng.shuffle(&mut of_kind);
        chosen.extend(of_kind.into_iter().take(*many).map(|(kind, cut)| (kind.as_str(), cut)));
    }
    chosen
}

fn counted(states: &[(String, Cut)]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for (kind, _) in states {
        *counts.entry(kind.as_str()).or_default() += 1;
    }
    counts
}

/// Begins a draw that can be repeated.
fn seeded(stage: &Stage<'_>) -> Result<Rng, Fault> {
    let seed = match std::env::var(SEED) {
        Ok(text) => text.parse().map_err(|_| Fault::Failed(format!("{SEED} is no number: {text}")))?,
        Err(_) => Rng::new().get_seed(),
    };
    stage.note(&format!("{SEED}={seed}"));
    Ok(Rng::with_seed(seed))
}

fn length(path: &Path) -> Result<u64, Fault> {
    Ok(path.metadata().map_err(Fault::io(format!("read {}", path.display())))?.len())
}
