//! Values of programs in the shared state.

use super::Runner;
use crate::fault::Fault;
use crate::values::{Seen, Value};
use hyper::StatusCode;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::entry::Bucket;
use std::time::{Duration, Instant};

/// The most bytes of values in one answer.
const LARGEST_LIST: usize = 16 * 1024 * 1024;
/// How long it is remembered that something was deleted; a member that was away for longer brings it back.
const TOMBSTONE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The fewest characters of a node's name that stand for it.
const SHORTEST: usize = 6;

/// Which values.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Those under keys that begin so.
    Prefix(String),
    /// Those under this very key.
    Key(String),
}

impl Wanted {
    fn takes(&self, key: &str) -> bool {
        match self {
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Key(wanted) => key == wanted,
        }
    }
}

impl Runner {
    /// The valid values, by key and author.
    ///
    /// # Errors
    /// They are too many for one answer.
    pub(crate) fn values(&self, wanted: &Wanted) -> Result<Vec<Seen>, Fault> {
        let (now, clock) = (self.now().0, Instant::now());
        let (mut seen, mut size) = (Vec::new(), 0);
        let store = self.node.store();
        for valid in store.valid(Bucket::Values, now).filter(|valid| wanted.takes(&valid.content.key)) {
            let content = valid.content;
            let bytes = content.value.as_deref().unwrap_or_default();
            size += bytes.len();
            if size > LARGEST_LIST {
                let fault = Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the values are too many for one answer");
                return Err(fault.hint("ask for those under a prefix of the key"));
            }
            let value = Value {
                key: content.key.clone(),
                author: content.author.to_string(),
                name: self.name_of(&content.author),
                text: None,
                base64: None,
                written: content.stamp.wall().0,
                left: valid.left.map(|left| left.as_secs()),
            };
            seen.push(Seen {
                author: content.author,
                stamp: content.stamp,
                // Looked at just after, it is over.
                until: valid.left.map(|left| clock + left + Duration::from_millis(1)),
                value: value.with(bytes),
            });
        }
        Ok(seen)
    }

    /// Writes a value of this node.
    ///
    /// # Errors
    /// It is too large, or there is no room.
    pub(crate) fn put_value(&mut self, key: String, value: Vec<u8>, lifetime: u32) -> Result<Value, Fault> {
        self.node.write(self.now(), (Bucket::Values, key.clone()), Some(value), lifetime)?;
        self.keep_own();
        let own = self.node.id();
        let written = self.values(&Wanted::Key(key))?.into_iter().find(|seen| seen.author == own);
        written.map(|seen| seen.value).ok_or_else(|| Fault::missing("the value expired at once"))
    }

    /// Takes back what this node wrote under a key, in any bucket where each has entries of its own.
    ///
    /// # Errors
    /// It wrote nothing there.
    pub(crate) fn delete(&mut self, bucket: Bucket, key: &str) -> Result<(), Fault> {
        let (now, own) = (self.now(), self.node.id());
        let (mut mine, mut others) = (None, Vec::new());
        for valid in self.node.store().valid(bucket, now.0).filter(|valid| valid.content.key == key) {
            if valid.content.author == own {
                mine = Some(valid.left);
            } else {
                others.push(self.name_of(&valid.content.author));
            }
        }
        let Some(left) = mine else {
            let fault = Fault::missing(format!("this node wrote nothing under `{}`", key.escape_debug()));
            return Err(match others.as_slice() {
                [] => fault,
                others => fault.hint(format!("what stands there can be deleted on {} only", others.join(", "))),
            });
        };
        // Others may have it for as long again: they count from when they got it.
        let remembered = left.map_or(TOMBSTONE, |left| (2 * left + Duration::from_secs(60)).min(TOMBSTONE));
        let lifetime = u32::try_from(remembered.as_secs()).unwrap_or(u32::MAX);
        self.node.write(now, (bucket, key.to_owned()), None, lifetime)?;
        self.keep_own();
        Ok(())
    }

    /// The name of a member's machine.
    pub(crate) fn name_of(&self, node: &NodeId) -> String {
        self.node.store().member(node).map(|record| record.name).unwrap_or_default()
    }

    /// The member that somebody means: by its whole name, the beginning of that, or the name of its machine.
    ///
    /// # Errors
    /// There is none, or several.
    pub(crate) fn member_called(&self, text: &str) -> Result<NodeId, Fault> {
        // Whatever others call themselves, a whole name is one node's only.
        if let Ok(id) = text.parse::<NodeId>()
            && self.node.store().member(&id).is_some()
        {
            return Ok(id);
        }
        let members = self.node.store().members();
        let called: Vec<NodeId> = members
            .filter(|(id, record)| {
                record.name == text
                    || (text.len() >= SHORTEST && id.to_string().starts_with(&text.to_ascii_lowercase()))
            })
            .map(|(id, _)| id)
            .collect();
        match called.as_slice() {
            [one] => Ok(*one),
            [] => Err(Fault::missing(format!("no member is called `{}`", text.escape_debug()))
                .hint("`kairn mesh peers` lists them")),
            several => {
                let names: Vec<String> = several.iter().map(NodeId::short).collect();
                Err(Fault::wrong(format!("`{}` may be any of {}", text.escape_debug(), names.join(", "))))
            }
        }
    }
}
