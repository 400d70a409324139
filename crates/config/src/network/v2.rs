//! Reads version 2 of cloud-init's network configuration, netplan's format.

use super::assemble::{Undescribed, assemble};
use super::draft::{self, Draft, DraftKind, common, key_of, virtual_id};
use super::fields::{self, Fields, Placed, open};
use super::keys::V2;
use super::keys::v2::{ACCESS_POINT, BOND, BRIDGE, DUMMY, ETHERNET, VLAN, WIFI};
use super::model::{AccessPoint, Dhcp, Dns, Network, Renderer, RendererWish, Selector, VlanId};
use super::pieces::{self, SecurityWish};
use crate::reading::Reader;
use crate::{Code, Entry, Node};

/// Reads a network.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Network> {
    let all = open(reader, node, &V2)?;
    // The dialect was chosen by it, or asked for by the caller.
    all.choice(reader, "version");
    let renderer = match all.choice(reader, "renderer") {
        Some("networkd") => RendererWish::Only(Renderer::Networkd),
        Some(_) => RendererWish::Only(Renderer::NetworkManager),
        None => RendererWish::Auto,
    };
    let mut drafts = Vec::new();
    let mut section = |reader: &mut Reader<'_>, name: &str, read: Section| {
        for entry in all.named(reader, name) {
            drafts.extend(read(reader, entry));
        }
    };
    section(reader, "ethernets", ethernet);
    section(reader, "wifis", wifi);
    section(reader, "dummy-devices", dummy);
    section(reader, "bonds", bond);
    section(reader, "bridges", bridge);
    section(reader, "vlans", vlan);
    let interfaces = assemble(reader, drafts, Undescribed::Refused);
    Some(Network { renderer, dns: Dns::default(), interfaces })
}

