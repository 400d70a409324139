//! What names there are. Nobody speaks for another: a name that two members claim is answered for neither, while the names that
//! hold a member's own name go on.
//!
//! `NODE.domain` is a member, by the name of its machine or by its own (52 letters and digits, or the first ten). `RECORD.domain` is
//! a record that one member set, `RECORD.NODE.domain` the record of that member, whoever else set one. `SERVICE.service.domain` is all who
//! offer a service.

use ipnet::{Ipv4Net, Ipv6Net};
use kairn_mesh_protocol::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error as ThisError;

/// The domain unless another is chosen; `internal` is left to private networks for ever (ICANN, 2024).
pub const DOMAIN: &str = "mesh.internal";
/// The most addresses of a record.
pub const MOST_ADDRESSES: usize = 8;
/// The label that all services are below; no machine is called by it.
const SERVICES: &str = "service";
/// The longest label of a name (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;
/// The longest domain: a name in it has two labels more.
const LONGEST_DOMAIN: usize = 253 - 2 * (LONGEST_LABEL + 1);

/// A domain, in small letters and without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Domain(String);

/// A text that is no domain.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("`{0}` is no domain for the mesh: labels of letters, digits and hyphens with dots between, such as {DOMAIN}")]
pub struct DomainFault(String);

impl FromStr for Domain {
    type Err = DomainFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let domain = text.trim_end_matches('.').to_ascii_lowercase();
        let fits = domain.len() <= LONGEST_DOMAIN && domain.split('.').all(|label| check_label(label).is_some());
        if fits { Ok(Self(domain)) } else { Err(DomainFault(text.to_owned())) }
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self(DOMAIN.to_owned())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A label as hosts have it (RFC 1123, 2.1), in small letters.
pub fn check_label(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= LONGEST_LABEL
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then(|| text.to_ascii_lowercase())
}

/// The value of an entry of the DNS bucket, in postcard; its key is the label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// What the name stands for; at most [`MOST_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
}

impl NameRecord {
    /// Reads the value of an entry; nothing where it is no such record.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let record: Self = postcard::from_bytes(bytes).ok()?;
        (1..=MOST_ADDRESSES).contains(&record.addresses.len()).then_some(record)
    }
}

/// A member as the zone sees it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// The name of its machine.
    pub name: String,
    /// Its addresses in the mesh.
    pub addresses: Vec<IpAddr>,
    /// Whether it is neither dead nor gone: of several that have one name, those that are not there do not count.
    pub is_here: bool,
}

/// A record that a member set.
#[derive(Clone, Debug)]
pub struct Custom {
    /// Its label.
    pub label: String,
    /// Who set it.
    pub author: NodeId,
    /// What it stands for.
    pub addresses: Vec<IpAddr>,
}

/// A service that a member offers.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Its name.
    pub service: String,
    /// Who offers it.
    pub node: NodeId,
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A member's machine.
    Member,
    /// A record that a member set.
    Record,
    /// A service that a member offers.
    Service,
}

/// A name, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// The whole name.
    pub name: String,
    /// What it is of.
    pub kind: Kind,
    /// The member: 52 letters and digits.
    pub node: String,
    /// What it stands for.
    pub addresses: Vec<IpAddr>,
    /// Another member claims it too, so it is not answered; the name that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<String>,
}

/// All names.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    domain: Domain,
    names: BTreeMap<String, Vec<IpAddr>>,
    reverse: BTreeMap<IpAddr, String>,
    rows: Vec<NameRow>,
    ula: Option<Ipv6Net>,
    range: Option<Ipv4Net>,
}

impl Zone {
    /// The zone of these members and records; `ula` and `range` are what its members' addresses are of.
    pub fn new(
        domain: Domain,
        (ula, range): (Option<Ipv6Net>, Option<Ipv4Net>),
        members: &[Member],
        records: &[Custom],
    ) -> Self {
        let mut zone = Self { domain, ula, range, ..Self::default() };
        let labels = zone.add_members(members);
        zone.add_records(records, &labels);
        zone
    }

