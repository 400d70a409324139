//! What cloud-init's top-level keys mean: which stage does what, and what is said of wrong values.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use kairn_config::{Document, Frequency, Severity, StagePlan, plan, validate};
use serde_json::{Value, json};

fn planned(stage: &str, text: &str) -> StagePlan {
    plan(&[Document::parse("t", &format!("#cloud-config\n{text}"))], stage)
}

fn labels(plan: &StagePlan) -> Vec<String> {
    plan.steps.iter().flat_map(|step| &step.actions).map(|action| action.label.clone()).collect()
}

/// The work of the only action of a stage.
fn work(stage: &str, text: &str) -> Value {
    let plan = planned(stage, text);
    assert_eq!(plan.diagnostics, [], "{text}");
    let mut actions: Vec<_> = plan.steps.iter().flat_map(|step| &step.actions).collect();
    assert_eq!(actions.len(), 1, "{text}: {actions:?}");
    serde_json::to_value(&actions.remove(0).work).unwrap()
}

#[test]
fn every_key_has_its_stage() {
    let text = "hostname: a\nmanage_resolv_conf: true\nresolv_conf: {nameservers: [9.9.9.9]}\ntimezone: UTC\nntp:\nlocale: \
                C.UTF-8\nkeyboard: {layout: de}\nbootcmd: [a, [b, c]]\nmounts: [[vdb, /mnt/a]]\nswap: {size: 1G}\nca-certs: \
                {remove-defaults: true}\nwrite_files: [{path: /a}, {path: /b, defer: true}]\nmilpa_files: [{path: /c, append: \
                true}]\nruncmd: [x]\nusers: [{name: ada}]\nfinal_message: bye\npower_state: {mode: reboot}\nstages: {boot.after: \
                [{files: [{path: /last}]}], network: [{commands: [y]}]}\n";
    for (stage, expected) in [
        ("rootfs", vec![]),
        ("initramfs", vec!["hostname", "resolv_conf", "timezone", "ntp", "locale", "keyboard"]),
        ("fs", vec!["command 1", "command 2", "mount /mnt/a", "swap /usr/local/swap.img", "ca_certs"]),
        ("boot", vec!["file /a", "file /c", "command 1", "user ada", "file /last", "file /b"]),
        ("network", vec!["command 1", "final_message", "power_state"]),
    ] {
        let plan = planned(stage, text);
        assert_eq!(
            (labels(&plan), plan.diagnostics.as_slice()),
            (expected.iter().map(|l| (*l).to_owned()).collect(), &[][..])
        );
    }
    let last = planned("network", text).steps.pop().unwrap();
    // At every boot the machine would never stay up.
    assert_eq!(last.settings.frequency, Frequency::Always);
    // Without a header nothing of it counts.
    let bare = [Document::parse("t", text)];
    assert_eq!(labels(&plan(&bare, "initramfs")), [""; 0]);
    assert_eq!(labels(&plan(&bare, "network")), ["command 1"]);
}

#[test]
fn what_has_to_be_fetched_waits_for_the_network() {
    let text = "write_files:\n- {path: /a}\n- {path: /b, source: {uri: 'https://u:hunter2@h/b', headers: {X-Token: hunter2}}, defer: true}\n\
                - {path: /c, source: {uri: ''}, content: own}\npackages: [curl, [jq, '1.7'], {apt: [ed], snap: [core]}]\npackage_update: true\n\
                package_reboot_if_required: yes\nphone_home: {url: 'https://h/$INSTANCE_ID', post: [fqdn]}\nfinal_message: bye\n";
    assert_eq!(labels(&planned("boot", text)), ["file /a", "file /c"]);
    let network = planned("network", text);
    assert_eq!(labels(&network), ["file /b", "packages", "package_reboot_if_required", "phone_home", "final_message"]);
    assert!(!format!("{network:?}").contains("hunter2"));
    let said: Vec<String> = network.diagnostics.iter().map(|said| said.message.clone()).collect();
    assert_eq!(said, ["`snap` is no package manager that is known here; what it lists is left out"]);
    let frequencies: Vec<Frequency> = network.steps.iter().map(|step| step.settings.frequency).collect();
    assert_eq!(frequencies, [Frequency::Always, Frequency::PerInstance, Frequency::Always]);
    let packages = work("network", "packages: [curl, [jq, '1.7'], {dnf: [ed]}]\n");
    let expected = json!({"refresh": true, "upgrade": false, "install": ["curl"], "remove": [], "chosen": [
        {"name": "jq", "version": "1.7", "manager": null}, {"name": "ed", "version": null, "manager": "dnf"},
    ]});
    assert_eq!(packages["software"]["packages"], expected);
}

