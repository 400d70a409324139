//! Reads directories, files and files of variables.

use super::Actions;
use super::downloads::{address, digest};
use crate::action::DEFAULT_ENVIRONMENT_FILE;
use crate::decode::{ENCODINGS, decode};
use crate::reading::{ModeStyle, Reader, field};
use crate::{Code, Content, Directory, Entry, Environment, File, FileWork, Node, Owner, Sourced, Work};
use kairn_report::{Place, Secret};
use std::collections::BTreeMap;

impl Actions<'_, '_> {
    pub(super) fn directory(&mut self, item: &Node) {
        let mut label = "directory".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a directory");
            let path = required_path(reader, item, entries)?;
            label = format!("directory {}", path.display());
            let (owner, group) = owners(reader, entries);
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Number));
            Some(Work::Files(FileWork::Directory(Directory { path, mode, owner, group })))
        });
        self.add(label, item.place, work);
    }

    pub(super) fn file(&mut self, item: &Node) {
        let mut label = "file".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a file");
            let path = required_path(reader, item, entries)?;
            label = format!("file {}", path.display());
            let (owner, group) = owners(reader, entries);
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Number));
            let content = content(reader, entries)?;
            Some(Work::Files(FileWork::File(File { path, content, mode, owner, group })))
        });
        self.add(label, item.place, work);
    }

    /// A file of cloud-init's `write_files`: `owner` is `user:group`, `permissions` is octal text.
    pub fn write_file(&mut self, item: &Node) {
        let mut label = "file".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "a file");
            let path = required_path(reader, item, entries)?;
            label = format!("file {}", path.display());
            let append = field(entries, "append").and_then(|node| reader.bool(node, "`append`")).unwrap_or_default();
            // When it happens is decided by `crate::cloud_init`.
            field(entries, "defer").map(|node| reader.bool(node, "`defer`"));
            let (mut owner, mut group) = (None, None);
            if let Some(text) = field(entries, "owner").and_then(|node| reader.text(node, "`owner`")) {
                (owner, group) = split_owner(&text);
            }
            let mode = field(entries, "permissions").and_then(|node| reader.mode(node, ModeStyle::Text));
            let content = content(reader, entries)?;
            let file = File { path, content, mode, owner, group };
            if let Some(node) = field(entries, "source").filter(|node| node.entries().is_none() && !node.is_null()) {
                // Without what it fetches this write would destroy what the user wants kept.
                reader.map(node, "`source`");
                return None;
            }
            if let Some((source, uri)) = origin(item) {
                let has_content = field(entries, "content").is_some_and(|node| !node.is_null());
                return sourced(reader, source, uri, file, has_content, append);
            }
            Some(Work::Files(if append { FileWork::Append(file) } else { FileWork::File(file) }))
        });
        self.add(label, item.place, work);
    }

    pub(super) fn environment(&mut self, node: &Node, file: Option<&Node>) {
        let work = self.reader.attempt(|reader| {
            let file = match file {
                Some(file) if !file.is_null() => reader.path(file, "`environment_file`")?,
                _ => DEFAULT_ENVIRONMENT_FILE.into(),
            };
            let mut values = BTreeMap::new();
            for entry in reader.map(node, "`environment`") {
                let mut letters = entry.key.bytes();
                let first = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
                if !first || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    reader.error(Code::BadValue, entry.key_place, format!("`{}` cannot name a variable", entry.key));
                    continue;
                }
                let text = reader.text(&entry.value, "a variable").unwrap_or_default();
                values.insert(entry.key.clone(), reader.template(text, entry.value.place, "`environment`"));
            }
            if values.is_empty() {
                None
            } else {
                Some(Work::Files(FileWork::Environment(Environment { file, values: Secret::new(values) })))
            }
        });
        self.add("environment".into(), node.place, work);
    }
}

