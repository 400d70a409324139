//! Reads the values of one mapping by its table. Every fault becomes a diagnostic at its place, and `None`.

use super::address::{MacAddress, Net};
use super::keys::{Key, Standing, Table, ValueKind};
use super::name::{DeviceName, Domain, Id, Pattern};
use super::word::Word;
use crate::reading::Reader;
use crate::suggest::nearest;
use crate::{Code, Diagnostic, Entry, Node, Severity};
use kairn_report::Place;
use std::net::IpAddr;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub value: T,
    pub place: Place,
}

/// The entries of one mapping whose keys its table knows.
pub(super) struct Fields<'n> {
    /// Where the mapping begins.
    pub place: Place,
    /// A key of it is unknown or doubled.
    pub faulty: bool,
    table: &'static Table,
    found: Vec<(&'static Key, &'n Entry)>,
}

/// Opens a mapping; null is an empty one. Says what is unknown, doubled or without effect.
pub(super) fn open<'n>(reader: &mut Reader<'_>, node: &'n Node, table: &'static Table) -> Option<Fields<'n>> {
    let Some(entries) = node.entries().or_else(|| node.is_null().then_some(&[])) else {
        reader.error(Code::WrongType, node.place, format!("{} is a mapping, not {}", table.what, node.kind()));
        return None;
    };
    let mut found: Vec<(&'static Key, &'n Entry)> = Vec::new();
    let mut faulty = false;
    for entry in entries {
        let Some(key) = table.find(&entry.key) else {
            unknown(reader, entry, table);
            faulty = true;
            continue;
        };
        if let Some((_, first)) = found.iter().find(|(known, _)| std::ptr::eq(*known, key)) {
            let message = format!("`{}` and `{}` are the same key", first.key, entry.key);
            let said = Diagnostic::new(Severity::Error, Code::DuplicateKey, reader.span(entry.key_place), message);
            let said = said.related(reader.span(first.key_place), "the first, which counts, is here");
            reader.diagnostics.push(said);
            faulty = true;
            continue;
        }
        match key.standing {
            Standing::Done => {}
            Standing::Ignored(why) => {
                let message = format!("`{}` has no effect: {why}", entry.key);
                reader.say(Severity::Note, Code::NotSupported, entry.key_place, message);
            }
            Standing::NotYet => {
                let message = format!("`{}` in {} is not supported yet", entry.key, table.what);
                reader.say(Severity::Warning, Code::NotSupported, entry.key_place, message);
            }
        }
        found.push((key, entry));
    }
    Some(Fields { place: node.place, faulty, table, found })
}

fn unknown(reader: &mut Reader<'_>, entry: &Entry, table: &Table) {
    let message = format!("{} has no key `{}`", table.what, entry.key);
    reader.error(Code::UnknownKey, entry.key_place, message);
    let names = table.keys().map(|key| key.name).chain(table.aliases.iter().map(|(alias, _)| *alias));
    match nearest(&entry.key, names) {
        Some(near) => reader.hint(format!("`{near}` meant?")),
        None => {
            let names: Vec<&str> =
                table.keys().filter(|key| key.standing == Standing::Done).map(|key| key.name).collect();
            reader.hint(format!("its keys are {}", names.join(", ")));
        }
    }
}

impl<'n> Fields<'n> {
    fn find(&self, name: &str) -> Option<(&'static Key, &'n Entry)> {
        debug_assert!(self.table.keys().any(|key| key.name == name), "{} lacks {name}", self.table.what);
        self.found.iter().find(|(key, entry)| key.name == name && !entry.value.is_null()).copied()
    }

