//! A medium whose configuration says nothing of installing, with a provider that is a script, up to the plan.

use super::*;
use crate::cli::Planned;
use crate::output::Format;
use crate::verbs::install::{Wanted, request, wanted};
use crate::verbs::providers::tests::with_provider;
use kairn_config::{TemplateValues, merge};
use kairn_deploy::install::identities;
use kairn_layout::Bytes;
use kairn_lifecycle::install::{DiskFacts, FirmwareKind, InstallFacts, InstallPlan, ReleaseSource, plan};
use kairn_lifecycle::stage::StepCounts;
use kairn_stages::Context;
use serde_json::json;
use std::fs;

fn unattended(device: Option<&str>) -> Install {
    let planned = Planned { plan: true, output: Format::Human };
    let device = device.map(str::to_owned);
    Install {
        device,
        config: None,
        pair: false,
        force: false,
        unattended: true,
        reboot: false,
        poweroff: false,
        planned,
    }
}

/// What the medium installs with, and what was shown.
fn paired(script: &str, device: Option<&str>) -> (Result<Wanted, Report>, String) {
    let dir = with_provider(script);
    fs::create_dir_all(dir.path().join("oem")).unwrap();
    fs::write(dir.path().join("oem/a.yaml"), "#cloud-config\nhostname: a\nx-oem: 1\n").unwrap();
    fs::create_dir_all(dir.path().join("proc")).unwrap();
    fs::write(dir.path().join("proc/cmdline"), "kairn.config=x-line=1").unwrap();
    let context = Context { root: dir.path().to_owned(), ..Context::this(TemplateValues::default()) };
    let mut shown = String::new();
    let wanted = wanted(&unattended(device), &context, &mut Vec::new(), &mut |text| shown.push_str(text));
    (wanted, shown)
}

/// A machine with two disks; one bears the name of a device that every machine has, since names are looked up.
fn facts() -> InstallFacts {
    let blob = |size: u64| json!({"size": size, "sha256": "0".repeat(64)});
    let release = json!({
        "format": 1, "id": "0".repeat(16), "version": "1", "title": "t", "architecture": "amd64", "kernel": "6.1",
        "unpacked": 900 << 20, "uki": blob(20 << 20), "cmdline": "",
        "loader": {"file": blob(90_000), "version": "252.39"},
        "root": {"format": "erofs", "image": blob(300 << 20), "verity": blob(3 << 20), "root_hash": "0".repeat(64),
                 "salt": "00", "data_blocks": 76_800},
    });
    let release = serde_json::from_value(release).unwrap();
    let disk = |device: &str| DiskFacts {
        device: device.into(),
        size: Bytes::gib(20),
        sector_size: 512,
        unfit: None,
        removable: false,
        model: None,
        serial: None,
        booted_from: false,
        uses: Vec::new(),
        what: None,
        partitions: Vec::new(),
        installation: None,
    };
    InstallFacts {
        firmware: FirmwareKind::Uefi { variables: true },
        disks: vec![disk("/dev/vda"), disk("/dev/null")],
        source: Some(ReleaseSource { dir: "/r".into(), release, description_size: Bytes(900) }),
        missing_programs: Vec::new(),
        loader_refused: None,
        veto: None,
    }
}

fn planned(wanted: &Wanted) -> InstallPlan {
    plan(&facts(), &request(&unattended(None), wanted, &StepCounts::new()), &identities()).unwrap()
}

const PAIRS: &str = r##"input=$(cat)
case $1 in
agent.install.challenge) echo '{"data":"t0Ken"}' ;;
agent.install)
  case $input in *t0Ken*x-oem*|*x-oem*t0Ken*) ;; *) echo '{"error":"no token, or no configuration"}'; exit ;; esac
  printf '%s\n' '{"data":"{\"cc\":\"hostname: paired\\ninstall: {device: /dev/null}\\nx-line: 0\\nusers: [{name: u, passwd: p, groups: [admin]}]\"}"}' ;;
*) echo '{}' ;;
esac"##;

#[test]
fn an_answer_of_a_provider_is_what_is_planned_and_installed_and_is_named_as_its_source() {
    let (wanted, shown) = paired(PAIRS, None);
    let wanted = wanted.unwrap();
    assert!(shown.contains("t0Ken"), "{shown}");
    assert_eq!(planned(&wanted).disk, "/dev/null");
    let merged = &wanted.configuration.merged;
    let hostname = merged.at("hostname").unwrap();
    assert_eq!(hostname.origin.to_string(), "answer of agent-provider-x to agent.install:1:11");
    // The kernel command line wins over it.
    assert_eq!(merged.at("x-line").unwrap().to_json(), json!(1));
    let text = String::from_utf8(wanted.bytes).unwrap();
    assert!(text.contains("# - answer of agent-provider-x to agent.install\n"), "{text}");
    let back = merge(&[Document::parse("/oem/90_custom.yaml", &text)]).merged.to_json();
    assert_eq!((&back["hostname"], &back["x-oem"]), (&json!("paired"), &json!(1)));
    assert_eq!(wanted.answers.len(), 1);
}

#[test]
fn providers_are_asked_only_where_nobody_says_what_to_install_and_what_fails_there_ends_it() {
    let (asked, shown) = paired(PAIRS, Some("/dev/vda"));
    assert_eq!((asked.unwrap().answers.len(), shown.as_str()), (0, ""));
    let (quiet, _) = paired("echo '{}'", None);
    assert_eq!(quiet.unwrap().answers, []);
    for (script, part) in [
        ("exit 3", "agent.install.challenge: agent-provider-x: it ended with exit status: 3"),
        (
            "test $1 = agent.install && echo '{\"data\":\"x\"}' || echo '{}'",
            "agent.install: agent-provider-x: `data`: its answer cannot be read at line 1",
        ),
        (
            "test $1 = agent.install && echo '{\"data\":\"{\\\"cc\\\":\\\"users: [\\\"}\"}' || echo '{}'",
            "answer of agent-provider-x to agent.install:2:1: error",
        ),
    ] {
        let (refused, _) = paired(script, None);
        let said = refused.err().map(|report| report.to_string()).unwrap_or_default();
        assert!(said.contains(part), "{script}: {said}");
    }
}

#[test]
fn a_token_is_shown_as_text_and_as_a_code_that_keeps_its_case() {
    let text = shown("agent-provider-x", "bm9kZQ==Ab");
    assert!(text.contains("agent-provider-x waits") && text.contains("\nbm9kZQ==Ab\n"), "{text}");
    assert!(text.contains('█') && text != shown("agent-provider-x", "BM9KZQ==AB"), "{text}");
    assert!(shown("x", &"a".repeat(4096)).contains("too long for a QR code"));
}
