//! Reads version 1 of cloud-init's network configuration.

use super::address::{Net, length_of};
use super::assemble::{Undescribed, assemble};
use super::bonding;
use super::controller::{BondParameters, BridgeParameters};
use super::draft::{self, Draft, DraftKind, common, virtual_id};
use super::fields::{self, Fields, Placed, open};
use super::keys::V1;
use super::keys::v1::{ITEMS, SUBNET, SUBNET_ROUTE};
use super::model::{Address, Dhcp, Dns, Network, RendererWish, Route, Selector, SelectorParts};
use super::name::Id;
use super::pieces::{self, PortNumbers};
use super::v2::vlan_kind;
use super::word::Word;
use crate::reading::Reader;
use crate::suggest::nearest;
use crate::{Code, Node, Severity};
use std::net::IpAddr;

/// What the items leave behind beside interfaces.
#[derive(Default)]
struct Rest {
    dns: Dns,
    /// Name servers of one interface.
    dns_of: Vec<(Placed<Id>, Dns)>,
    /// Routes that name no interface.
    routes: Vec<Placed<Route>>,
}

/// Reads a network.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Network> {
    let all = open(reader, node, &V1)?;
    all.choice(reader, "version");
    let config = all.entry("config")?;
    if config.value.scalar().is_some_and(|scalar| scalar.text == "disabled") {
        let message = "`config: disabled`: the network is left as the image has it";
        reader.say(Severity::Note, Code::NotSupported, config.value.place, message);
        return None;
    }
    let (mut drafts, mut rest) = (Vec::new(), Rest::default());
    for item in all.items(reader, "config") {
        drafts.extend(read_item(reader, item, &mut rest));
    }
    spread(reader, &mut drafts, &mut rest);
    let interfaces = assemble(reader, drafts, Undescribed::TakenAsDevice);
    Some(Network { renderer: RendererWish::Auto, dns: rest.dns, interfaces })
}

fn read_item(reader: &mut Reader<'_>, item: &Node, rest: &mut Rest) -> Option<Draft> {
    let entries = reader.map(item, "an item of `config`");
    let Some(node) = crate::reading::field(entries, "type").filter(|node| !node.is_null()) else {
        if item.entries().is_some() || item.is_null() {
            reader.error(Code::BadValue, item.place, "an item of `config` lacks `type`");
        }
        return None;
    };
    let kind = reader.text(node, "`type`")?;
    let Some((kind, table)) = ITEMS.iter().find(|(name, _)| *name == kind) else {
        let names: Vec<&str> = ITEMS.iter().map(|(name, _)| *name).collect();
        reader.error(Code::BadValue, node.place, format!("`type` is one of {}, not `{kind}`", names.join(", ")));
        if let Some(near) = nearest(&kind, names) {
            reader.hint(format!("`{near}` meant?"));
        }
        return None;
    };
    let all = open(reader, item, table)?;
    match *kind {
        "nameserver" => {
            nameserver(reader, &all, rest);
            None
        }
        "route" => {
            let route = route(reader, &all, None)?;
            rest.routes.push(Placed { value: route, place: item.place });
            None
        }
        kind => interface(reader, &all, kind),
    }
}

fn nameserver(reader: &mut Reader<'_>, all: &Fields<'_>, rest: &mut Rest) {
    let dns = pieces::dns(reader, all, "address", "search");
    if !all.has("interface") {
        rest.dns.servers.extend(dns.servers);
        rest.dns.search.extend(dns.search);
        return;
    }
    let place = all.node("interface").map_or(all.place, |node| node.place);
    if let Some(value) = all.one(reader, "interface", fields::id) {
        rest.dns_of.push((Placed { value, place }, dns));
    }
}

