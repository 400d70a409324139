use super::*;
use crate::{Document, merge};

fn read(text: &str) -> (MeshSettings, Vec<String>) {
    let configuration = merge(&[Document::parse("t", &format!("#cloud-config\n{text}\n"))]);
    let said = configuration.diagnostics.iter().map(|said| said.to_string().replace('\n', " ")).collect();
    (configuration.mesh, said)
}

#[test]
fn without_a_block_there_is_no_token_and_all_is_as_usual() {
    for text in ["hostname: a", "p2p:", "p2p: {vpn: , peers: , loglevel: ''}", "p2p: {vpn: {create: , env: }}"] {
        assert_eq!(read(text), (MeshSettings::default(), Vec::new()), "{text}");
    }
}

#[test]
fn every_key_is_read_with_its_place() {
    let text = "p2p:\n  network_token: ' abc '\n  admin_keys: [def]\n  peers: ['192.0.2.1:7946', '[2001:db8::1]:1', 'gate.example.org:7946']\n  \
                listen_port: '7000'\n  loglevel: WARN\n  exclude_interfaces: [wwan]\n  dns: true\n  dns_domain: edge.example\n  \
                minimum_nodes: 3\n  expected_nodes: 5\n  network_id: edge\n  role: worker\n  shell: always\n  seal_identity: true\n  disable_dht: true\n  vpn:\n    create: no\n    \
                interface: mesh0\n    range: 10.7.0.0/16\n    mtu: 1380";
    let (settings, said) = read(text);
    assert_eq!(said, Vec::<String>::new());
    let token = settings.token.unwrap();
    assert_eq!((token.value.reveal().as_str(), token.span.to_string().as_str()), ("abc", "t:3:18"));
    let keys: Vec<_> = settings.admin_keys.iter().map(|key| (key.value.as_str(), key.span.to_string())).collect();
    assert_eq!(keys, [("def", "t:4:16".to_owned())]);
    let peers: Vec<&str> = settings.peers.iter().map(|peer| peer.value.as_str()).collect();
    assert_eq!(peers, ["192.0.2.1:7946", "[2001:db8::1]:1", "gate.example.org:7946"]);
    assert_eq!((settings.port, settings.log, settings.vpn), (Some(7_000), Some(LogLevel::Warn), false));
    assert_eq!((settings.dns, settings.dns_domain.unwrap().value.as_str()), (true, "edge.example"));
    assert_eq!((settings.minimum_nodes, settings.expected_nodes), (Some(3), Some(5)));
    assert_eq!(
        settings.network_id.map(|id| (id.value, id.span.to_string())),
        Some(("edge".to_owned(), "t:13:15".to_owned()))
    );
    assert_eq!((settings.shell, settings.seal_identity), (ShellLending::Always, true));
    assert_eq!(settings.role, Some(MeshRole::Worker));
    assert_eq!((settings.excluded, settings.mtu), (vec!["wwan".to_owned()], Some(1_380)));
    assert_eq!(settings.interface.as_deref(), Some("mesh0"));
    assert_eq!(settings.range.map(|range| (range.value, range.span.to_string())).unwrap().0, "10.7.0.0/16");
}

#[test]
fn later_files_win_and_the_old_name_of_the_block_is_read() {
    let configuration = merge(&[
        Document::parse("/system/oem/a", "#cloud-config\nkairos: {network_token: old, loglevel: debug}\n"),
        Document::parse("/oem/b", "#cloud-config\np2p: {network_token: new, peers: ['a:1']}\n"),
    ]);
    let token = configuration.mesh.token.unwrap();
    assert_eq!((token.value.reveal().as_str(), token.span.to_string().as_str()), ("new", "/oem/b:2:22"));
    assert_eq!(configuration.mesh.log, Some(LogLevel::Debug));
}

