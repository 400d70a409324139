//! An interface as it was read, with the places of what may still be found wrong.

use super::address::Net;
use super::controller::{BondParameters, BridgeParameters};
use super::fields::{Fields, Placed};
use super::model::{AccessPoint, Address, Addressing, Hardware, Link, Route, Selector, VlanId};
use super::name::{DeviceName, Id};
use super::pieces::{self, PortNumbers};
use crate::reading::Reader;
use crate::{Code, Entry, Node};
use kairn_report::Place;
use std::net::IpAddr;

/// An interface as it was read.
pub(super) struct Draft {
    pub id: Placed<Id>,
    pub kind: DraftKind,
    pub link: Link,
    /// Without addresses and routes, which still have places.
    pub addressing: Addressing,
    pub addresses: Vec<Placed<Address>>,
    pub routes: Vec<Placed<Route>>,
    /// Where its addressing was written first.
    pub addressed: Option<Place>,
}

/// What it is.
pub(super) enum DraftKind {
    Ethernet(Hardware),
    Wifi(Hardware, Vec<AccessPoint>),
    Vlan { id: Placed<VlanId>, link: Placed<Id> },
    Bond { members: Vec<Placed<Id>>, parameters: Box<BondParameters>, primary: Option<Placed<Id>> },
    Bridge { members: Vec<Placed<Id>>, parameters: BridgeParameters, numbers: PortNumbers },
    Dummy,
    Loopback,
}

impl Draft {
    /// Begins an interface of which nothing but its kind is known.
    pub fn new(id: Placed<Id>, kind: DraftKind) -> Self {
        Self {
            id,
            kind,
            link: Link::default(),
            addressing: Addressing::default(),
            addresses: Vec::new(),
            routes: Vec::new(),
            addressed: None,
        }
    }

    /// Returns the members of a bond and the ports of a bridge.
    pub fn members(&self) -> &[Placed<Id>] {
        match &self.kind {
            DraftKind::Bond { members, .. } | DraftKind::Bridge { members, .. } => members,
            _ => &[],
        }
    }

    /// Returns what it needs: the carrier of a VLAN, members and ports.
    pub fn needs(&self) -> Vec<&Placed<Id>> {
        match &self.kind {
            DraftKind::Vlan { link, .. } => vec![link],
            _ => self.members().iter().collect(),
        }
    }

    /// Returns the same to be changed.
    pub fn needs_mut(&mut self) -> Vec<&mut Placed<Id>> {
        match &mut self.kind {
            DraftKind::Vlan { link, .. } => vec![link],
            DraftKind::Bond { members, .. } | DraftKind::Bridge { members, .. } => members.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    /// Returns which device of the machine it is.
    pub fn hardware(&self) -> Option<&Hardware> {
        match &self.kind {
            DraftKind::Ethernet(hardware) | DraftKind::Wifi(hardware, _) => Some(hardware),
            _ => None,
        }
    }

    /// Returns the name of its device, where one is certain.
    pub fn device(&self) -> Option<DeviceName> {
        match self.hardware() {
            Some(hardware) => hardware.set_name.clone().or_else(|| hardware.selector.literal_name()),
            None => DeviceName::new(self.id.value.as_str()).ok(),
        }
    }

    /// Notes where addressing that is wanted was written first.
    pub fn mark(&mut self, node: Option<&Node>) {
        if let Some(node) = node {
            self.addressed = Some(self.addressed.map_or(node.place, |place| place.min(node.place)));
        }
    }

    /// Adds default routes.
    pub fn gateway(&mut self, gateway: Placed<IpAddr>, metric: Option<u32>) {
        let Placed { value: via, place } = gateway;
        let to = if via.is_ipv4() { Net::ALL_V4 } else { Net::ALL_V6 };
        self.routes.push(Placed { value: Route { metric, ..Route::new(to, Some(via)) }, place });
    }
}

/// Reads the name of a device that is to be made.
pub(super) fn virtual_id(reader: &mut Reader<'_>, text: &str, place: Place) -> Option<Placed<Id>> {
    let fault = match DeviceName::new(text) {
        Ok(_) if text == "lo" => "the loopback device is there already",
        Ok(_) => match Id::new(text) {
            Ok(value) => return Some(Placed { value, place }),
            Err(fault) => fault,
        },
        Err(fault) => fault,
    };
    reader.error(Code::BadValue, place, format!("no device can be called `{text}`: {fault}"));
    None
}

/// Reads the name of an interface of the machine. With a selector any name will do, without one it is that of the device.
pub(super) fn hardware(
    reader: &mut Reader<'_>,
    name: Placed<&str>,
    selector: Option<Selector>,
    set_name: Option<DeviceName>,
) -> Option<(Placed<Id>, Hardware)> {
    let place = name.place;
    let refuse = |reader: &mut Reader<'_>, fault: &str| {
        reader.error(Code::BadValue, place, format!("no interface can be called `{}`: {fault}", name.value));
    };
    let value = match Id::new(name.value) {
        Ok(value) => value,
        Err(fault) => {
            refuse(reader, fault);
            return None;
        }
    };
    let selector = match selector {
        Some(selector) => selector,
        None => {
            if let Err(fault) = DeviceName::new(name.value) {
                refuse(reader, fault);
                reader.hint("with `match` any name will do");
                return None;
            }
            pieces::by_name(name.value)?
        }
    };
    Some((Placed { value, place }, Hardware { selector, set_name }))
}

/// Names an entry by its key.
pub(super) fn key_of(entry: &Entry) -> Placed<&str> {
    Placed { value: &entry.key, place: entry.key_place }
}

/// Reads what every dialect calls by the same names: `optional`, `mtu`, `accept-ra`.
pub(super) fn common(reader: &mut Reader<'_>, draft: &mut Draft, all: &Fields<'_>, mac: &str) {
    draft.link.mtu = pieces::mtu(reader, all);
    draft.link.mac = all.one(reader, mac, super::fields::own_mac);
    draft.link.optional = all.bool(reader, "optional").unwrap_or(false);
    draft.addressing.router_advertisements = all.bool(reader, "accept-ra");
}
