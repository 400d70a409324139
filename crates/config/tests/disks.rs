//! What cloud-init's keys about disks mean, and what is said of wrong values.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use kairn_config::{Document, Severity, StagePlan, plan, validate};
use serde_json::{Value, json};

fn planned(stage: &str, text: &str) -> StagePlan {
    plan(&[Document::parse("t", &format!("#cloud-config\n{text}\n"))], stage)
}

/// Labels and works of a stage, of which nothing is to be said.
fn works(stage: &str, text: &str) -> Vec<(String, Value)> {
    let plan = planned(stage, text);
    assert_eq!(plan.diagnostics, [], "{text}");
    let actions = plan.steps.into_iter().flat_map(|step| step.actions);
    actions.map(|action| (action.label, serde_json::to_value(&action.work).unwrap()["storage"].take())).collect()
}

#[test]
fn disks_come_before_mounts_and_growth_after_the_rest() {
    let text = "mounts: [[data.1, /mnt/a]]\nfs_setup: [{device: data.1, filesystem: ext4}]\ndisk_setup: {data: {table_type: gpt, \
                layout: true}}\ndevice_aliases: {data: /dev/nvme0n1}\nbootcmd: [x]\ngrowpart: {devices: [/dev/vdc1, /data]}\nruncmd: [y]";
    let labels = |stage| works(stage, text).into_iter().map(|(label, _)| label).collect::<Vec<_>>();
    assert_eq!(labels("fs"), ["command 1", "disk data", "file system of data.1", "mount /mnt/a"]);
    assert_eq!(labels("boot"), ["command 1", "growpart /dev/vdc1", "growpart /data"]);
    let fs = works("fs", text);
    assert_eq!(fs[1].1["disk-setup"]["device"], "/dev/nvme0n1");
    assert_eq!(
        (&fs[2].1["file-system"]["device"], &fs[2].1["file-system"]["partition"]),
        (&json!("/dev/nvme0n1"), &json!({"number": 1}))
    );
    assert_eq!(fs[3].1["mount"]["source"], "/dev/nvme0n1p1");
}

