//! A network interface by its name and index: made, found, addressed, removed.

use crate::error::Error;
use crate::netlink::Netlink;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// `IFNAMSIZ` less its terminating zero (linux/if.h).
const NAME_LENGTH: usize = 15;
/// How many names are tried in turn.
const NAMES: usize = 64;

/// The errors of the kernel that are told apart here (asm-generic/errno.h).
const EPERM: i32 = 1;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EOPNOTSUPP: i32 = 95;
const EADDRNOTAVAIL: i32 = 99;

/// Checks that an interface can bear a name: what `dev_valid_name` of the kernel says, and no pattern (`%d`).
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let wrong = |why| Err(Error::Name { name: name.to_owned(), why });
    let foreign = |char: char| !(char.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&char));
    match name {
        "" => wrong("it is empty"),
        "." | ".." => wrong("it is a directory in /sys"),
        _ if name.len() > NAME_LENGTH => wrong("it has more than 15 characters"),
        _ if name.contains(foreign) => wrong("it holds a character that is no letter, digit, `-`, `_` or `.`"),
        _ => Ok(()),
    }
}

/// A name and those that follow it, each by counting its last number on: `edgevpn0`, `edgevpn1`. Only those that fit.
pub(crate) fn names(first: &str) -> impl Iterator<Item = String> {
    let stem = first.trim_end_matches(|char: char| char.is_ascii_digit());
    let number: Option<u64> = first.get(stem.len()..).and_then(|digits| digits.parse().ok());
    let (stem, from) = match number {
        Some(number) => (stem.to_owned(), number.saturating_add(1)),
        // Without a number, or with one out of all measure: the name itself is the stem.
        None => (first.to_owned(), 1),
    };
    let following = (from..).map(move |number| format!("{stem}{number}"));
    let following = following.take(NAMES - 1).take_while(|name| name.len() <= NAME_LENGTH);
    std::iter::once(first.to_owned()).chain(following)
}

/// The links and addresses of a network namespace.
pub(crate) struct Links {
    netlink: Netlink,
}

