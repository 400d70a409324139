//! Machines that share a token in their configuration, on a wire of their own.

use super::upgrade::WITH_UNIT;
use crate::fault::{Fault, ensure};
use crate::node::{Node, wrong};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::Runner;
use kairn_lab::{Builder, Disk, Format, Network, Protocol};
use kairn_lifecycle::Role;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A token of no network but this one.
pub const TOKEN: &str = "kairn1qavdd5qn8uv6fkaryqk2cj93vkk2w23ln2z84j5n99aj7flymxw6spldz6j";
/// From a system that is up to addresses that are witnessed, beside other machines.
const TO_FORM: Duration = Duration::from_secs(180);
/// A disk is whole sectors.
const SECTOR: usize = 512;
/// Seconds that a first answer may take through a mesh that has formed.
const TO_ANSWER: u32 = 60;

/// Two machines of one disk image, whose configuration names a token and nothing else of the mesh, form it by the kernel's WireGuard
/// without gateway, DHCP or internet between them; one is upgraded and comes back as who it was. That one has a TPM, which seals who it is; the
/// other is asked for it as well, and goes on without.
pub fn forms(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let configuration = format!("p2p:\n  network_token: {TOKEN}\n  seal_identity: true\n  dns: true\n");
    let image = stage.world.disk_image_with("mesh", &stage.world.base()?, &configuration)?;
    let second = stage.world.variant("second", WITH_UNIT)?;
    let mut one = plugged_in(stage, &image, "one", &[])?;
    let with_tpm = wired(stage, &image, "other", &[Node::release_disk(&second)])?.tpm().create()?;
    let mut other = Node::power_on(stage, &with_tpm)?;
    one.arrive()?;
    other.arrive()?;
    let (first, second) = (formed(&one)?, formed(&other)?);
    for (node, status) in [(&one, &first), (&other, &second)] {
        node.expect_good(1)?;
        ensure(of(status, "tier") == "kernel", || format!("it is not the kernel that carries it: {status:#}"))?;
        is_a_service(node)?;
    }
    ensure(of(&first, "id") != of(&second, "id") && of(&first, "ipv4") != of(&second, "ipv4"), || {
        format!("two machines of one image are one node: {first:#}")
    })?;
    reach(&one, &second)?;
    reach(&other, &first)?;
    finds(&one, &second)?;
    finds(&other, &first)?;
    is_kept(&one, &first, false)?;
    is_kept(&other, &second, true)?;
    stage.note("the mesh has formed");

    // A node that hangs is started again, which takes less than the upgrade of the other.
    one.sh("sudo kill -STOP $(systemctl show --property=MainPID --value kairn-mesh.service)")?;
    let done = other.upgrade_from_disk()?;
    ensure(done.status.success(), || format!("the upgrade failed: {}{}", done.text(), done.stderr))?;
    other.reboot()?;
    other.expect_good(2)?;
    stage.note("upgraded");
    for (node, before) in [(&one, &first), (&other, &second)] {
        let after = formed(node)?;
        for field in ["id", "ula", "ipv4", "interface", "tier"] {
            ensure(of(&after, field) == of(before, field), || {
                format!("`{field}` was {}: {after:#}", of(before, field))
            })?;
        }
    }
    reach(&one, &second)?;
    reach(&other, &first)?;
    is_kept(&other, &formed(&other)?, true)?;
    let restarts = one.sh("systemctl show --property=NRestarts --value kairn-mesh.service")?;
    ensure(restarts != "0", || "the node that hung was not started again".into())?;

    one.sh("sudo systemctl stop kairn-mesh.service")?;
    let names = one.sh("cat /etc/resolv.conf || true")?;
    ensure(!names.contains("127.0.0.153"), || format!("names are asked for where nobody answers:\n{names}"))?;
    let status = one.status()?;
    ensure(status.warnings.iter().any(|warning| warning.contains("the mesh does not work")), || {
        format!("the status does not tell of a mesh that does not run:\n{status}")
    })?;
    // As when a token comes with the network.
    one.sh("sudo kairn stage run network")?;
    formed(&one)?;
    lends_a_shell(stage, &mut one, &other, &first)?;
    one.cut_power()?;
    other.cut_power()?;
    Ok(Verdict::Passed)
}

