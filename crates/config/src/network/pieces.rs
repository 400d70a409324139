//! Reads the pieces that dialects share: addresses, routes, rules, options of DHCP, parameters of bonds and bridges.

use super::address::Net;
use super::bonding;
use super::controller::{BondParameters, BridgeParameters};
use super::fields::{self, Fields, Placed, open};
use super::keys::shared::{ADDRESS, ROUTE, RULE};
use super::model::{
    AccessPoint, Address, Dhcp, Dns, LinkLocal, Mtu, Route, RouteKind, Rule, Security, Selector, SelectorParts, WpaKey,
};
use super::name::{Id, Label, Pattern, Ssid};
use crate::reading::Reader;
use crate::{Code, Node, Severity};
use kairn_report::{Place, Secret};
use std::net::IpAddr;

/// Reads a fixed address: text, or a mapping from it to its options.
pub(super) fn address(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Address> {
    let Some(entries) = node.entries() else {
        let net = fields::net(reader, node, what)?;
        let net = host(reader, net, node.place)?;
        return Some(Address { net, label: None, deprecated: false });
    };
    let [entry] = entries else {
        let message = format!("{what} is one address, not a mapping with {} keys", entries.len());
        reader.error(Code::WrongType, node.place, message);
        return None;
    };
    let net = fields::net_of(reader, &entry.key, entry.key_place, what)?;
    let net = host(reader, net, entry.key_place)?;
    let options = open(reader, &entry.value, &ADDRESS)?;
    let label = options.one(reader, "label", |reader, node, what| {
        let text = reader.text(node, what)?;
        let fault = match Label::new(&text) {
            Ok(label) if net.is_v4() => return Some(label),
            Ok(_) => "only an address of IPv4 has one",
            Err(fault) => fault,
        };
        reader.error(Code::BadValue, node.place, format!("{what} cannot be `{text}`: {fault}"));
        None
    });
    let deprecated = options.choice(reader, "lifetime") == Some("0");
    Some(Address { net, label, deprecated })
}

/// Checks that a host can have an address.
pub(super) fn host(reader: &mut Reader<'_>, net: Net, place: Place) -> Option<Net> {
    let address = net.address();
    if address.is_unspecified() || address.is_multicast() {
        reader.error(Code::BadValue, place, format!("no host can have the address {address}"));
        return None;
    }
    let room = if net.is_v4() { net.length() < 31 } else { net.length() < 127 };
    if room && net == net.network() {
        let message = format!("{net} is the network itself, not an address of a host in it");
        reader.say(Severity::Warning, Code::BadValue, place, message);
    }
    Some(net)
}

/// Reads a destination: a network, a single address, or `default`, which takes its family from the next hop.
pub(super) fn destination(reader: &mut Reader<'_>, node: &Node, what: &str, via: Option<IpAddr>) -> Option<Net> {
    let text = reader.text(node, what)?;
    if text.eq_ignore_ascii_case("default") {
        return Some(if via.is_some_and(|via| via.is_ipv6()) { Net::ALL_V6 } else { Net::ALL_V4 });
    }
    let net = match text.parse::<IpAddr>() {
        Ok(address) => Net::single(address),
        Err(_) => fields::net_of(reader, &text, node.place, what)?,
    };
    Some(cut(reader, net, node.place))
}

/// Clears what names a host in a network, and says so.
pub(super) fn cut(reader: &mut Reader<'_>, net: Net, place: Place) -> Net {
    let network = net.network();
    if network != net {
        let message = format!("{net} names a host in a network; {network} is taken");
        reader.say(Severity::Warning, Code::BadValue, place, message);
    }
    network
}

/// Reads a route.
pub(super) fn route(reader: &mut Reader<'_>, node: &Node, _what: &str) -> Option<Route> {
    let all = open(reader, node, &ROUTE)?;
    let via = match all.entry("via") {
        Some(_) => Some(all.one(reader, "via", fields::ip)?),
        None => None,
    };
    if !all.has("to") {
        reader.error(Code::BadValue, all.place, "a route lacks `to`");
        reader.hint("`to: default` leads everywhere");
        return None;
    }
    let to = all.one(reader, "to", |reader, node, what| destination(reader, node, what, via))?;
    let mut route = Route::new(to, via);
    route.kind = all.word(reader, "type").unwrap_or(RouteKind::Unicast);
    route.source = all.one(reader, "from", fields::ip);
    route.metric = all.whole(reader, "metric");
    route.on_link = all.bool(reader, "on-link").unwrap_or(false);
    route.table = all.whole(reader, "table");
    route.scope = all.word(reader, "scope");
    route.mtu = mtu(reader, &all);
    for (name, address) in [("via", route.via), ("from", route.source)] {
        let Some(place) = all.node(name).map(|node| node.place) else { continue };
        if address.is_some_and(|address| address.is_ipv4() != to.is_v4()) {
            let message = format!("`{name}` is of another family than the destination {to}");
            reader.error(Code::BadValue, place, message);
            return None;
        }
    }
    if let Some(via) = all.node("via").filter(|_| route.kind != RouteKind::Unicast) {
        let message = format!("a route of type {} has no next hop", route.kind.word());
        reader.error(Code::BadValue, via.place, message);
        return None;
    }
    Some(route)
}

/// Reads a rule.
pub(super) fn rule(reader: &mut Reader<'_>, node: &Node, _what: &str) -> Option<Rule> {
    let all = open(reader, node, &RULE)?;
    let end = |reader: &mut Reader<'_>, name: &str| match all.entry(name) {
        None => Some(None),
        Some(_) => all.one(reader, name, |reader, node, what| destination(reader, node, what, None)).map(Some),
    };
    let (from, to) = (end(reader, "from")?, end(reader, "to")?);
    if let (Some(from), Some(to)) = (from, to)
        && from.is_v4() != to.is_v4()
    {
        reader.error(Code::BadValue, all.place, format!("{from} and {to} are of different families"));
        return None;
    }
    if !all.has("table") {
        reader.error(Code::BadValue, all.place, "a rule lacks `table`");
        return None;
    }
    Some(Rule {
        from,
        to,
        table: all.whole(reader, "table")?,
        priority: all.whole(reader, "priority"),
        mark: all.whole(reader, "mark"),
        type_of_service: all.whole(reader, "type-of-service"),
    })
}

