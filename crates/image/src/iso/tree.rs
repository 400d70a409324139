//! Directories and files of a medium, before they are bytes.

use super::record::{self, EXTENSION, Extra, NAME_LIMIT, PARENT, SELF, Target};
use super::{FORMAT, SECTOR};
use crate::Error;
use crate::calendar::Civil;
use std::collections::{BTreeMap, BTreeSet};

/// Levels of directories that the format allows, the root being the first (ECMA-119, 6.8.2.1).
const DEPTH_LIMIT: usize = 8;
/// Directories that a path table can count.
const DIRECTORY_LIMIT: usize = u16::MAX as usize;

#[derive(Debug)]
struct Directory {
    parent: usize,
    identifier: Vec<u8>,
    /// By identifier, which is the order that the format wants.
    children: BTreeMap<Vec<u8>, (String, Child)>,
    names: BTreeSet<String>,
    sector: u32,
    /// Length in bytes, whole sectors.
    length: u32,
}

#[derive(Clone, Copy, Debug)]
enum Child {
    Directory(usize),
    File(usize),
}

#[derive(Debug)]
struct File {
    sector: u32,
    length: u32,
}

#[derive(Debug)]
pub(super) struct Tree {
    directories: Vec<Directory>,
    files: Vec<File>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { directories: vec![Directory::new(0, SELF.to_vec())], files: Vec::new() }
    }

    /// Adds a file and the directories above it. Files are numbered from 0 in the order of these calls.
    pub(super) fn file(&mut self, path: &str, length: u64) -> Result<(), Error> {
        let length = u32::try_from(length).map_err(|_| refuse(path, "it is 4 GiB or larger"))?;
        let parts: Vec<_> = path.split('/').collect();
        for part in &parts {
            if matches!(*part, "" | "." | "..") || part.contains('\0') {
                return Err(refuse(path, "it is not a plain relative path"));
            }
            if part.len() > NAME_LIMIT {
                return Err(refuse(path, "a name is longer than 128 bytes"));
            }
        }
        let Some((name, above)) = parts.split_last() else { return Ok(()) };
        if above.len() >= DEPTH_LIMIT {
            return Err(refuse(path, "it lies deeper than 8 levels of directories"));
        }
        let mut at = 0;
        for part in above {
            at = self.directory(path, at, part)?;
        }
        let child = Child::File(self.files.len());
        self.add(path, at, name, child)?;
        self.files.push(File { sector: 0, length });
        Ok(())
    }

    fn directory(&mut self, path: &str, parent: usize, name: &str) -> Result<usize, Error> {
        let existing = self.directories.get(parent).and_then(|parent| parent.find(name));
        match existing {
            Some(Child::Directory(found)) => return Ok(found),
            Some(Child::File(_)) => return Err(refuse(path, "a file is in the place of a directory")),
            None => {}
        }
        let id = self.directories.len();
        if id >= DIRECTORY_LIMIT {
            return Err(refuse(path, "there are more directories than the format can count"));
        }
        let identifier = self.add(path, parent, name, Child::Directory(id))?;
        self.directories.push(Directory::new(parent, identifier));
        Ok(id)
    }

    fn add(&mut self, path: &str, parent: usize, name: &str, child: Child) -> Result<Vec<u8>, Error> {
        let Some(parent) = self.directories.get_mut(parent) else { return Err(refuse(path, "it has no parent")) };
        if !parent.names.insert(name.to_owned()) {
            return Err(refuse(path, "it exists already"));
        }
        let identifier = identifier(name, matches!(child, Child::File(_)), &parent.children);
        parent.children.insert(identifier.clone(), (name.to_owned(), child));
        Ok(identifier)
    }

    /// Places all directories from `sector` on and returns the first sector behind them.
    pub(super) fn place(&mut self, sector: u32) -> Option<u32> {
        let mut next = sector;
        // Lengths do not depend on places, so one pass with made-up targets tells them.
        let lengths: Vec<_> =
            (0..self.directories.len()).map(|id| self.entries(id, Civil::of(0, 0, 0)).len()).collect();
        for (id, (directory, length)) in self.directories.iter_mut().zip(lengths).enumerate() {
            directory.sector = next;
            directory.length = u32::try_from(length).ok()?;
            next = next.checked_add(directory.length / SECTOR as u32)?;
            // Behind the root lies what its record continues with.
            if id == 0 {
                next = next.checked_add(1)?;
            }
        }
        Some(next)
    }

    pub(super) fn place_file(&mut self, id: usize, sector: u32) {
        if let Some(file) = self.files.get_mut(id) {
            file.sector = sector;
        }
    }

    /// Returns the bytes of all directories, in the order of their places.
    pub(super) fn directories(&self, date: Civil) -> Vec<u8> {
        let mut bytes = Vec::new();
        for id in 0..self.directories.len() {
            bytes.extend(self.entries(id, date));
            if id == 0 {
                bytes.extend(super::padded(EXTENSION.to_vec()));
            }
        }
        bytes
    }

    /// Returns the record of the root for the volume descriptor.
    pub(super) fn root_record(&self, date: Civil) -> Vec<u8> {
        record::record(SELF, self.directory_target(0), date, Extra::None)
    }

    fn entries(&self, id: usize, date: Civil) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(directory) = self.directories.get(id) else { return bytes };
        let own = self.directory_target(id);
        let own_extra = if id == 0 { Extra::Root(own.sector + own.length / SECTOR as u32) } else { Extra::Plain };
        let parent = self.directory_target(directory.parent);
        let mut push = |record: Vec<u8>| {
            // A record does not cross the end of a sector.
            if bytes.len() % SECTOR + record.len() > SECTOR {
                bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
            }
            bytes.extend(record);
        };
        push(record::record(SELF, own, date, own_extra));
        push(record::record(PARENT, parent, date, Extra::Plain));
        for (identifier, (name, child)) in &directory.children {
            let target = match child {
                Child::Directory(id) => self.directory_target(*id),
                Child::File(id) => {
                    let (sector, length) = self.files.get(*id).map_or((0, 0), |file| (file.sector, file.length));
                    Target { sector, length, is_dir: false, links: 1 }
                }
            };
            push(record::record(identifier, target, date, Extra::Named(name)));
        }
        super::padded(bytes)
    }

    fn directory_target(&self, id: usize) -> Target {
        let (sector, length, below) = self.directories.get(id).map_or((0, 0, 0), |directory| {
            let below = directory.children.values().filter(|(_, child)| matches!(child, Child::Directory(_))).count();
            (directory.sector, directory.length, below)
        });
        Target { sector, length, is_dir: true, links: 2 + below as u32 }
    }

    /// Directories in the order of the path table: level by level, then by the number of the parent, then by identifier
    /// (ECMA-119, 6.9.1), each with the number of its parent.
    fn path_order(&self) -> Vec<(usize, u16)> {
        let mut order = vec![(0, 1)];
        let mut at = 0;
        while let Some((id, _)) = order.get(at).copied() {
            at += 1;
            let Some(directory) = self.directories.get(id) else { continue };
            for (_, child) in directory.children.values() {
                if let Child::Directory(below) = child {
                    order.push((*below, at as u16));
                }
            }
        }
        order
    }

    /// Returns the length of a path table in bytes.
    pub(super) fn path_table_length(&self) -> u64 {
        let length = |directory: &Directory| 8 + directory.identifier.len().next_multiple_of(2) as u64;
        self.directories.iter().map(length).sum()
    }

    /// Returns the path table in the byte order of the two functions (ECMA-119, 9.4).
    pub(super) fn path_table(&self, bytes_32: fn(u32) -> [u8; 4], bytes_16: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, parent) in self.path_order() {
            let Some(directory) = self.directories.get(id) else { continue };
            bytes.extend([directory.identifier.len() as u8, 0]);
            bytes.extend(bytes_32(directory.sector));
            bytes.extend(bytes_16(parent));
            bytes.extend(&directory.identifier);
            if directory.identifier.len() % 2 == 1 {
                bytes.push(0);
            }
        }
        bytes
    }
}

