//! Makes a network of interfaces that were read one by one: checks what they say of each other.
//!
//! A fault takes out the later of two that disagree, and the smallest thing that holds it: an address, a member, an interface.

use super::draft::{Draft, DraftKind};
use super::fields::Placed;
use super::model::{Addressing, Hardware, Interface, Kind, Port, RouteKind, Selector, Virtual};
use super::name::{DeviceName, Id};
use super::pieces;
use crate::reading::Reader;
use crate::suggest::nearest;
use crate::{Code, Diagnostic, Severity};
use kairn_report::Place;

/// What becomes of a reference to an interface that nothing describes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Undescribed {
    /// It is an error.
    Refused,
    /// It is the device of that name.
    TakenAsDevice,
}

/// Makes interfaces of drafts.
pub(super) fn assemble(reader: &mut Reader<'_>, drafts: Vec<Draft>, undescribed: Undescribed) -> Vec<Interface> {
    let mut lost: Vec<Placed<Id>> = Vec::new();
    let mut drafts = unique(reader, drafts, &mut lost);
    by_device(&mut drafts);
    if undescribed == Undescribed::TakenAsDevice {
        describe(reader, &mut drafts, &lost);
    }
    memberships(reader, &mut drafts);
    loop {
        let before = drafts.len();
        references(reader, &mut drafts, &mut lost);
        circles(reader, &mut drafts, &mut lost);
        if drafts.len() == before {
            break;
        }
    }
    members_have_no_addresses(reader, &mut drafts);
    addresses(reader, &mut drafts);
    routes(reader, &mut drafts);
    drafts.into_iter().filter_map(|draft| finish(reader, draft)).collect()
}

fn say(reader: &mut Reader<'_>, severity: Severity, code: Code, at: Place, other: (Place, &str), message: String) {
    let said = Diagnostic::new(severity, code, reader.span(at), message).related(reader.span(other.0), other.1);
    reader.diagnostics.push(said);
}

/// Drops interfaces that claim what an earlier one has: name, device, VLAN.
fn unique(reader: &mut Reader<'_>, drafts: Vec<Draft>, lost: &mut Vec<Placed<Id>>) -> Vec<Draft> {
    let mut kept: Vec<Draft> = Vec::new();
    for draft in drafts {
        let clash = kept.iter().find_map(|earlier| clash(earlier, &draft).map(|what| (earlier.id.place, what)));
        match clash {
            None => kept.push(draft),
            Some((place, what)) => {
                let message = format!("{what}; `{}` is left out", draft.id.value);
                say(reader, Severity::Error, Code::Conflict, draft.id.place, (place, "the first is here"), message);
                // A second one of the same name takes no reference with it.
                if kept.iter().all(|earlier| earlier.id.value != draft.id.value) {
                    lost.push(draft.id);
                }
            }
        }
    }
    kept
}

fn clash(earlier: &Draft, later: &Draft) -> Option<String> {
    if earlier.id.value == later.id.value {
        return Some(format!("the interface `{}` is described twice", later.id.value));
    }
    if let (Some(a), Some(b)) = (earlier.device(), later.device())
        && a == b
    {
        return Some(format!("`{}` and `{}` are both the device `{a}`", earlier.id.value, later.id.value));
    }
    if let (Some(a), Some(b)) = (earlier.hardware(), later.hardware())
        && same_device(&a.selector, &b.selector)
    {
        return Some(format!("`{}` and `{}` choose the same device", earlier.id.value, later.id.value));
    }
    if let (DraftKind::Vlan { id: a, link: on_a }, DraftKind::Vlan { id: b, link: on_b }) = (&earlier.kind, &later.kind)
        && a.value == b.value
        && on_a.value == on_b.value
    {
        return Some(format!("`{}` is VLAN {} of `{}` too", earlier.id.value, a.value.get(), on_a.value));
    }
    None
}

fn same_device(a: &Selector, b: &Selector) -> bool {
    a == b
        || a.mac().is_some() && a.mac() == b.mac()
        || a.permanent_mac().is_some() && a.permanent_mac() == b.permanent_mac()
}

/// Lets references name devices too: an interface may be called otherwise than its device.
fn by_device(drafts: &mut [Draft]) {
    let known: Vec<(Id, Option<DeviceName>)> =
        drafts.iter().map(|draft| (draft.id.value.clone(), draft.device())).collect();
    for need in drafts.iter_mut().flat_map(Draft::needs_mut) {
        if known.iter().any(|(id, _)| *id == need.value) {
            continue;
        }
        let device = |device: &Option<DeviceName>| device.as_ref().map(DeviceName::as_str) == Some(need.value.as_str());
        if let Some((id, _)) = known.iter().find(|(_, name)| device(name)) {
            need.value = id.clone();
        }
    }
}