/// Reads `mtu`.
pub(super) fn mtu(reader: &mut Reader<'_>, all: &Fields<'_>) -> Option<Mtu> {
    all.whole::<u16>(reader, "mtu").and_then(Mtu::new)
}

/// Reads options of DHCP, all but `identifier`.
pub(super) fn dhcp(reader: &mut Reader<'_>, all: &Fields<'_>) -> Dhcp {
    Dhcp {
        use_dns: all.bool(reader, "use-dns"),
        use_ntp: all.bool(reader, "use-ntp"),
        use_hostname: all.bool(reader, "use-hostname"),
        use_mtu: all.bool(reader, "use-mtu"),
        use_routes: all.bool(reader, "use-routes"),
        use_domains: all.one(reader, "use-domains", |reader, node, what| {
            use super::model::UseDomains;
            use super::word::Word;
            match node.scalar().and_then(crate::Scalar::as_bool) {
                Some(true) => Some(UseDomains::Yes),
                Some(false) => Some(UseDomains::No),
                None => UseDomains::from_word(fields::word(reader, node, what, UseDomains::WORDS)?),
            }
        }),
        route_metric: all.whole(reader, "route-metric"),
        send_hostname: all.bool(reader, "send-hostname"),
        hostname: all.one(reader, "hostname", fields::domain),
        identifier: None,
    }
}

/// Reads servers and domains below two keys.
pub(super) fn dns(reader: &mut Reader<'_>, all: &Fields<'_>, servers: &str, search: &str) -> Dns {
    let values = |placed: Vec<Placed<IpAddr>>| placed.into_iter().map(|placed| placed.value).collect();
    Dns {
        servers: values(all.each(reader, servers, fields::ip)),
        search: all.each(reader, search, fields::domain).into_iter().map(|placed| placed.value).collect(),
    }
}

/// Reads `link-local`; without the key it is as the default has it.
pub(super) fn link_local(reader: &mut Reader<'_>, all: &Fields<'_>) -> LinkLocal {
    if all.node("link-local").is_none_or(|node| node.items().is_none()) {
        // Says what is wrong with anything but a list.
        all.items(reader, "link-local");
        return LinkLocal::default();
    }
    let families =
        all.each(reader, "link-local", |reader, node, what| fields::word(reader, node, what, &["ipv4", "ipv6"]));
    let has = |family: &str| families.iter().any(|placed| placed.value == family);
    LinkLocal { v4: has("ipv4"), v6: has("ipv6") }
}