fn interface(reader: &mut Reader<'_>, all: &Fields<'_>, kind: &str) -> Option<Draft> {
    if kind == "loopback" {
        // There is one, whatever it is called here.
        all.choice(reader, "name");
        let mut draft = Draft::new(Placed { value: Id::new("lo").ok()?, place: all.place }, DraftKind::Loopback);
        subnets(reader, &mut draft, all);
        return Some(draft);
    }
    let Some(node) = all.node("name") else {
        reader.error(Code::BadValue, all.place, "an interface lacks `name`");
        return None;
    };
    let text = reader.text(node, "`name`")?;
    let mut draft = match kind {
        "physical" => {
            let (selector, set_name) = match all.entry("mac_address") {
                None => (None, None),
                Some(_) => {
                    // The device with that address gets the name; without the address, the name is all that is known.
                    let mac = all.one(reader, "mac_address", fields::own_mac)?;
                    let selector = Selector::new(SelectorParts { mac: Some(mac), ..SelectorParts::default() });
                    (selector, Some(fields::device(reader, node, "`name`")?))
                }
            };
            let name = Placed { value: text.as_str(), place: node.place };
            let (id, hardware) = draft::hardware(reader, name, selector, set_name)?;
            let mut draft = Draft::new(id, DraftKind::Ethernet(hardware));
            draft.link.wake_on_lan = all.bool(reader, "wakeonlan");
            draft
        }
        "bond" => {
            let members = all.each(reader, "bond_interfaces", fields::id);
            let (parameters, primary) = match all.block(reader, "params") {
                Some(below) => bond(reader, &below),
                None => Default::default(),
            };
            let kind = DraftKind::Bond { members, parameters: Box::new(parameters), primary };
            Draft::new(virtual_id(reader, &text, node.place)?, kind)
        }
        "bridge" => {
            let members = all.each(reader, "bridge_interfaces", fields::id);
            let (parameters, numbers) = match all.block(reader, "params") {
                Some(below) => bridge(reader, &below),
                None => Default::default(),
            };
            let kind = DraftKind::Bridge { members, parameters, numbers };
            Draft::new(virtual_id(reader, &text, node.place)?, kind)
        }
        _ => {
            let kind = vlan_kind(reader, all, &text, "vlan_id", "vlan_link")?;
            Draft::new(virtual_id(reader, &text, node.place)?, kind)
        }
    };
    common(reader, &mut draft, all, "mac_address");
    if draft.hardware().is_some() {
        // Here it chose the device.
        draft.link.mac = None;
    }
    subnets(reader, &mut draft, all);
    Some(draft)
}

fn subnets(reader: &mut Reader<'_>, draft: &mut Draft, all: &Fields<'_>) {
    draft.mark(all.node("subnets"));
    for item in all.items(reader, "subnets") {
        if let Some(below) = open(reader, item, &SUBNET) {
            subnet(reader, draft, &below);
        }
    }
}

fn subnet(reader: &mut Reader<'_>, draft: &mut Draft, all: &Fields<'_>) {
    let kind = match all.has("type") {
        true => all.choice(reader, "type"),
        false => {
            reader.error(Code::BadValue, all.place, "a subnet lacks `type`");
            return;
        }
    };
    let Some(kind) = kind else { return };
    let metric: Option<u32> = all.whole(reader, "metric");
    let dhcp = Dhcp { route_metric: metric, ..Dhcp::default() };
    match kind {
        "dhcp" | "dhcp4" => draft.addressing.dhcp4 = Some(dhcp),
        "dhcp6" | "ipv6_dhcpv6-stateful" => draft.addressing.dhcp6 = Some(dhcp),
        "ipv6_dhcpv6-stateless" => {
            // Addresses come from routers, the rest by DHCP.
            draft.addressing.dhcp6 = Some(dhcp);
            draft.addressing.router_advertisements = Some(true);
        }
        "ipv6_slaac" => draft.addressing.router_advertisements = Some(true),
        "link-local" => draft.addressing.link_local.v4 = true,
        "manual" => {}
        _ => fixed(reader, draft, all),
    }
    if all.choice(reader, "control") == Some("manual") {
        draft.link.optional = true;
    }
    let dns = pieces::dns(reader, all, "dns_nameservers", "dns_search");
    draft.addressing.dns.servers.extend(dns.servers);
    draft.addressing.dns.search.extend(dns.search);
    if let Some(value) = all.one(reader, "gateway", fields::ip) {
        let place = all.node("gateway").map_or(all.place, |node| node.place);
        draft.gateway(Placed { value, place }, metric);
    }
    let routes = all.each(reader, "routes", |reader, node, _| {
        let below = open(reader, node, &SUBNET_ROUTE)?;
        route(reader, &below, metric)
    });
    draft.routes.extend(routes);
}