    /// Adds the members; says which labels stand for which of them.
    fn add_members(&mut self, members: &[Member]) -> BTreeMap<NodeId, Vec<String>> {
        let mut labels: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        let mut by_machine: BTreeMap<String, Vec<&Member>> = BTreeMap::new();
        let mut by_short: BTreeMap<String, Vec<&Member>> = BTreeMap::new();
        for member in members {
            labels.entry(member.id).or_default().push(member.id.to_string());
            by_short.entry(member.id.short()).or_default().push(member);
            // A machine may be called by its whole name; two labels of a stranger's choice could be another's.
            match member.name.split('.').next().and_then(check_label) {
                Some(label) => by_machine.entry(label).or_default().push(member),
                None => self.row(&member.id.short(), Kind::Member, member.id, &member.addresses, None),
            }
        }
        for (label, candidates) in by_short {
            if let [member] = candidates.as_slice() {
                labels.entry(member.id).or_default().push(label);
            }
        }
        for (label, candidates) in by_machine {
            // Nobody is called by what is another's own name.
            let is_taken = label == SERVICES
                || members.iter().any(|member| member.id.to_string() == label || member.id.short() == label);
            let here: Vec<&Member> = candidates.iter().copied().filter(|member| member.is_here).collect();
            let chosen = if here.is_empty() { candidates } else { here };
            let is_single = chosen.len() == 1 && !is_taken;
            for member in &chosen {
                if is_single {
                    labels.entry(member.id).or_default().insert(0, label.clone());
                    let whole = self.whole(&label);
                    self.reverse.extend(member.addresses.iter().map(|ip| (*ip, whole.clone())));
                }
                let contested = (!is_single).then(|| self.whole(&member.id.short()));
                self.row(&label, Kind::Member, member.id, &member.addresses, contested);
            }
        }
        for member in members {
            for label in labels.get(&member.id).into_iter().flatten() {
                self.names.insert(label.clone(), member.addresses.clone());
            }
            for ip in &member.addresses {
                let whole = self.whole(&member.id.to_string());
                self.reverse.entry(*ip).or_insert(whole);
            }
        }
        labels
    }

    fn add_records(&mut self, records: &[Custom], labels: &BTreeMap<NodeId, Vec<String>>) {
        let mut by_label: BTreeMap<&str, Vec<&Custom>> = BTreeMap::new();
        for record in records.iter().filter(|record| check_label(&record.label).as_deref() == Some(&record.label)) {
            for node in labels.get(&record.author).into_iter().flatten() {
                self.names.insert(format!("{}.{node}", record.label), record.addresses.clone());
            }
            by_label.entry(&record.label).or_default().push(record);
        }
        for (label, records) in by_label {
            // What a member is called stays its own, be it contested among members.
            let is_member = self.names.contains_key(label)
                || self.rows.iter().any(|row| row.kind == Kind::Member && row.name == self.whole(label));
            let is_single = records.len() == 1 && !is_member;
            for record in records {
                let node = labels.get(&record.author).and_then(|labels| labels.first().cloned()).unwrap_or_default();
                let contested = (!is_single).then(|| self.whole(&format!("{label}.{node}")));
                self.row(label, Kind::Record, record.author, &record.addresses, contested);
                if is_single {
                    self.names.insert(label.to_owned(), record.addresses.clone());
                }
            }
        }
    }

    /// The zone with the services of members that are here, as far as their names can be labels; what many offer has the addresses of
    /// some.
    #[must_use]
    pub fn with_services(mut self, offered: &[Offered]) -> Self {
        for Offered { service, node } in offered {
            let (Some(label), Some(addresses)) = (check_label(service), self.names.get(&node.to_string()).cloned())
            else {
                continue;
            };
            let name = format!("{label}.{SERVICES}");
            self.row(&name, Kind::Service, *node, &addresses, None);
            let all = self.names.entry(name).or_default();
            all.extend(addresses);
            all.truncate(MOST_ADDRESSES);
        }
        self
    }

