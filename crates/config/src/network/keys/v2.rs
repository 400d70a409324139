//! Version 2 of cloud-init's network configuration: netplan's format.

use super::ValueKind::{
    Block, Bool, Device, Domain, Id, Ip, List, Mac, Named, OneOrMore, Pattern, Secret, Whole, Word,
};
use super::shared::{
    ACCESS_POINT_KEYS, ADDRESSES, BOND_ALIASES, BOND_KEYS, BRIDGE_KEYS, DHCP_KEYS, IDENTIFIER, LINK_LOCAL, ROUTES,
    RULES, VLAN_KEYS,
};
use super::{Key, Table, ValueKind, ignored, key, not_yet, table};

/// `network` with `version: 2`.
pub static V2: Table = table(
    "a network of version 2",
    &[&[
        key("version", Word(&["2"]), "the version of the format"),
        key("renderer", RENDERER, "the service that carries the network out"),
        key("ethernets", Named(&Block(&ETHERNET)), "devices of the machine"),
        key("wifis", Named(&Block(&WIFI)), "wireless devices of the machine"),
        key("bonds", Named(&Block(&BOND)), "several devices that act as one"),
        key("bridges", Named(&Block(&BRIDGE)), "switches"),
        key("vlans", Named(&Block(&VLAN)), "VLANs"),
        key("dummy-devices", Named(&Block(&DUMMY)), "devices that lead nowhere"),
        not_yet("tunnels", "tunnels"),
        not_yet("modems", "mobile networks"),
        not_yet("vrfs", "virtual routers"),
        not_yet("nm-devices", "connections of NetworkManager"),
        not_yet("virtual-ethernets", "pairs of devices"),
        not_yet("openvswitch", "Open vSwitch"),
    ]],
);

const RENDERER: ValueKind = Word(&["networkd", "NetworkManager"]);

/// What every interface may have.
static COMMON: &[Key] = &[
    key("dhcp4", Bool, "ask DHCP servers of IPv4"),
    key("dhcp6", Bool, "ask DHCP servers of IPv6"),
    key("dhcp4-overrides", Block(&DHCP), "what is taken from them, and what they are told"),
    key("dhcp6-overrides", Block(&DHCP), "what is taken from them, and what they are told"),
    key("dhcp-identifier", IDENTIFIER, "how this host names itself to them"),
    key("addresses", ADDRESSES, "fixed addresses"),
    key("gateway4", Ip, "default route of IPv4"),
    key("gateway6", Ip, "default route of IPv6"),
    key("nameservers", Block(&NAMESERVERS), "servers and domains for names"),
    key("routes", ROUTES, "routes through it"),
    key("routing-policy", RULES, "which packets look in which table"),
    key("macaddress", Mac, "the address that it gets"),
    key("mtu", Whole(68, 65535), "largest packet, in bytes"),
    key("optional", Bool, "boot does not wait for it"),
    key("accept-ra", Bool, "listen to routers (IPv6)"),
    key("link-local", LINK_LOCAL, "addresses that it makes for itself"),
    ignored("renderer", "the service for this interface", "one service carries the whole network out"),
    ignored("critical", "keep the address when the service stops", "it is so for fixed addresses"),
    ignored("optional-addresses", "addresses that boot does not wait for", "`optional` does this for the interface"),
    not_yet("ipv6-mtu", "largest packet of IPv6"),
    not_yet("ipv6-privacy", "temporary addresses"),
    not_yet("ipv6-address-generation", "how addresses are made"),
    not_yet("ipv6-address-token", "the host part of made addresses"),
    not_yet("activation-mode", "who brings it up"),
    not_yet("ignore-carrier", "set up without a carrier"),
    not_yet("emit-lldp", "announce itself"),
    not_yet("ra-overrides", "what is taken from routers"),
    not_yet("neigh-suppress", "suppress neighbour discovery"),
    not_yet("auth", "IEEE 802.1X"),
    not_yet("openvswitch", "Open vSwitch"),
    not_yet("networkmanager", "settings of NetworkManager"),
];

/// What devices of the machine may have.
static PHYSICAL: &[Key] = &[
    key("match", Block(&MATCH), "which device it is"),
    key("set-name", Device, "the name that the device gets"),
    key("wakeonlan", Bool, "a magic packet wakes the machine"),
    not_yet("receive-checksum-offload", "offloading"),
    not_yet("transmit-checksum-offload", "offloading"),
    not_yet("tcp-segmentation-offload", "offloading"),
    not_yet("tcp6-segmentation-offload", "offloading"),
    not_yet("generic-segmentation-offload", "offloading"),
    not_yet("generic-receive-offload", "offloading"),
    not_yet("large-receive-offload", "offloading"),
];