/// Reads a fixed address: with its length, or with a mask beside it.
fn fixed(reader: &mut Reader<'_>, draft: &mut Draft, all: &Fields<'_>) {
    let Some(node) = all.node("address") else {
        reader.error(Code::BadValue, all.place, "a static subnet lacks `address`");
        return;
    };
    let Some(text) = reader.text(node, "`address`") else { return };
    let net = match text.parse::<IpAddr>() {
        Err(_) => fields::net(reader, node, "`address`").inspect(|net| agrees(reader, all, *net)),
        Ok(address) => beside(reader, all, address).map(|net| {
            net.unwrap_or_else(|| {
                reader.say(Severity::Warning, Code::BadValue, node.place, format!("{address} has no `netmask`"));
                reader.hint("write it as `address/length`");
                Net::single(address)
            })
        }),
    };
    let Some(net) = net.and_then(|net| pieces::host(reader, net, node.place)) else { return };
    let value = Address { net, label: None, deprecated: false };
    draft.addresses.push(Placed { value, place: node.place });
}

/// Compares the length of an address with a mask that stands beside it as well; the length counts.
fn agrees(reader: &mut Reader<'_>, all: &Fields<'_>, net: Net) {
    let Some(node) = all.node("netmask").or_else(|| all.node("prefix")) else { return };
    if beside(reader, all, net.address()).flatten().is_some_and(|other| other.length() != net.length()) {
        let message = format!("this contradicts {net}, which counts");
        reader.say(Severity::Warning, Code::Conflict, node.place, message);
    }
}

/// Joins an address with the mask or length beside it; `Some(None)` when there is none, `None` when it cannot be.
#[allow(clippy::option_option)]
fn beside(reader: &mut Reader<'_>, all: &Fields<'_>, address: IpAddr) -> Option<Option<Net>> {
    if let Some(node) = all.node("netmask") {
        let text = reader.text(node, "`netmask`")?;
        let net = length_of(&text, address).and_then(|length| Net::new(address, length));
        if net.is_none() {
            let example = if address.is_ipv4() { "255.255.255.0 or 24" } else { "64" };
            let message = format!("`netmask` is a mask such as {example}, not `{text}`");
            reader.error(Code::BadValue, node.place, message);
        }
        return net.map(Some);
    }
    let Some(node) = all.node("prefix") else { return Some(None) };
    let length: u8 = all.whole(reader, "prefix")?;
    let net = Net::new(address, length);
    if net.is_none() {
        reader.error(Code::BadValue, node.place, format!("{address} has no {length} bits"));
    }
    net.map(Some)
}