    fn row(&mut self, label: &str, kind: Kind, node: NodeId, addresses: &[IpAddr], contested: Option<String>) {
        let (name, node) = (self.whole(label), node.to_string());
        self.rows.push(NameRow { name, kind, node, addresses: addresses.to_vec(), contested });
    }

    fn whole(&self, name: &str) -> String {
        format!("{name}.{}", self.domain)
    }

    /// Its domain.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The names for people, one for each member and record.
    pub fn rows(&self) -> &[NameRow] {
        &self.rows
    }

    /// What a name of the domain stands for, given what stands before the domain, in small letters.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// What stands before the domain in a whole name; empty for the domain itself, nothing for a name of another.
    pub fn within<'a>(&self, whole: &'a str) -> Option<&'a str> {
        let before = whole.strip_suffix(self.domain.0.as_str())?;
        if before.is_empty() { Some(before) } else { before.strip_suffix('.') }
    }

    /// The name of an address of the mesh: nothing where it is nobody's.
    pub fn name_of(&self, address: &IpAddr) -> Option<&str> {
        self.reverse.get(address).map(String::as_str)
    }

    /// Whether an address is one of the mesh's.
    pub fn is_inside(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.range.is_some_and(|range| range.contains(v4)),
            IpAddr::V6(v6) => self.ula.is_some_and(|ula| ula.contains(v6)),
        }
    }

    /// The domains that answers are given for: its own, and those of its addresses (RFC 1035, 3.5; RFC 3596, 2.5) as far as
    /// they end at a label.
    pub fn domains(&self) -> Vec<String> {
        let mut domains = vec![self.domain.to_string()];
        if let Some(range) = self.range.filter(|range| range.prefix_len() % 8 == 0) {
            let octets = range.network().octets();
            let labels = octets.iter().take(usize::from(range.prefix_len() / 8)).rev().map(u8::to_string);
            domains.push(format!("{}.in-addr.arpa", labels.collect::<Vec<_>>().join(".")));
        }
        if let Some(ula) = self.ula {
            let digits: Vec<String> = format!("{:032x}", ula.network().to_bits()).chars().map(String::from).collect();
            let labels = digits.iter().take(usize::from(ula.prefix_len() / 4)).rev().cloned();
            domains.push(format!("{}.ip6.arpa", labels.collect::<Vec<_>>().join(".")));
        }
        domains
    }
}