#[test]
fn variables_of_the_old_program_win_over_the_keys() {
    let (settings, said) = read(
        "p2p:\n  loglevel: error\n  vpn:\n    interface: a\n    range: 10.2.0.0/24\n    env:\n      IFACE: edgevpn7\n      \
         ADDRESS: 10.9.0.1/24\n      EDGEVPNMTU: \"1300\"\n      EDGEVPNLOGLEVEL: debug\n      EDGEVPNDHT: false\n      DHCP: true",
    );
    assert_eq!(said, Vec::<String>::new());
    assert_eq!((settings.interface.as_deref(), settings.mtu), (Some("edgevpn7"), Some(1_300)));
    assert_eq!((settings.range.unwrap().value.as_str(), settings.log), ("10.9.0.1/24", Some(LogLevel::Debug)));
}

#[test]
fn variables_without_effect_are_named_with_the_reason() {
    for (line, why) in [
        ("EDGEVPNTOKEN: abc", "the token stands in `p2p.network_token`"),
        ("EDGEVPNLEDGERINTERVAL: 10", "the shared state has times and owners of its own"),
        ("EDGEVPN_RELAY_MAX_DATA: 10", "machines find their paths by other means"),
        ("DHCP: false", "each node claims an address in the range"),
        ("EDGEVPNNOVELTY: 1", "it is not known"),
        ("GOLOG: 1", "it is not known"),
    ] {
        let (settings, said) = read(&format!("p2p: {{vpn: {{env: {{{line}}}}}}}"));
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(settings, MeshSettings::default(), "{line}");
        let column = 19 + name.len() + 2;
        let expected = format!("t:2:{column}: warning: `{name}` does nothing here: {why}");
        assert_eq!(said, [expected], "{line} {value}");
    }
}

#[test]
fn what_cannot_be_is_pointed_at_and_left_out() {
    for (text, expected) in [
        ("p2p: 7", "t:2:6: error: `p2p` is a mapping"),
        ("p2p: {network_id: [a]}", "t:2:19: error: `network_id` is text"),
        ("p2p: {network_token: [a]}", "t:2:22: error: `network_token` is text"),
        ("p2p: {peers: a}", "t:2:14: error: `peers` is a list"),
        ("p2p: {listen_port: 0}", "t:2:20: error: `listen_port` is a whole number from 1 to 65535"),
        ("p2p: {minimum_nodes: 0}", "t:2:22: error: `minimum_nodes` is a whole number from 1 to 512"),
        ("p2p: {expected_nodes: 513}", "t:2:23: error: `expected_nodes` is a whole number from 1 to 512"),
        (
            "p2p: {shell: 7}",
            "t:2:14: error: `7` does not say when a shell may be had: never, now   hint: there are `recovery`, `always` and `never`",
        ),
        ("p2p: {role: boss}", "t:2:13: error: `role` is `master`, `worker` or `none`, not `boss`"),
        ("p2p: {listen_port: x}", "t:2:20: error: `listen_port` is a whole number from 1 to 65535"),
        (
            "p2p: {loglevel: loud}",
            "t:2:17: error: `loud` is no level of a log   hint: there are `error`, `warn`, `info`, \
                                   `debug` and `trace`",
        ),
        ("p2p: {vpn: yes}", "t:2:12: error: `p2p.vpn` is a mapping"),
        (
            "p2p: {vpn: {range: 10.1.0.0}}",
            "t:2:20: error: `10.1.0.0` is no range of IPv4 addresses with 8 to 30 bits   \
                                           hint: a range is written as `10.1.0.0/24`",
        ),
        (
            "p2p: {vpn: {range: 10.1.0.0/31}}",
            "t:2:20: error: `10.1.0.0/31` is no range of IPv4 addresses with 8 to 30 bits   \
                                              hint: a range is written as `10.1.0.0/24`",
        ),
        ("p2p: {vpn: {mtu: 100}}", "t:2:18: error: `mtu` is a whole number from 1280 to 9000"),
        (
            "p2p: {vpn: {interface: a/b}}",
            "t:2:24: error: `a/b` cannot be the name of an interface: it has 1 to 15 characters",
        ),
        ("p2p: {vpn: {create: 7}}", "t:2:21: error: `create` is `true` or `false`"),
        ("p2p: {vpn: {env: {EDGEVPNDHT: maybe}}}", "t:2:31: error: `EDGEVPNDHT` is `true` or `false`"),
        ("p2p: {vpn: {env: {EDGEVPNMTU: 1}}}", "t:2:31: error: `EDGEVPNMTU` is a whole number from 1280 to 9000"),
    ] {
        let (settings, said) = read(text);
        assert_eq!(said, [expected], "{text}");
        // A private network that is asked for in no known way is none, nor is a shell.
        let shell = if text.contains("shell") { ShellLending::Never } else { ShellLending::Recovery };
        let usual = MeshSettings { vpn: !text.contains("create"), shell, ..MeshSettings::default() };
        assert_eq!(settings, usual, "{text}");
    }
    for peer in ["192.0.2.1", "2001:db8::1", "a:0", "a:70000", ":7946", "http://a:1", "[a]:1"] {
        let (settings, said) = read(&format!("p2p: {{peers: ['{peer}', 'b:1']}}"));
        assert!(said.len() == 1 && said[0].starts_with("t:2:15: error: `"), "{said:?}");
        assert_eq!(settings.peers.len(), 1, "{peer}");
    }
}