/// Reads a route.
fn route(reader: &mut Reader<'_>, all: &Fields<'_>, metric: Option<u32>) -> Option<Route> {
    let via = match all.has("gateway") {
        true => Some(all.one(reader, "gateway", fields::ip)?),
        false => None,
    };
    let Some(node) = all.node("destination") else {
        reader.error(Code::BadValue, all.place, "a route lacks `destination`");
        return None;
    };
    let text = reader.text(node, "`destination`")?;
    let to = match text.parse::<IpAddr>() {
        Err(_) => {
            let net = pieces::destination(reader, node, "`destination`", via)?;
            agrees(reader, all, net);
            net
        }
        Ok(address) => {
            let net = beside(reader, all, address)?.unwrap_or_else(|| Net::single(address));
            pieces::cut(reader, net, node.place)
        }
    };
    if let Some(via) = via.filter(|via| via.is_ipv4() != to.is_v4()) {
        let place = all.node("gateway").map_or(all.place, |node| node.place);
        reader.error(Code::BadValue, place, format!("{via} is of another family than the destination {to}"));
        return None;
    }
    let mut route = Route::new(to, via);
    route.metric = all.whole(reader, "metric").or(metric);
    route.mtu = pieces::mtu(reader, all);
    Some(route)
}

/// Gives name servers and routes that stand alone to the interfaces that they are for.
fn spread(reader: &mut Reader<'_>, drafts: &mut [Draft], rest: &mut Rest) {
    for (name, dns) in rest.dns_of.drain(..) {
        let Some(draft) = drafts.iter_mut().find(|draft| draft.id.value == name.value) else {
            reader.error(Code::BadValue, name.place, format!("nothing describes `{}`", name.value));
            if let Some(near) = nearest(name.value.as_str(), drafts.iter().map(|draft| draft.id.value.as_str())) {
                reader.hint(format!("`{near}` meant?"));
            }
            continue;
        };
        draft.addressing.dns.servers.extend(dns.servers);
        draft.addressing.dns.search.extend(dns.search);
    }
    for route in rest.routes.drain(..) {
        let via = route.value.via;
        let holds = |draft: &&mut Draft| {
            via.is_some_and(|via| draft.addresses.iter().any(|address| address.value.net.holds(via)))
        };
        match drafts.iter_mut().find(holds) {
            Some(draft) => draft.routes.push(route),
            None => {
                let to = route.value.to;
                let message = match via {
                    Some(via) => format!("the route to {to} is left out: {via} is in no network of any interface"),
                    None => format!("the route to {to} is left out: without `gateway` it belongs to no interface"),
                };
                reader.error(Code::BadValue, route.place, message);
                reader.hint("put it below `routes` of the subnet that it goes through");
            }
        }
    }
}

/// Reads a word, or its number in the kernel's list.
fn numbered<T: Word>(reader: &mut Reader<'_>, all: &Fields<'_>, name: &str) -> Option<T> {
    all.one(reader, name, |reader, node, what| {
        let number = node.scalar().and_then(crate::Scalar::as_int).and_then(|number| usize::try_from(number).ok());
        let word = number.and_then(|number| T::WORDS.get(number));
        match word {
            Some(word) => T::from_word(word),
            None => T::from_word(fields::word(reader, node, what, T::WORDS)?),
        }
    })
}

const NAMES: bonding::Names = bonding::Names {
    packets_per_member: "bond-packets_per_slave",
    lacp_rate: "bond-lacp_rate",
    primary: "bond-primary",
    arp_interval: "bond-arp_interval",
    arp_targets: "bond-arp_ip_target",
    arp_validate: "bond-arp_validate",
    arp_all_targets: "bond-arp_all_targets",
    mii_interval: "bond-miimon",
    up_delay: "bond-updelay",
    down_delay: "bond-downdelay",
};

