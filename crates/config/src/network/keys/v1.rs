//! Version 1 of cloud-init's network configuration.

use super::ValueKind::{Block, Bool, Domain, Either, Id, Ip, List, Mac, Net, OneOrMore, Tagged, Text, Whole, Word};
use super::shared::ALL;
use super::{Key, Table, ignored, key, not_yet, table};
use crate::network::controller::{
    AdSelect, ArpTargets, ArpValidate, BondMode, FailOverMac, HashPolicy, LacpRate, PrimaryReselect,
};
use crate::network::word::Word as _;

/// `network` with `version: 1`.
pub static V1: Table = table(
    "a network of version 1",
    &[&[
        key("version", Word(&["1"]), "the version of the format"),
        key(
            "config",
            Either(&[List(&Tagged("type", ITEMS)), Word(&["disabled"])]),
            "interfaces, name servers and routes",
        ),
    ]],
);

/// What an item may be, by its `type`.
pub(in crate::network) static ITEMS: &[(&str, &Table)] = &[
    ("physical", &PHYSICAL),
    ("bond", &BOND),
    ("bridge", &BRIDGE),
    ("vlan", &VLAN),
    ("loopback", &LOOPBACK),
    ("nameserver", &NAMESERVER),
    ("route", &ROUTE),
];

const TYPE: Key = key("type", Text, "what the item is");
const NAME: Key = key("name", Id, "name of the device");

static COMMON: &[Key] = &[
    TYPE,
    NAME,
    key("mtu", Whole(68, 65535), "largest packet, in bytes"),
    key("mac_address", Mac, "address of the device"),
    key("accept-ra", Bool, "listen to routers (IPv6)"),
    key("optional", Bool, "boot does not wait for it"),
    key("subnets", List(&Block(&SUBNET)), "how it gets addresses"),
    ignored("keep_configuration", "keep the configuration when the service stops", "the service decides this"),
    ignored("id", "the name that OpenStack gives it", "`name` is what counts"),
];

static PHYSICAL: Table =
    table("an interface", &[COMMON, &[key("wakeonlan", Bool, "a magic packet wakes the machine")]]);

static BOND: Table = table(
    "a bond",
    &[
        COMMON,
        &[
            key("bond_interfaces", List(&Id), "its members"),
            key("params", Block(&BOND_PARAMETERS), "how members share the work"),
        ],
    ],
);

/// `params` of a bond.
pub(in crate::network) static BOND_PARAMETERS: Table = Table {
    what: "parameters of a bond",
    groups: &[&[
        key("bond-mode", Either(&[Word(BondMode::WORDS), Whole(0, 6)]), "how members share the work"),
        key("bond-lacp_rate", Either(&[Word(LacpRate::WORDS), Whole(0, 1)]), "how often LACP packets are asked for"),
        key("bond-miimon", Whole(0, ALL), "milliseconds between looks at carriers"),
        key("bond-min_links", Whole(0, 255), "how many members must be up"),
        key("bond-xmit_hash_policy", Either(&[Word(HashPolicy::WORDS), Whole(0, 5)]), "what a member is chosen by"),
        key("bond-ad_select", Either(&[Word(AdSelect::WORDS), Whole(0, 2)]), "how LACP chooses among aggregators"),
        key("bond-all_slaves_active", Either(&[Bool, Whole(0, 1)]), "packets that come in on idle members count"),
        key("bond-arp_interval", Whole(0, ALL), "milliseconds between questions to ARP targets"),
        key("bond-arp_ip_target", OneOrMore(&Ip), "IPv4 addresses to ask"),
        key("bond-arp_validate", Either(&[Word(ArpValidate::WORDS), Whole(0, 3)]), "which answers are checked"),
        key("bond-arp_all_targets", Either(&[Word(ArpTargets::WORDS), Whole(0, 1)]), "how many targets must answer"),
        key("bond-updelay", Whole(0, ALL), "milliseconds that a carrier must be there"),
        key("bond-downdelay", Whole(0, ALL), "milliseconds that a carrier must be gone"),
        key("bond-fail_over_mac", Either(&[Word(FailOverMac::WORDS), Whole(0, 2)]), "which address members have"),
        key("bond-num_grat_arp", Whole(0, 255), "how many announcements follow a change"),
        key("bond-packets_per_slave", Whole(0, 65535), "how many packets before the next member"),
        key(
            "bond-primary_reselect",
            Either(&[Word(PrimaryReselect::WORDS), Whole(0, 2)]),
            "when the primary takes over again",
        ),
        key("bond-resend_igmp", Whole(0, 255), "how many IGMP reports follow a change"),
        key("bond-lp_interval", Whole(1, 0x7fff_ffff), "seconds between learning packets"),
        key("bond-primary", Id, "the member that is preferred"),
        ignored("bond-slaves", "its members", "`bond_interfaces` names them"),
        ignored("bond-use_carrier", "how carriers are found", "the kernel always asks the driver"),
        not_yet("bond-active_slave", "the member that is active first"),
        not_yet("bond-queue_id", "queues of members"),
    ]],
    aliases: &[
        ("bond-lacp-rate", "bond-lacp_rate"),
        ("mode", "bond-mode"),
        ("miimon", "bond-miimon"),
        ("lacp_rate", "bond-lacp_rate"),
        ("xmit_hash_policy", "bond-xmit_hash_policy"),
        ("bond-num_unsol_na", "bond-num_grat_arp"),
    ],
};