/// Describes the devices that are referred to by name alone.
fn describe(reader: &mut Reader<'_>, drafts: &mut Vec<Draft>, lost: &[Placed<Id>]) {
    let known = |drafts: &[Draft], id: &Id| {
        drafts.iter().any(|draft| draft.id.value == *id) || lost.iter().any(|lost| lost.value == *id)
    };
    let named: Vec<Placed<Id>> = drafts.iter().flat_map(Draft::needs).cloned().collect();
    for Placed { value, place } in named {
        if known(drafts, &value) {
            continue;
        }
        let (Ok(_), Some(selector)) = (DeviceName::new(value.as_str()), pieces::by_name(value.as_str())) else {
            continue;
        };
        let message = format!("nothing describes `{value}`; it is taken as the device of that name");
        reader.say(Severity::Note, Code::BadValue, place, message);
        let hardware = Hardware { selector, set_name: None };
        drafts.push(Draft::new(Placed { value, place }, DraftKind::Ethernet(hardware)));
    }
}

/// Takes members that have a bond or bridge already from later ones, and those that cannot be members.
fn memberships(reader: &mut Reader<'_>, drafts: &mut [Draft]) {
    let all_of = |fits: fn(&DraftKind) -> bool| -> Vec<Id> {
        drafts.iter().filter(|draft| fits(&draft.kind)).map(|draft| draft.id.value.clone()).collect()
    };
    let loopbacks = all_of(|kind| matches!(kind, DraftKind::Loopback));
    let bonds = all_of(|kind| matches!(kind, DraftKind::Bond { .. }));
    let bridges = all_of(|kind| matches!(kind, DraftKind::Bridge { .. }));
    let mut taken: Vec<(Placed<Id>, Id)> = Vec::new();
    for draft in drafts {
        let controller = draft.id.value.clone();
        // The kernel takes no bond into a bond and no bridge into a bridge.
        let alike = if matches!(draft.kind, DraftKind::Bond { .. }) { &bonds } else { &bridges };
        let (DraftKind::Bond { members, .. } | DraftKind::Bridge { members, .. }) = &mut draft.kind else { continue };
        members.retain(|member| {
            if member.value != controller && (loopbacks.contains(&member.value) || alike.contains(&member.value)) {
                let message = format!("`{}` cannot be a member of `{controller}`", member.value);
                reader.error(Code::BadValue, member.place, message);
                return false;
            }
            if let Some((first, owner)) = taken.iter().find(|(first, _)| first.value == member.value) {
                let message = format!("`{}` is a member of `{owner}` already", member.value);
                say(
                    reader,
                    Severity::Error,
                    Code::Conflict,
                    member.place,
                    (first.place, "it became one here"),
                    message,
                );
                return false;
            }
            taken.push((member.clone(), controller.clone()));
            true
        });
    }
}

/// Drops VLANs without a carrier, and members that nothing describes.
fn references(reader: &mut Reader<'_>, drafts: &mut Vec<Draft>, lost: &mut Vec<Placed<Id>>) {
    let ids: Vec<Id> = drafts.iter().map(|draft| draft.id.value.clone()).collect();
    let mut gone = Vec::new();
    for draft in drafts.iter_mut() {
        let name = draft.id.clone();
        let missing = |reader: &mut Reader<'_>, to: &Placed<Id>, then: String| {
            if let Some(lost) = lost.iter().find(|lost| lost.value == to.value) {
                let message = format!("`{}` was left out; {then}", to.value);
                say(
                    reader,
                    Severity::Error,
                    Code::BadReference,
                    to.place,
                    (lost.place, "it is described here"),
                    message,
                );
                return;
            }
            reader.error(Code::BadReference, to.place, format!("nothing describes `{}`; {then}", to.value));
            match nearest(to.value.as_str(), ids.iter().map(Id::as_str).filter(|&id| id != name.value.as_str())) {
                Some(near) => reader.hint(format!("`{near}` meant?")),
                None => reader.hint(format!("describe it as an interface called `{}`", to.value)),
            }
        };
        match &mut draft.kind {
            DraftKind::Vlan { link, .. } if !ids.contains(&link.value) => {
                missing(reader, link, format!("the VLAN `{}` is left out", name.value));
                gone.push(name.clone());
            }
            DraftKind::Bond { members, .. } | DraftKind::Bridge { members, .. } => members.retain(|member| {
                let known = ids.contains(&member.value);
                if !known {
                    missing(reader, member, format!("`{}` goes without it", name.value));
                }
                known
            }),
            _ => {}
        }
    }
    drop_all(drafts, lost, gone);
}