#[test]
fn what_cannot_be_fetched_posted_or_installed_is_pointed_at() {
    for (text, message) in [
        ("write_files: [{path: /a, source: {uri: 'ftp://h/a'}}]\n", "`source.uri` is an address of http or https"),
        ("write_files: [{path: /a, source: {uri: 'http://h/a', sha256: abc}}]\n", "`sha256` has 64 hex digits"),
        ("write_files: [{path: /a, source: {uri: 'http://h/a', headers: {'a b': c}}}]\n", "`a b` cannot name a header"),
        (
            "write_files: [{path: /a, source: {uri: 'http://h/a', headers: {a: \"b\\nc\"}}}]\n",
            "a header is one line of ASCII",
        ),
        ("packages: [-y]\n", "`-y` in `packages` cannot be used: it begins with `-`, as options do"),
        ("packages: [[a, b, c]]\n", "a package is its name, or its name and a version"),
        ("phone_home: {post: all}\n", "`phone_home` needs a `url`"),
        ("phone_home: {url: 'http://h', post: [hostnam]}\n", "`hostnam` is nothing that can be posted"),
        ("phone_home: {url: 'http://h', tries: 0}\n", "`phone_home.tries` is at least 1"),
    ] {
        let plan = planned("network", text);
        let said: Vec<&str> = plan.diagnostics.iter().map(|said| said.message.as_str()).collect();
        assert_eq!(said, [message], "{text}");
        let works: Vec<Value> =
            plan.steps[0].actions.iter().map(|action| serde_json::to_value(&action.work).unwrap()).collect();
        assert!(works[0].get("invalid").is_some(), "{text}: {works:?}");
    }
    // Without what it fetches this write would destroy what the user wants kept.
    let plan = planned("boot", "write_files: [{path: /a, source: 'http://h/a'}]\n");
    assert_eq!(plan.diagnostics[0].message, "`source` is a mapping, not a single value");
}

#[test]
fn commands_come_after_users_in_what_was_written_for_cloud_init_only() {
    let text = "## template: jinja\n#cloud-config\nruncmd: [x]\nusers: [{name: ada}]\n";
    assert_eq!(labels(&plan(&[Document::parse("t", text)], "boot")), ["user ada", "command 1"]);
    assert_eq!(labels(&planned("boot", "runcmd: [x]\nusers: [{name: ada}]\n")), ["command 1", "user ada"]);
}