fn bond(reader: &mut Reader<'_>, all: &Fields<'_>) -> (BondParameters, Option<Placed<Id>>) {
    let targets = match all.node("bond-arp_ip_target") {
        // The kernel's own form has commas.
        Some(node) if node.scalar().is_some_and(|scalar| scalar.text.contains(',')) => {
            let words = reader.words(node, "`bond-arp_ip_target`");
            let read = |word: String| match word.parse() {
                Ok(value) => Some(Placed { value, place: node.place }),
                Err(_) => {
                    reader.error(Code::BadValue, node.place, format!("a target of ARP is an address, not `{word}`"));
                    None
                }
            };
            words.into_iter().filter_map(read).collect()
        }
        _ => all.each(reader, "bond-arp_ip_target", fields::ip),
    };
    let mut parameters = BondParameters {
        mode: numbered(reader, all, "bond-mode"),
        lacp_rate: numbered(reader, all, "bond-lacp_rate"),
        mii_interval: all.whole(reader, "bond-miimon"),
        min_links: all.whole(reader, "bond-min_links"),
        hash_policy: numbered(reader, all, "bond-xmit_hash_policy"),
        ad_select: numbered(reader, all, "bond-ad_select"),
        all_members_active: flag(reader, all, "bond-all_slaves_active"),
        arp_interval: all.whole(reader, "bond-arp_interval"),
        arp_targets: pieces::arp_targets(reader, targets),
        arp_validate: numbered(reader, all, "bond-arp_validate"),
        arp_all_targets: numbered(reader, all, "bond-arp_all_targets"),
        up_delay: all.whole(reader, "bond-updelay"),
        down_delay: all.whole(reader, "bond-downdelay"),
        fail_over_mac: numbered(reader, all, "bond-fail_over_mac"),
        gratuitous_arp: all.whole(reader, "bond-num_grat_arp"),
        packets_per_member: all.whole(reader, "bond-packets_per_slave"),
        primary_reselect: numbered(reader, all, "bond-primary_reselect"),
        resend_igmp: all.whole(reader, "bond-resend_igmp"),
        learn_interval: all.whole(reader, "bond-lp_interval"),
        primary: None,
    };
    let mut primary = all.one(reader, "bond-primary", |reader, node, what| {
        Some(Placed { value: fields::id(reader, node, what)?, place: node.place })
    });
    bonding::fit(reader, all, &NAMES, &mut parameters, &mut primary);
    (parameters, primary)
}

/// Reads a bool, which may be 0 or 1 too.
fn flag(reader: &mut Reader<'_>, all: &Fields<'_>, name: &str) -> Option<bool> {
    all.one(reader, name, |reader, node, what| match node.scalar().map(|scalar| scalar.text.as_str()) {
        Some("0") => Some(false),
        Some("1") => Some(true),
        _ => reader.bool(node, what),
    })
}

fn bridge(reader: &mut Reader<'_>, all: &Fields<'_>) -> (BridgeParameters, PortNumbers) {
    let parameters = BridgeParameters {
        stp: flag(reader, all, "bridge_stp"),
        priority: all.whole(reader, "bridge_bridgeprio"),
        forward_delay: all.whole(reader, "bridge_fd"),
        hello_time: all.whole(reader, "bridge_hello"),
        max_age: all.whole(reader, "bridge_maxage"),
        ageing_time: all.whole(reader, "bridge_ageing"),
    };
    let numbers = PortNumbers {
        costs: port_numbers(reader, all, "bridge_pathcost", 1, 65535),
        priorities: port_numbers(reader, all, "bridge_portprio", 0, 63),
    };
    (parameters, numbers)
}

/// Reads `NAME NUMBER`.
fn port_numbers<T: TryFrom<u16>>(
    reader: &mut Reader<'_>,
    all: &Fields<'_>,
    name: &str,
    min: u16,
    max: u16,
) -> Vec<Placed<(Id, T)>> {
    all.each(reader, name, |reader, node, what| {
        let text = reader.text(node, what)?;
        let mut words = text.split_whitespace();
        let mut read = || {
            let id = Id::new(words.next()?).ok()?;
            let number: u16 = words.next()?.parse().ok().filter(|number| (min..=max).contains(number))?;
            let number = T::try_from(number).ok()?;
            words.next().is_none().then_some((id, number))
        };
        let pair = read();
        if pair.is_none() {
            let message = format!("{what} is a name and a number from {min} to {max}, not `{text}`");
            reader.error(Code::BadValue, node.place, message);
        }
        pair
    })
}