/// Reads which device is meant; a fault in it leaves nothing to go by.
pub(super) fn selector(
    reader: &mut Reader<'_>,
    all: &Fields<'_>,
    mac: &str,
    permanent_mac: Option<&str>,
) -> Option<SelectorParts> {
    let (from, to) = (all.place, reader.diagnostics.len());
    let values = |placed: Vec<Placed<Pattern>>| placed.into_iter().map(|placed| placed.value).collect();
    let patterns = |reader: &mut Reader<'_>, name: &str| match all.node(name) {
        Some(node) if node.items().is_none() => all.one(reader, name, fields::pattern).into_iter().collect(),
        _ => values(all.each(reader, name, fields::pattern)),
    };
    let parts = SelectorParts {
        names: patterns(reader, "name"),
        mac: all.one(reader, mac, fields::mac),
        permanent_mac: permanent_mac.and_then(|name| all.one(reader, name, fields::mac)),
        drivers: patterns(reader, "driver"),
        paths: patterns(reader, "path"),
    };
    let failed = reader.diagnostics.iter().skip(to).any(|said| said.severity == Severity::Error);
    if !failed && !all.faulty && parts == SelectorParts::default() {
        reader.error(Code::BadValue, from, "`match` chooses every device; say which one");
        return None;
    }
    (!failed && !all.faulty).then_some(parts)
}

/// Makes the selector of a device that is known by its name.
pub(super) fn by_name(name: &str) -> Option<Selector> {
    let names = vec![Pattern::new(name).ok()?];
    Selector::new(SelectorParts { names, ..SelectorParts::default() })
}

const NAMES: bonding::Names = bonding::Names {
    packets_per_member: "packets-per-member",
    lacp_rate: "lacp-rate",
    primary: "primary",
    arp_interval: "arp-interval",
    arp_targets: "arp-ip-targets",
    arp_validate: "arp-validate",
    arp_all_targets: "arp-all-targets",
    mii_interval: "mii-monitor-interval",
    up_delay: "up-delay",
    down_delay: "down-delay",
};

/// Reads how a bond works, by the names of version 2.
pub(super) fn bond(reader: &mut Reader<'_>, all: &Fields<'_>) -> (BondParameters, Option<Placed<Id>>) {
    let targets = all.each(reader, "arp-ip-targets", fields::ip);
    let mut parameters = BondParameters {
        mode: all.word(reader, "mode"),
        lacp_rate: all.word(reader, "lacp-rate"),
        mii_interval: all.millis(reader, "mii-monitor-interval"),
        min_links: all.whole(reader, "min-links"),
        hash_policy: all.word(reader, "transmit-hash-policy"),
        ad_select: all.word(reader, "ad-select"),
        all_members_active: all.bool(reader, "all-members-active"),
        arp_interval: all.millis(reader, "arp-interval"),
        arp_targets: arp_targets(reader, targets),
        arp_validate: all.word(reader, "arp-validate"),
        arp_all_targets: all.word(reader, "arp-all-targets"),
        up_delay: all.millis(reader, "up-delay"),
        down_delay: all.millis(reader, "down-delay"),
        fail_over_mac: all.word(reader, "fail-over-mac-policy"),
        gratuitous_arp: all.whole(reader, "gratuitous-arp"),
        packets_per_member: all.whole(reader, "packets-per-member"),
        primary_reselect: all.word(reader, "primary-reselect-policy"),
        resend_igmp: all.whole(reader, "resend-igmp"),
        learn_interval: all.whole(reader, "learn-packet-interval"),
        primary: None,
    };
    let mut primary = all.one(reader, "primary", |reader, node, what| {
        Some(Placed { value: fields::id(reader, node, what)?, place: node.place })
    });
    bonding::fit(reader, all, &NAMES, &mut parameters, &mut primary);
    (parameters, primary)
}