type Section = fn(&mut Reader<'_>, &Entry) -> Option<Draft>;

fn ethernet(reader: &mut Reader<'_>, entry: &Entry) -> Option<Draft> {
    let all = open(reader, &entry.value, &ETHERNET)?;
    let mut draft = if entry.key == "lo" && !all.has("match") {
        let id = super::name::Id::new("lo").ok()?;
        Draft::new(Placed { value: id, place: entry.key_place }, DraftKind::Loopback)
    } else {
        let (id, hardware) = physical(reader, entry, &all)?;
        Draft::new(id, DraftKind::Ethernet(hardware))
    };
    draft.link.wake_on_lan = all.bool(reader, "wakeonlan");
    settings(reader, &mut draft, &all);
    Some(draft)
}

fn wifi(reader: &mut Reader<'_>, entry: &Entry) -> Option<Draft> {
    let all = open(reader, &entry.value, &WIFI)?;
    let (id, hardware) = physical(reader, entry, &all)?;
    let mut points = Vec::new();
    for entry in all.named(reader, "access-points") {
        match reader.attempt(|reader| access_point(reader, entry)) {
            Ok(point) => points.extend(point),
            // What is wrong was said; joining a network in another way than asked would be worse than not joining it.
            Err(_) => continue,
        }
    }
    let mut draft = Draft::new(id, DraftKind::Wifi(hardware, points));
    draft.link.wake_on_lan = all.bool(reader, "wakeonlan");
    settings(reader, &mut draft, &all);
    Some(draft)
}

fn access_point(reader: &mut Reader<'_>, entry: &Entry) -> Option<AccessPoint> {
    let all = open(reader, &entry.value, &ACCESS_POINT)?;
    all.choice(reader, "mode");
    let mut wish = None;
    let mut password = all.node("password");
    if let Some(auth) = all.block(reader, "auth") {
        if auth.has("method") {
            reader.error(Code::NotSupported, auth.place, "joining by EAP is not supported yet");
            return None;
        }
        wish = match auth.choice(reader, "key-management") {
            Some("none") => Some(SecurityWish::Open),
            Some("sae") => Some(SecurityWish::Sae),
            _ => Some(SecurityWish::Psk),
        };
        password = auth.node("password").or(password);
        if password.is_none() && auth.is_blank("password") {
            reader.error(Code::BadValue, auth.place, "`password` is empty");
            return None;
        }
    }
    pieces::access_point(reader, &all, key_of(entry), wish, password)
}

fn physical(
    reader: &mut Reader<'_>,
    entry: &Entry,
    all: &Fields<'_>,
) -> Option<(Placed<super::name::Id>, super::model::Hardware)> {
    let selector = match all.node("match") {
        None => None,
        Some(_) => {
            let found = reader.attempt(|reader| {
                let below = all.block(reader, "match")?;
                pieces::selector(reader, &below, "macaddress", None)
            });
            Some(Selector::new(found.ok().flatten()?)?)
        }
    };
    let set_name = all.one(reader, "set-name", fields::device);
    draft::hardware(reader, key_of(entry), selector, set_name)
}

fn dummy(reader: &mut Reader<'_>, entry: &Entry) -> Option<Draft> {
    let all = open(reader, &entry.value, &DUMMY)?;
    made(reader, entry, &all, DraftKind::Dummy)
}

fn bond(reader: &mut Reader<'_>, entry: &Entry) -> Option<Draft> {
    let all = open(reader, &entry.value, &BOND)?;
    let members = all.each(reader, "interfaces", fields::id);
    let (parameters, primary) = match all.block(reader, "parameters") {
        Some(below) => pieces::bond(reader, &below),
        None => Default::default(),
    };
    made(reader, entry, &all, DraftKind::Bond { members, parameters: Box::new(parameters), primary })
}

fn bridge(reader: &mut Reader<'_>, entry: &Entry) -> Option<Draft> {
    let all = open(reader, &entry.value, &BRIDGE)?;
    let members = all.each(reader, "interfaces", fields::id);
    let (parameters, numbers) = match all.block(reader, "parameters") {
        Some(below) => pieces::bridge(reader, &below),
        None => Default::default(),
    };
    made(reader, entry, &all, DraftKind::Bridge { members, parameters, numbers })
}

fn vlan(reader: &mut Reader<'_>, entry: &Entry) -> Option<Draft> {
    let all = open(reader, &entry.value, &VLAN)?;
    let kind = vlan_kind(reader, &all, &entry.key, "id", "link")?;
    made(reader, entry, &all, kind)
}

/// Reads number and carrier of a VLAN; both are needed.
pub(super) fn vlan_kind(
    reader: &mut Reader<'_>,
    all: &Fields<'_>,
    name: &str,
    number: &str,
    carrier: &str,
) -> Option<DraftKind> {
    for key in [number, carrier] {
        if !all.has(key) {
            reader.error(Code::BadValue, all.place, format!("the VLAN `{name}` lacks `{key}`"));
            return None;
        }
    }
    let id = VlanId::new(all.whole(reader, number)?)?;
    let place = all.node(number)?.place;
    let link = all.one(reader, carrier, fields::id)?;
    let link = Placed { value: link, place: all.node(carrier)?.place };
    Some(DraftKind::Vlan { id: Placed { value: id, place }, link })
}

fn made(reader: &mut Reader<'_>, entry: &Entry, all: &Fields<'_>, kind: DraftKind) -> Option<Draft> {
    let mut draft = Draft::new(virtual_id(reader, &entry.key, entry.key_place)?, kind);
    settings(reader, &mut draft, all);
    Some(draft)
}

/// Reads what every interface may have.
fn settings(reader: &mut Reader<'_>, draft: &mut Draft, all: &Fields<'_>) {
    common(reader, draft, all, "macaddress");
    let identifier = all.word(reader, "dhcp-identifier");
    let mut dhcp = |reader: &mut Reader<'_>, key: &str, overrides: &str| {
        let options = match all.block(reader, overrides) {
            Some(below) => pieces::dhcp(reader, &below),
            None => Dhcp::default(),
        };
        let wanted = all.bool(reader, key).unwrap_or(false);
        draft.mark(all.node(key).filter(|_| wanted));
        wanted.then_some(Dhcp { identifier, ..options })
    };
    let (dhcp4, dhcp6) = (dhcp(reader, "dhcp4", "dhcp4-overrides"), dhcp(reader, "dhcp6", "dhcp6-overrides"));
    draft.addressing.dhcp4 = dhcp4;
    draft.addressing.dhcp6 = dhcp6;
    draft.addressing.link_local = pieces::link_local(reader, all);
    if let Some(below) = all.block(reader, "nameservers") {
        draft.addressing.dns = pieces::dns(reader, &below, "addresses", "search");
    }
    draft.addresses = all.each(reader, "addresses", pieces::address);
    for (key, v4) in [("gateway4", true), ("gateway6", false)] {
        draft.mark(all.node(key));
        let Some(value) = all.one(reader, key, fields::ip) else { continue };
        let place = all.node(key).map_or(all.place, |node| node.place);
        if value.is_ipv4() != v4 {
            let family = if v4 { "IPv4" } else { "IPv6" };
            reader.error(Code::BadValue, place, format!("`{key}` is an address of {family}, not {value}"));
            continue;
        }
        draft.gateway(Placed { value, place }, None);
    }
    draft.routes.extend(all.each(reader, "routes", pieces::route));
    let rules = all.each(reader, "routing-policy", pieces::rule);
    draft.addressing.rules = rules.into_iter().map(|rule| rule.value).collect();
    for key in ["addresses", "routes", "routing-policy", "nameservers"] {
        draft.mark(all.node(key));
    }
}
