//! The one model of a network, whatever dialect described it and whatever service will carry it out.
//!
//! What is in a [`Network`] was checked: identifiers are unique, every reference leads to an interface of the same network, none
//! leads in a circle, an interface is a member of one other at most, and no address is given twice.

use super::address::{MacAddress, Net};
use super::controller::{BondParameters, BridgeParameters};
use super::name::{DeviceName, Domain, Id, Label, Pattern, Ssid};
use super::word::words;
use kairn_report::{Secret, Span};
use std::net::IpAddr;

/// A network as the user wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Which service is to carry it out.
    pub renderer: RendererWish,
    /// Servers and domains for names, whichever interface is up.
    pub dns: Dns,
    /// In the order of the source.
    pub interfaces: Vec<Interface>,
}

/// Which service is to carry a network out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RendererWish {
    /// Whichever the node has.
    #[default]
    Auto,
    /// That one.
    Only(Renderer),
}

/// A service that carries a network out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Renderer {
    /// systemd-networkd, with systemd-resolved for names.
    Networkd,
    /// NetworkManager.
    NetworkManager,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What it is called in the configuration.
    pub id: Id,
    /// Where it is described.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
    /// How the link is set.
    pub link: Link,
    /// How it gets addresses and routes.
    pub addressing: Addressing,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device of the machine.
    Ethernet(Hardware),
    /// A wireless device of the machine.
    Wifi(Hardware, Vec<AccessPoint>),
    /// A device that is made; its name is that of the interface.
    Virtual(DeviceName, Virtual),
    /// The loopback device, `lo`.
    Loopback,
}

/// A device of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Which.
    pub selector: Selector,
    /// The name that it gets.
    pub set_name: Option<DeviceName>,
}

/// Chooses devices; all that is said must hold, and something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    names: Vec<Pattern>,
    mac: Option<MacAddress>,
    permanent_mac: Option<MacAddress>,
    drivers: Vec<Pattern>,
    paths: Vec<Pattern>,
}

/// What a [`Selector`] is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorParts {
    /// The name matches one of these.
    pub names: Vec<Pattern>,
    /// The address is this one now.
    pub mac: Option<MacAddress>,
    /// The address that the device was made with.
    pub permanent_mac: Option<MacAddress>,
    /// The driver matches one of these.
    pub drivers: Vec<Pattern>,
    /// The path of the device (`ID_PATH` of udev) matches one of these.
    pub paths: Vec<Pattern>,
}

impl Selector {
    /// Makes one; `None` when nothing is said, since that would choose every device.
    #[must_use]
    pub fn new(parts: SelectorParts) -> Option<Self> {
        if parts == SelectorParts::default() {
            return None;
        }
        let SelectorParts { names, mac, permanent_mac, drivers, paths } = parts;
        Some(Self { names, mac, permanent_mac, drivers, paths })
    }

    /// Returns the patterns of names.
    #[must_use]
    pub fn names(&self) -> &[Pattern] {
        &self.names
    }

    /// Returns the address that the device has now.
    #[must_use]
    pub const fn mac(&self) -> Option<MacAddress> {
        self.mac
    }

    /// Returns the address that the device was made with.
    #[must_use]
    pub const fn permanent_mac(&self) -> Option<MacAddress> {
        self.permanent_mac
    }

    /// Returns the patterns of drivers.
    #[must_use]
    pub fn drivers(&self) -> &[Pattern] {
        &self.drivers
    }

    /// Returns the patterns of paths.
    #[must_use]
    pub fn paths(&self) -> &[Pattern] {
        &self.paths
    }

    /// Returns the one name that the device can have.
    #[must_use]
    pub fn literal_name(&self) -> Option<DeviceName> {
        match self.names.as_slice() {
            [name] if name.is_literal() => DeviceName::new(name.as_str()).ok(),
            _ => None,
        }
    }

    /// Says whether one device at most is chosen, so that this selector goes before one that chooses by kind.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let literal = |patterns: &[Pattern]| !patterns.is_empty() && patterns.iter().all(Pattern::is_literal);
        self.mac.is_some() || self.permanent_mac.is_some() || literal(&self.names) || literal(&self.paths)
    }
}