#[test]
fn values_are_read_in_every_shape_that_cloud_init_takes() {
    for (stage, text, expected) in [
        (
            "initramfs",
            "fqdn: n.example\nprefer_fqdn_over_hostname: yes",
            json!({"setting": {"name": {"hostname": null, "fqdn": "n.example", "prefer_fqdn": true, "preserve": false, "hosts": "follows"}}}),
        ),
        (
            "initramfs",
            "hostname: n\nmanage_etc_hosts: localhost\npreserve_hostname: true",
            json!({"setting": {"name": {"hostname": "n", "fqdn": null, "prefer_fqdn": false, "preserve": true, "hosts": "line"}}}),
        ),
        (
            "initramfs",
            "manage_etc_hosts: true",
            json!({"setting": {"name": {"hostname": null, "fqdn": null, "prefer_fqdn": false, "preserve": false, "hosts": "whole"}}}),
        ),
        ("initramfs", "hostname: n\nmanage_etc_hosts: false", json!({"system": {"hostname": "n"}})),
        (
            "initramfs",
            "manage_resolv_conf: true\nresolv_conf: {nameservers: 1.1.1.1, searchdomains: [a, b], options: {rotate: true, debug: false, timeout: 1}}",
            json!({"setting": {"name-servers": {"servers": ["1.1.1.1"], "search": ["a", "b"], "domain": null, "sort": [], "options": ["rotate", "timeout:1"]}}}),
        ),
        (
            "initramfs",
            "timezone: America/Argentina/Buenos_Aires",
            json!({"setting": {"time-zone": "America/Argentina/Buenos_Aires"}}),
        ),
        (
            "initramfs",
            "ntp: {servers: [a, b], pools: [p], ntp_client: chrony}",
            json!({"setting": {"time-sync": {"client": "chrony", "servers": ["a", "b"], "pools": ["p"], "peers": [], "allow": []}}}),
        ),
        (
            "initramfs",
            "locale: de_DE.UTF-8\nlocale_configfile: /etc/x",
            json!({"setting": {"locale": {"name": "de_DE.UTF-8", "file": "/etc/x"}}}),
        ),
        (
            "initramfs",
            "keyboard: {layout: us, variant: intl}",
            json!({"setting": {"keyboard": {"layout": "us", "model": "pc105", "variant": "intl", "options": ""}}}),
        ),
        (
            "fs",
            "swap: {filename: /a, size: auto, maxsize: 2 GiB}",
            json!({"storage": {"swap-file": {"path": "/a", "size": "automatic", "most": 2_147_483_648_u64}}}),
        ),
        (
            "fs",
            "swap: {size: 512M}",
            json!({"storage": {"swap-file": {"path": "/usr/local/swap.img", "size": {"bytes": 536_870_912}, "most": null}}}),
        ),
        (
            "fs",
            "mounts: [[nvme1n1, /mnt/a]]",
            json!({"storage": {"mount": {"source": "/dev/nvme1n1", "target": "/mnt/a", "fs_type": "auto", "options": "***", "dump": 0, "pass": 2}}}),
        ),
        (
            "fs",
            "mount_default_fields: [~, ~, ext4, defaults, 1]\nmounts: [['host:/x', /mnt/a, nfs, ~, '0', '0']]",
            json!({"storage": {"mount": {"source": "host:/x", "target": "/mnt/a", "fs_type": "nfs", "options": "***", "dump": 0, "pass": 0}}}),
        ),
        (
            "fs",
            "mounts: [[LABEL=s, none, swap, sw, 0, 0]]",
            json!({"storage": {"mount": {"source": "LABEL=s", "target": null, "fs_type": "swap", "options": "***", "dump": 0, "pass": 0}}}),
        ),
        (
            "network",
            "power_state: {mode: poweroff, delay: +5, message: bye, timeout: 30, condition: [test, -e, /x]}",
            json!({"setting": {"power": {"mode": "poweroff", "delay": 5, "message": "bye", "condition": {"program": ["test", "-e", "/x"]}}}}),
        ),
        (
            "network",
            "power_state: {mode: halt, delay: 10, condition: test -e /x}",
            json!({"setting": {"power": {"mode": "halt", "delay": 10, "message": null, "condition": {"shell": "test -e /x"}}}}),
        ),
    ] {
        assert_eq!(work(stage, text), expected, "{text}");
    }
    for (stage, text) in [
        ("initramfs", "ntp: {enabled: false, servers: [a]}"),
        ("initramfs", "locale: false"),
        ("initramfs", "hostname: a\npreserve_hostname: true"),
        ("fs", "mounts: [[ephemeral0], [ephemeral0, ~]]"),
        ("fs", "swap: {size: 0}"),
        ("fs", "swap: {filename: /a}"),
        ("network", "power_state: {mode: halt, condition: false}"),
    ] {
        let plan = planned(stage, text);
        assert_eq!((labels(&plan), plan.diagnostics.as_slice()), (vec![], &[][..]), "{text}");
    }
}

