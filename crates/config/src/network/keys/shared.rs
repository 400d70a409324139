//! Blocks that several dialects share.

use super::ValueKind::{Bool, Domain, Id, Ip, List, Mac, Millis, Net, Secret, Text, Whole, Word};
use super::{Key, Table, ValueKind, key, table};
use crate::network::controller::{
    AdSelect, ArpTargets, ArpValidate, BondMode, FailOverMac, HashPolicy, LacpRate, PrimaryReselect,
};
use crate::network::model::{Band, DhcpIdentifier, RouteKind, RouteScope, UseDomains};
use crate::network::word::Word as _;

/// The largest number of 32 bits.
pub(super) const ALL: u32 = u32::MAX;

/// Options of one fixed address.
pub(in crate::network) static ADDRESS: Table = table(
    "an address",
    &[&[
        key("label", Text, "label of an IPv4 address"),
        key("lifetime", Word(&["forever", "0"]), "`0`: no new connection begins from this address"),
    ]],
);

/// Fixed addresses: `ADDRESS/LENGTH`, or `ADDRESS/LENGTH: {...}`.
pub(super) static ADDRESSES: ValueKind =
    List(&ValueKind::Either(&[Net, ValueKind::Named(&ValueKind::Block(&ADDRESS))]));

/// A route.
pub(in crate::network) static ROUTE: Table = Table {
    what: "a route",
    groups: &[&[
        key("to", ValueKind::Either(&[Net, Ip, Word(&["default"])]), "where it leads"),
        key("via", Ip, "the next hop"),
        key("from", Ip, "the address that packets get"),
        key("metric", Whole(0, ALL), "smaller goes first"),
        key("on-link", Bool, "the next hop is on the link even where no address says so"),
        key("table", Whole(1, ALL), "the table it is in"),
        key("scope", Word(RouteScope::WORDS), "how far away the destination is"),
        key("type", Word(RouteKind::WORDS), "what happens to packets"),
        key("mtu", Whole(68, 65535), "largest packet, in bytes"),
    ]],
    aliases: &[("gateway", "via"), ("source", "from")],
};

/// Routes.
pub(super) static ROUTES: ValueKind = List(&ValueKind::Block(&ROUTE));

/// A rule of routing.
pub(in crate::network) static RULE: Table = table(
    "a rule",
    &[&[
        key("from", ValueKind::Either(&[Net, Ip]), "packets from there"),
        key("to", ValueKind::Either(&[Net, Ip]), "packets to there"),
        key("table", Whole(1, ALL), "the table they look in"),
        key("priority", Whole(0, ALL), "smaller goes first"),
        key("mark", Whole(1, ALL), "packets with this mark"),
        key("type-of-service", Whole(0, 255), "packets of this type of service"),
    ]],
);

/// Rules.
pub(super) static RULES: ValueKind = List(&ValueKind::Block(&RULE));

/// What is taken from a DHCP server, and what it is told.
pub(super) static DHCP_KEYS: &[Key] = &[
    key("use-dns", Bool, "take name servers"),
    key("use-ntp", Bool, "take time servers"),
    key("use-hostname", Bool, "take the name of this host"),
    key("use-mtu", Bool, "take the largest packet"),
    key("use-routes", Bool, "take routes"),
    key("use-domains", Word(UseDomains::WORDS), "take domains; `route`: only to choose servers by"),
    key("route-metric", Whole(0, ALL), "metric of its routes"),
    key("send-hostname", Bool, "tell the server a name"),
    key("hostname", Domain, "the name that it is told instead of this host's"),
];

/// How a host names itself to a DHCP server.
pub(super) const IDENTIFIER: ValueKind = Word(DhcpIdentifier::WORDS);

/// Addresses that an interface makes for itself.
pub(super) static LINK_LOCAL: ValueKind = List(&Word(&["ipv4", "ipv6"]));

/// How a bond works.
pub(super) static BOND_KEYS: &[Key] = &[
    key("mode", Word(BondMode::WORDS), "how members share the work"),
    key("lacp-rate", Word(LacpRate::WORDS), "how often LACP packets are asked for"),
    key("mii-monitor-interval", Millis, "how often carriers are looked at"),
    key("min-links", Whole(0, 255), "how many members must be up"),
    key("transmit-hash-policy", Word(HashPolicy::WORDS), "what a member is chosen by"),
    key("ad-select", Word(AdSelect::WORDS), "how LACP chooses among aggregators"),
    key("all-members-active", Bool, "packets that come in on idle members count"),
    key("arp-interval", Millis, "how often ARP targets are asked"),
    key("arp-ip-targets", List(&Ip), "IPv4 addresses to ask"),
    key("arp-validate", Word(ArpValidate::WORDS), "which members' answers are checked"),
    key("arp-all-targets", Word(ArpTargets::WORDS), "how many targets must answer"),
    key("up-delay", Millis, "how long a carrier must be there"),
    key("down-delay", Millis, "how long a carrier must be gone"),
    key("fail-over-mac-policy", Word(FailOverMac::WORDS), "which address members have"),
    key("gratuitous-arp", Whole(0, 255), "how many announcements follow a change"),
    key("packets-per-member", Whole(0, 65535), "how many packets before the next member"),
    key("primary-reselect-policy", Word(PrimaryReselect::WORDS), "when the primary takes over again"),
    key("resend-igmp", Whole(0, 255), "how many IGMP reports follow a change"),
    key("learn-packet-interval", Whole(1, 0x7fff_ffff), "seconds between learning packets"),
    key("primary", Id, "the member that is preferred"),
];

/// Older spellings of [`BOND_KEYS`].
pub(super) static BOND_ALIASES: &[(&str, &str)] = &[
    ("all-slaves-active", "all-members-active"),
    ("packets-per-slave", "packets-per-member"),
    ("gratuitious-arp", "gratuitous-arp"),
];

/// How a bridge works.
pub(super) static BRIDGE_KEYS: &[Key] = &[
    key("stp", Bool, "speak the spanning tree protocol"),
    key("priority", Whole(0, 65535), "priority in the spanning tree"),
    key("forward-delay", Whole(0, 30), "seconds that a port waits before it forwards"),
    key("hello-time", Whole(1, 10), "seconds between hellos"),
    key("max-age", Whole(6, 40), "seconds that a hello is good"),
    key("ageing-time", Whole(0, 1_000_000), "seconds that an address is remembered"),
    key("path-cost", ValueKind::Named(&Whole(1, 65535)), "cost of each port in the spanning tree"),
    key("port-priority", ValueKind::Named(&Whole(0, 63)), "priority of each port in the spanning tree"),
];

/// How a wireless network is joined.
pub(super) static ACCESS_POINT_KEYS: &[Key] = &[
    key("password", Secret, "the shared key or password; without one the network is open"),
    key("hidden", Bool, "the network does not announce itself"),
    key("bssid", Mac, "one station only"),
    key("band", Word(Band::WORDS), "one band only"),
];

/// `vlan` and `vlans`.
pub(super) static VLAN_KEYS: &[Key] =
    &[key("id", Whole(1, 4094), "number of the VLAN"), key("link", Id, "interface that carries it")];
