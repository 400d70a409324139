//! Configurations on machines: a large one from the first stage to the last, and one that is applied to a machine that runs.

use crate::fault::{Fault, ensure};
use crate::node::{Node, wrong};
use crate::pages::Pages;
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::Runner;
use kairn_lab::Disk;
use serde_json::Value;
use std::time::Duration;

/// What a machine of a shop may have.
const SITE: &str = include_str!("../../assets/site.yaml");
/// What it fetches.
const LATE: &str = "#cloud-config\nwrite_files:\n- path: /etc/shop/late\n  content: late\nstages:\n  network:\n  - name: late\n    \
                    commands: [\"echo late >> /run/shop-order\"]\n";
/// What is applied.
const APPLIED: &str = "#cloud-config\nhostname: applied\nwrite_files:\n- path: /etc/applied\n  content: applied\nstages:\n  rootfs:\n  \
                       - name: next time\n    commands: [\"true\"]\n";
/// A provider plugin: with the boot it leaves configuration for the stages to come, and says when it is told of the start.
const PROVIDER: &str = r##"#!/bin/sh
input=$(cat)
case $1 in
agent.boot)
  case $input in *hostname*) ;; *) echo '{"error":"no configuration came"}'; exit ;; esac
  mkdir -p /usr/local/cloud-config
  printf '#cloud-config\ncluster: {role: init}\nstages: {fs: [{name: provided, commands: ["touch /run/provided"]}]}\n' > /usr/local/cloud-config/cluster.kairos.yaml
  ;;
agent.bootstrap) touch /run/bootstrapped ;;
esac
echo '{"state":"ready"}'
"##;
/// Size of an empty disk.
const DISK: u64 = 16 << 30;
/// Gibibytes of the file system that was made and grown.
const GIBIBYTES: &str = "sudo dumpe2fs -h /dev/vda1 2> /dev/null | \
                     awk -F: '/^Block count/ {n = $2} /^Block size/ {s = $2} END {printf \"%.0f\", n * s / 2^30}'";
/// Until a trial of a minute is taken back.
const TO_TAKE_BACK: Duration = Duration::from_secs(600);