/// A device that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Virtual {
    /// A VLAN (IEEE 802.1Q) on another interface.
    Vlan {
        /// Its number.
        id: VlanId,
        /// The interface that carries it.
        link: Id,
    },
    /// Several devices that act as one.
    Bond {
        /// The devices.
        members: Vec<Id>,
        /// How they share the work.
        parameters: Box<BondParameters>,
    },
    /// A switch.
    Bridge {
        /// Its ports.
        ports: Vec<Port>,
        /// How it works.
        parameters: BridgeParameters,
    },
    /// A device that leads nowhere.
    Dummy,
}

/// The number of a VLAN: 1 to 4094 (IEEE 802.1Q, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The smallest.
    pub const MIN: u16 = 1;
    /// The largest.
    pub const MAX: u16 = 4094;

    /// Checks a number.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::MIN || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The largest packet, in bytes: 68 (RFC 791) to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtu(u16);

impl Mtu {
    /// The smallest.
    pub const MIN: u16 = 68;

    /// Checks a number.
    #[must_use]
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes < Self::MIN { None } else { Some(Self(bytes)) }
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A port of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The interface.
    pub id: Id,
    /// What the spanning tree counts for it.
    pub cost: Option<u16>,
    /// Its priority, 0 to 63.
    pub priority: Option<u8>,
}

/// How a link is set. `None` leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The largest packet.
    pub mtu: Option<Mtu>,
    /// The address that it gets.
    pub mac: Option<MacAddress>,
    /// Whether a magic packet wakes the machine.
    pub wake_on_lan: Option<bool>,
    /// Boot does not wait for it.
    pub optional: bool,
}

/// How an interface gets addresses and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressing {
    /// DHCP of IPv4.
    pub dhcp4: Option<Dhcp>,
    /// DHCP of IPv6.
    pub dhcp6: Option<Dhcp>,
    /// Whether routers are listened to; `None`: as the service has it, which is yes where IPv6 is on.
    pub router_advertisements: Option<bool>,
    /// Addresses of its own making.
    pub link_local: LinkLocal,
    /// Its fixed addresses.
    pub addresses: Vec<Address>,
    /// Routes through it.
    pub routes: Vec<Route>,
    /// Which packets look in which table.
    pub rules: Vec<Rule>,
    /// Servers and domains for names.
    pub dns: Dns,
}

/// Addresses that an interface makes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLocal {
    /// RFC 3927.
    pub v4: bool,
    /// RFC 4862; without them IPv6 does not work.
    pub v6: bool,
}

impl Default for LinkLocal {
    fn default() -> Self {
        Self { v4: false, v6: true }
    }
}

/// What is taken from a DHCP server, and what it is told. `None` leaves it to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dhcp {
    /// Name servers.
    pub use_dns: Option<bool>,
    /// Time servers.
    pub use_ntp: Option<bool>,
    /// The name of this host.
    pub use_hostname: Option<bool>,
    /// The largest packet.
    pub use_mtu: Option<bool>,
    /// Routes.
    pub use_routes: Option<bool>,
    /// Domains.
    pub use_domains: Option<UseDomains>,
    /// The metric of routes that it gives.
    pub route_metric: Option<u32>,
    /// Whether the server learns a name.
    pub send_hostname: Option<bool>,
    /// The name that it learns instead of this host's.
    pub hostname: Option<Domain>,
    /// How this host names itself.
    pub identifier: Option<DhcpIdentifier>,
}

words! {
    /// What domains of a DHCP server are for.
    UseDomains { Yes = "true", No = "false", Route = "route" }
}

words! {
    /// How a host names itself to a DHCP server.
    DhcpIdentifier { Mac = "mac", Duid = "duid" }
}

/// A fixed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address, with the length of its network.
    pub net: Net,
    /// Its label (IPv4).
    pub label: Option<Label>,
    /// No new connection begins from it (a preferred lifetime of 0).
    pub deprecated: bool,
}

/// A route. Its gateway and source are of the family of its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; the host part is zero.
    pub to: Net,
    /// The next hop; `None`: the link itself.
    pub via: Option<IpAddr>,
    /// The address that packets get.
    pub source: Option<IpAddr>,
    /// Smaller goes first.
    pub metric: Option<u32>,
    /// The next hop is on the link even where no address says so.
    pub on_link: bool,
    /// Its table; `None`: main.
    pub table: Option<u32>,
    /// How far away the destination is.
    pub scope: Option<RouteScope>,
    /// What happens to packets.
    pub kind: RouteKind,
    /// The largest packet.
    pub mtu: Option<Mtu>,
}

