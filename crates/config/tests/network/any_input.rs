//! No input breaks the readers or the renderers; networks keep their promises and files their form.

use kairn_config::Document;
use kairn_config::network::{Dialect, Network, Renderer, Rendering, parse, render};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Pieces of which networks are made, right and wrong.
fn scalar() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "true",
        "false",
        "~",
        "''",
        "0",
        "7",
        "4094",
        "65535",
        "-1",
        "ipv4",
        "lo",
        "a",
        "b",
        "c",
        "eth0",
        "'a b'",
        "\"a\\nb\"",
        "\"a\\n[Network]\\nDHCP=yes\"",
        "'en*'",
        "10.0.0.2/24",
        "10.0.0.1",
        "'2001:db8::2/64'",
        "'::1'",
        "default",
        "0.0.0.0/0",
        "'52:54:00:00:00:01'",
        "802.3ad",
        "active-backup",
        "dhcp4",
        "static",
        "physical",
        "bond",
        "bridge",
        "vlan",
        "wpa-psk",
        "sae",
        "hunter2hunter2",
        "'é\"\\;#'",
        "example.com",
        "'~.'",
        "100ms",
        "networkd",
        "1",
        "2",
    ]);
    prop_oneof![
        9 => fixed.prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "version",
        "network",
        "renderer",
        "interfaces",
        "ethernets",
        "wifis",
        "bonds",
        "bridges",
        "vlans",
        "config",
        "name",
        "match",
        "mac",
        "macaddress",
        "mac_address",
        "driver",
        "path",
        "rename",
        "set-name",
        "dhcp",
        "dhcp4",
        "dhcp6",
        "addresses",
        "gateway",
        "gateway4",
        "routes",
        "to",
        "via",
        "metric",
        "on-link",
        "table",
        "type",
        "dns",
        "servers",
        "search",
        "nameservers",
        "mtu",
        "wake-on-lan",
        "vlan",
        "id",
        "link",
        "bond",
        "members",
        "mode",
        "primary",
        "bridge",
        "path-cost",
        "stp",
        "wifi",
        "ssid",
        "password",
        "security",
        "hidden",
        "dummy",
        "rules",
        "from",
        "parameters",
        "access-points",
        "auth",
        "subnets",
        "address",
        "netmask",
        "bond_interfaces",
        "params",
        "vlan_id",
        "vlan_link",
        "bridge_interfaces",
        "destination",
        "a",
        "b",
        "c",
        "eth0",
        "10.0.0.2/24",
        "label",
        "x",
    ])
    .prop_map(str::to_owned)
}

/// A network in flow style; a mapping of distinct keys.
fn tree() -> impl Strategy<Value = String> {
    let map = |inner: BoxedStrategy<String>| {
        prop::collection::btree_map(key(), inner, 0..6).prop_map(|entries| {
            let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
            format!("{{{}}}", entries.join(", "))
        })
    };
    let inner = scalar().boxed().prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            map(inner.boxed()),
        ]
        .boxed()
    });
    map(inner.boxed())
}

/// Interfaces of our own dialect that are near to right, so that most of them reach the renderers.
fn near() -> impl Strategy<Value = String> {
    let id = || prop::sample::select(vec!["a", "b", "c", "d", "lo", "eth0"]);
    let part = prop_oneof![
        Just("dhcp: true".to_owned()),
        scalar().prop_map(|text| format!("dhcp: {text}")),
        scalar().prop_map(|text| format!("addresses: [{text}, 10.0.0.2/24]")),
        (scalar(), scalar()).prop_map(|(to, via)| format!("routes: [{{to: {to}, via: {via}}}]")),
        (scalar(), scalar()).prop_map(|(a, b)| format!("dns: {{servers: {a}, search: {b}}}")),
        scalar().prop_map(|text| format!("match: {{name: {text}}}")),
        scalar().prop_map(|text| format!("rename: {text}")),
        (1..30_u32, id()).prop_map(|(number, link)| format!("vlan: {{id: {number}, link: {link}}}")),
        (id(), id(), id()).prop_map(|(a, b, c)| format!("bond: {{members: [{a}, {b}], primary: {c}}}")),
        (id(), id()).prop_map(|(a, b)| format!("bridge: {{members: [{a}, {b}], path-cost: {{{a}: 5}}}}")),
        (scalar(), scalar()).prop_map(|(a, b)| format!("wifi: {{ssid: {a}, password: {b}, security: sae}}")),
        (scalar(), scalar()).prop_map(|(a, b)| format!("wifi: [{{ssid: {a}, password: {b}}}, {{ssid: x}}]")),
    ];
    let parts = prop::collection::vec(part, 0..4).prop_map(|parts| {
        let mut seen = BTreeSet::new();
        parts.into_iter().filter(|part| seen.insert(part.split(':').next().unwrap().to_owned())).collect::<Vec<_>>()
    });
    let interface = (id(), parts)
        .prop_map(|(id, parts)| format!("{{{}}}", [vec![format!("name: {id}")], parts].concat().join(", ")));
    prop::collection::vec(interface, 0..7).prop_map(|items| format!("interfaces: [{}]", items.join(", ")))
}