fn drop_all(drafts: &mut Vec<Draft>, lost: &mut Vec<Placed<Id>>, gone: Vec<Placed<Id>>) {
    drafts.retain(|draft| !gone.iter().any(|gone| gone.value == draft.id.value));
    lost.extend(gone);
}

/// Drops interfaces that need each other in a circle.
fn circles(reader: &mut Reader<'_>, drafts: &mut Vec<Draft>, lost: &mut Vec<Placed<Id>>) {
    let index = |id: &Id| drafts.iter().position(|draft| draft.id.value == *id);
    // An edge leads from an interface to one that it needs, by the place that says so.
    let edges: Vec<Vec<(usize, Place)>> = drafts
        .iter()
        .map(|draft| draft.needs().into_iter().filter_map(|to| Some((index(&to.value)?, to.place))).collect())
        .collect();
    let mut done = vec![false; drafts.len()];
    let mut gone: Vec<Placed<Id>> = Vec::new();
    for start in 0..drafts.len() {
        // Depth first without recursion: the way there, and at each stop the next edge to try.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((at, next)) = way.last_mut() {
            let at = *at;
            if done.get(at).copied().unwrap_or(true) {
                way.pop();
                continue;
            }
            let Some(&(to, place)) = edges.get(at).and_then(|edges| edges.get(*next)) else {
                if let Some(done) = done.get_mut(at) {
                    *done = true;
                }
                way.pop();
                continue;
            };
            *next += 1;
            let Some(from) = way.iter().position(|(stop, _)| *stop == to) else {
                way.push((to, 0));
                continue;
            };
            let stops: Vec<usize> = way.iter().skip(from).map(|(stop, _)| *stop).collect();
            let names: Vec<Placed<Id>> =
                stops.iter().filter_map(|&stop| drafts.get(stop)).map(|draft| draft.id.clone()).collect();
            let way_text: Vec<&str> = names.iter().chain(names.first()).map(|placed| placed.value.as_str()).collect();
            let first = names.first().map_or(place, |placed| placed.place);
            let message = format!("interfaces need each other in a circle: {}", way_text.join(" → "));
            say(reader, Severity::Error, Code::Cycle, place, (first, "the circle begins here"), message);
            reader.hint("all of them are left out");
            gone.extend(names);
        }
    }
    drop_all(drafts, lost, gone);
}

/// A member of a bond or bridge has no addresses of its own; the kernel would not use them.
fn members_have_no_addresses(reader: &mut Reader<'_>, drafts: &mut [Draft]) {
    let members: Vec<(Placed<Id>, Id)> = drafts
        .iter()
        .flat_map(|draft| draft.members().iter().map(|member| (member.clone(), draft.id.value.clone())))
        .collect();
    for draft in drafts {
        let Some((member, owner)) = members.iter().find(|(member, _)| member.value == draft.id.value) else { continue };
        if let Some(place) = draft.addressed {
            let message = format!("`{}` is a member of `{owner}`; its own addressing has no effect", draft.id.value);
            say(reader, Severity::Warning, Code::Conflict, place, (member.place, "it becomes a member here"), message);
            reader.hint(format!("give the addresses to `{owner}`"));
        }
        draft.addressing = Addressing::default();
        draft.addresses.clear();
        draft.routes.clear();
    }
}