/// Keeps targets of IPv4, which ARP is made for.
pub(super) fn arp_targets(reader: &mut Reader<'_>, targets: Vec<Placed<IpAddr>>) -> Vec<std::net::Ipv4Addr> {
    let mut kept = Vec::new();
    for Placed { value, place } in targets {
        match value {
            IpAddr::V4(v4) => kept.push(v4),
            IpAddr::V6(_) => {
                reader.error(Code::BadValue, place, format!("a target of ARP is an address of IPv4, not {value}"));
            }
        }
    }
    kept
}

/// What a bridge counts for a port, by its name.
#[derive(Default)]
pub(super) struct PortNumbers {
    /// Costs.
    pub costs: Vec<Placed<(Id, u16)>>,
    /// Priorities.
    pub priorities: Vec<Placed<(Id, u8)>>,
}

/// Reads how a bridge works, by the names of version 2.
pub(super) fn bridge(reader: &mut Reader<'_>, all: &Fields<'_>) -> (BridgeParameters, PortNumbers) {
    let parameters = BridgeParameters {
        stp: all.bool(reader, "stp"),
        priority: all.whole(reader, "priority"),
        forward_delay: all.whole(reader, "forward-delay"),
        hello_time: all.whole(reader, "hello-time"),
        max_age: all.whole(reader, "max-age"),
        ageing_time: all.whole(reader, "ageing-time"),
    };
    let numbers = PortNumbers {
        costs: port_numbers(reader, all, "path-cost", 1, 65535),
        priorities: port_numbers(reader, all, "port-priority", 0, 63),
    };
    (parameters, numbers)
}

fn port_numbers<T: TryFrom<i64>>(
    reader: &mut Reader<'_>,
    all: &Fields<'_>,
    name: &str,
    min: u32,
    max: u32,
) -> Vec<Placed<(Id, T)>> {
    let mut numbers = Vec::new();
    for entry in all.named(reader, name) {
        let what = format!("`{name}` of `{}`", entry.key);
        let Some(number) = fields::whole(reader, &entry.value, &what, min, max) else { continue };
        match Id::new(&entry.key) {
            Ok(id) => numbers.push(Placed { value: (id, number), place: entry.key_place }),
            Err(fault) => reader.error(Code::BadValue, entry.key_place, format!("`{}`: {fault}", entry.key)),
        }
    }
    numbers
}

/// How the user wants a wireless network to be joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SecurityWish {
    Open,
    Psk,
    Sae,
}

/// Reads what dialects share of a wireless network.
pub(super) fn access_point(
    reader: &mut Reader<'_>,
    all: &Fields<'_>,
    ssid: Placed<&str>,
    wish: Option<SecurityWish>,
    password: Option<&Node>,
) -> Option<AccessPoint> {
    let name = match Ssid::new(ssid.value) {
        Ok(name) => name,
        Err(fault) => {
            reader.error(Code::BadValue, ssid.place, fault);
            return None;
        }
    };
    if password.is_none() && all.is_blank("password") {
        reader.error(Code::BadValue, all.place, "`password` is empty");
        reader.hint("without the key the network is open");
        return None;
    }
    let key = match password {
        Some(node) => Some((reader.text(node, "`password`")?, node.place)),
        None => None,
    };
    let default = if key.is_some() { SecurityWish::Psk } else { SecurityWish::Open };
    let security = match (wish.unwrap_or(default), key) {
        (SecurityWish::Open, None) => Security::Open,
        (SecurityWish::Open, Some((_, place))) => {
            reader.error(Code::BadValue, place, "an open network has no password");
            return None;
        }
        (_, None) => {
            reader.error(Code::BadValue, all.place, "the network needs `password`");
            return None;
        }
        (SecurityWish::Psk, Some((text, place))) => match WpaKey::new(&text) {
            Some(key) => Security::WpaPsk(Secret::new(key)),
            None => {
                let message = "a shared key has 8 to 63 printable letters of ASCII, or 64 hexadecimal digits";
                reader.error(Code::BadValue, place, message);
                return None;
            }
        },
        (SecurityWish::Sae, Some((text, place))) => {
            if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
                reader.error(Code::BadValue, place, "a password has 1 to 128 printable letters");
                return None;
            }
            Security::Sae(Secret::new(text))
        }
    };
    Some(AccessPoint {
        ssid: name,
        hidden: all.bool(reader, "hidden").unwrap_or(false),
        bssid: all.one(reader, "bssid", fields::mac),
        band: all.word(reader, "band"),
        security,
    })
}