/// What the tests of tunnels skip where the kernel has no WireGuard, they do in a guest whose kernel has it.
pub fn kernel_tests(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let Some(tests) = &stage.world.kernel_tests else {
        return Err(Fault::Cannot("there is no program of these tests (KAIRN_VM_KERNEL_TESTS)".into()));
    };
    let mut bytes = fs::read(tests).map_err(Fault::io(format!("read {}", tests.display())))?;
    let length = bytes.len();
    bytes.resize(length.next_multiple_of(SECTOR), 0);
    let disk = stage.dir.join("tests.img");
    fs::write(&disk, bytes).map_err(Fault::io("write the disk with the tests"))?;
    let disk = Disk { read_only: true, ..Disk::raw(disk).serial("tests") };
    let node = Node::installed(stage, "tunnels", &[disk])?;
    node.sh(&format!("sudo head -c {length} /dev/disk/by-id/virtio-tests > /tmp/tests && chmod +x /tmp/tests"))?;
    let listed = node.long("/tmp/tests --list 2>&1")?;
    if listed.text().contains("GLIBC_") {
        return Ok(Verdict::Skipped("this machine's C library is newer than the guest's".into()));
    }
    let done = node.long("sudo /tmp/tests --test-threads 1 --nocapture 2>&1")?;
    let said = done.text();
    ensure(done.status.success(), || format!("the tests failed:\n{said}"))?;
    ensure(!said.contains("skipped: ") && said.contains("test result: ok"), || format!("they do not run:\n{said}"))?;
    node.cut_power()?;
    Ok(Verdict::Passed)
}

/// In recovery a machine is the node that it was, and the code on its console opens a shell there, once.
fn lends_a_shell(stage: &Stage<'_>, one: &mut Node<'_>, other: &Node<'_>, before: &Value) -> Result<(), Fault> {
    one.sh("sudo kairn boot-entry select recovery")?;
    one.reboot()?;
    let status = one.status()?;
    ensure(status.running == Role::Recovery, || format!("recovery should run:\n{status}"))?;
    let now = formed(one)?;
    ensure(of(&now, "id") == of(before, "id"), || format!("recovery is another node: {now:#}"))?;
    let shown = one.says(r"kairn mesh shell [a-z2-7]+`, code [a-z2-7-]{19}", TO_FORM)?;
    let code: String = shown.chars().rev().take(19).collect::<Vec<_>>().into_iter().rev().collect();
    let id = of(before, "id").as_str().unwrap_or_default();
    other.sh(&format!("(umask 077; echo {code} > /tmp/code)"))?;
    let ask =
        format!("sudo kairn mesh shell {id} --code-file /tmp/code -- cat /run/cos/recovery_mode 2>&1; echo ended $?");
    let said = other.sh(&ask)?;
    ensure(said == "1ended 0" || said == "1\nended 0", || format!("the shell in recovery: {said}"))?;
    let again = other.sh(&ask)?;
    ensure(again.contains("this is not the code") && again.contains("ended 2"), || format!("once more: {again}"))?;
    stage.note("a shell in recovery");
    Ok(())
}

/// Whether the TPM seals who a node is, and whether its files are as it says.
fn is_kept(node: &Node<'_>, status: &Value, is_sealed: bool) -> Result<(), Fault> {
    let identity = of(status, "identity");
    ensure(of(identity, "wanted") == true && of(identity, "sealed") == is_sealed, || {
        format!("the identity should {}be sealed: {identity:#}", if is_sealed { "" } else { "not " })
    })?;
    let (there, gone) = if is_sealed { ("identity.sealed", "identity") } else { ("identity", "identity.sealed") };
    let dir = "/usr/local/.kairos/mesh";
    node.sh(&format!("sudo test -s {dir}/{there} && sudo test ! -e {dir}/{gone}")).map(drop)
}

/// Starts a machine with a disk of the image. Besides the network that lets us in, and nothing else, it has a wire to the other one.
pub fn plugged_in<'a>(stage: &'a Stage<'a>, image: &Path, name: &str, more: &[Disk]) -> Result<Node<'a>, Fault> {
    Node::power_on(stage, &wired(stage, image, name, more)?.create()?)
}