impl Directory {
    fn new(parent: usize, identifier: Vec<u8>) -> Self {
        Self { parent, identifier, children: BTreeMap::new(), names: BTreeSet::new(), sector: 0, length: 0 }
    }

    fn find(&self, name: &str) -> Option<Child> {
        self.children.values().find(|(other, _)| other == name).map(|(_, child)| *child)
    }
}

/// Makes an identifier of at most 8 and 3 characters (ECMA-119, 7.5 and 10.1), which readers without Rock Ridge show.
fn identifier(name: &str, is_file: bool, taken: &BTreeMap<Vec<u8>, (String, Child)>) -> Vec<u8> {
    let (base, extension) = match name.rsplit_once('.') {
        Some((base, extension)) if is_file && !base.is_empty() => (base, extension),
        _ => (name, ""),
    };
    let cleaned = |part: &str, length: usize| -> String {
        let chars = part.chars().map(|char| char.to_ascii_uppercase());
        chars.map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).take(length).collect()
    };
    let (base, extension) = (cleaned(base, 8), cleaned(extension, 3));
    let whole =
        |base: &str| if is_file { format!("{base}.{extension};1").into_bytes() } else { base.as_bytes().to_vec() };
    let mut candidate = whole(&base);
    let mut number = 0_u32;
    while taken.contains_key(&candidate) {
        number += 1;
        let tail = number.to_string();
        let kept: String = base.chars().take(8_usize.saturating_sub(tail.len())).collect();
        candidate = whole(&format!("{kept}{tail}"));
    }
    candidate
}

fn refuse(path: &str, reason: &'static str) -> Error {
    Error::Path { format: FORMAT, path: path.to_owned(), reason }
}
