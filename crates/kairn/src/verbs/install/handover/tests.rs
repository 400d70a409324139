//! When a machine waits for a workstation, and what becomes of what that hands over.

use super::*;
use crate::cli::Planned;
use crate::output::Format;
use kairn_config::merge;
use serde_json::json;

fn verb(pair: bool, unattended: bool, plan: bool) -> Install {
    let planned = Planned { plan, output: Format::Human };
    Install { device: None, config: None, pair, force: false, unattended, reboot: false, poweroff: false, planned }
}

#[test]
fn a_machine_waits_where_nobody_said_what_to_install_and_somebody_can_be_asked_or_need_not() {
    let unit = verb(false, true, false);
    let by_hand = verb(false, false, false);
    for (verb, is_unsaid, confirms, is_terminal, waits) in [
        // The unit of a medium has no terminal.
        (&unit, true, true, false, false),
        (&unit, true, false, false, true),
        (&unit, false, false, false, false),
        (&by_hand, true, true, true, true),
        (&by_hand, true, true, false, false),
        (&by_hand, false, true, true, false),
        (&verb(false, false, true), true, false, true, false),
        // Each console of a medium.
        (&verb(true, true, false), true, true, true, true),
        (&verb(true, true, false), false, true, true, false),
        (&verb(true, false, true), false, true, false, true),
    ] {
        assert_eq!(
            is_due(verb, is_unsaid, confirms, is_terminal),
            waits,
            "{verb:?} {is_unsaid} {confirms} {is_terminal}"
        );
    }
}

#[test]
fn what_is_handed_over_is_a_source_with_a_name_and_the_senders_options_win_over_it() {
    let config = "hostname: paired\ninstall: {device: /dev/vda, poweroff: true}\n".to_owned();
    let offer = Offer { config, device: Some("/dev/vd\"b".to_owned()), after: After::Reboot };
    let documents: Vec<Document> = offered(&offer).iter().map(|answer| answer.document(None)).collect();
    let merged = merge(&documents);
    assert_eq!(merged.diagnostics, []);
    let install = &merged.install;
    assert_eq!((install.reboot, install.poweroff), (true, false));
    let (device, place) = install.device.clone().unwrap();
    assert_eq!(device, "/dev/vd\"b");
    assert_eq!(place.to_string(), "answer of the options of kairn register to pairing:3:11");
    let origin = merged.merged.at("hostname").unwrap().origin.to_string();
    assert_eq!(origin, "answer of kairn register to pairing:1:11");
    let plain = Offer { device: None, after: After::AsConfigured, ..offer };
    assert_eq!(offered(&plain).len(), 1);
    assert_eq!(
        merge(&[offered(&plain)[0].document(None)]).merged.at("install.poweroff").unwrap().to_json(),
        json!(true)
    );
}

#[test]
fn errors_come_back_with_their_place_in_what_was_sent() {
    let faults_of = |config: &str, device: Option<&str>| {
        let device = device.map(str::to_owned);
        let answers = offered(&Offer { config: config.to_owned(), device, after: After::AsConfigured });
        let documents: Vec<Document> = answers.iter().map(|answer| answer.document(None)).collect();
        faults(&answers, &documents)
    };
    assert_eq!(faults_of("#cloud-config\nhostname: a\n", Some("auto")), []);
    let [wrong, token] = &faults_of("#cloud-config\np2p:\n  network_token: x\ninstall:\n  devise: auto\n", None)[..]
    else {
        panic!("not two faults");
    };
    assert_eq!((wrong.place, token.place), (Some((5, 3)), Some((3, 18))));
    assert!(wrong.text.starts_with("error: ") && wrong.text.contains("\n  hint: "), "{}", wrong.text);
    let [device] = &faults_of("#cloud-config\n", Some("vda"))[..] else { panic!("not one fault") };
    assert!(device.place.is_none() && device.text.contains("/dev"), "{device:?}");
    assert!(!faults_of("users: [", None).is_empty());
}

#[test]
fn a_code_fits_a_console_of_25_lines_and_is_shown_as_text_too() {
    let machine = kairn_mesh_protocol::Identity::from_seed(&[1; 32]).id();
    let none = shown(&Invitation::new([1; 16], machine, 7_940, []));
    assert!(none.contains("no address yet"), "{none}");
    // As many as a machine names.
    let addresses = ["192.0.2.7", "198.51.100.7", "2001:db8::7"].map(|address| address.parse().unwrap());
    let invitation = Invitation::new([1; 16], machine, 7_940, addresses);
    let text = shown(&invitation);
    assert!(text.contains("192.0.2.7:7940, 198.51.100.7:7940, [2001:db8::7]:7940") && text.contains('█'), "{text}");
    assert_eq!(text.lines().find_map(|line| line.parse::<Invitation>().ok()), Some(invitation));
    let code: Vec<&str> = text.lines().skip_while(|line| !line.contains('█')).collect();
    assert!(code.len() <= 24 && code.iter().all(|line| line.chars().count() <= 80), "{} lines", code.len());
}
