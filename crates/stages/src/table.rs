//! The account files as tables of lines with fields between colons: passwd(5), shadow(5), group(5), gshadow(5).
//!
//! Lines that are not understood stay as they are. A table is written whole and atomically, with mode and owner of the file that
//! it replaces, and only when it changed.

use crate::files::write_if_other;
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
    pub fn read(context: &Context, path: &str, mode: u32) -> Result<Self, Error> {
        let path = context.at(Path::new(path));
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

    /// Says whether any line has this number in a field.
    pub fn has_number(&self, index: usize, number: u32) -> bool {
        self.lines.iter().any(|line| line.get(index).and_then(|field| field.parse().ok()) == Some(number))
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
        let text: String = self.lines.iter().map(|line| line.join(":") + "\n").collect();
        let before = fs::metadata(&self.path).ok();
        let mode = before.as_ref().map_or(self.mode, |before| std::os::unix::fs::MetadataExt::mode(before) & 0o7777);
        write_if_other(&self.path, text.as_bytes(), mode, before.as_ref())
    }
}
