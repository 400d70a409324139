//! Roles that a leader assigned.
//!
//! A leader's assignments stand in sheets, one entry for each first letter of the nodes' names, so that a large network takes few
//! entries and a change little traffic. Each assignment carries the term that it was made under; of several for one node the one of
//! the highest term counts, whoever wrote last.

use crate::ballot::Term;
use crate::error::Error;
use crate::identity::NodeId;
use crate::role::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The ballot and lease whose holder assigns roles.
pub const GOVERNING: &str = "cluster";
/// The most assignments of a sheet: they fit an entry.
const MOST: usize = 768;

/// A role that was assigned, or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The leader's term.
    pub term: Term,
    /// What the node is; nothing where its role was taken away.
    pub role: Option<Role>,
}

/// Assignments of one leader to nodes whose names begin alike: the value of an entry of the bucket of roles, in postcard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet(BTreeMap<NodeId, Assignment>);

impl Sheet {
    /// The key of the sheet that a node stands in: the first letter of its name.
    pub fn key(node: &NodeId) -> String {
        node.to_string().chars().take(1).collect()
    }

    /// Reads the value of an entry.
    ///
    /// # Errors
    /// It does not parse, is too large, or names a node that stands in another sheet.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |why: &str| Error::Malformed("sheet of roles", why.to_owned());
        let (sheet, rest): (Self, _) = postcard::take_from_bytes(bytes).map_err(|error| refused(&error.to_string()))?;
        if !rest.is_empty() || sheet.0.len() > MOST {
            return Err(refused("it is too long"));
        }
        if sheet.0.keys().any(|node| Self::key(node) != key) {
            Err(refused("it lies under another key"))
        } else {
            Ok(sheet)
        }
    }

    /// The sheet as a value.
    ///
    /// # Errors
    /// It is full.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let refused = |why: String| Error::Malformed("sheet of roles", why);
        if self.0.len() > MOST {
            return Err(refused(format!("{} nodes, and {MOST} are the most", self.0.len())));
        }
        postcard::to_stdvec(self).map_err(|error| refused(error.to_string()))
    }

    /// Assigns a role; those who are no members any more are left out from then on.
    pub fn assign(&mut self, node: NodeId, assignment: Assignment, is_member: impl Fn(&NodeId) -> bool) {
        self.0.retain(|node, _| is_member(node));
        self.0.insert(node, assignment);
    }

    /// What it says, by node.
    pub const fn assignments(&self) -> &BTreeMap<NodeId, Assignment> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sheet_holds_nodes_whose_names_begin_alike_and_nobody_else() {
        let (one, other) = (NodeId::new([1; 32]), NodeId::new([0xff; 32]));
        let assignment = Assignment { term: Term(3), role: Some(Role::Worker) };
        let mut sheet = Sheet::default();
        sheet.assign(one, assignment, |_| true);
        assert_eq!(Sheet::decode(&Sheet::key(&one), &sheet.encode().unwrap()), Ok(sheet.clone()));
        assert!(Sheet::decode(&Sheet::key(&other), &sheet.encode().unwrap()).is_err());
        sheet.assign(NodeId::new([2; 32]), assignment, |node| *node != one);
        assert_eq!(sheet.assignments().len(), 1, "who is no member any more is left out");
        let mut full = Sheet::default();
        for number in 0..=768_u16 {
            let mut bytes = [0; 32];
            bytes[30..].copy_from_slice(&number.to_be_bytes());
            full.assign(NodeId::new(bytes), Assignment { term: Term(1 << 48), role: None }, |_| true);
        }
        assert!(full.encode().unwrap_err().to_string().contains("769 nodes"));
        full.0.pop_last();
        assert!(full.encode().unwrap().len() <= crate::entry::LARGEST_VALUE);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(key in "[a-z2-7]{0,2}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(sheet) = Sheet::decode(&key, &bytes) {
                prop_assert_eq!(Sheet::decode(&key, &sheet.encode().unwrap()), Ok(sheet));
            }
        }
    }
}
