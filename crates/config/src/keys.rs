//! The keys of the configuration language: what each is called, what it holds, what it is for, whether it does something yet.
//!
//! The tables below this module are the one source of four things: which keys are known, what their values may be
//! ([`crate::classify`]), the JSON Schema that editors use, and the reference that people read. A key is one line of a table.
mod cloud_init;
mod lifecycle;
mod providers;
mod secrets;
mod shape;
mod stages;
mod step;
mod top;

pub(crate) use cloud_init::{CLOUD_INIT, CLOUD_INIT_TOOLS};
pub(crate) use secrets::{is_secret_name, is_secret_path};
pub(crate) use shape::{Misfit, Shape, either};
pub(crate) use stages::{STAGES_DONE, STAGES_NOT_YET};
pub(crate) use step::{CONDITIONS, STEP, STEP_SETTINGS, STEPS};
pub(crate) use top::TOP;

/// Whether a known key does something yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Done.
    Done,
    /// Kairos or cloud-init knows it, Kairn does not do it yet.
    NotYet,
}

/// One known key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether it is done.
    pub standing: Standing,
    /// What it holds.
    pub shape: Shape,
    /// What it is for: one sentence in the third person.
    pub about: &'static str,
    /// An example of its value in YAML; one that begins with a line break stands below the key.
    pub example: Option<&'static str>,
}

/// The keys of one mapping.
#[derive(Debug)]
pub(crate) struct Block {
    /// What a message calls the mapping, e.g. "a step".
    pub what: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Other spellings that people write and other systems leave out, and what they mean.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Former names, and what they are called now.
    pub former: &'static [(&'static str, &'static str)],
    /// A key may be a dotted path into the block (`partitions.oem.size`).
    pub dotted: bool,
    /// Further keys are somebody else's and no error.
    pub open: bool,
}

/// How a key was found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// As spelled.
    Exact(&'static Key),
    /// By another name.
    Respelled(&'static Key),
    /// Not at all.
    Unknown,
}

/// Makes a key that does something.
const fn done(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, standing: Standing::Done, shape, about, example: None }
}

/// Makes a key that does nothing yet.
const fn not_yet(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, standing: Standing::NotYet, shape, about, example: None }
}

impl Key {
    /// Adds an example of the value in YAML.
    const fn example(mut self, yaml: &'static str) -> Self {
        self.example = Some(yaml);
        self
    }

    /// Returns the key with an example of its value, as it stands in its block; blocks without one are shown by their own keys.
    pub(crate) fn yaml(&self) -> Option<String> {
        let value = match (self.example, self.shape) {
            (Some(value), _) => value,
            (None, Shape::Bool) => "true",
            (None, Shape::Int(least, most)) if least <= 1 && most >= 1 => "1",
            (None, Shape::Mode) => "0644",
            (None, Shape::OctalMode) => "'0644'",
            (None, Shape::Size) => "1G",
            (None, Shape::Enum(texts)) => texts.iter().copied().find(|text| !text.is_empty())?,
            _ => return None,
        };
        let gap = if value.starts_with('\n') { "" } else { " " };
        Some(format!("{}:{gap}{value}\n", self.name))
    }
}

/// Makes a block that knows all its keys.
const fn block(what: &'static str, keys: &'static [Key]) -> Block {
    Block { what, keys, aliases: &[], former: &[], dotted: false, open: false }
}

impl Block {
    /// Adds other spellings and what they mean.
    const fn aliases(mut self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Adds former names and what they are called now.
    const fn former(mut self, former: &'static [(&'static str, &'static str)]) -> Self {
        self.former = former;
        self
    }

    /// Allows dotted paths as keys.
    const fn dotted(mut self) -> Self {
        self.dotted = true;
        self
    }

    /// Allows further keys.
    const fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Looks a key up; `-` and `_` may stand for each other.
    pub(crate) fn find(&self, name: &str) -> Found {
        if let Some(key) = self.keys.iter().find(|key| key.name == name) {
            return Found::Exact(key);
        }
        let mut others = self.aliases.iter().chain(self.former);
        let meant = others.find(|(other, _)| *other == name).map_or(name, |(_, meant)| *meant);
        match self.keys.iter().find(|key| same(key.name, meant)) {
            Some(key) => Found::Respelled(key),
            None => Found::Unknown,
        }
    }
}

/// The blocks of the top level, in the order in which a key is looked for.
pub(crate) static TOP_BLOCKS: [&Block; 3] = [&TOP, &CLOUD_INIT, &CLOUD_INIT_TOOLS];

/// Says whether two spellings differ in `-` and `_` only.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let flat = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(flat).eq(b.bytes().map(flat))
}

/// A list of texts.
const TEXTS: Shape = Shape::List(&Shape::Text);

/// A mapping from free names to texts.
const NAMED_TEXTS: Shape = Shape::Map(&Shape::Text);

/// A mapping or list that somebody else reads.
const NAMED: Shape = Shape::Map(&Shape::Any);

/// A count of something.
const COUNT: Shape = Shape::Int(0, u32::MAX as i64);

/// The number of a user or group; all ones means "no change" to chown(2).
const ID: Shape = Shape::Int(0, u32::MAX as i64 - 1);

/// A size in mebibytes; more than 2^44 of them is more than any disk.
const MEBIBYTES: Shape = Shape::Int(0, 1 << 44);

/// Lines for the shell; a list among them is a program with its arguments.
const COMMANDS: Shape = Shape::List(&Shape::OneOf(&[Shape::Text, TEXTS]));

#[cfg(test)]
pub(crate) mod tests;
