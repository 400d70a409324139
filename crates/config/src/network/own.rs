//! Reads our own dialect: `network:` without `version:`.

use super::assemble::{Undescribed, assemble};
use super::draft::{self, Draft, DraftKind, common, virtual_id};
use super::fields::{self, Fields, Placed, open};
use super::keys::OWN;
use super::keys::own::{INTERFACE, WIFI};
use super::model::{AccessPoint, Addressing, Dhcp, Network, Renderer, RendererWish, Selector};
use super::name::Id;
use super::pieces::{self, SecurityWish};
use super::v2::vlan_kind;
use crate::reading::Reader;
use crate::{Code, Diagnostic, Node, Severity};

/// Reads a network.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Network> {
    let all = open(reader, node, &OWN)?;
    let renderer = match all.choice(reader, "renderer") {
        Some("networkd") => RendererWish::Only(Renderer::Networkd),
        Some("networkmanager") => RendererWish::Only(Renderer::NetworkManager),
        _ => RendererWish::Auto,
    };
    let dns = match all.block(reader, "dns") {
        Some(below) => pieces::dns(reader, &below, "servers", "search"),
        None => Default::default(),
    };
    let mut drafts = Vec::new();
    for item in all.items(reader, "interfaces") {
        drafts.extend(interface(reader, item));
    }
    let interfaces = assemble(reader, drafts, Undescribed::TakenAsDevice);
    Some(Network { renderer, dns, interfaces })
}

/// What makes an interface something else than a device of the machine; one of them at most.
const KINDS: &[&str] = &["vlan", "bond", "bridge", "wifi", "dummy"];

fn interface(reader: &mut Reader<'_>, item: &Node) -> Option<Draft> {
    let all = open(reader, item, &INTERFACE)?;
    let Some(node) = all.node("name") else {
        reader.error(Code::BadValue, item.place, "an interface lacks `name`");
        return None;
    };
    let name = reader.text(node, "`name`")?;
    let name = Placed { value: name.as_str(), place: node.place };
    let mut kinds = KINDS.iter().filter_map(|kind| all.entry(kind));
    let kind = kinds.next();
    if let (Some(first), Some(second)) = (kind, kinds.next()) {
        let message = format!("`{}` is either `{}` or `{}`", name.value, first.key, second.key);
        let said = Diagnostic::new(Severity::Error, Code::Conflict, reader.span(second.key_place), message);
        reader.diagnostics.push(said.related(reader.span(first.key_place), "the other is here"));
        return None;
    }
    let mut draft = match kind.map(|entry| entry.key.as_str()) {
        None | Some("wifi") => device(reader, &all, name)?,
        Some(kind) => {
            for key in ["match", "rename", "wake-on-lan"] {
                if let Some(entry) = all.entry(key) {
                    let message = format!("`{}` is for devices of the machine; `{}` is made", entry.key, name.value);
                    reader.error(Code::BadValue, entry.key_place, message);
                }
            }
            let kind = made(reader, &all, name.value, kind)?;
            Draft::new(virtual_id(reader, name.value, name.place)?, kind)
        }
    };
    settings(reader, &mut draft, &all);
    Some(draft)
}

fn device(reader: &mut Reader<'_>, all: &Fields<'_>, name: Placed<&str>) -> Option<Draft> {
    if name.value == "lo" && !all.has("match") && !all.has("wifi") {
        return Some(Draft::new(Placed { value: Id::new("lo").ok()?, place: name.place }, DraftKind::Loopback));
    }
    let selector = match all.node("match") {
        None => None,
        Some(_) => {
            let found = reader.attempt(|reader| {
                let below = all.block(reader, "match")?;
                pieces::selector(reader, &below, "mac", Some("permanent-mac"))
            });
            Some(Selector::new(found.ok().flatten()?)?)
        }
    };
    let set_name = all.one(reader, "rename", fields::device);
    let (id, hardware) = draft::hardware(reader, name, selector, set_name)?;
    let kind = if all.has("wifi") {
        let mut points = Vec::new();
        for item in all.items(reader, "wifi") {
            match reader.attempt(|reader| access_point(reader, item)) {
                Ok(point) => points.extend(point),
                // What is wrong was said; joining in another way than asked would be worse than not joining.
                Err(_) => continue,
            }
        }
        DraftKind::Wifi(hardware, points)
    } else {
        DraftKind::Ethernet(hardware)
    };
    let mut draft = Draft::new(id, kind);
    draft.link.wake_on_lan = all.bool(reader, "wake-on-lan");
    Some(draft)
}