#[test]
fn the_dht_is_asked_only_where_the_key_says_so_in_so_many_words() {
    let word = "t:2:20: error: `disable_dht` is `true` or `false`";
    let variable = "t:2:31: warning: `EDGEVPNDHT` does nothing here: `p2p.disable_dht: false` is what asks for the DHT";
    let alone = "t:2:23: warning: `dht_bootstrap` does nothing unless `p2p.disable_dht` is `false`";
    for (text, wanted, warned) in [
        ("p2p: {disable_dht: false}", true, None),
        ("p2p: {disable_dht: 'no'}", true, None),
        ("p2p: {disable_dht: false, vpn: {env: {EDGEVPNDHT: 'true'}}}", true, None),
        ("p2p: {disable_dht: false, vpn: {env: {EDGEVPNDHT: 'false'}}}", false, None),
        ("p2p: {}", false, None),
        ("p2p: {disable_dht: }", false, None),
        ("p2p: {disable_dht: ''}", false, None),
        ("p2p: {disable_dht: true}", false, None),
        ("p2p: {disable_dht: nope}", false, Some(word)),
        ("p2p: {disable_dht: [a]}", false, Some(word)),
        ("p2p: {vpn: {env: {EDGEVPNDHT: 'true'}}}", false, Some(variable)),
        ("p2p: {dht_bootstrap: ['a:1']}", false, Some(alone)),
    ] {
        let (settings, said) = read(text);
        assert_eq!(settings.dht, wanted, "{text}");
        assert_eq!(said.first().map(String::as_str), warned, "{text}: {said:?}");
    }
    let (settings, said) = read("p2p: {disable_dht: false, dht_bootstrap: ['192.0.2.1:6881', 'dht.example.org']}");
    assert_eq!((settings.dht, settings.dht_bootstrap.len(), said.len()), (true, 1, 1), "{said:?}");
}

/// Blocks as existing configurations and their documentation have them.
#[test]
fn existing_configurations_say_what_they_meant() {
    let old = "b3RwOgogIGRodDoKICAgIGludGVydmFsOiA5MDAwCg==";
    for (text, create, log, warnings) in [
        (format!("kairos:\n network_token: {old}"), true, None, 0),
        (
            format!("p2p:\n  network_token: \"{old}\"\n  auto:\n    ha: {{enable: true, master_nodes: 2}}"),
            true,
            None,
            0,
        ),
        (
            format!(
                "p2p:\n  disable_dht: true\n  network_token: {old}\n  network_id: kubernetes\n  role: master\n  dns: true\n  \
                 loglevel: debug\n  vpn:\n    create: false\n    use: false"
            ),
            false,
            Some(LogLevel::Debug),
            0,
        ),
        (
            format!(
                "p2p:\n  network_token: {old}\n  vpn:\n    create: true\n    env:\n      EDGEVPNLEDGERINTERVAL: 15\n      \
                 EDGEVPNLOGLEVEL: info\n      EDGEVPNMAXCONNS: 50"
            ),
            true,
            Some(LogLevel::Info),
            2,
        ),
    ] {
        let (settings, said) = read(&text);
        assert_eq!(settings.token.unwrap().value.reveal(), old, "{text}");
        assert_eq!((settings.vpn, settings.log, said.len()), (create, log, warnings), "{text}: {said:?}");
    }
}
