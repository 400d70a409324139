//! Installation media.

use crate::fault::{Fault, ensure};
use crate::images::STAGES_OF_INSTALLATION;
use crate::node::{Node, wrong};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::{Invocation, Runner};
use kairn_lab::{Disk, Mark, Protocol, Running};
use kairn_mesh_protocol::pairing::Invitation;
use serde_json::Value;
use std::fs;
use std::thread;
use std::time::Duration;

/// Until kairn-init's first line; emulated, the firmware reads a kernel from a slow medium.
const TO_INIT: Duration = Duration::from_secs(400);
/// From there to a prompt.
const TO_PROMPT: Duration = Duration::from_secs(420);
/// A command on the live system's console.
const TO_ANSWER: Duration = Duration::from_secs(120);
/// From kairn-init's first line on the medium to the reboot of the finished installation.
pub const TO_INSTALLED: Duration = Duration::from_secs(20 * 60);
/// Where a machine waits for a workstation, and where another of its consoles does.
const PAIRING: [u16; 2] = [7940, 7941];
/// Size of an empty disk.
pub const DISK: u64 = 16 << 30;

/// A medium installs by itself and stays in its drive over two reboots.
pub fn install_from_cdrom(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let machine = stage.machine("node").cpus(2).disk(empty_disk(stage)?);
    let machine = machine.disk(Disk::cdrom(stage.world.install_medium()?)).create()?;
    is_good(Node::start_installing(stage, &machine, TO_INSTALLED)?)
}

/// A medium that does not say what to install, on a USB stick, which the kernel finds seconds later and the firmware likes as much as a disk:
/// a workstation hands the configuration over, and a person compares the digits.
pub fn install_from_usb(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut machine = stage.machine("node").cpus(2).disk(empty_disk(stage)?);
    for port in PAIRING {
        machine = machine.forward(Protocol::Udp, 0, port);
    }
    let mut running = machine.disk(Disk::usb_stick(stage.world.live_medium()?)).create()?.start()?;
    let init = running.await_init(Mark::default(), TO_INIT)?;
    stage.note("the medium runs");
    running.console().rewind(init.end);
    let (code, port) = invited(&running, init.end)?;
    stage.note("it waits for a workstation");
    let asked = running.console().mark();
    register(stage, &running, &code, port)?;
    stage.note("it has its configuration");
    is_good(Node::await_installed(stage, running, asked, TO_INSTALLED)?)
}

/// Hands a configuration to a machine that shows this code and waits at this port, and answers its question.
fn register(stage: &Stage<'_>, running: &Running, code: &str, port: u16) -> Result<(), Fault> {
    let config = stage.dir.join("registered.yaml");
    let text = stage.world.configuration(STAGES_OF_INSTALLATION)?;
    fs::write(&config, text).map_err(Fault::io("write the configuration"))?;
    let leads = running.port(Protocol::Udp, port);
    let leads = leads.ok_or_else(|| Fault::Failed(format!("nothing leads to its port {port}")))?;
    let (kairn, console) = (stage.world.kairn.to_string_lossy(), running.console());
    let register = Invocation::new(kairn).args(["register", "--reboot", "--output", "json", "--config"]);
    let register = register.arg(config.to_string_lossy()).arg("--address").arg(format!("127.0.0.1:{leads}"));
    let register = register.arg(code).deadline(TO_PROMPT);
    let asked = console.mark();
    let said = thread::scope(|scope| {
        let sender = scope.spawn(|| stage.world.runner.run(&register));
        let answered = console.wait_for("show the same digits? [y/N]", TO_ANSWER);
        let answered = answered.and_then(|_| console.send_line("y"));
        let said = sender.join().map_err(|_| Fault::Failed("a thread panicked".into()))?;
        answered?;
        Ok::<_, Fault>(said?.text())
    })?;
    let said: Value = serde_json::from_str(&said).map_err(wrong)?;
    let shown = console.since(asked);
    let digits = said.get("code").and_then(Value::as_str).and_then(|code| code.split_at_checked(3));
    let is_shown = digits.is_some_and(|(one, other)| shown.contains(&format!("{one} {other}")));
    let is_accepted = said.get("outcome").is_some_and(|outcome| outcome == "accepted");
    ensure(is_shown && is_accepted, || format!("it says {said:#}, and the machine:\n{shown}"))
}

