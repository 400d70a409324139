//! The directories and files of a file system in the making, before they are bytes.

use super::name::{self, ShortName};
use super::{ATTR_ARCHIVE, ATTR_DIRECTORY, ATTR_VOLUME, DIR_ENTRY, FORMAT, Geometry, Width};
use crate::Error;
use std::collections::{BTreeMap, BTreeSet};

/// Position of a node in the tree; the root is 0.
pub(super) type NodeId = usize;

#[derive(Debug)]
struct Node {
    parent: NodeId,
    name: String,
    short: ShortName,
    /// Whether the short name is the whole name.
    exact: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File { first_cluster: u64, length: u32 },
    Directory { children: Vec<NodeId>, taken: BTreeSet<ShortName> },
}

/// All names, in the order in which they were added.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    by_name: BTreeMap<(NodeId, String), NodeId>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let kind = Kind::Directory { children: Vec::new(), taken: BTreeSet::new() };
        let root = Node { parent: 0, name: String::new(), short: [b' '; 11], exact: true, kind };
        Self { nodes: vec![root], by_name: BTreeMap::new() }
    }

    /// Finds or makes a directory and those above it. The empty path is the root.
    pub(super) fn directory(&mut self, path: &str) -> Result<NodeId, Error> {
        let mut at = 0;
        if path.is_empty() {
            return Ok(at);
        }
        for part in path.split('/') {
            at = match self.by_name.get(&(at, name::folded(part))) {
                Some(found) => *found,
                None => {
                    let kind = Kind::Directory { children: Vec::new(), taken: BTreeSet::new() };
                    self.add(path, at, part, kind)?
                }
            };
            if self.nodes.get(at).is_none_or(|node| matches!(node.kind, Kind::File { .. })) {
                return Err(refuse(path, "a file is in the place of a directory"));
            }
        }
        Ok(at)
    }

    /// Says why a file cannot be added, before anything is.
    pub(super) fn check_file(&self, path: &str) -> Result<(), Error> {
        let mut at = Some(0);
        for (position, part) in path.split('/').enumerate() {
            if let Some(reason) = name::refusal(part) {
                return Err(refuse(path, reason));
            }
            at = at.and_then(|at| self.by_name.get(&(at, name::folded(part))).copied());
            let last = position == path.matches('/').count();
            match at.and_then(|at| self.nodes.get(at)) {
                Some(_) if last => return Err(refuse(path, "it exists already, perhaps in other letter case")),
                Some(Node { kind: Kind::File { .. }, .. }) => {
                    return Err(refuse(path, "a file is in the place of a directory"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a file whose content lies in a run of clusters, and the directories above it.
    pub(super) fn file(&mut self, path: &str, first_cluster: u64, length: u32) -> Result<(), Error> {
        self.check_file(path)?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.directory(parent)?;
        self.add(path, parent, name, Kind::File { first_cluster, length }).map(drop)
    }

    fn add(&mut self, path: &str, parent: NodeId, name: &str, kind: Kind) -> Result<NodeId, Error> {
        if let Some(reason) = name::refusal(name) {
            return Err(refuse(path, reason));
        }
        let id = self.nodes.len();
        let Some(Node { kind: Kind::Directory { children, taken }, .. }) = self.nodes.get_mut(parent) else {
            return Err(refuse(path, "a file is in the place of a directory"));
        };
        let (short, exact) = name::short(name, taken);
        taken.insert(short);
        children.push(id);
        self.nodes.push(Node { parent, name: name.to_owned(), short, exact, kind });
        self.by_name.insert((parent, name::folded(name)), id);
        Ok(id)
    }

    /// Directories with the length of their entries in bytes, the root first and parents before children.
    pub(super) fn directories(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.nodes.iter().enumerate().filter_map(|(id, node)| match &node.kind {
            Kind::File { .. } => None,
            Kind::Directory { children, .. } => {
                let names = children.iter().filter_map(|child| self.nodes.get(*child));
                let entries = names.map(|node| 1 + if node.exact { 0 } else { name::long_entries(&node.name) });
                // The root has its label, others themselves and their parent.
                let own = if id == 0 { 1 } else { 2 };
                Some((id, (own + entries.sum::<usize>()) as u64 * DIR_ENTRY))
            }
        })
    }

    /// Clusters that everything takes.
    pub(super) fn clusters(&self, geometry: &Geometry) -> u64 {
        let clusters = |length: u64| length.div_ceil(geometry.cluster_size());
        let files = self.nodes.iter().map(|node| match node.kind {
            Kind::File { length, .. } => clusters(length.into()),
            Kind::Directory { .. } => 0,
        });
        let roots = if geometry.width == Width::Fat16 { 1 } else { 0 };
        files.sum::<u64>() + self.directories().skip(roots).map(|(_, length)| clusters(length)).sum::<u64>()
    }

    /// Returns the entries of a directory. `clusters` has the first cluster of every directory.
    pub(super) fn entries(
        &self,
        id: NodeId,
        label: Option<ShortName>,
        clusters: &BTreeMap<NodeId, u64>,
        time: (u16, u16),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(Node { parent, kind: Kind::Directory { children, .. }, .. }) = self.nodes.get(id) else {
            return bytes;
        };
        // The root has no entry of its own; others name it by cluster 0.
        let cluster = |id: NodeId| if id == 0 { 0 } else { clusters.get(&id).copied().unwrap_or(0) };
        if id == 0 {
            if let Some(label) = label {
                bytes.extend(entry(&label, ATTR_VOLUME, 0, 0, time));
            }
        } else {
            bytes.extend(entry(b".          ", ATTR_DIRECTORY, cluster(id), 0, time));
            bytes.extend(entry(b"..         ", ATTR_DIRECTORY, cluster(*parent), 0, time));
        }
        for (id, node) in children.iter().filter_map(|child| Some((*child, self.nodes.get(*child)?))) {
            if !node.exact {
                bytes.extend(name::long(&node.name, &node.short));
            }
            bytes.extend(match &node.kind {
                Kind::Directory { .. } => entry(&node.short, ATTR_DIRECTORY, cluster(id), 0, time),
                Kind::File { first_cluster, length } => entry(&node.short, ATTR_ARCHIVE, *first_cluster, *length, time),
            });
        }
        bytes
    }
}

fn entry(name: &ShortName, attributes: u8, cluster: u64, length: u32, (date, time): (u16, u16)) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend([attributes, 0, 0]);
    // Creation time and date, day of the last access, high half of the cluster, modification time and date, low half.
    let halves = [(cluster >> 16) as u16, cluster as u16];
    let [high, low] = halves;
    for field in [time, date, date, high, time, date, low] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(length.to_le_bytes());
    bytes
}

pub(super) fn refuse(path: &str, reason: &'static str) -> Error {
    Error::Path { format: FORMAT, path: path.to_owned(), reason }
}
