//! The shape of the key table ([`crate::key_table`]) and how a key is looked up in it.

/// Whether a known key does something yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Done.
    Done,
    /// Kairos knows it, Kairn does not do it yet.
    NotYet,
}

/// What lies below a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Values that the typed readers judge, or somebody else's.
    Free,
    /// A mapping with known keys.
    Block(&'static Block),
    /// A list of such mappings.
    List(&'static Block),
    /// A mapping from free names to such mappings.
    Named(&'static Block),
    /// A mapping from stage names to lists of such mappings.
    Stages(&'static Block),
}

/// One known key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether it is done.
    pub standing: Standing,
    /// What lies below.
    pub shape: Shape,
}

/// The keys of one mapping.
#[derive(Debug)]
pub(crate) struct Block {
    /// What a message calls the mapping, e.g. "a step".
    pub what: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Other spellings that people write, and what they mean.
    pub aliases: &'static [(&'static str, &'static str)],
    /// A key may be a dotted path into the block (`partitions.oem.size`).
    pub dotted: bool,
}

/// How a key was found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// As spelled.
    Exact(&'static Key),
    /// In another spelling.
    Respelled(&'static Key),
    /// Not at all.
    Unknown,
}

impl Block {
    /// Looks a key up; `-` and `_` may stand for each other.
    pub(crate) fn find(&self, name: &str) -> Found {
        if let Some(key) = self.keys.iter().find(|key| key.name == name) {
            return Found::Exact(key);
        }
        let meant = self.aliases.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, meant)| *meant);
        match self.keys.iter().find(|key| same(key.name, meant)) {
            Some(key) => Found::Respelled(key),
            None => Found::Unknown,
        }
    }
}

/// Says whether two spellings differ in `-` and `_` only.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let flat = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(flat).eq(b.bytes().map(flat))
}
