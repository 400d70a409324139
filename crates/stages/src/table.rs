//! The account files as tables of lines with fields between colons: passwd(5), shadow(5), group(5), gshadow(5).
//!
//! Lines that are not understood stay as they are. A table is written whole and atomically, with mode and owner of the file that
//! it replaces, and only when it changed.

use crate::files::{follow, write_if_other};
use crate::{Context, Error};
use kairn_host::files;
use std::fs;
use std::path::{Path, PathBuf};

/// One account file in memory.
pub struct Table {
    path: PathBuf,
    /// Whether the file was there.
    pub present: bool,
    mode: u32,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// Reads a file below the root; an absent one is empty and gets this mode when written.
    pub fn read(context: &Context, path: &Path, mode: u32) -> Result<Self, Error> {
        let path = follow(context, context.at(path))?;
        let text = files::read_text_if_any(&path)?;
        let split = |line: &str| line.split(':').map(str::to_owned).collect();
        let lines = text.as_deref().unwrap_or_default().lines().map(split).collect();
        Ok(Self { path, present: text.is_some(), mode, lines })
    }

    /// Finds the line whose first field is this name.
    pub fn find(&self, name: &str) -> Option<&[String]> {
        self.lines.iter().find(|line| line.first().is_some_and(|first| first == name)).map(Vec::as_slice)
    }

    /// Returns one field of a line, empty when the line is shorter.
    pub fn field(&self, name: &str, index: usize) -> Option<&str> {
        self.find(name).map(|line| line.get(index).map_or("", String::as_str))
    }

    /// Sets one field of an existing line.
    pub fn set(&mut self, name: &str, index: usize, value: &str) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.first().is_some_and(|first| first == name)) {
            if line.len() <= index {
                line.resize(index + 1, String::new());
            }
            if let Some(field) = line.get_mut(index) {
                value.clone_into(field);
            }
        }
    }

    /// Adds a line.
    pub fn add(&mut self, fields: &[&str]) {
        self.lines.push(fields.iter().map(|field| (*field).to_owned()).collect());
    }

    /// Replaces the first fields of the line with this first field, or adds the line.
    pub fn put(&mut self, fields: &[String]) {
        let Some(name) = fields.first() else { return };
        match self.lines.iter_mut().find(|line| line.first() == Some(name)) {
            Some(line) => {
                let count = line.len().min(fields.len());
                line.splice(..count, fields.iter().cloned());
            }
            None => self.lines.push(fields.to_vec()),
        }
    }

    /// Removes every line whose first field is this name.
    pub fn remove(&mut self, name: &str) {
        self.lines.retain(|line| line.first().is_none_or(|first| first != name));
    }

    /// Names the first line that has this number in a field.
    pub fn holder(&self, index: usize, number: u32) -> Option<&str> {
        let has = |line: &&Vec<String>| line.get(index).and_then(|field| field.parse().ok()) == Some(number);
        self.lines.iter().find(has)?.first().map(String::as_str)
    }

    /// Says whether any line has this number in a field.
    pub fn has_number(&self, index: usize, number: u32) -> bool {
        self.holder(index, number).is_some()
    }

    /// Returns the lowest number of a range that no line has in a field.
    pub fn free(&self, index: usize, (low, high): (u32, u32)) -> Option<u32> {
        (low..=high).find(|number| !self.has_number(index, *number))
    }

    /// Returns the highest number of a range that no line has in a field: where useradd(8) looks for those of the system.
    pub fn free_from_above(&self, index: usize, (low, high): (u32, u32)) -> Option<u32> {
        (low..=high).rev().find(|number| !self.has_number(index, *number))
    }

    /// Adds a name to a list between commas in a field; says whether it was missing.
    pub fn join(&mut self, name: &str, index: usize, member: &str) -> bool {
        let Some(list) = self.field(name, index) else { return false };
        let mut members: Vec<&str> = list.split(',').filter(|member| !member.is_empty()).collect();
        if members.contains(&member) {
            return false;
        }
        members.push(member);
        let joined = members.join(",");
        self.set(name, index, &joined);
        true
    }

    /// Writes the file when it changed; says whether it did.
    pub fn write(&self) -> Result<bool, Error> {
        if !self.present && self.lines.is_empty() {
            return Ok(false);
        }
        let text: String = self.lines.iter().map(|line| line.join(":") + "\n").collect();
        let before = fs::metadata(&self.path).ok();
        let mode = before.as_ref().map_or(self.mode, |before| std::os::unix::fs::MetadataExt::mode(before) & 0o7777);
        write_if_other(&self.path, text.as_bytes(), mode, before.as_ref())
    }
}