/// A medium starts with one large configuration: each of its effects is there, and each of its steps is told of.
pub fn whole(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let pages = Pages::start()?;
    pages.put("/fetched", "fetched\n");
    let port = pages.url().rsplit(':').next().unwrap_or_default().to_owned();
    let text = SITE.replace("@PORT@", &port).replace("@KEY@", &stage.world.key.public()?);
    pages.put("/late.yaml", LATE);
    let medium = Disk::cdrom(stage.world.configured_medium(&stage.dir, &text)?);
    let disk = Disk::qcow2(stage.dir.join("disk.qcow2"));
    disk.create(&Runner::default(), DISK)?;
    let machine = stage.machine("shop").disk(disk).disk(medium).create()?;
    let node = Node::start(stage, &machine)?;

    for (path, expected) in [
        ("/etc/shop/plain.conf", "site = 12\nadded = yes"),
        ("/etc/shop/packed.conf", "packed"),
        ("/etc/shop/environment", "SHOP=\"12 north\""),
        ("/etc/shop/typo", "x"),
        ("/etc/shop/late", "late"),
        ("/etc/shop/fetched-well", "fetched"),
        ("/run/shop-rootfs", "rootfs"),
        ("/run/shop-once", "once"),
        ("/proc/sys/vm/swappiness", "17"),
    ] {
        let found = node.sh(&format!("sudo cat {path}"))?;
        ensure(found == expected, || format!("{path} holds {found:?} instead of {expected:?}"))?;
    }
    let order = node.sh("cat /run/shop-order")?;
    let expected = "bootcmd\nruncmd\nfirst\nsecond\ngoes-on\nlate\nnetwork.after";
    ensure(sorted(&order) == sorted(expected), || format!("the commands came as {order:?}"))?;
    ensure(place(&order, "first") < place(&order, "second"), || format!("`after` does not hold: {order:?}"))?;
    for (command, expected) in [
        ("hostname | cut -c1-5", "edge-"),
        ("sudo stat -c '%a %U %G' /etc/shop/plain.conf /var/lib/shop", "640 root adm\n750 root adm"),
        ("id -nG ada | tr ' ' '\\n' | sort | tr '\\n' ' '", "ada admin users"),
        ("sudo getent shadow ada | cut -d: -f2 | cut -c1", "!"),
        ("test -e '/run/shop with blanks' && test ! -e /etc/shop/fetched && echo yes", "yes"),
        ("systemctl show -p Environment systemd-networkd", "Environment=SHOP=12"),
        ("grep -l virtio_net /etc/systemd/network/*.network | wc -l", "1"),
        ("sudo blkid -p -s LABEL -o value /dev/vda1", "SHOP"),
        ("test $(cat /sys/class/block/vda1/size) -gt 33000000 && echo large", "large"),
        (GIBIBYTES, "16"),
    ] {
        let found = node.sh(command)?;
        ensure(found.trim() == expected, || format!("`{command}` says {found:?} instead of {expected:?}"))?;
    }
    stage.note("all effects are there");

    let mut failed = Vec::new();
    for (name, steps) in [
        ("rootfs", &["root file system", "data"][..]),
        ("initramfs", &["early", "kernel"]),
        ("fs", &["grown", "directories"]),
        ("boot", &["first", "second", "elsewhere", "fails", "typo", "once", "units", "top-level keys"]),
        ("network", &["fetched", "fetched well", "late", "at the end"]),
    ] {
        let result = result(&node, name)?;
        let told = result.pointer("/steps").and_then(Value::as_array).cloned().unwrap_or_default();
        for step in steps {
            let found = told.iter().find(|found| found.pointer("/name").and_then(Value::as_str) == Some(step));
            ensure(found.is_some(), || format!("stage {name} does not tell of step `{step}`: {result}"))?;
        }
        let said = |step: &Value| step.to_string().contains("\"result\":\"failed\"");
        let names = told.iter().filter(|step| said(step)).filter_map(|step| step.pointer("/name")?.as_str());
        failed.extend(names.map(str::to_owned));
        let diagnostics = result.pointer("/diagnostics").map(Value::to_string).unwrap_or_default();
        // Faults of other stages, too: whoever looks at any of them sees that a file is wrong.
        for part in ["`instal`", "`permsisions`"] {
            ensure(diagnostics.contains(part), || format!("stage {name} does not say {part}: {diagnostics}"))?;
        }
    }
    let boot = result(&node, "boot")?;
    let steps = boot.pointer("/steps").and_then(Value::as_array).into_iter().flatten();
    let skipped: Vec<_> = steps.filter(|step| step.pointer("/skipped").is_some()).collect();
    let names: Vec<_> = skipped.iter().filter_map(|step| step.pointer("/name")?.as_str()).collect();
    ensure(names == ["elsewhere"], || format!("these steps of stage boot were skipped: {skipped:?}"))?;
    ensure(failed == ["fails", "fetched"], || format!("these steps failed: {failed:?}"))?;
    let checked = node.long("sudo kairn config validate /run/initramfs/live")?;
    let (text, code) = (checked.text(), checked.status.code());
    ensure(code == Some(3) && text.contains("k3s") && text.contains("did you mean `install`"), || {
        format!("`kairn config validate` ended with {code:?}: {text}")
    })?;
    node.shut_down()?;
    Ok(Verdict::Passed)
}

