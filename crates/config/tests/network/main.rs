//! Networks of every dialect: one model, two renderers, no input that breaks them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test's panic is its verdict.

mod any_input;
mod faults;
mod oracle;

use kairn_config::network::{Dialect, Network, Renderer, Rendering, parse, render};
use kairn_config::{Diagnostic, Document, Severity};

fn read(text: &str, dialect: Dialect) -> (Option<Network>, Vec<Diagnostic>) {
    let document = Document::parse("n.yaml", text);
    let root = document.root.clone().unwrap_or_else(|| panic!("no YAML: {:?}\n{text}", document.diagnostics));
    parse(&document, &root, dialect)
}

/// Reads a network of which nothing bad is to be said.
fn good(text: &str) -> Network {
    let (network, said) = read(text, Dialect::Auto);
    let bad: Vec<_> = said.iter().filter(|said| said.severity > Severity::Note).map(ToString::to_string).collect();
    assert!(bad.is_empty(), "{}\n{text}", bad.join("\n"));
    network.unwrap()
}

/// Forgets where interfaces stand.
fn placeless(mut network: Network) -> Network {
    for interface in &mut network.interfaces {
        interface.span.place = kairn_report::Place::default();
    }
    network
}

fn show(rendering: &Rendering) -> String {
    let mut text = String::new();
    for file in &rendering.files {
        let secret = if file.confidential { " confidential" } else { "" };
        text.push_str(&format!("=== {} {}{secret}\n{}", file.path, file.mode, file.content.reveal()));
    }
    text.push_str(&format!("=== units: {}\n", rendering.units.join(" ")));
    for said in &rendering.diagnostics {
        text.push_str(&format!("{said}\n"));
    }
    text
}

const OWN: &str = include_str!("own.yaml");
const V2: &str = include_str!("v2.yaml");
const V1: &str = include_str!("v1.yaml");

#[test]
fn large_examples_become_these_files() {
    for (name, text) in [("own", OWN), ("v2", V2), ("v1", V1)] {
        let network = good(text);
        insta::assert_snapshot!(format!("{name}-networkd"), show(&render(&network, Renderer::Networkd)));
        insta::assert_snapshot!(format!("{name}-network-manager"), show(&render(&network, Renderer::NetworkManager)));
    }
}