/// An address belongs to one interface.
fn addresses(reader: &mut Reader<'_>, drafts: &mut [Draft]) {
    let mut seen: Vec<(std::net::IpAddr, Place, Id)> = Vec::new();
    for draft in drafts {
        let name = draft.id.value.clone();
        draft.addresses.retain(|Placed { value, place }| {
            let address = value.net.address();
            let everywhere = match address {
                std::net::IpAddr::V4(v4) => v4.is_link_local(),
                std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            // Link-local addresses mean something on each link for itself.
            let first = seen.iter().find(|(known, _, owner)| *known == address && (!everywhere || *owner == name));
            let Some((_, first, owner)) = first else {
                seen.push((address, *place, name.clone()));
                return true;
            };
            let (severity, message) = if *owner == name {
                (Severity::Warning, format!("{address} is given twice"))
            } else {
                (Severity::Error, format!("{address} belongs to `{owner}` already; `{name}` goes without it"))
            };
            say(reader, severity, Code::Conflict, *place, (*first, "it was given here"), message);
            false
        });
    }
}

/// Two routes to one destination need different metrics; a next hop has to be within reach.
fn routes(reader: &mut Reader<'_>, drafts: &mut [Draft]) {
    let mut seen: Vec<(super::model::Route, Place, Id)> = Vec::new();
    for draft in drafts {
        let name = draft.id.value.clone();
        draft.routes.retain(|Placed { value, place }| {
            let rival = seen
                .iter()
                .find(|(known, _, _)| (known.to, known.metric, known.table) == (value.to, value.metric, value.table));
            if let Some((known, first, owner)) = rival {
                let other = (*first, "the first is here");
                if *owner == name && known == value {
                    let message = format!("the route to {} is given twice", value.to);
                    say(reader, Severity::Warning, Code::Conflict, *place, other, message);
                    return false;
                }
                let message = format!("a second route to {} with the same metric; which one counts is open", value.to);
                say(reader, Severity::Warning, Code::Conflict, *place, other, message);
                reader.hint("give one of them another `metric`");
            }
            seen.push((value.clone(), *place, name.clone()));
            true
        });
        for Placed { value, place } in &draft.routes {
            let Some(via) = value.via.filter(|_| !value.on_link && value.kind == RouteKind::Unicast) else { continue };
            let by_itself = if via.is_ipv4() {
                draft.addressing.dhcp4.is_some() || draft.addressing.link_local.v4
            } else {
                draft.addressing.dhcp6.is_some() || draft.addressing.router_advertisements != Some(false)
            };
            let link_local = matches!(via, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
            let reached = draft.addresses.iter().any(|address| address.value.net.holds(via));
            if !by_itself && !link_local && !reached {
                let message =
                    format!("the next hop {via} is in no network of `{name}`; the kernel refuses such a route");
                reader.say(Severity::Warning, Code::BadValue, *place, message);
                reader.hint("`on-link: true` says that it can be reached all the same");
            }
        }
    }
}

fn finish(reader: &mut Reader<'_>, draft: Draft) -> Option<Interface> {
    let span = reader.span(draft.id.place);
    let device = DeviceName::new(draft.id.value.as_str());
    let id = draft.id.value;
    let kind = match (draft.kind, device) {
        (DraftKind::Ethernet(hardware), _) => Kind::Ethernet(hardware),
        (DraftKind::Wifi(hardware, points), _) => Kind::Wifi(hardware, points),
        (DraftKind::Loopback, _) => Kind::Loopback,
        (DraftKind::Dummy, Ok(name)) => Kind::Virtual(name, Virtual::Dummy),
        (DraftKind::Vlan { id, link }, Ok(name)) => {
            Kind::Virtual(name, Virtual::Vlan { id: id.value, link: link.value })
        }
        (DraftKind::Bond { members, mut parameters, primary }, Ok(name)) => {
            let members: Vec<Id> = members.into_iter().map(|member| member.value).collect();
            if members.is_empty() {
                reader.say(
                    Severity::Warning,
                    Code::BadValue,
                    draft.id.place,
                    format!("the bond `{id}` has no members"),
                );
            }
            if let Some(Placed { value, place }) = primary {
                if members.contains(&value) {
                    parameters.primary = Some(value);
                } else {
                    reader.error(Code::BadValue, place, format!("`{value}` is no member of `{id}`"));
                }
            }
            Kind::Virtual(name, Virtual::Bond { members, parameters })
        }
        (DraftKind::Bridge { members, parameters, numbers }, Ok(name)) => {
            let mut ports: Vec<Port> =
                members.into_iter().map(|member| Port { id: member.value, cost: None, priority: None }).collect();
            let mut port =
                |reader: &mut Reader<'_>, wanted: &Id, place: Place, set: &mut dyn FnMut(&mut Port)| match ports
                    .iter_mut()
                    .find(|port| port.id == *wanted)
                {
                    Some(port) => set(port),
                    None => reader.error(Code::BadValue, place, format!("`{wanted}` is no port of `{id}`")),
                };
            for Placed { value: (wanted, cost), place } in numbers.costs {
                port(reader, &wanted, place, &mut |port| port.cost = Some(cost));
            }
            for Placed { value: (wanted, priority), place } in numbers.priorities {
                port(reader, &wanted, place, &mut |port| port.priority = Some(priority));
            }
            Kind::Virtual(name, Virtual::Bridge { ports, parameters })
        }
        // Such names were refused when they were read.
        (DraftKind::Dummy | DraftKind::Vlan { .. } | DraftKind::Bond { .. } | DraftKind::Bridge { .. }, Err(_)) => {
            return None;
        }
    };
    let mut addressing = draft.addressing;
    addressing.addresses = draft.addresses.into_iter().map(|address| address.value).collect();
    addressing.routes = draft.routes.into_iter().map(|route| route.value).collect();
    Some(Interface { id, span, kind, link: draft.link, addressing })
}