    /// Finds the entry of a key whose value is not null.
    pub fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.find(name).map(|(_, entry)| entry)
    }

    /// Says whether a key has a value.
    pub fn has(&self, name: &str) -> bool {
        self.found.iter().any(|(key, entry)| key.name == name && !entry.value.is_null())
    }

    /// Says whether a key is written with nothing after it.
    pub fn is_blank(&self, name: &str) -> bool {
        self.found.iter().any(|(key, entry)| key.name == name && entry.value.is_null())
    }

    /// Finds a value.
    pub fn node(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// Opens the mapping below a key.
    pub fn block(&self, reader: &mut Reader<'_>, name: &str) -> Option<Fields<'n>> {
        let (key, entry) = self.find(name)?;
        match key.value {
            ValueKind::Block(table) => open(reader, &entry.value, table),
            _ => None,
        }
    }

    /// Returns the entries of the mapping from free names below a key.
    pub fn named(&self, reader: &mut Reader<'_>, name: &str) -> &'n [Entry] {
        self.entry(name).map_or(&[], |entry| reader.map(&entry.value, &format!("`{}`", entry.key)))
    }

    /// Returns the items below a key; one alone counts where the table says so.
    pub fn items(&self, reader: &mut Reader<'_>, name: &str) -> &'n [Node] {
        match self.find(name) {
            None => &[],
            Some((key, entry)) if matches!(key.value, ValueKind::OneOrMore(_)) && entry.value.items().is_none() => {
                std::slice::from_ref(&entry.value)
            }
            Some((_, entry)) => reader.list(&entry.value, &format!("`{}`", entry.key)),
        }
    }

    /// Reads each item below a key; one that cannot be read is left out alone.
    pub fn each<T>(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        mut read: impl FnMut(&mut Reader<'_>, &'n Node, &str) -> Option<T>,
    ) -> Vec<Placed<T>> {
        let what = format!("an item of `{name}`");
        let items = self.items(reader, name);
        items
            .iter()
            .filter_map(|item| {
                let value = read(reader, item, &what)?;
                Some(Placed { value, place: item.place })
            })
            .collect()
    }

    /// Reads one value.
    pub fn one<T>(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        read: impl FnOnce(&mut Reader<'_>, &'n Node, &str) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entry(name)?;
        read(reader, &entry.value, &format!("`{}`", entry.key))
    }

    /// Reads a bool.
    pub fn bool(&self, reader: &mut Reader<'_>, name: &str) -> Option<bool> {
        self.one(reader, name, |reader, node, what| reader.bool(node, what))
    }

    /// Reads a whole number within the bounds of the table.
    pub fn whole<T: TryFrom<i64>>(&self, reader: &mut Reader<'_>, name: &str) -> Option<T> {
        let (key, _) = self.find(name)?;
        let ValueKind::Whole(min, max) = key.value else { return None };
        self.one(reader, name, |reader, node, what| whole(reader, node, what, min, max))
    }

    /// Reads a time in milliseconds.
    pub fn millis(&self, reader: &mut Reader<'_>, name: &str) -> Option<u32> {
        self.one(reader, name, |reader, node, what| {
            let text = reader.text(node, what)?;
            let (digits, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                (Some(digits), _) => (digits, 1),
                (None, Some(digits)) => (digits, 1000),
                (None, None) => (text.as_str(), 1),
            };
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            // The kernel keeps these times in an `int`.
            let value = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(factor)).filter(|&n| n <= 0x7fff_ffff);
            let value = value.filter(|_| plain);
            if value.is_none() {
                let message = format!("{what} is a time in milliseconds, such as `100` or `100ms`, not `{text}`");
                reader.error(Code::BadValue, node.place, message);
            }
            value
        })
    }

    /// Reads a word of an enum.
    pub fn word<T: Word>(&self, reader: &mut Reader<'_>, name: &str) -> Option<T> {
        self.one(reader, name, |reader, node, what| T::from_word(word(reader, node, what, T::WORDS)?))
    }

    /// Reads one of the words that the table lists.
    pub fn choice(&self, reader: &mut Reader<'_>, name: &str) -> Option<&'static str> {
        let (key, _) = self.find(name)?;
        let ValueKind::Word(words) = key.value else { return None };
        self.one(reader, name, |reader, node, what| word(reader, node, what, words))
    }
}

/// Reads one of some words; capitals do not matter.
pub(super) fn word(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    words: &'static [&'static str],
) -> Option<&'static str> {
    let text = reader.text(node, what)?;
    if let Some(found) = words.iter().find(|word| word.eq_ignore_ascii_case(&text)) {
        return Some(found);
    }
    reader.error(Code::BadValue, node.place, format!("{what} is one of {}, not `{text}`", words.join(", ")));
    if let Some(near) = nearest(&text, words.iter().copied()) {
        reader.hint(format!("`{near}` meant?"));
    }
    None
}

/// Reads a whole number within bounds.
pub(super) fn whole<T: TryFrom<i64>>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    min: u32,
    max: u32,
) -> Option<T> {
    let text = reader.text(node, what)?;
    let value = node.scalar().and_then(crate::Scalar::as_int);
    let value = value.filter(|value| (i64::from(min)..=i64::from(max)).contains(value));
    let value = value.and_then(|value| T::try_from(value).ok());
    if value.is_none() {
        reader.error(Code::BadValue, node.place, format!("{what} is a whole number from {min} to {max}, not `{text}`"));
    }
    value
}