/// Such a machine before it is switched on.
fn wired(stage: &Stage<'_>, image: &Path, name: &str, more: &[Disk]) -> Result<Builder, Fault> {
    let disk = Disk::qcow2(stage.dir.join(format!("{name}.qcow2")));
    disk.create_over(&Runner::default(), image, Format::Raw, None)?;
    // One end waits, the other connects, while QEMU starts; the name is of no file, whose path might be too long.
    let end = if name == "one" { "server=on" } else { "server=off" };
    let wire =
        format!("stream,id=wire,{end},addr.type=unix,addr.abstract=on,addr.path=kairn-vm-{}", std::process::id());
    let address = format!("52:54:00:4d:45:{:02x}", name.len());
    let card = format!("virtio-net-pci,netdev=wire,romfile=,mac={address}");
    let mut builder = stage.machine(name).network(Some(Network { isolated: true, ..Network::default() }));
    builder = builder.forward(Protocol::Tcp, 0, 22).disk(disk).extra(["-netdev", &wire, "-device", &card]);
    for disk in more {
        builder = builder.disk(disk.clone());
    }
    Ok(builder)
}

/// Waits until a node and one other have addresses that are witnessed, and returns what it says.
pub fn formed(node: &Node<'_>) -> Result<Value, Fault> {
    let began = Instant::now();
    loop {
        // A node that is started again does not answer for a moment.
        let said = node.sh("sudo kairn mesh status --output json || true")?;
        let status: Value = if said.is_empty() { Value::Null } else { serde_json::from_str(&said).map_err(wrong)? };
        let peers = of(&status, "peers").as_array().map_or(&[][..], Vec::as_slice);
        let ready = |peer: &Value| of(peer, "state") == "alive" && of(peer, "ipv4").is_string();
        if of(&status, "ipv4").is_string() && peers.len() == 1 && peers.iter().all(ready) {
            return Ok(status);
        }
        if began.elapsed() >= TO_FORM {
            let log = node.sh("sudo journalctl --unit kairn-mesh.service --boot --no-pager --output cat | tail -60")?;
            return Err(wrong(format!("the mesh has not formed in {TO_FORM:?}: {status:#}\n{log}")));
        }
        node.sh("sleep 1")?;
    }
}

/// A field of what a node says; null where it says nothing of it.
pub fn of<'a>(status: &'a Value, field: &str) -> &'a Value {
    status.get(field).unwrap_or(&Value::Null)
}

/// Has the other's sshd answer a node at both of its addresses: the image has no `ping`.
fn reach(node: &Node<'_>, other: &Value) -> Result<(), Fault> {
    for address in ["ipv4", "ula"] {
        let address = of(other, address).as_str().unwrap_or_default();
        let script = format!("until exec 3<>/dev/tcp/{address}/22; do sleep 1; done; read -r line <&3; echo \"$line\"");
        let heard = node.sh(&format!("timeout {TO_ANSWER} bash -c '{script}' 2>&1"))?;
        ensure(heard.contains("SSH-2.0"), || format!("{address} answers: {heard}"))?;
    }
    Ok(())
}

/// Has programs of a node find the other by its name, over IPv4 and IPv6.
fn finds(node: &Node<'_>, other: &Value) -> Result<(), Fault> {
    let [id, ipv4, ula] = ["id", "ipv4", "ula"].map(|field| of(other, field).as_str().unwrap_or_default());
    let ask = format!("getent ahosts {id}.mesh.internal");
    // The resolver is told a little after the mesh has formed.
    let wait = format!("timeout {TO_ANSWER} bash -c 'until {ask} | grep -q {ipv4}; do sleep 1; done'");
    let found = node.sh(&format!("{wait}; {ask} || cat /etc/resolv.conf"))?;
    ensure(found.contains(ipv4) && found.contains(ula), || format!("the name of {ipv4} and {ula} leads to: {found}"))
}

/// The node runs as the unit says: active, with its keys for itself and no token on any command line.
fn is_a_service(node: &Node<'_>) -> Result<(), Fault> {
    let unit = node.sh("systemctl show --property=ActiveState,StatusText kairn-mesh.service")?;
    let expected = ["ActiveState=active", "others alive"];
    ensure(expected.iter().all(|part| unit.contains(part)), || format!("the unit says: {unit}"))?;
    // Who it is, as it is kept: see `is_kept`.
    let modes = node.sh("sudo sh -c 'stat -c %a /usr/local/.kairos/mesh /usr/local/.kairos/mesh/identity*'")?;
    ensure(modes == "700\n600", || format!("the node's files have the modes {modes:?}"))?;
    let lines = node.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")?;
    ensure(lines.contains("kairn mesh up") && !lines.contains(TOKEN), || format!("command lines: {lines}"))?;
    let status = node.status()?;
    ensure(!status.warnings.iter().any(|warning| warning.contains("mesh")), || format!("it warns:\n{status}"))
}