impl Route {
    /// Makes a route of which only that much is known.
    #[must_use]
    pub const fn new(to: Net, via: Option<IpAddr>) -> Self {
        Self {
            to,
            via,
            source: None,
            metric: None,
            on_link: false,
            table: None,
            scope: None,
            kind: RouteKind::Unicast,
            mtu: None,
        }
    }
}

words! {
    /// How far away a destination is.
    RouteScope { Global = "global", Link = "link", Host = "host" }
}

words! {
    /// What happens to packets of a route.
    RouteKind {
        Unicast = "unicast",
        Blackhole = "blackhole",
        Unreachable = "unreachable",
        Prohibit = "prohibit",
        Throw = "throw",
    }
}

/// Which packets look in which table. `from` and `to` are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Packets from there.
    pub from: Option<Net>,
    /// Packets to there.
    pub to: Option<Net>,
    /// The table that they look in.
    pub table: u32,
    /// Smaller goes first.
    pub priority: Option<u32>,
    /// Packets with this mark.
    pub mark: Option<u32>,
    /// Packets of this type of service.
    pub type_of_service: Option<u8>,
}

/// Servers and domains for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers.
    pub servers: Vec<IpAddr>,
    /// Domains; with a leading `~` for the choice of servers only.
    pub search: Vec<Domain>,
}

impl Dns {
    /// Says whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty()
    }
}

/// A wireless network to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPoint {
    /// Its name.
    pub ssid: Ssid,
    /// It does not announce itself.
    pub hidden: bool,
    /// One station only.
    pub bssid: Option<MacAddress>,
    /// One band only.
    pub band: Option<Band>,
    /// How it is joined.
    pub security: Security,
}

words! {
    /// A band of radio.
    Band { Low = "2.4GHz", High = "5GHz" }
}

/// How a wireless network is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// By anybody.
    Open,
    /// WPA and WPA2 with a shared key.
    WpaPsk(Secret<WpaKey>),
    /// WPA3 with a password.
    Sae(Secret<String>),
}

/// The key of a WPA network (IEEE 802.11, annex J.4).
#[derive(Clone, PartialEq, Eq)]
pub enum WpaKey {
    /// 8 to 63 printable letters of ASCII.
    Passphrase(String),
    /// The key itself, 64 hexadecimal digits.
    Raw(String),
}

impl WpaKey {
    /// Checks a text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(Self::Raw(text.to_ascii_lowercase()));
        }
        let fits = (8..=63).contains(&text.len()) && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        fits.then(|| Self::Passphrase(text.to_owned()))
    }
}

impl Network {
    /// Finds an interface.
    #[must_use]
    pub fn interface(&self, id: &Id) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.id == *id)
    }

    /// Finds the bond or bridge that an interface is a member of.
    #[must_use]
    pub fn controller(&self, id: &Id) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.members().contains(&id))
    }
}

impl Interface {
    /// Returns the name of its device, where one is certain.
    #[must_use]
    pub fn device(&self) -> Option<DeviceName> {
        match &self.kind {
            Kind::Ethernet(hardware) | Kind::Wifi(hardware, _) => {
                hardware.set_name.clone().or_else(|| hardware.selector.literal_name())
            }
            Kind::Virtual(name, _) => Some(name.clone()),
            Kind::Loopback => DeviceName::new("lo").ok(),
        }
    }

    /// Returns the members of a bond and the ports of a bridge.
    #[must_use]
    pub fn members(&self) -> Vec<&Id> {
        match &self.kind {
            Kind::Virtual(_, Virtual::Bond { members, .. }) => members.iter().collect(),
            Kind::Virtual(_, Virtual::Bridge { ports, .. }) => ports.iter().map(|port| &port.id).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the interface that carries a VLAN.
    #[must_use]
    pub const fn carrier(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Virtual(_, Virtual::Vlan { link, .. }) => Some(link),
            _ => None,
        }
    }
}