/// One of `ethernets`.
pub(in crate::network) static ETHERNET: Table = table(
    "an interface",
    &[
        PHYSICAL,
        COMMON,
        &[
            not_yet("link", "the physical function of a virtual one"),
            not_yet("virtual-function-count", "virtual functions"),
            not_yet("embedded-switch-mode", "virtual functions"),
            not_yet("delay-virtual-functions-rebind", "virtual functions"),
            not_yet("infiniband-mode", "InfiniBand"),
        ],
    ],
);

/// One of `wifis`.
pub(in crate::network) static WIFI: Table = table(
    "a wireless interface",
    &[
        PHYSICAL,
        COMMON,
        &[
            key("access-points", Named(&Block(&ACCESS_POINT)), "wireless networks to join"),
            not_yet("wakeonwlan", "what wakes the machine"),
            not_yet("regulatory-domain", "the country whose rules hold"),
        ],
    ],
);

/// One of `bonds`.
pub(in crate::network) static BOND: Table = table(
    "a bond",
    &[
        COMMON,
        &[
            key("interfaces", List(&Id), "its members"),
            key("parameters", Block(&BOND_PARAMETERS), "how members share the work"),
        ],
    ],
);

/// `parameters` of a bond.
pub(in crate::network) static BOND_PARAMETERS: Table =
    Table { what: "parameters of a bond", groups: &[BOND_KEYS], aliases: BOND_ALIASES };

/// One of `bridges`.
pub(in crate::network) static BRIDGE: Table = table(
    "a bridge",
    &[
        COMMON,
        &[key("interfaces", List(&Id), "its ports"), key("parameters", Block(&BRIDGE_PARAMETERS), "how it works")],
    ],
);

/// `parameters` of a bridge.
pub(in crate::network) static BRIDGE_PARAMETERS: Table =
    Table { what: "parameters of a bridge", groups: &[BRIDGE_KEYS], aliases: &[("aging-time", "ageing-time")] };

/// One of `vlans`.
pub(in crate::network) static VLAN: Table = table("a VLAN", &[COMMON, VLAN_KEYS]);

/// One of `dummy-devices`.
pub(in crate::network) static DUMMY: Table = table("a dummy device", &[COMMON]);

/// Which device an interface is.
pub(in crate::network) static MATCH: Table = table(
    "`match`",
    &[&[
        key("name", Pattern, "its name"),
        key("macaddress", Mac, "its address"),
        key("driver", OneOrMore(&Pattern), "its driver"),
        // Not netplan's, but there is no other way to say it here.
        key("path", OneOrMore(&Pattern), "its place in the machine (`ID_PATH` of udev)"),
    ]],
);

/// Servers and domains for names.
pub(in crate::network) static NAMESERVERS: Table = table(
    "`nameservers`",
    &[&[key("addresses", List(&Ip), "name servers"), key("search", List(&Domain), "domains to search")]],
);

/// `dhcp4-overrides` and `dhcp6-overrides`.
pub(in crate::network) static DHCP: Table = table("options of DHCP", &[DHCP_KEYS]);

/// One of `access-points`.
pub(in crate::network) static ACCESS_POINT: Table = table(
    "a wireless network",
    &[
        ACCESS_POINT_KEYS,
        &[
            key("mode", Word(&["infrastructure"]), "what this host is in it"),
            key("auth", Block(&AUTH), "how it is joined"),
            not_yet("channel", "one channel only"),
            not_yet("networkmanager", "settings of NetworkManager"),
        ],
    ],
);

/// `auth` of a wireless network.
pub(in crate::network) static AUTH: Table = table(
    "`auth`",
    &[&[
        key("key-management", Word(&["none", "psk", "sae"]), "the kind of key"),
        key("password", Secret, "the shared key or password"),
        not_yet("method", "EAP"),
        not_yet("identity", "EAP"),
        not_yet("anonymous-identity", "EAP"),
        not_yet("ca-certificate", "EAP"),
        not_yet("client-certificate", "EAP"),
        not_yet("client-key", "EAP"),
        not_yet("client-key-password", "EAP"),
        not_yet("phase2-auth", "EAP"),
    ]],
);