/// The addresses in the order in which they are answered, for tests and lists.
pub fn addresses(ipv4: Option<Ipv4Addr>, ula: Ipv6Addr) -> Vec<IpAddr> {
    ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(ula)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(seed: u8, name: &str, is_here: bool) -> Member {
        let addresses =
            addresses(Some(Ipv4Addr::new(10, 1, 0, seed)), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, seed.into()));
        Member { id: NodeId::new([seed; 32]), name: name.to_owned(), addresses, is_here }
    }

    fn record(seed: u8, label: &str, last: u8) -> Custom {
        let addresses = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))];
        Custom { label: label.to_owned(), author: NodeId::new([seed; 32]), addresses }
    }

    fn zone(members: &[Member], records: &[Custom]) -> Zone {
        let nets = (Some("fd00::/48".parse().unwrap()), Some("10.1.0.0/24".parse().unwrap()));
        Zone::new(Domain::default(), nets, members, records)
    }

    fn is(zone: &Zone, name: &str, last: u8) -> bool {
        let addresses = zone.addresses(name).unwrap_or_default();
        addresses.iter().any(|ip| matches!(ip, IpAddr::V4(v4) if v4.octets()[3] == last))
    }

    #[test]
    fn members_go_by_their_machines_and_their_own_names_and_addresses_lead_back() {
        let one = member(1, "Edge-1.example.org", true);
        let zone = zone(&[one.clone(), member(2, "edge_2", true)], &[]);
        for name in ["edge-1", &one.id.to_string(), &one.id.short()] {
            assert!(is(&zone, name, 1), "{name}");
        }
        assert_eq!(zone.name_of(&"10.1.0.1".parse().unwrap()), Some("edge-1.mesh.internal"));
        // One whose machine has no name for DNS goes by its own.
        let own = format!("{}.mesh.internal", NodeId::new([2; 32]));
        assert_eq!(zone.name_of(&"fd00::2".parse().unwrap()), Some(own.as_str()));
        assert_eq!(zone.name_of(&"10.1.0.3".parse().unwrap()), None);
        assert!(zone.is_inside(&"10.1.0.200".parse().unwrap()) && !zone.is_inside(&"192.0.2.1".parse().unwrap()));
        assert_eq!(zone.domains()[..2], ["mesh.internal", "0.1.10.in-addr.arpa"]);
        assert_eq!(zone.domains()[2], "0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa");
    }

    #[test]
    fn a_name_that_two_claim_is_answered_for_neither_and_the_dead_claim_nothing() {
        let twins = [member(1, "edge", true), member(2, "edge", true)];
        let contested = zone(&twins, &[]);
        assert_eq!(contested.addresses("edge"), None);
        assert!(is(&contested, &twins[1].id.short(), 2));
        assert!(contested.rows().iter().all(|row| row.contested.is_some()));
        let again = zone(&[member(1, "edge", false), member(2, "edge", true)], &[]);
        assert!(is(&again, "edge", 2) && again.rows().len() == 1);
        // And nobody takes the very name of another.
        let thief = member(3, &twins[0].id.to_string(), true);
        let zone = zone(&[twins[0].clone(), thief], &[]);
        assert!(is(&zone, &twins[0].id.to_string(), 1));
    }

    #[test]
    fn records_never_take_a_members_name_and_belong_to_who_set_them() {
        let members = [member(1, "one", true), member(2, "two", true)];
        let records = [
            record(1, "www", 10),
            record(1, "db", 11),
            record(2, "db", 12),
            record(2, "one", 13),
            record(2, "Bad_", 14),
        ];
        let zone = zone(&members, &records);
        assert!(is(&zone, "www", 10) && is(&zone, "www.one", 10));
        assert_eq!(zone.addresses("db"), None);
        assert!(is(&zone, "db.one", 11) && is(&zone, "db.two", 12));
        assert!(is(&zone, "one", 1) && is(&zone, "one.two", 13));
        assert_eq!(zone.rows().iter().filter(|row| row.contested.is_some()).count(), 3);
        assert!(zone.addresses("Bad_").is_none());
    }

    #[test]
    fn a_service_stands_for_all_who_offer_it_and_nobody_is_called_as_services_are() {
        let members = [member(1, "one", true), member(2, "service", true)];
        let offered = [("web", 1), ("WEB", 2), ("no_label", 1), ("gone", 9)]
            .map(|(service, seed)| Offered { service: service.to_owned(), node: NodeId::new([seed; 32]) });
        let zone = zone(&members, &[record(2, "web", 13)]).with_services(&offered);
        assert!(is(&zone, "web.service", 1) && is(&zone, "web.service", 2) && !is(&zone, "web.service", 13));
        assert!(is(&zone, &members[1].id.short(), 2) && zone.addresses("service").is_none());
        assert!(zone.addresses("no_label.service").is_none() && zone.addresses("gone.service").is_none());
        assert_eq!(zone.rows().iter().filter(|row| row.kind == Kind::Service).count(), 2);
        let many: Vec<Offered> = (0..9).flat_map(|_| offered[..2].to_vec()).collect();
        assert_eq!(zone.with_services(&many).addresses("web.service").unwrap().len(), MOST_ADDRESSES);
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in ["", "a..b", "-a", "a_b", "ü", &"a.".repeat(100)] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
        assert_eq!("Mesh.Example.".parse::<Domain>().unwrap().to_string(), "mesh.example");
        let zone = zone(&[], &[]);
        for (whole, wanted) in
            [("a.mesh.internal", Some("a")), ("mesh.internal", Some("")), ("amesh.internal", None), ("internal", None)]
        {
            assert_eq!(zone.within(whole), wanted, "{whole}");
        }
    }
}