#[test]
fn one_network_in_three_dialects_is_one_model() {
    // Each row: our own, version 2, version 1 where it can say it.
    let table: &[(&str, &str, &str)] = &[
        (
            "interfaces: [{name: eth0, dhcp: ipv4}]",
            "version: 2\nethernets: {eth0: {dhcp4: true}}",
            "version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: dhcp}]}]",
        ),
        (
            "interfaces: [{name: eth0, dhcp: true, mtu: 9000, optional: true}]",
            "network: {version: 2, ethernets: {eth0: {dhcp4: yes, dhcp6: yes, mtu: 9000, optional: yes}}}",
            "network: {version: 1, config: [{type: physical, name: eth0, mtu: 9000, optional: true, subnets: [{type: dhcp4}, {type: dhcp6}]}]}",
        ),
        (
            "interfaces: [{name: eth0, addresses: 10.0.0.2/24, gateway: 10.0.0.1, dns: {servers: 10.0.0.53, search: [lan, example.com]}}]",
            "version: 2\nethernets: {eth0: {addresses: [10.0.0.2/24], gateway4: 10.0.0.1, nameservers: {addresses: [10.0.0.53], search: [lan, example.com]}}}",
            "version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: static, address: 10.0.0.2, netmask: 255.255.255.0, gateway: 10.0.0.1, dns_nameservers: [10.0.0.53], dns_search: [lan, example.com]}]}]",
        ),
        (
            "interfaces: [{name: lan0, match: {mac: '52:54:00:00:00:01'}, rename: lan0, addresses: ['2001:db8::2/64'], routes: [{to: default, via: '2001:db8::1'}, {to: 2001:db8:1::/48, via: 2001:db8::3, metric: 5}]}]",
            "version: 2\nethernets: {lan0: {match: {macaddress: 52:54:00:00:00:01}, set-name: lan0, addresses: ['2001:db8::2/64'], gateway6: '2001:db8::1', routes: [{to: '2001:db8:1::/48', via: '2001:db8::3', metric: 5}]}}",
            "version: 1\nconfig: [{type: physical, name: lan0, mac_address: '52:54:00:00:00:01', subnets: [{type: static6, address: '2001:db8::2/64', gateway: '2001:db8::1', routes: [{network: '2001:db8:1::', netmask: '48', gateway: '2001:db8::3', metric: 5}]}]}]",
        ),
        (
            "interfaces: [{name: eth0}, {name: eth0.7, vlan: {id: 7, link: eth0}, addresses: [10.7.0.2/24]}]",
            "version: 2\nethernets: {eth0: {}}\nvlans: {eth0.7: {id: 7, link: eth0, addresses: [10.7.0.2/24]}}",
            "version: 1\nconfig: [{type: physical, name: eth0}, {type: vlan, name: eth0.7, vlan_link: eth0, vlan_id: 7, subnets: [{type: static, address: 10.7.0.2/24}]}]",
        ),
        (
            "interfaces: [{name: eth0}, {name: eth1}, {name: bond0, bond: {members: [eth0, eth1], mode: 802.3ad, lacp-rate: fast, mii-monitor-interval: 100ms, transmit-hash-policy: layer3+4}, dhcp: ipv4}]",
            "version: 2\nethernets: {eth0: {}, eth1: {}}\nbonds: {bond0: {interfaces: [eth0, eth1], parameters: {mode: 802.3ad, lacp-rate: fast, mii-monitor-interval: 100, transmit-hash-policy: layer3+4}, dhcp4: true}}",
            "version: 1\nconfig: [{type: physical, name: eth0}, {type: physical, name: eth1}, {type: bond, name: bond0, bond_interfaces: [eth0, eth1], params: {bond-mode: 4, bond_lacp_rate: 1, bond-miimon: 100, bond-xmit-hash-policy: layer3+4}, subnets: [{type: dhcp4}]}]",
        ),
        (
            "interfaces: [{name: eth0}, {name: br0, bridge: {members: [eth0], stp: false, forward-delay: 4, path-cost: {eth0: 50}}, addresses: [10.0.0.2/24]}]",
            "version: 2\nethernets: {eth0: {}}\nbridges: {br0: {interfaces: [eth0], parameters: {stp: false, forward-delay: 4, path-cost: {eth0: 50}}, addresses: [10.0.0.2/24]}}",
            "version: 1\nconfig: [{type: physical, name: eth0}, {type: bridge, name: br0, bridge_interfaces: [eth0], params: {bridge_stp: 'off', bridge_fd: 4, bridge_pathcost: [eth0 50]}, subnets: [{type: static, address: 10.0.0.2/24}]}]",
        ),
        (
            "interfaces: [{name: wl, match: {name: 'wl*'}, wifi: {ssid: Café, password: 'correct horse'}, dhcp: ipv4}]",
            "version: 2\nwifis: {wl: {match: {name: 'wl*'}, access-points: {Café: {password: correct horse}}, dhcp4: true}}",
            "",
        ),
        (
            "renderer: networkmanager\ninterfaces: [{name: eth0, dhcp: ipv4, dhcp-options: {use-dns: false, route-metric: 50, identifier: mac}, link-local: [], accept-ra: false, rules: [{from: 10.0.0.0/8, table: 7}]}]",
            "version: 2\nrenderer: NetworkManager\nethernets: {eth0: {dhcp4: true, dhcp4-overrides: {use-dns: false, route-metric: 50}, dhcp-identifier: mac, link-local: [], accept-ra: false, routing-policy: [{from: 10.0.0.0/8, table: 7}]}}",
            "",
        ),
        ("dns: {servers: [1.1.1.1], search: lan}\ninterfaces: [{name: d0, dummy: true}]", "", ""),
    ];
    for (own, v2, v1) in table {
        let model = placeless(good(own));
        assert!(!model.interfaces.is_empty());
        for text in [v2, v1] {
            if !text.is_empty() {
                assert_eq!(placeless(good(text)), model, "{text}\nis not\n{own}");
            }
        }
    }
    // What is given to no interface in version 1.
    let v1 = good(
        "version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: static, address: 10.0.0.2/24}]}, {type: nameserver, address: 1.1.1.1, search: [lan]}, {type: route, destination: 10.9.0.0/16, gateway: 10.0.0.9}]",
    );
    let own = good(
        "dns: {servers: [1.1.1.1], search: lan}\ninterfaces: [{name: eth0, addresses: [10.0.0.2/24], routes: [{to: 10.9.0.0/16, via: 10.0.0.9}]}]",
    );
    assert_eq!(placeless(v1), placeless(own));
}