impl Links {
    /// Opens those of the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE);
        netlink.map(|netlink| Self { netlink }).map_err(Error::system("open", "rtnetlink"))
    }

    /// The index of the link with a name, if there is one.
    pub fn find(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let found = match self.netlink.ask(RouteNetlinkMessage::GetLink(wanted), 0) {
            Err(error) if error.raw_os_error() == Some(ENODEV) => return Ok(None),
            other => other.map_err(Error::system("find the interface", name))?,
        };
        Ok(found.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
            _ => None,
        }))
    }

    /// Makes a link of the kernel's WireGuard; `false` where the name is taken.
    pub fn create_wireguard(&self, name: &str) -> Result<bool, Error> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
        match self.netlink.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(false),
            Err(error) if error.raw_os_error() == Some(EPERM) => Err(Error::NotPermitted { name: name.into() }),
            // "Unknown device type": no such module, or none that can be loaded.
            Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => Err(Error::NoKernelWireguard),
            Err(error) => Err(Error::system("make the interface", name)(error)),
        }
    }

    /// Puts a link up or takes it down.
    pub fn set_up(&self, link: &Link, up: bool) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        let action = if up { "put up" } else { "take down" };
        self.tell(RouteNetlinkMessage::SetLink(message), 0, action, &link.name)
    }

    /// Sets the largest packet that a link carries.
    pub fn set_mtu(&self, link: &Link, mtu: u16) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes.push(LinkAttribute::Mtu(mtu.into()));
        self.tell(RouteNetlinkMessage::SetLink(message), 0, "set the MTU of", &link.name)
    }

    /// Sets the largest packet that the kernel hands over to be cut.
    pub fn set_gso_max_size(&self, link: &Link, bytes: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes.push(LinkAttribute::GsoMaxSize(bytes));
        self.tell(RouteNetlinkMessage::SetLink(message), 0, "set the segmentation of", &link.name)
    }

    /// Removes a link; one that is gone already is no error.
    pub fn remove(&self, link: &Link) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        match self.netlink.ask(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.raw_os_error() != Some(ENODEV) => {
                Err(Error::system("remove the interface", &link.name)(error))
            }
            _ => Ok(()),
        }
    }

    /// All addresses of the namespace, each with the index of its link.
    pub fn addresses(&self) -> Result<Vec<(u32, IpNet)>, Error> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = self.netlink.ask(all, NLM_F_DUMP).map_err(Error::system("list", "addresses"))?;
        let read = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => {
                let net = IpNet::new(local(&message)?, message.header.prefix_len).ok()?;
                Some((message.header.index, net))
            }
            _ => None,
        });
        Ok(read.collect())
    }

    /// Refuses an address that another link has.
    pub fn check_free(&self, wanted: &[IpNet], own: Option<u32>) -> Result<(), Error> {
        let taken = self
            .addresses()?
            .into_iter()
            .find(|(index, known)| Some(*index) != own && wanted.iter().any(|address| address.addr() == known.addr()));
        match taken {
            None => Ok(()),
            Some((index, known)) => {
                Err(Error::AddressTaken { address: known.addr(), interface: self.name_of(index).unwrap_or_default() })
            }
        }
    }

    fn name_of(&self, index: u32) -> Result<String, Error> {
        let mut wanted = LinkMessage::default();
        wanted.header.index = index;
        let found = self.netlink.ask(RouteNetlinkMessage::GetLink(wanted), 0);
        let found = found.map_err(Error::system("find the interface", index.to_string()))?;
        let attributes = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link.attributes),
            _ => None,
        });
        let name = attributes.flatten().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        Ok(name.unwrap_or_else(|| index.to_string()))
    }

    /// Gives a link exactly these addresses; link-local ones of the kernel's stay. All are tried, and all errors told.
    pub fn set_addresses(&self, link: &Link, wanted: &[IpNet]) -> Result<(), Error> {
        self.check_free(wanted, Some(link.index))?;
        let present = self.addresses()?;
        let present = present.into_iter().filter(|(index, _)| *index == link.index).map(|(_, net)| net);
        let gone: Vec<_> = present.filter(|net| !wanted.contains(net) && !is_link_local(net)).collect();
        let mut errors = Vec::new();
        for address in gone {
            let request = RouteNetlinkMessage::DelAddress(message(link.index, address));
            match self.netlink.ask(request, 0) {
                // An IPv4 address goes with the last one of its subnet that was first.
                Err(error) if error.raw_os_error() != Some(EADDRNOTAVAIL) => {
                    errors.push(Error::Address { action: "remove", address, name: link.name.clone(), source: error });
                }
                _ => {}
            }
        }
        for address in wanted {
            let request = RouteNetlinkMessage::NewAddress(message(link.index, *address));
            if let Err(source) = self.netlink.ask(request, NLM_F_CREATE | NLM_F_REPLACE) {
                errors.push(Error::Address { action: "set", address: *address, name: link.name.clone(), source });
            }
        }
        Error::all(errors)
    }

    fn tell(&self, message: RouteNetlinkMessage, flags: u16, action: &'static str, name: &str) -> Result<(), Error> {
        match self.netlink.ask(message, flags) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(EPERM) => Err(Error::NotPermitted { name: name.into() }),
            Err(error) => Err(Error::system(action, name)(error)),
        }
    }
}

/// A link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Its name.
    pub name: String,
    /// Its number in its namespace.
    pub index: u32,
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

fn local(message: &AddressMessage) -> Option<IpAddr> {
    // IFA_LOCAL is the address where both are there, IFA_ADDRESS the peer's (linux/if_addr.h).
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.family = if address.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    // Nobody else can have it on this link, and an address under test could not be bound for a second.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_are_refused_with_the_rule() {
        for name in ["edgevpn0", "wg-mesh.1", "a", "abcdefghijklmno"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for (name, why) in [
            ("", "empty"),
            (".", "/sys"),
            ("abcdefghijklmnop", "15"),
            ("a b", "no letter"),
            ("a/b", "no letter"),
            ("edge%d", "no letter"),
            ("ä", "no letter"),
        ] {
            assert!(check_name(name).unwrap_err().to_string().contains(why), "{name}");
        }
    }

    #[test]
    fn the_next_name_counts_on_and_stays_short_enough() {
        let first = |name: &str| names(name).take(3).collect::<Vec<_>>();
        assert_eq!(first("edgevpn0"), ["edgevpn0", "edgevpn1", "edgevpn2"]);
        assert_eq!(first("edgevpn9"), ["edgevpn9", "edgevpn10", "edgevpn11"]);
        assert_eq!(first("mesh"), ["mesh", "mesh1", "mesh2"]);
        assert_eq!(names("abcdefghijklmno").count(), 1);
        assert_eq!(names("abcdefghijklmn8").collect::<Vec<_>>(), ["abcdefghijklmn8", "abcdefghijklmn9"]);
        assert_eq!(names("edgevpn0").count(), NAMES);
        assert_eq!(names("99999999999999999999999").count(), 1);
    }
}