fn access_point(reader: &mut Reader<'_>, item: &Node) -> Option<AccessPoint> {
    let all = open(reader, item, &WIFI)?;
    let Some(node) = all.node("ssid") else {
        reader.error(Code::BadValue, item.place, "a wireless network lacks `ssid`");
        return None;
    };
    let ssid = reader.text(node, "`ssid`")?;
    let wish = match all.choice(reader, "security") {
        Some("open") => Some(SecurityWish::Open),
        Some("wpa-psk") => Some(SecurityWish::Psk),
        Some(_) => Some(SecurityWish::Sae),
        None => None,
    };
    let ssid = Placed { value: ssid.as_str(), place: node.place };
    pieces::access_point(reader, &all, ssid, wish, all.node("password"))
}

fn made(reader: &mut Reader<'_>, all: &Fields<'_>, name: &str, kind: &str) -> Option<DraftKind> {
    match kind {
        "vlan" => {
            let below = all.block(reader, "vlan")?;
            vlan_kind(reader, &below, name, "id", "link")
        }
        "bond" => {
            let below = all.block(reader, "bond")?;
            let members = below.each(reader, "members", fields::id);
            let (parameters, primary) = pieces::bond(reader, &below);
            Some(DraftKind::Bond { members, parameters: Box::new(parameters), primary })
        }
        "bridge" => {
            let below = all.block(reader, "bridge")?;
            let members = below.each(reader, "members", fields::id);
            let (parameters, numbers) = pieces::bridge(reader, &below);
            Some(DraftKind::Bridge { members, parameters, numbers })
        }
        _ => {
            if all.bool(reader, "dummy")? {
                return Some(DraftKind::Dummy);
            }
            let place = all.node("dummy").map_or(all.place, |node| node.place);
            reader.error(Code::BadValue, place, "`dummy` is `true` or absent");
            None
        }
    }
}

/// Reads what every interface may have.
fn settings(reader: &mut Reader<'_>, draft: &mut Draft, all: &Fields<'_>) {
    common(reader, draft, all, "mac");
    let options = match all.block(reader, "dhcp-options") {
        Some(below) => Dhcp { identifier: below.word(reader, "identifier"), ..pieces::dhcp(reader, &below) },
        None => Dhcp::default(),
    };
    let (v4, v6) = dhcp(reader, all);
    draft.addressing = Addressing {
        dhcp4: v4.then(|| options.clone()),
        dhcp6: v6.then_some(options),
        link_local: pieces::link_local(reader, all),
        router_advertisements: draft.addressing.router_advertisements,
        ..Addressing::default()
    };
    if let Some(below) = all.block(reader, "dns") {
        draft.addressing.dns = pieces::dns(reader, &below, "servers", "search");
    }
    draft.addresses = all.each(reader, "addresses", pieces::address);
    for gateway in all.each(reader, "gateway", fields::ip) {
        draft.gateway(gateway, None);
    }
    draft.routes.extend(all.each(reader, "routes", pieces::route));
    let rules = all.each(reader, "rules", pieces::rule);
    draft.addressing.rules = rules.into_iter().map(|rule| rule.value).collect();
    draft.mark(all.node("dhcp").filter(|_| v4 || v6));
    for key in ["addresses", "gateway", "routes", "rules", "dns"] {
        draft.mark(all.node(key));
    }
}

/// Reads `dhcp`: which families are asked for.
fn dhcp(reader: &mut Reader<'_>, all: &Fields<'_>) -> (bool, bool) {
    let read = all.one(reader, "dhcp", |reader, node, what| {
        if let Some(both) = node.scalar().and_then(crate::Scalar::as_bool) {
            return Some((both, both));
        }
        match fields::word(reader, node, what, &["true", "false", "ipv4", "ipv6"])? {
            "ipv4" => Some((true, false)),
            "ipv6" => Some((false, true)),
            _ => None,
        }
    });
    read.unwrap_or((false, false))
}
