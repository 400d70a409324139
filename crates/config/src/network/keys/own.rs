//! Our own dialect: `network:` without `version:`.

use super::ValueKind::{
    self, Block, Bool, Device, Domain, Either, Id, Ip, List, Mac, OneOrMore, Pattern, Text, Whole, Word,
};
use super::shared::{
    ACCESS_POINT_KEYS, ADDRESS, BOND_ALIASES, BOND_KEYS, BRIDGE_KEYS, DHCP_KEYS, IDENTIFIER, LINK_LOCAL, ROUTES, RULES,
    VLAN_KEYS,
};
use super::{Table, key, table};

/// `network`.
pub static OWN: Table = table(
    "`network`",
    &[&[
        key("interfaces", List(&Block(&INTERFACE)), "the interfaces"),
        key("dns", Block(&DNS), "servers and domains for names, whichever interface is up"),
        key("renderer", Word(&["auto", "networkd", "networkmanager"]), "the service that carries the network out"),
    ]],
);

/// Servers and domains for names.
pub(in crate::network) static DNS: Table = table(
    "`dns`",
    &[&[key("servers", OneOrMore(&Ip), "name servers"), key("search", OneOrMore(&Domain), "domains to search")]],
);

/// One of `interfaces`.
pub(in crate::network) static INTERFACE: Table = Table {
    what: "an interface",
    groups: &[&[
        key("name", Id, "what it is called; the name of the device unless `match` is given"),
        key("match", Block(&MATCH), "which device it is"),
        key("rename", Device, "the name that the device gets"),
        key("dhcp", Either(&[Bool, Word(&["ipv4", "ipv6"])]), "ask DHCP servers, of both families or of one"),
        key("dhcp-options", Block(&DHCP), "what is taken from a DHCP server, and what it is told"),
        key("addresses", OneOrMore(&ADDRESS_ITEM), "fixed addresses"),
        key("gateway", OneOrMore(&Ip), "default routes, one of each family at most"),
        key("routes", ROUTES, "routes through it"),
        key("rules", RULES, "which packets look in which table"),
        key("dns", Block(&DNS), "servers and domains for names"),
        key("mtu", Whole(68, 65535), "largest packet, in bytes"),
        key("mac", Mac, "the address that it gets"),
        key("wake-on-lan", Bool, "a magic packet wakes the machine"),
        key("optional", Bool, "boot does not wait for it"),
        key("accept-ra", Bool, "listen to routers (IPv6)"),
        key("link-local", LINK_LOCAL, "addresses that it makes for itself"),
        key("vlan", Block(&VLAN), "it is a VLAN"),
        key("bond", Block(&BOND), "it is a bond"),
        key("bridge", Block(&BRIDGE), "it is a bridge"),
        key("wifi", OneOrMore(&Block(&WIFI)), "wireless networks to join"),
        key("dummy", Bool, "it is a device that leads nowhere"),
    ]],
    aliases: &[("set-name", "rename"), ("dhcp-overrides", "dhcp-options"), ("wakeonlan", "wake-on-lan")],
};

/// A fixed address.
static ADDRESS_ITEM: ValueKind = Either(&[ValueKind::Net, ValueKind::Named(&Block(&ADDRESS))]);

/// Which device an interface is.
pub(in crate::network) static MATCH: Table = Table {
    what: "`match`",
    groups: &[&[
        key("name", OneOrMore(&Pattern), "its name"),
        key("mac", Mac, "its address"),
        key("permanent-mac", Mac, "the address that it was made with"),
        key("driver", OneOrMore(&Pattern), "its driver"),
        key("path", OneOrMore(&Pattern), "its place in the machine (`ID_PATH` of udev)"),
    ]],
    aliases: &[("macaddress", "mac"), ("mac-address", "mac")],
};

/// Options of DHCP.
pub(in crate::network) static DHCP: Table =
    table("options of DHCP", &[DHCP_KEYS, &[key("identifier", IDENTIFIER, "how this host names itself")]]);

/// `vlan`.
pub(in crate::network) static VLAN: Table = table("`vlan`", &[VLAN_KEYS]);

/// `bond`.
pub(in crate::network) static BOND: Table =
    Table { what: "`bond`", groups: &[&[key("members", List(&Id), "its members")], BOND_KEYS], aliases: BOND_ALIASES };

/// `bridge`.
pub(in crate::network) static BRIDGE: Table = Table {
    what: "`bridge`",
    groups: &[&[key("members", List(&Id), "its ports")], BRIDGE_KEYS],
    aliases: &[("ports", "members"), ("aging-time", "ageing-time")],
};

/// One of `wifi`.
pub(in crate::network) static WIFI: Table = Table {
    what: "a wireless network",
    groups: &[
        &[
            key("ssid", Text, "its name"),
            key("security", Word(&["open", "wpa-psk", "sae"]), "how it is joined; with a password `wpa-psk`"),
        ],
        ACCESS_POINT_KEYS,
    ],
    aliases: &[("psk", "password")],
};