static BRIDGE: Table = table(
    "a bridge",
    &[
        COMMON,
        &[key("bridge_interfaces", List(&Id), "its ports"), key("params", Block(&BRIDGE_PARAMETERS), "how it works")],
    ],
);

const BRIDGE_WAITS: &str = "nothing waits for ports here";
const BRIDGE_KERNEL: &str = "the kernel knows no such setting any more";

/// `params` of a bridge, as `ifupdown` names them. Numbers of ports are `NAME NUMBER`.
pub(in crate::network) static BRIDGE_PARAMETERS: Table = table(
    "parameters of a bridge",
    &[&[
        key("bridge_stp", Either(&[Bool, Whole(0, 1)]), "speak the spanning tree protocol"),
        key("bridge_bridgeprio", Whole(0, 65535), "priority in the spanning tree"),
        key("bridge_fd", Whole(0, 30), "seconds that a port waits before it forwards"),
        key("bridge_hello", Whole(1, 10), "seconds between hellos"),
        key("bridge_maxage", Whole(6, 40), "seconds that a hello is good"),
        key("bridge_ageing", Whole(0, 1_000_000), "seconds that an address is remembered"),
        key("bridge_pathcost", OneOrMore(&Text), "cost of each port: `NAME NUMBER`"),
        key("bridge_portprio", OneOrMore(&Text), "priority of each port: `NAME NUMBER`"),
        ignored("bridge_ports", "its ports", "`bridge_interfaces` names them"),
        ignored("bridge_waitport", "how long to wait for a port", BRIDGE_WAITS),
        ignored("bridge_maxwait", "how long to wait for ports", BRIDGE_WAITS),
        ignored("bridge_gcint", "how often old addresses are dropped", BRIDGE_KERNEL),
        not_yet("bridge_hw", "the port whose address it takes"),
    ]],
);

static VLAN: Table = table(
    "a VLAN",
    &[
        COMMON,
        &[key("vlan_id", Whole(1, 4094), "number of the VLAN"), key("vlan_link", Id, "interface that carries it")],
    ],
);

static LOOPBACK: Table = table(
    "the loopback device",
    &[&[
        TYPE,
        key("name", Word(&["lo"]), "name of the device"),
        key("subnets", List(&Block(&SUBNET)), "addresses beyond its own"),
    ]],
);

static NAMESERVER: Table = table(
    "a name server",
    &[&[
        TYPE,
        key("address", OneOrMore(&Ip), "name servers"),
        key("search", OneOrMore(&Domain), "domains to search"),
        key("interface", Id, "the interface that they are for; without it for all"),
        ignored("name", "a name", "name servers have none"),
    ]],
);

static ROUTE: Table = Table {
    what: "a route",
    groups: &[&[TYPE], ROUTE_KEYS, &[ignored("id", "a name", "routes have none")]],
    aliases: ROUTE_ALIASES,
};

/// A subnet says `network` where an item says `destination`.
static ROUTE_ALIASES: &[(&str, &str)] = &[("network", "destination")];

static ROUTE_KEYS: &[Key] = &[
    key("destination", Either(&[Net, Ip, Word(&["default"])]), "where it leads"),
    key("netmask", Text, "the mask of the destination"),
    key("prefix", Whole(0, 128), "the length of the destination"),
    key("gateway", Ip, "the next hop"),
    key("metric", Whole(0, ALL), "smaller goes first"),
    key("mtu", Whole(68, 65535), "largest packet, in bytes"),
];

/// A route of a subnet.
pub(in crate::network) static SUBNET_ROUTE: Table =
    Table { what: "a route", groups: &[ROUTE_KEYS], aliases: ROUTE_ALIASES };

/// What `type` of a subnet may be.
pub(in crate::network) static SUBNET_TYPES: &[&str] = &[
    "dhcp",
    "dhcp4",
    "dhcp6",
    "ipv6_dhcpv6-stateful",
    "ipv6_dhcpv6-stateless",
    "ipv6_slaac",
    "static",
    "static6",
    "manual",
    "link-local",
];

/// One of `subnets`.
pub(in crate::network) static SUBNET: Table = table(
    "a subnet",
    &[&[
        key("type", Word(SUBNET_TYPES), "how addresses come about"),
        key("address", Either(&[Net, Ip]), "a fixed address"),
        key("netmask", Text, "its mask, or the length of its network"),
        key("prefix", Whole(0, 128), "the length of its network"),
        key("gateway", Ip, "default route"),
        key("metric", Whole(0, ALL), "metric of routes"),
        key("dns_nameservers", OneOrMore(&Ip), "name servers"),
        key("dns_search", OneOrMore(&Domain), "domains to search"),
        key("routes", List(&Block(&SUBNET_ROUTE)), "routes through the interface"),
        key("control", Word(&["auto", "manual"]), "`manual`: boot does not wait for it"),
        ignored("broadcast", "the address of all hosts", "the service makes it of address and mask"),
        ignored("scope", "how far the address is good", "the kernel decides this"),
        ignored("pointopoint", "the other end", "nothing here uses it"),
        ignored("ipv4", "the address is of IPv4", "the address itself says so"),
        ignored("ipv6", "the address is of IPv6", "the address itself says so"),
        ignored("id", "a name", "subnets have none"),
    ]],
);