fn check(text: &str) {
    let document = Document::parse("n.yaml", text);
    let Some(root) = &document.root else { return };
    for dialect in [Dialect::Auto, Dialect::Own, Dialect::V1, Dialect::V2] {
        let (network, said) = parse(&document, root, dialect);
        assert_eq!((network.clone(), said.clone()), parse(&document, root, dialect));
        for said in &said {
            assert!(said.span.place.line >= 1 && said.span.place.column >= 1, "{said}");
        }
        let Some(network) = network else { continue };
        sound(&network);
        for renderer in [Renderer::Networkd, Renderer::NetworkManager] {
            let rendering = render(&network, renderer);
            assert_eq!(rendering, render(&network, renderer));
            tidy(&rendering);
        }
    }
}

/// What a network promises.
fn sound(network: &Network) {
    let ids: BTreeSet<_> = network.interfaces.iter().map(|interface| &interface.id).collect();
    assert_eq!(ids.len(), network.interfaces.len());
    let mut members = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for interface in &network.interfaces {
        for member in interface.members() {
            assert!(ids.contains(member));
            assert!(members.insert(member), "{member} is a member twice");
        }
        assert!(interface.carrier().is_none_or(|carrier| ids.contains(carrier)));
        // No way along what is needed comes back.
        let mut at: Vec<_> = vec![interface];
        for _ in 0..=network.interfaces.len() {
            let below = |one: &&kairn_config::network::Interface| {
                let needs: Vec<_> = one.members().into_iter().chain(one.carrier()).cloned().collect();
                needs.into_iter().filter_map(|id| network.interface(&id))
            };
            at = at.iter().flat_map(below).collect::<Vec<_>>();
            at.sort_by(|a, b| a.id.cmp(&b.id));
            at.dedup_by(|a, b| a.id == b.id);
        }
        assert!(at.is_empty(), "a circle through {}", interface.id);
        for address in &interface.addressing.addresses {
            let address = address.net.address();
            let local = match address {
                std::net::IpAddr::V4(v4) => v4.is_link_local(),
                std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            assert!(local || addresses.insert(address), "{address} is given twice");
        }
    }
    for interface in &network.interfaces {
        if members.contains(&interface.id) {
            assert_eq!(interface.addressing, kairn_config::network::Addressing::default());
        }
    }
}

/// Every line is a comment, a section or a key that this test knows; no text from outside begins one.
fn tidy(rendering: &Rendering) {
    const SECTIONS: &[&str] = &[
        "Match",
        "Link",
        "Network",
        "Address",
        "Route",
        "RoutingPolicyRule",
        "DHCPv4",
        "DHCPv6",
        "IPv6AcceptRA",
        "Bridge",
        "NetDev",
        "VLAN",
        "Bond",
        "Resolve",
        "connection",
        "match",
        "ethernet",
        "wifi",
        "wifi-security",
        "vlan",
        "bond",
        "bridge",
        "bridge-port",
        "loopback",
        "ipv4",
        "ipv6",
    ];
    let mut paths = BTreeSet::new();
    for file in &rendering.files {
        assert!(paths.insert(&file.path), "{} is written twice", file.path);
        let text = file.content.reveal();
        assert!(kairn_config::network::is_rendered(&file.path, text), "{}", file.path);
        assert!(text.ends_with('\n') && !text.contains('\0'));
        assert!(
            !file.path.split('/').any(|part| part == "..") && file.path.bytes().all(|byte| byte.is_ascii_graphic()),
            "{}",
            file.path
        );
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# Written by Kairn")) {
            let section = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
            let wpa = file.path.starts_with("/etc/wpa_supplicant/");
            match section {
                Some(section) => assert!(!wpa && SECTIONS.contains(&section), "{line}"),
                None if wpa && line == "}" => {}
                None => {
                    let key = line.trim_start().split('=').next().unwrap();
                    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
                    assert!(plain && !key.is_empty() && line.contains('='), "{line:?} in {}", file.path);
                }
            }
        }
    }
    for unit in &rendering.units {
        assert!(unit.ends_with(".service") && !unit.contains(['/', ' ', '\n']), "{unit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_tree_breaks_the_readers_or_the_renderers(text in tree()) {
        check(&text);
    }

    #[test]
    fn interfaces_that_are_nearly_right_give_sound_networks_and_tidy_files(text in near()) {
        check(&text);
    }

    #[test]
    fn no_text_breaks_them_either(text in any::<String>()) {
        check(&text);
    }
}