/// Reads a text by a function that says what is wrong with it.
fn checked<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    check: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Option<T> {
    let text = reader.text(node, what)?;
    match check(&text) {
        Ok(value) => Some(value),
        Err(fault) => {
            reader.error(Code::BadValue, node.place, format!("{what} cannot be `{text}`: {fault}"));
            None
        }
    }
}

/// Reads the name of an interface.
pub(super) fn id(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Id> {
    checked(reader, node, what, Id::new)
}

/// Reads the name of a device.
pub(super) fn device(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<DeviceName> {
    checked(reader, node, what, DeviceName::new)
}

/// Reads a pattern.
pub(super) fn pattern(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Pattern> {
    checked(reader, node, what, Pattern::new)
}

/// Reads a domain.
pub(super) fn domain(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Domain> {
    checked(reader, node, what, Domain::new)
}

/// Reads an address of a host.
pub(super) fn ip(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<IpAddr> {
    let text = reader.text(node, what)?;
    let address = text.parse().ok();
    if address.is_none() {
        let message = format!("{what} is an address such as 192.0.2.1 or 2001:db8::1, not `{text}`");
        reader.error(Code::BadValue, node.place, message);
        if Net::parse(&text).is_some() {
            reader.hint("leave out `/` and what follows");
        }
    }
    address
}

/// Reads an address with the length of its network.
pub(super) fn net(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Net> {
    let text = reader.text(node, what)?;
    net_of(reader, &text, node.place, what)
}

/// Reads an address with the length of its network from a text that stands at a place.
pub(super) fn net_of(reader: &mut Reader<'_>, text: &str, place: Place, what: &str) -> Option<Net> {
    let net = Net::parse(text);
    if net.is_none() {
        let message = format!("{what} is an address with a length such as 192.0.2.1/24, not `{text}`");
        reader.error(Code::BadValue, place, message);
        if let Ok(address) = text.parse::<IpAddr>() {
            let length = if address.is_ipv4() { 24 } else { 64 };
            reader.hint(format!("say how long the network's part is, as in `{address}/{length}`"));
        }
    }
    net
}

/// Reads the address of a link.
pub(super) fn mac(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<MacAddress> {
    let text = reader.text(node, what)?;
    let address = MacAddress::parse(&text);
    if address.is_none() {
        let message = format!("{what} is an address of a link such as 52:54:00:12:34:56, not `{text}`");
        reader.error(Code::BadValue, node.place, message);
        // YAML 1.1 would read digits with colons as one number of base 60; here the text is kept.
    }
    address
}

/// Reads the address that a device gets.
pub(super) fn own_mac(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<MacAddress> {
    let address = mac(reader, node, what)?;
    if !address.is_unicast() {
        let message = format!("{what} cannot be {address}: that address belongs to no single device");
        reader.error(Code::BadValue, node.place, message);
        return None;
    }
    Some(address)
}