#[test]
fn wrong_values_are_pointed_at_and_take_out_no_neighbour() {
    for (stage, text, expected) in [
        ("initramfs", "fqdn: -a", "2:7: `-a` cannot be a host name: no part between dots begins or ends with `-`"),
        (
            "initramfs",
            "manage_etc_hosts: perhaps",
            "2:19: `manage_etc_hosts` is `true`, `false` or `localhost`, not `perhaps`",
        ),
        (
            "initramfs",
            "manage_resolv_conf: true\nresolv_conf: {nameservers: ['1.1.1.1 2.2.2.2']}",
            "3:29: `resolv_conf.nameservers` is one word, not `1.1.1.1 2.2.2.2`",
        ),
        ("initramfs", "timezone: ../../etc/shadow", "2:11: `../../etc/shadow` cannot name a time zone"),
        ("initramfs", "ntp: {servers: a}", "2:16: `ntp.servers` is a list, not a single value"),
        ("initramfs", "ntp: {ntp_client: sundial}", "2:19: `sundial` is no program that keeps the time"),
        ("initramfs", "locale: 'C; rm'", "2:9: `C; rm` cannot name a locale"),
        ("initramfs", "keyboard: {model: pc105}", "2:11: `keyboard` needs a `layout`"),
        (
            "initramfs",
            "keyboard: {layout: 'd$e'}",
            "2:20: `keyboard.layout` has letters, digits and `_-+:,.()` only, not `d$e`",
        ),
        ("fs", "bootcmd: ls", "2:10: `bootcmd` is a list, not a single value"),
        ("fs", "mounts: [/dev/vdb]", "2:10: a mount is a list, not a single value"),
        ("fs", "mounts: [[/dev/vdb, mnt]]", "2:10: a mount point is an absolute path without `..`, not `mnt`"),
        (
            "fs",
            "mounts: [[/dev/vdb, /usr/local]]",
            "2:10: nothing is mounted at `/usr/local` by a configuration: it is mounted by the system itself",
        ),
        (
            "fs",
            "mounts: [[LABEL=COS_OEM, /mnt/a]]",
            "2:10: `LABEL=COS_OEM` is not mounted by a configuration: it is one of the system's own partitions",
        ),
        (
            "fs",
            "mounts: [[/dev/vdb, /mnt/a, ext4, defaults, 0, x]]",
            "2:10: the sixth field of a mount is a number, not `x`",
        ),
        (
            "fs",
            "mounts: [[a, /b, c, d, '0', '0', e]]",
            "2:10: a mount has at most six fields, as a line of fstab(5) has",
        ),
        (
            "fs",
            "swap: {size: much}",
            "2:14: `swap.size` is a number of bytes, or a number with a unit such as `512M`, not `much`",
        ),
        (
            "fs",
            "swap: {size: 99999999T}",
            "2:14: `swap.size` is a number of bytes, or a number with a unit such as `512M`, not `99999999T`",
        ),
        ("fs", "swap: {filename: a, size: 1G}", "2:18: `swap.filename` is an absolute path, not `a`"),
        ("fs", "ca_certs: {trusted: [/etc/ssl/mine.pem]}", "2:22: this is no certificate in PEM: it does not begin"),
        ("boot", "write_files: [{path: /a, append: perhaps}]", "2:34: `append` is `true` or `false`, not `perhaps`"),
        ("network", "power_state: {delay: now}", "2:14: `power_state` needs a `mode`"),
        ("network", "power_state: {mode: sleep}", "2:21: `sleep` is no mode of `power_state`"),
        (
            "network",
            "power_state: {mode: halt, delay: soon}",
            "2:34: `power_state.delay` is `now` or a number of minutes such as `+5`, not `soon`",
        ),
    ] {
        let text = format!("#cloud-config\n{text}\n");
        let documents = [
            Document::parse("t", &text),
            Document::parse(
                "u",
                "#cloud-config\nhostname: b\nbootcmd: [x]\nwrite_files: [{path: /n}]\nfinal_message: z\n",
            ),
        ];
        let plan = plan(&documents, stage);
        let said: Vec<_> = plan.diagnostics.iter().filter(|said| said.severity == Severity::Error).collect();
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        assert_eq!(format!("{}: {}", &said[0].span.to_string()[2..], said[0].message), expected);
        let all = validate(&documents[..1]);
        let errors: Vec<_> = all.iter().filter(|said| said.severity == Severity::Error).collect();
        assert_eq!(errors.len(), 1, "one fault is told once: {errors:?}");
        let neighbours = plan.steps.iter().filter(|step| step.span.source == "u").count();
        assert_eq!(neighbours, 1, "{text}");
    }
}

#[test]
fn what_is_not_done_is_said_to_be_so() {
    let plan = planned("initramfs", "ntp: {config: {confpath: /x}}");
    assert_eq!(
        serde_json::to_value(&plan.steps[0].actions[0].work).unwrap()["not-supported"],
        "`ntp.config` is not supported yet"
    );
    for text in ["ntp: {ntp_client: openntpd}", "mounts: [[ephemeral0, /mnt/a]]"] {
        let stage = if text.starts_with("ntp") { "initramfs" } else { "fs" };
        let plan = planned(stage, text);
        let said: Vec<_> =
            plan.diagnostics.iter().map(|said| (said.severity, said.message.contains("not supported"))).collect();
        assert_eq!(said, [(Severity::Warning, true)], "{text}");
        let work = serde_json::to_value(&plan.steps[0].actions[0].work).unwrap();
        assert!(work.get("not-supported").is_some(), "{work}");
    }
    let plan = planned("initramfs", "resolv_conf: {nameservers: [9.9.9.9]}");
    assert!(plan.diagnostics[0].message.contains("manage_resolv_conf"), "{:?}", plan.diagnostics);
    assert_eq!(labels(&plan), [""; 0]);
}
