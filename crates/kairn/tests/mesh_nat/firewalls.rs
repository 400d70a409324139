//! Sites whose firewalls let nothing of the mesh through.

use crate::GATE;
use crate::world::{DEADLINE, Nat, Node, World, peer, run, text};
use serde_json::Value;
use std::time::Instant;

/// Waits until `kairn mesh doctor` finds something about this that contains all words; the finding.
fn finds(node: &Node<'_>, about: &str, words: &[&str]) -> Value {
    let start = Instant::now();
    loop {
        let said = node.ask(&["doctor", "--output", "json"]);
        let found: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap_or_default();
        let is_it = |finding: &&Value| {
            finding["about"] == about && words.iter().all(|word| text(&finding["text"]).contains(word))
        };
        if let Some(finding) = found.iter().find(is_it) {
            assert_eq!((said.status.code(), text(&finding["gravity"])), (Some(4), "problem"), "{finding}");
            return finding.clone();
        }
        assert!(start.elapsed() < DEADLINE, "{}: {about} {words:?}: {found:#?}", node.namespace);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Has a router pass no UDP on, in either direction.
fn close(world: &World, router: &str) {
    world.nft(
        router,
        "table inet wall { chain forward { type filter hook forward priority -10;
           iifname \"wan\" meta l4proto udp drop; oifname \"wan\" meta l4proto udp drop;
         }; }",
    );
}

/// Takes that back; when.
fn open(router: &str) -> Instant {
    run(&format!("ip netns exec {router} nft delete table inet wall"));
    Instant::now()
}

fn lives(status: &Value, id: &str) -> bool {
    peer(status, id).is_some_and(|peer| peer["state"] == "alive")
}

#[test]
fn a_site_that_lets_no_udp_through_is_a_mesh_of_its_own_says_why_and_joins_the_others_once_it_does() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let site = world.router("ra", 11, Nat::Cone);
    close(&world, &site);
    let one = world.start(&world.behind("a", &site, 11, 2), &GATE);
    let finding = finds(&one, "firewall", &["nothing answers at 198.51.100.1:7946 by UDP"]);
    assert!(text(&finding["hint"]).contains("7946/udp and 7947/udp"), "{finding}");
    let status = one.tells("status");
    assert!(status.contains("198.51.100.1:7946: nothing answers"), "{status}");
    let alone = one.until("its own address", |status| status["ipv4"].is_string());
    assert_eq!(alone["peers"].as_array().unwrap().len(), 0);

    // Two of the site are a mesh, and each goes on calling for those outside.
    let other = world.start(&world.behind("b", &site, 11, 3), &GATE);
    one.goes(&other, "lan");
    other.goes(&one, "lan");
    one.reaches(&other, &[]);
    let status = other.until("its own address", |status| status["ipv4"].is_string());
    one.reaches_at(text(&status["ipv4"]), &[]);
    finds(&other, "firewall", &["nothing answers at 198.51.100.1:7946 by UDP"]);
    finds(&one, "firewall", &["nothing answers at 198.51.100.1:7946 by UDP"]);
    assert_eq!(gate.status()["peers"].as_array().unwrap().len(), 0);

    let since = open(&site);
    let id = gate.id();
    for node in [&one, &other] {
        node.until("the gate lives", |status| lives(status, &id));
    }
    eprintln!("figure: joined {} ms after the firewall opened", since.elapsed().as_millis());
    one.goes(&gate, "direct");
    other.reaches(&gate, &[]);
    gate.reaches(&one, &[]);
    for node in [&one, &other] {
        let (found, status) = (node.tells("doctor"), node.tells("status"));
        assert!(!found.contains("nothing answers") && !status.contains("nothing answers"), "{found}{status}");
    }
}

#[test]
fn a_machine_that_a_firewall_cuts_off_while_it_runs_says_who_does_not_answer_and_is_back_once_it_opens() {
    let Some(world) = World::new() else { return };
    let gate = world.start(&world.public("m", 1), &[]);
    let site = world.router("ra", 11, Nat::Cone);
    let one = world.start(&world.behind("a", &site, 11, 2), &GATE);
    one.goes(&gate, "direct");
    one.reaches(&gate, &[]);
    let (own, other) = (one.id(), gate.id());

    close(&world, &site);
    let is_dead = |status: &Value, id: &str| peer(status, id).is_some_and(|peer| peer["state"] == "dead");
    one.until("the gate is away", |status| is_dead(status, &other));
    gate.until("the machine is away", |status| is_dead(status, &own));
    let finding = finds(&one, "node", &["does not answer since"]);
    assert_eq!(text(&finding["peer"]), text(&peer(&one.status(), &other).unwrap()["name"]));
    // It was met where it was named, and is said to be away once.
    assert!(!one.tells("doctor").contains("nothing answers"));

    let since = open(&site);
    one.until("the gate is back", |status| lives(status, &other));
    gate.until("the machine is back", |status| lives(status, &own));
    eprintln!("figure: back {} ms after the firewall opened again", since.elapsed().as_millis());
    one.goes(&gate, "direct");
    gate.reaches(&one, &[]);
}
