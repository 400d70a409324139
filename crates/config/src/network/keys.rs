//! The shape of the tables of keys. The reader looks every key, word and range up here, and a schema can be made of the same
//! tables, so the two cannot part.

pub(super) mod own;
pub(super) mod shared;
pub(super) mod v1;
pub(super) mod v2;

pub use own::OWN;
pub use v1::V1;
pub use v2::V2;

use crate::keys::same;

/// The keys of one mapping.
#[derive(Debug)]
pub struct Table {
    /// What a message calls the mapping, e.g. "a route".
    pub what: &'static str,
    /// Its keys, in groups that other tables may share.
    pub groups: &'static [&'static [Key]],
    /// Other spellings, and what they mean.
    pub aliases: &'static [(&'static str, &'static str)],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub value: ValueKind,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether it does anything.
    pub standing: Standing,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both included.
    Whole(u32, u32),
    /// Text of any form.
    Text,
    /// Text that never reaches a log.
    Secret,
    /// The name of an interface.
    Id,
    /// The name of a device.
    Device,
    /// A pattern for names.
    Pattern,
    /// The name of a host or domain.
    Domain,
    /// An address of IPv4 or IPv6.
    Ip,
    /// An address with the length of its network.
    Net,
    /// The address of a link.
    Mac,
    /// A time: a number of milliseconds, or one with `ms` or `s` after it.
    Millis,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Self),
    /// A list, or one of its items alone.
    OneOrMore(&'static Self),
    /// Either of these.
    Either(&'static [Self]),
    /// A mapping with known keys.
    Block(&'static Table),
    /// A mapping from free names.
    Named(&'static Self),
    /// A mapping whose keys depend on the word that stands below the key.
    Tagged(&'static str, &'static [(&'static str, &'static Table)]),
    /// Anything.
    Any,
}

/// Whether a key does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Done,
    /// It is accepted and does nothing, for this reason.
    Ignored(&'static str),
    /// Not yet.
    NotYet,
}

const fn key(name: &'static str, value: ValueKind, about: &'static str) -> Key {
    Key { name, value, about, standing: Standing::Done }
}

const fn ignored(name: &'static str, about: &'static str, why: &'static str) -> Key {
    Key { name, value: ValueKind::Any, about, standing: Standing::Ignored(why) }
}

const fn not_yet(name: &'static str, about: &'static str) -> Key {
    Key { name, value: ValueKind::Any, about, standing: Standing::NotYet }
}

const fn table(what: &'static str, groups: &'static [&'static [Key]]) -> Table {
    Table { what, groups, aliases: &[] }
}

impl Table {
    /// Lists the keys.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().copied().flatten()
    }

    /// Looks a key up as it is written; `-` and `_` may stand for each other.
    #[must_use]
    pub fn find(&self, written: &str) -> Option<&'static Key> {
        let meant = self.aliases.iter().find(|(alias, _)| same(alias, written)).map_or(written, |(_, name)| name);
        self.keys().find(|key| same(key.name, meant))
    }
}