/// What a machine shows a workstation: the text of its code, and its port.
fn invited(running: &Running, since: Mark) -> Result<(String, u16), Fault> {
    let console = running.console();
    console.wait_for("Ctrl-C ends this", TO_PROMPT)?;
    let shown = console.since(since);
    let code = shown.lines().find_map(|line| Some((line.trim(), line.trim().parse::<Invitation>().ok()?.port)));
    let code = code.map(|(text, port)| (text.to_owned(), port));
    code.ok_or_else(|| Fault::Failed(format!("there is no text for a workstation:\n{shown}")))
}

fn empty_disk(stage: &Stage<'_>) -> Result<Disk, Fault> {
    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), DISK)?;
    Ok(disk)
}

/// A machine that was installed is what it should be, and stays it over a reboot.
fn is_good(mut node: Node<'_>) -> Result<Verdict, Fault> {
    node.expect_good(1)?;
    expect_stages(&node)?;
    let identity = node.identity()?;
    node.sh("echo kept > ~/kept && sync")?;
    node.reboot()?;
    let status = node.expect_good(1)?;
    ensure(status.fallback.is_none() && status.recovery.is_some(), || format!("after two boots:\n{status}"))?;
    let again = node.identity()?;
    ensure(again == identity, || format!("the machine was {identity:?} and is now {again:?}"))?;
    let kept = node.sh("cat ~/kept")?;
    ensure(kept == "kept", || format!("the file of the first boot holds {kept:?}"))?;
    expect_stages(&node)?;
    node.shut_down()?;
    Ok(Verdict::Passed)
}

/// What the stages of the installation and of the first boot have left: once, and not in the sealed root.
fn expect_stages(node: &Node<'_>) -> Result<(), Fault> {
    let left = node.sh("sudo cat /oem/inside /oem/after /usr/local/inside /usr/local/first-boot")?;
    ensure(left == "inside\nafter\nrelease\nfirst", || format!("the stages left {left:?}"))?;
    let status = node.sh("test ! -e /usr/share/sealed && sudo kairn status")?;
    ensure(status.contains("/usr/share/sealed"), || format!("the status does not name the step that failed:\n{status}"))
}

/// A medium that is not told to install offers its live system.
pub fn live_from_usb(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let medium = Disk::usb_stick(stage.world.live_medium()?);
    let mut running = stage.machine("live").disk(medium).disk(empty_disk(stage)?).create()?.start()?;
    let init = running.await_init(Mark::default(), TO_INIT)?;
    stage.note(&format!("kairn-init runs ({:.1} s after power on)", init.at.as_secs_f64()));
    let console = running.console();
    console.rewind(init.end);
    // A live system logs in by itself on its consoles and has no password; where nothing says what to install, it waits for a workstation.
    let ended = console.wait_any(&["Kernel panic".into(), "emergency mode".into(), "KAIRNPAIR1".into()], TO_PROMPT)?;
    ensure(ended.pattern == 2, || format!("the live system ended in: {}", ended.line))?;
    invited(&running, init.end)?;
    stage.note("the live system shows its code");
    console.send("\u{3}")?;
    console.wait_for("root@", TO_ANSWER)?;
    stage.note("the live system has its prompt");
    console.send_line("test -e /run/cos/live_mode && echo kairn-is-$((40 + 2))")?;
    console.wait_for("kairn-is-42", TO_ANSWER)?;
    let before = console.mark();
    console.send_line("kairn install --plan; echo plan-ended-$((40 + 2))-$?")?;
    let ended = console.wait_for("plan-ended-42-", TO_ANSWER)?;
    let plan = console.since(before);
    for part in ["COS_GRUB", "COS_STATE", "COS_RECOVERY", "COS_PERSISTENT", "/dev/vda"] {
        ensure(plan.contains(part), || format!("the plan does not name {part}:\n{plan}"))?;
    }
    console.rewind(ended.end);
    console.send_line("blkid -p /dev/vda; echo blank-$((40 + 2))-$?-")?;
    // blkid(8): 2 when it finds nothing on the device.
    console.wait_for("blank-42-2-", TO_ANSWER)?;
    Ok(Verdict::Passed)
}