pub(super) fn required_path(reader: &mut Reader<'_>, item: &Node, entries: &[Entry]) -> Option<std::path::PathBuf> {
    match field(entries, "path").filter(|node| !node.is_null()) {
        Some(node) => reader.path(node, "`path`"),
        None => {
            // `map` has spoken already when the item is no mapping.
            if item.entries().is_some() || item.is_null() {
                reader.error(Code::BadValue, item.place, "`path` is missing");
            }
            None
        }
    }
}

/// `owner` and `group`, then `ownerstring`, which wins where it says something.
pub(super) fn owners(reader: &mut Reader<'_>, entries: &[Entry]) -> (Option<Owner>, Option<Owner>) {
    let mut owner = field(entries, "owner").and_then(|node| reader.owner(node, "`owner`"));
    let mut group = field(entries, "group").and_then(|node| reader.owner(node, "`group`"));
    let both = field(entries, "ownerstring").or_else(|| field(entries, "owner_string"));
    if let Some(text) = both.and_then(|node| reader.text(node, "`ownerstring`")) {
        let (named_owner, named_group) = split_owner(&text);
        owner = named_owner.or(owner);
        group = named_group.or(group);
    }
    (owner, group)
}

/// The `source` of a file of `write_files`, and the address in it; nothing where it has none, or an empty one.
pub(crate) fn origin(item: &Node) -> Option<(&Node, &Node)> {
    let source = field(item.entries()?, "source")?;
    let uri = field(source.entries()?, "uri").filter(|node| node.scalar().is_some_and(|uri| !uri.text.is_empty()))?;
    Some((source, uri))
}

fn sourced(
    reader: &mut Reader<'_>,
    source: &Node,
    uri: &Node,
    file: File,
    has_content: bool,
    append: bool,
) -> Option<Work> {
    let entries = reader.map(source, "`source`");
    let url = address(reader, uri, "`source.uri`")?;
    let mut headers = Vec::new();
    for entry in field(entries, "headers").map(|node| reader.map(node, "`source.headers`")).unwrap_or_default() {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if entry.key.is_empty() || !entry.key.bytes().all(is_token) {
            reader.error(Code::BadValue, entry.key_place, format!("`{}` cannot name a header", entry.key));
            continue;
        }
        let value = reader.text(&entry.value, "a header").unwrap_or_default();
        if value.contains(|c: char| c.is_control() || !c.is_ascii()) {
            reader.error(Code::BadValue, entry.value.place, "a header is one line of ASCII");
            continue;
        }
        headers.push((entry.key.clone(), Secret::new(value)));
    }
    let sha256 = digest(reader, entries);
    Some(Work::Files(FileWork::Sourced(Sourced { file, has_content, append, url, headers, sha256 })))
}

fn split_owner(text: &str) -> (Option<Owner>, Option<Owner>) {
    let (owner, group) = text.split_once(':').unwrap_or((text, ""));
    let read = |name: &str| if name.is_empty() { None } else { Some(Owner::parse(name)) };
    (read(owner.trim()), read(group.trim()))
}

fn content(reader: &mut Reader<'_>, entries: &[Entry]) -> Option<Secret<Content>> {
    let node = field(entries, "content");
    let text = node.and_then(|node| reader.text(node, "`content`")).unwrap_or_default();
    let encoding = field(entries, "encoding").and_then(|node| reader.text(node, "`encoding`")).unwrap_or_default();
    match decode(&text, &encoding) {
        // Templates are expanded after decoding, where the bytes are text.
        Ok(bytes) => Some(Secret::new(match (String::from_utf8(bytes), node) {
            (Ok(text), Some(node)) => Content::Text(reader.content_template(text, node.place)),
            (Ok(text), None) => Content::Bytes(text.into_bytes()),
            (Err(error), _) => Content::Bytes(error.into_bytes()),
        })),
        Err(why) => {
            let known = ENCODINGS.contains(&encoding.as_str());
            let at = node.filter(|_| known).or_else(|| field(entries, "encoding"));
            let place = at.map_or_else(Place::default, |node| node.place);
            reader.error(Code::BadValue, place, why);
            None
        }
    }
}