#[test]
fn values_are_read_in_every_shape_that_cloud_init_takes() {
    let kind = |byte: u8, guid: &str| json!({"byte": byte, "guid": guid});
    let swap = kind(0x82, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
    for (stage, text, expected) in [
        (
            "fs",
            "disk_setup: {vdb: {layout: [33, [66.5, 82]], overwrite: yes}}",
            json!({"disk-setup": {"device": "/dev/vdb", "table": "mbr", "layout": {"parts": [{"share": 3300, "kind": null}, {"share": 6650, "kind": swap}]}, "overwrite": true}}),
        ),
        (
            "fs",
            "disk_setup: {/dev/disk/by-id/x: {table_type: gpt, layout: remove}}",
            json!({"disk-setup": {"device": "/dev/disk/by-id/x", "table": "gpt", "layout": "remove", "overwrite": false}}),
        ),
        (
            "fs",
            "fs_setup: [{device: /dev/vdb, filesystem: ext4, label: d, partition: 2, overwrite: true, replace_fs: ntfs, extra_opts: -m 0}]",
            json!({"file-system": {"device": "/dev/vdb", "partition": {"number": 2}, "kind": "ext4", "label": "d", "overwrite": true, "replace": "ntfs", "options": ["-m", "0"], "command": null}}),
        ),
        (
            "fs",
            "fs_setup: [{device: /dev/vdb1, cmd: [mkfs, '%(device)s'], replace_fs: false}]",
            json!({"file-system": {"device": "/dev/vdb1", "partition": "any", "kind": null, "label": null, "overwrite": false, "replace": null, "options": [], "command": {"program": "***"}}}),
        ),
        (
            "boot",
            "growpart: {ignore_growroot_disabled: true}",
            json!({"growth": {"device": "/", "heed_disabled": false}}),
        ),
        ("boot", "growpart: {mode: true, devices: [/x]}", json!({"growth": {"device": "/x", "heed_disabled": true}})),
    ] {
        let mut works = works(stage, text);
        assert_eq!(works.len(), 1, "{text}: {works:?}");
        assert_eq!(works.remove(0).1, expected, "{text}");
    }
    for (stage, text) in [
        ("fs", "disk_setup: {vdb: {table_type: gpt}, vdc: {layout: false}}"),
        ("fs", "fs_setup: []"),
        ("boot", "growpart: {mode: off, devices: [/]}"),
        ("boot", "growpart: {devices: []}"),
        ("boot", "resize_rootfs: false"),
    ] {
        assert_eq!(works(stage, text), [], "{text}");
    }
}

#[test]
fn wrong_values_are_pointed_at_and_take_out_no_neighbour() {
    for (stage, text, expected) in [
        ("fs", "disk_setup: {vdb: {table_type: dos, layout: true}}", "2:32: `dos` is no kind of partition table"),
        (
            "fs",
            "disk_setup: {vdb: {layout: all}}",
            "2:28: `layout` of a disk is `true`, `false`, `remove` or a list of percentages",
        ),
        ("fs", "disk_setup: {vdb: {layout: [60, 50]}}", "2:28: the shares of the disk are 110 per cent together"),
        ("fs", "disk_setup: {vdb: {layout: []}}", "2:28: `layout` of a disk lists no partition"),
        (
            "fs",
            "disk_setup: {vdb: {layout: [20, 20, 20, 20, 20]}}",
            "2:28: a master boot record has room for 4 partitions, not 5",
        ),
        (
            "fs",
            "disk_setup: {vdb: {layout: [0]}}",
            "2:29: the size of a partition is a percentage above 0 and up to 100",
        ),
        ("fs", "disk_setup: {vdb: {layout: [[50, Linux], 50]}}", "2:34: `Linux` is no known type of a partition"),
        ("fs", "disk_setup: {vdb: {layout: [[50, ef02]]}}", "2:34: `ef02` is no known type of a partition"),
        (
            "fs",
            "disk_setup: {vdb: {layout: [[50, 82, 3]]}}",
            "2:29: a partition is a percentage, or a list of one and a type",
        ),
        (
            "fs",
            "disk_setup: {vdb.1: {layout: true}}",
            "2:14: `disk_setup` parts whole disks, and `vdb.1` is a partition",
        ),
        (
            "fs",
            "disk_setup: {/etc/x: {layout: true}}",
            "2:14: a disk of `disk_setup` is a path below /dev, not `/etc/x`",
        ),
        ("fs", "fs_setup: [{filesystem: ext4}]", "2:12: `device` is missing"),
        ("fs", "fs_setup: [{device: vdb}]", "2:12: `filesystem` is missing, and there is no `cmd`"),
        (
            "fs",
            "fs_setup: [{device: vdb, filesystem: ext4, partition: first}]",
            "2:55: `partition` is a number from 1, `auto`, `any` or `none`, not `first`",
        ),
        ("fs", "fs_setup: [{device: vdb, filesystem: ../x}]", "2:38: `../x` cannot name a file system"),
        (
            "fs",
            "fs_setup: [{device: vdb, filesystem: xfs, label: thirteen-byte}]",
            "2:50: `thirteen-byte` cannot be its label: a label of XFS has at most 12 bytes",
        ),
        ("fs", "fs_setup: [{device: vdb, cmd: []}]", "2:31: `cmd` names no program"),
        ("boot", "growpart: {mode: lvextend}", "2:18: `lvextend` is no mode of `growpart`"),
        ("boot", "growpart: {devices: [vdb1]}", "2:22: a device of `growpart` is an absolute path, not `vdb1`"),
    ] {
        let text = format!("#cloud-config\n{text}\n");
        let neighbour = "#cloud-config\nbootcmd: [x]\nruncmd: [x]\n";
        let documents = [Document::parse("t", &text), Document::parse("u", neighbour)];
        let plan = plan(&documents, stage);
        let said: Vec<_> = plan.diagnostics.iter().filter(|said| said.severity == Severity::Error).collect();
        assert!(!said.is_empty(), "{text}");
        assert_eq!(format!("{}: {}", &said[0].span.to_string()[2..], said[0].message), expected);
        let all = validate(&documents[..1]);
        let errors: Vec<_> = all.iter().filter(|said| said.severity == Severity::Error).collect();
        assert_eq!(errors.len(), said.len(), "one fault is told once: {errors:?}");
        assert_eq!(plan.steps.iter().filter(|step| step.span.source == "u").count(), 1, "{text}");
    }
}

#[test]
fn what_a_platform_names_is_not_done_and_the_sealed_root_is_told_of() {
    for (stage, text, severity, expected) in [
        ("fs", "disk_setup: {ephemeral0: {layout: true}}", Severity::Warning, "by the metadata of a platform"),
        (
            "fs",
            "fs_setup: [{device: ephemeral0.1, filesystem: ext4}]",
            Severity::Warning,
            "by the metadata of a platform",
        ),
        ("boot", "resize_rootfs: noblock", Severity::Note, "the root is sealed"),
        ("fs", "fs_setup: [{device: vdb, cmd: x, extra_opts: [y]}]", Severity::Warning, "no effect beside `cmd`"),
    ] {
        let said = planned(stage, text).diagnostics;
        assert_eq!((said.len(), said[0].severity), (1, severity), "{said:?}");
        assert!(said[0].message.contains(expected), "{said:?}");
    }
}
