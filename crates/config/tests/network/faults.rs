//! What is said of faulty networks, and what is left of them.

use super::read;
use kairn_config::Diagnostic;
use kairn_config::network::Dialect;

/// Each row: the text, then what is said of it (`line:column severity` and a part of the sentence), then the interfaces left.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const FAULTS: &[Row] = &[
    // Whole networks.
    ("version: 3\nethernets: {}", &[("1:10 error", "`version` is 1 or 2, not `3`")], &[]),
    ("ethernets: {a: {dhcp4: true}}", &[("1:1 warning", "`ethernets` without `version` is read as version 2")], &["a"]),
    ("network: {config: disabled}", &[("1:19 note", "left as the image has it")], &[]),
    ("network: {interfaces: []}\nethernets: {}", &[("2:1 warning", "`ethernets` stands beside `network`")], &[]),
    ("network: [1]", &[("1:10 error", "`network` is a mapping, not a list")], &[]),
    // Unknown keys and words; the interface stays.
    (
        "interfaces: [{name: a, adresses: [10.0.0.2/24]}, {name: b, dchp: true}]",
        &[
            ("1:24 error", "an interface has no key `adresses`\n  hint: `addresses` meant?"),
            ("1:60 error", "hint: `dhcp` meant?"),
        ],
        &["a", "b"],
    ),
    (
        "version: 2\nethernets: {a: {dhcp4: maybe}}\nbonds: {b: {interfaces: [a], parameters: {mode: active-backpu}}}",
        &[
            ("2:24 error", "`dhcp4` is `true` or `false`, not `maybe`"),
            ("3:49 error", "`mode` is one of balance-rr, active-backup"),
        ],
        &["a", "b"],
    ),
    ("version: 2\nethernet: {}", &[("2:1 error", "hint: `ethernets` meant?")], &[]),
    (
        "version: 2\nethernets: {a: {ipv6-privacy: true, critical: true}}",
        &[
            ("2:17 warning", "`ipv6-privacy` in an interface is not supported yet"),
            ("2:37 note", "`critical` has no effect"),
        ],
        &["a"],
    ),
    (
        "version: 1\nconfig: [{type: physical, name: a, mac-address: '52:54:00:00:00:01', mac_address: x}]",
        &[("2:70 error", "`mac-address` and `mac_address` are the same key")],
        &["a"],
    ),
    // Values; only they are left out.
    (
        "interfaces: [{name: a, addresses: [10.0.0.2, 10.0.0.3/24, 300.0.0.1/8, 224.0.0.1/24, 10.0.1.0/24], mtu: 20, mac: '01:00:5e:00:00:01'}]",
        &[
            ("1:36 error", "not `10.0.0.2`\n  hint: say how long the network's part is, as in `10.0.0.2/24`"),
            ("1:59 error", "not `300.0.0.1/8`"),
            ("1:72 error", "no host can have the address 224.0.0.1"),
            ("1:86 warning", "10.0.1.0/24 is the network itself"),
            ("1:105 error", "`mtu` is a whole number from 68 to 65535, not `20`"),
            ("1:114 error", "belongs to no single device"),
        ],
        &["a"],
    ),
    (
        "interfaces: [{name: a, addresses: [10.0.0.2/24], gateway: 10.0.1.1, routes: [{via: 10.0.0.1}, {to: 10.1.0.5/16, via: '::1'}, {to: 10.2.0.5/16, via: 10.0.0.1}, {to: default, via: 10.0.0.1, type: blackhole}]}]",
        &[
            ("1:59 warning", "the next hop 10.0.1.1 is in no network of `a`"),
            ("1:78 error", "a route lacks `to`"),
            ("1:100 warning", "10.1.0.5/16 names a host in a network; 10.1.0.0/16 is taken"),
            ("1:118 error", "`via` is of another family than the destination 10.1.0.0/16"),
            ("1:131 warning", "10.2.0.0/16 is taken"),
            ("1:179 error", "a route of type blackhole has no next hop"),
        ],
        &["a"],
    ),
    (
        "interfaces: [{name: a, dns: {servers: [1.1.1.1/32, x], search: ['a b', lan]}, dhcp-options: {route-metric: -1}}]",
        &[
            ("1:40 error", "hint: leave out `/` and what follows"),
            ("1:52 error", "not `x`"),
            ("1:65 error", "cannot be `a b`"),
            ("1:108 error", "`route-metric` is a whole number from 0 to 4294967295, not `-1`"),
        ],
        &["a"],
    ),
    // What an interface is; it goes, its neighbours stay.
    (
        "interfaces: [{dhcp: true}, {name: 'a b'}, {name: a-name-of-sixteen}, {name: 'up link', match: {}}, {name: ok}]",
        &[
            ("1:14 error", "an interface lacks `name`"),
            ("1:35 error", "no interface can be called `a b`"),
            ("1:50 error", "the name of a device has 1 to 15 letters\n  hint: with `match` any name will do"),
            ("1:95 error", "`match` chooses every device"),
        ],
        &["ok"],
    ),
    (
        "interfaces: [{name: a, match: {maccaddress: '52:54:00:00:00:01'}}, {name: b, match: {mac: 52:54}}, {name: c, match: {name: 'x\"y'}}, {name: d}]",
        &[
            ("1:32 error", "hint: `macaddress` meant?"),
            ("1:91 error", "not `52:54`"),
            ("1:124 error", "`name` cannot be `x\"y`"),
        ],
        &["d"],
    ),
    (
        "interfaces: [{name: a, vlan: {id: 4095, link: b}}, {name: c, vlan: {id: 1}}, {name: d, vlan: {id: 1, link: b}, bond: {members: []}}, {name: b}]",
        &[
            ("1:35 error", "`id` is a whole number from 1 to 4094, not `4095`"),
            ("1:68 error", "the VLAN `c` lacks `link`"),
            ("1:112 error", "`d` is either `vlan` or `bond`\n  n.yaml:1:88: the other is here"),
        ],
        &["b"],
    ),
    // What interfaces say of each other.
    (
        "interfaces: [{name: a}, {name: a, mtu: 1500}, {name: b, match: {mac: '52:54:00:00:00:01'}}, {name: c, match: {mac: 52-54-00-00-00-01}}, {name: d, rename: a}]",
        &[
            ("1:32 error", "the interface `a` is described twice; `a` is left out\n  n.yaml:1:21: the first is here"),
            ("1:100 error", "`b` and `c` choose the same device"),
            ("1:144 error", "`a` and `d` are both the device `a`"),
        ],
        &["a", "b"],
    ),
    (
        "interfaces: [{name: a, addresses: [10.0.0.2/24, 10.0.0.2/16, fe80::1/64]}, {name: b, addresses: [10.0.0.2/24, 10.0.0.3/24, fe80::1/64]}]",
        &[
            ("1:49 warning", "10.0.0.2 is given twice"),
            ("1:98 error", "10.0.0.2 belongs to `a` already; `b` goes without it\n  n.yaml:1:36: it was given here"),
        ],
        &["a", "b"],
    ),
    (
        "interfaces: [{name: a, addresses: [10.0.0.2/24], gateway: 10.0.0.1}, {name: b, addresses: [10.1.0.2/24], gateway: 10.1.0.1}]",
        &[("1:115 warning", "a second route to 0.0.0.0/0 with the same metric")],
        &["a", "b"],
    ),
    (
        "version: 2\nethernets: {eth0: {}, eth1: {dhcp4: true}}\nvlans: {v: {id: 1, link: eht0}, w: {id: 2, link: v}, x: {id: 3, link: eth0}}\nbonds: {b0: {interfaces: [eth1, gone]}, b1: {interfaces: [eth1]}}",
        &[
            (
                "2:37 warning",
                "`eth1` is a member of `b0`; its own addressing has no effect\n  n.yaml:4:27: it becomes a member here",
            ),
            ("3:26 error", "nothing describes `eht0`; the VLAN `v` is left out\n  hint: `eth0` meant?"),
            ("3:50 error", "`v` was left out; the VLAN `w` is left out\n  n.yaml:3:9: it is described here"),
            ("4:33 error", "nothing describes `gone`; `b0` goes without it"),
            ("4:41 warning", "the bond `b1` has no members"),
            ("4:59 error", "`eth1` is a member of `b0` already\n  n.yaml:4:27: it became one here"),
        ],
        &["eth0", "eth1", "b0", "b1", "x"],
    ),
    (
        "interfaces: [{name: a, vlan: {id: 1, link: b}}, {name: b, vlan: {id: 2, link: c}}, {name: c, bridge: {members: [a]}}, {name: d, vlan: {id: 3, link: d}}, {name: e, vlan: {id: 4, link: a}}, {name: f}]",
        &[
            ("1:113 error", "interfaces need each other in a circle: a → b → c → a"),
            ("1:149 error", "in a circle: d → d"),
            ("1:184 error", "`a` was left out; the VLAN `e` is left out"),
        ],
        &["f"],
    ),
    (
        "interfaces: [{name: br, bridge: {members: [lo, eth7, bo], path-cost: {eth8: 5}}}, {name: lo}, {name: bo, bond: {members: [bp], mode: active-backup, primary: zz}}, {name: bp, bond: {members: []}}]",
        &[
            ("1:44 error", "`lo` cannot be a member of `br`"),
            ("1:48 note", "nothing describes `eth7`; it is taken as the device of that name"),
            ("1:71 error", "`eth8` is no port of `br`"),
            ("1:102 warning", "the bond `bo` has no members"),
            ("1:123 error", "`bp` cannot be a member of `bo`"),
            ("1:158 error", "`zz` is no member of `bo`"),
            ("1:171 warning", "the bond `bp` has no members"),
        ],
        &["br", "lo", "bo", "bp", "eth7"],
    ),
    (
        "version: 2\nethernets: {a: {}}\nbonds: {b: {interfaces: [a], parameters: {mode: 802.3ad, primary: a, packets-per-slave: 2, arp-interval: 100, arp-ip-targets: [10.0.0.1]}}}",
        &[
            ("3:67 warning", "`primary` has no effect: the mode is 802.3ad"),
            ("3:89 warning", "`packets-per-slave` has no effect: the mode is 802.3ad"),
            ("3:106 warning", "`arp-interval` has no effect: the mode is 802.3ad"),
            ("3:127 warning", "`arp-ip-targets` has no effect: `arp-interval` is missing"),
        ],
        &["a", "b"],
    ),
    (
        "version: 1\nconfig: [{type: physical, name: a}, {type: bond, name: b, bond_interfaces: [a], params: {bond-mode: 1, bond-lacp-rate: 1, bond-miimon: 100, bond-updelay: 50, bond-arp-interval: 100, bond-arp-ip-target: 10.0.0.1}}]",
        &[
            ("2:120 warning", "`bond-lacp-rate` has no effect: the mode is active-backup"),
            ("2:136 warning", "`bond-miimon` has no effect: links are watched by `bond-arp_interval`"),
            ("2:155 warning", "`bond-updelay` has no effect: links are watched by `bond-arp_interval`"),
        ],
        &["a", "b"],
    ),
    // Wireless networks: joined as asked, or not at all.
    (
        "interfaces: [{name: w, wifi: [{ssid: a, pasword: hunter2hunter2}, {ssid: b, password: hunter2}, {ssid: c, password: hunter2hunter2, security: open}, {ssid: d, security: sae}, {ssid: e, password: }, {password: hunter2hunter2}, {ssid: g, password: hunter2hunter2}]}]",
        &[
            ("1:41 error", "a wireless network has no key `pasword`\n  hint: `password` meant?"),
            ("1:87 error", "a shared key has 8 to 63 printable letters"),
            ("1:117 error", "an open network has no password"),
            ("1:150 error", "the network needs `password`"),
            ("1:176 error", "`password` is empty"),
            ("1:199 error", "a wireless network lacks `ssid`"),
        ],
        &["w"],
    ),
    (
        "version: 2\nwifis: {w: {access-points: {a: {auth: {key-management: eap, method: peap, password: hunter2hunter2}}, b: {mode: ap}}}}",
        &[
            ("2:39 error", "joining by EAP is not supported yet"),
            ("2:61 warning", "`method` in `auth` is not supported yet"),
            ("2:113 error", "`mode` is one of infrastructure, not `ap`"),
        ],
        &["w"],
    ),
    // Version 1.
    (
        "version: 1\nconfig:\n- {name: a}\n- {type: phisical, name: a}\n- {type: physical}\n- {type: physical, name: b, subnets: [{type: dchp4}, {address: 1.2.3.4}, {type: static}, {type: static, address: 10.0.0.2, netmask: 255.0.255.0}, {type: static, address: 10.0.0.3}, {type: static, address: 10.0.0.4/24, netmask: 255.255.0.0}]}\n- {type: nameserver, address: [1.1.1.1, x], interface: c}\n- {type: route, destination: 10.9.0.0/16, gateway: 10.77.0.1}\n- 5",
        &[
            ("3:3 error", "an item of `config` lacks `type`"),
            (
                "4:10 error",
                "`type` is one of physical, bond, bridge, vlan, loopback, nameserver, route, not `phisical`\n  hint: `physical` meant?",
            ),
            ("5:3 error", "an interface lacks `name`"),
            ("6:46 error", "not `dchp4`\n  hint: `dhcp4` meant?"),
            ("6:54 error", "a subnet lacks `type`"),
            ("6:74 error", "a static subnet lacks `address`"),
            ("6:133 error", "`netmask` is a mask such as 255.255.255.0 or 24, not `255.0.255.0`"),
            ("6:171 warning", "10.0.0.3 has no `netmask`"),
            ("6:228 warning", "this contradicts 10.0.0.4/24, which counts"),
            ("7:41 error", "not `x`"),
            ("7:56 error", "nothing describes `c`"),
            ("8:3 error", "10.77.0.1 is in no network of any interface"),
            ("9:3 error", "an item of `config` is a mapping, not a single value"),
        ],
        &["b"],
    ),
    (
        "version: 1\nconfig: [{type: bridge, name: br, bridge_interfaces: [e], params: {bridge_waitport: 0, bridge_pathcost: [e 0, e 5]}}]",
        &[
            ("2:55 note", "nothing describes `e`"),
            ("2:68 note", "`bridge_waitport` has no effect"),
            ("2:106 error", "a name and a number from 1 to 65535, not `e 0`"),
        ],
        &["br", "e"],
    ),
];

#[test]
fn a_fault_is_pointed_at_and_takes_out_the_smallest_thing_that_holds_it() {
    let mut bad = String::new();
    for (text, expected, left) in FAULTS {
        let (network, said) = read(text, Dialect::Auto);
        let at = |said: &Diagnostic| format!("{}:{} {}", said.span.place.line, said.span.place.column, said.severity);
        let fits =
            |(said, (place, part)): (&Diagnostic, &(&str, &str))| at(said) == *place && said.to_string().contains(part);
        let all = said.len() == expected.len() && said.iter().zip(*expected).all(fits);
        let network = network.unwrap_or_default();
        let ids: Vec<&str> = network.interfaces.iter().map(|interface| interface.id.as_str()).collect();
        if !all || ids != *left {
            bad.push_str(&format!("{text}\n  left: {ids:?}\n"));
            said.iter().for_each(|said| bad.push_str(&format!("  {} {said}\n", at(said))));
        }
        assert!(said.iter().all(|said| !said.to_string().contains("hunter2")), "a secret is shown: {said:?}");
    }
    assert!(bad.is_empty(), "{bad}");
}