/// A configuration is applied on trial and taken back by itself, then applied, kept over a restart and confirmed.
pub fn applied(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = Node::installed(stage, "node", &[])?;
    node.expect_good(1)?;
    let before = node.sh("hostname")?;
    write(&node, "/tmp/site.yaml", APPLIED)?;
    let planned = node.sh("sudo kairn config apply --dry-run /tmp/site.yaml")?;
    ensure(
        planned.contains("file /etc/applied") && planned.contains("waits for the next boot: rootfs: next time"),
        || format!("the plan does not say what would come:\n{planned}"),
    )?;
    ensure(node.sh("test ! -e /etc/applied && hostname")? == before, || "a dry run changed something".into())?;

    write(&node, "/tmp/lasting.yaml", "#cloud-config\nruncmd: [\"touch /run/never\"]\n")?;
    let refused = node.long("sudo kairn config apply --try 5m /tmp/lasting.yaml")?;
    ensure(refused.status.code() == Some(3), || format!("ended with {}: {}", refused.status, refused.stderr))?;

    node.sh("sudo kairn config apply --try 60s /tmp/site.yaml")?;
    let during = node.sh("hostname; cat /etc/applied; echo; sudo cat /oem/site.yaml | head -1")?;
    ensure(during == "applied\napplied\n#cloud-config", || format!("during the trial: {during:?}"))?;
    let wait = "while sudo test -e /oem/.kairn/trial.json; do sleep 1; done";
    let waited = node.script(wait, "", TO_TAKE_BACK)?;
    ensure(waited.status.success(), || format!("waiting for the end of the trial: {}", waited.stderr))?;
    let after = node.sh("hostname; test ! -e /etc/applied && sudo test ! -e /oem/site.yaml && echo gone")?;
    ensure(after == format!("{before}\ngone"), || format!("after the trial: {after:?}"))?;
    stage.note("a trial was taken back");

    write(&node, "/tmp/agent-provider-test", PROVIDER)?;
    node.sh("sudo install -D -m 755 /tmp/agent-provider-test /usr/local/system/providers/agent-provider-test")?;
    node.sh("sudo kairn config apply --try 2h /tmp/site.yaml")?;
    node.reboot()?;
    told(&node)?;
    stage.note("a provider was told of the boot and of the start");
    let status = node.sh("hostname; cat /etc/applied; echo; systemctl is-active kairn-config-trial")?;
    ensure(status == "applied\napplied\nactive", || format!("after a restart within the trial: {status:?}"))?;
    node.sh("sudo kairn config apply --confirm")?;
    let kept = node.sh("hostname; sudo test ! -e /oem/.kairn/trial.json && sudo cat /oem/site.yaml")?;
    ensure(kept.trim_end() == format!("applied\n{}", APPLIED.trim_end()), || format!("when confirmed: {kept:?}"))?;
    node.shut_down()?;
    Ok(Verdict::Passed)
}

/// A provider was told of the boot: what it wrote counted from the next stage on, and it was told of the start too.
fn told(node: &Node<'_>) -> Result<(), Fault> {
    let step = |step: &Value| step.pointer("/name").and_then(Value::as_str) == Some("agent.boot: agent-provider-test");
    let result = result(node, "initramfs")?;
    let found = result.pointer("/steps").and_then(Value::as_array).and_then(|steps| steps.iter().find(|one| step(one)));
    let done = found.and_then(|step| step.pointer("/actions/0/result")?.as_str());
    ensure(done == Some("changed"), || format!("stage initramfs does not tell of the provider: {result}"))?;
    let provided = node.sh("test -e /run/provided && sudo kairn config get cluster.role")?;
    ensure(provided == "init", || format!("what the provider wrote does not count: {provided:?}"))?;
    let wait = "while ! test -e /run/bootstrapped; do sleep 1; done";
    let waited = node.script(wait, "", Duration::from_secs(300))?;
    ensure(waited.status.success(), || format!("waiting for the word of the start: {}", waited.stderr))
}

fn write(node: &Node<'_>, path: &str, text: &str) -> Result<(), Fault> {
    let written = node.script(&format!("cat > {path} <<'END'\n{text}END\n"), "", Duration::from_secs(120))?;
    ensure(written.status.success(), || format!("writing {path}: {}", written.stderr))
}

/// What a stage left.
fn result(node: &Node<'_>, stage: &str) -> Result<Value, Fault> {
    serde_json::from_str(&node.sh(&format!("sudo cat /run/kairn/stages/{stage}.json"))?).map_err(wrong)
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

fn place(lines: &str, line: &str) -> Option<usize> {
    lines.lines().position(|found| found == line)
}