#[test]
fn a_reference_may_name_the_device_that_an_interface_is_renamed_to() {
    let network = good(
        "interfaces: [{name: uplink, match: {mac: '52:54:00:00:00:01'}, rename: lan0}, {name: v, vlan: {id: 5, link: lan0}}]",
    );
    assert_eq!(network.interfaces[1].carrier(), Some(&network.interfaces[0].id));
    assert_eq!(network.interfaces.len(), 2);
}

#[test]
fn secrets_show_in_no_debug_text_and_only_in_files_of_root() {
    let network = good(
        "interfaces: [{name: w, wifi: [{ssid: a, password: hunter2hunter2}, {ssid: b, password: hunter2hunter2, security: sae}]}]",
    );
    assert!(!format!("{network:?}").contains("hunter2"));
    for renderer in [Renderer::Networkd, Renderer::NetworkManager] {
        let rendering = render(&network, renderer);
        assert!(!format!("{rendering:?}").contains("hunter2"));
        let holding: Vec<_> = rendering.files.iter().filter(|file| file.content.reveal().contains("hunter2")).collect();
        assert!(!holding.is_empty());
        for file in holding {
            assert_eq!((file.mode.0, file.confidential), (0o600, true), "{}", file.path);
        }
    }
}

#[test]
fn what_a_renderer_cannot_say_is_a_warning_at_the_interface() {
    let table: &[(&str, Renderer, &[&str])] = &[
        (
            "interfaces: [{name: enp1s0, rename: lan0}]",
            Renderer::Networkd,
            &["1:21 udev sees the kernel's name of `enp1s0` (`eth0` and the like) when it sets its new name"],
        ),
        ("interfaces: [{name: eth0, rename: lan0}]", Renderer::Networkd, &[]),
        (
            "interfaces: [{name: w, match: {name: 'wl*'}, wifi: {ssid: a}}]",
            Renderer::Networkd,
            &["1:21 wpa_supplicant needs the name of the device"],
        ),
        ("interfaces: [{name: w, match: {name: 'wl*'}, wifi: {ssid: a}}]", Renderer::NetworkManager, &[]),
        (
            "interfaces: [{name: a, dhcp: ipv6, dhcp-options: {use-mtu: true}, dns: {servers: [1.1.1.1]}}]",
            Renderer::Networkd,
            &["1:21 systemd-networkd has no `use-mtu` for DHCP of IPv6"],
        ),
        (
            "interfaces: [{name: a, dhcp: ipv6, dhcp-options: {use-mtu: true}, dns: {servers: [1.1.1.1]}}]",
            Renderer::NetworkManager,
            &["1:21 the name server 1.1.1.1 has no effect: IPv4 is off on `a`", "1:21 NetworkManager has no `use-mtu`"],
        ),
        (
            "interfaces: [{name: a, optional: true, addresses: [10.0.0.2/24: {label: x, lifetime: 0}]}]",
            Renderer::NetworkManager,
            &["NetworkManager has no labels", "NetworkManager has no lifetimes", "NetworkManager has no `optional`"],
        ),
    ];
    for (text, renderer, expected) in table {
        let said = render(&good(text), *renderer).diagnostics;
        let shown: Vec<String> =
            said.iter().map(|d| format!("{}:{} {}", d.span.place.line, d.span.place.column, d.message)).collect();
        assert_eq!(shown.len(), expected.len(), "{text} {renderer:?}\n{shown:#?}");
        for (shown, part) in shown.iter().zip(*expected) {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(said.iter().all(|said| said.severity == Severity::Warning));
    }
}
