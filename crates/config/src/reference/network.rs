//! The part of the reference that describes networks, made from the tables that their readers use.

use super::{NOT_YET, anchor, cell};
use crate::keys::either;
use crate::network::keys::{OWN, Standing, Table, V1, V2, ValueKind};

/// What stands behind the titles of a dialect's tables, and the table that each begins with.
const DIALECTS: [(&str, &Table); 3] = [("", &OWN), (" of version 1", &V1), (" of version 2", &V2)];

/// A table, and where it may stand.
struct Chapter {
    table: &'static Table,
    title: String,
    places: Vec<String>,
}

/// Names what `network` holds, with links to the chapters of the dialects.
pub(super) fn holds() -> String {
    let links = DIALECTS.map(|(behind, _)| {
        let name = if behind.is_empty() { "our own" } else { behind.trim_start_matches(" of ") };
        format!("[{name}](#{})", anchor(&format!("`network`{behind}")))
    });
    format!("mapping: {}", either(&links))
}

/// Writes a chapter for each table of each dialect.
pub(super) fn write(out: &mut String) {
    let mut chapters: Vec<Chapter> = Vec::new();
    let mut at = 0;
    for (behind, table) in DIALECTS {
        add(table, "network", behind, &mut chapters);
        while let Some(chapter) = chapters.get(at) {
            let (table, place) = (chapter.table, chapter.places.first().cloned().unwrap_or_default());
            for key in table.keys() {
                for (below, way) in tables(key.value) {
                    add(below, &format!("{place}.{}{way}", key.name), behind, &mut chapters);
                }
            }
            at += 1;
        }
    }
    chapters.iter().for_each(|chapter| chapter.write(&chapters, out));
}

fn add(table: &'static Table, place: &str, behind: &str, chapters: &mut Vec<Chapter>) {
    match chapters.iter_mut().find(|known| std::ptr::eq(known.table, table)) {
        Some(known) => known.places.push(format!("`{place}`{behind}")),
        None => {
            chapters.push(Chapter { table, title: format!("`{place}`{behind}"), places: vec![place.to_owned()] });
        }
    }
}

/// The tables within a value, each with the way to it.
fn tables(kind: ValueKind) -> Vec<(&'static Table, String)> {
    let further = |kind: ValueKind, way: &str| {
        tables(kind).into_iter().map(|(table, rest)| (table, format!("{way}{rest}"))).collect()
    };
    match kind {
        ValueKind::Block(table) => vec![(table, String::new())],
        ValueKind::List(item) | ValueKind::OneOrMore(item) => further(*item, "[]"),
        ValueKind::Named(value) => further(*value, ".*"),
        ValueKind::Either(kinds) => kinds.iter().flat_map(|kind| tables(*kind)).collect(),
        ValueKind::Tagged(tag, tables) => {
            tables.iter().map(|(name, table)| (*table, format!("[{tag}={name}]"))).collect()
        }
        _ => Vec::new(),
    }
}

impl Chapter {
    fn write(&self, chapters: &[Self], out: &mut String) {
        out.push_str(&format!("\n## {}\n\n", self.title));
        if let [_, further @ ..] = self.places.as_slice()
            && !further.is_empty()
        {
            out.push_str(&format!("The same stands at {}.\n\n", further.join(", ")));
        }
        out.push_str("| key | holds | |\n|---|---|---|\n");
        for key in self.table.keys() {
            let others = self.table.aliases.iter().filter(|(_, meant)| *meant == key.name);
            let others: String = others.map(|(other, _)| format!(" Also written `{other}`.")).collect();
            let late = match key.standing {
                Standing::Done => String::new(),
                Standing::NotYet => format!(" {NOT_YET}"),
                Standing::Ignored(why) => format!(" No effect: {why}."),
            };
            let holds = value(key.value, chapters);
            out.push_str(&format!("| `{}` | {holds} | {}{others}{late} |\n", key.name, cell(&sentence(key.about))));
        }
    }
}

/// Begins with a capital and ends with a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// Names a type, with a link to the chapter of a table.
fn value(kind: ValueKind, chapters: &[Chapter]) -> String {
    match kind {
        ValueKind::Any => "anything".into(),
        ValueKind::Bool => "`true` or `false`".into(),
        ValueKind::Whole(0, u32::MAX) => "number".into(),
        ValueKind::Whole(least, u32::MAX) => format!("number from {least}"),
        ValueKind::Whole(least, most) => format!("number from {least} to {most}"),
        ValueKind::Text => "text".into(),
        ValueKind::Secret => "secret text".into(),
        ValueKind::Id => "name of an interface".into(),
        ValueKind::Device => "name of a device".into(),
        ValueKind::Pattern => "pattern".into(),
        ValueKind::Domain => "domain".into(),
        ValueKind::Ip => "address".into(),
        ValueKind::Net => "address with the length of its network".into(),
        ValueKind::Mac => "address of a link".into(),
        ValueKind::Millis => "milliseconds, or a time such as `1s`".into(),
        ValueKind::Word(words) => either(&words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>()),
        ValueKind::List(item) => format!("list of: {}", value(*item, chapters)),
        ValueKind::OneOrMore(item) => format!("one or a list of: {}", value(*item, chapters)),
        ValueKind::Named(below) => format!("mapping from names to: {}", value(*below, chapters)),
        ValueKind::Either(kinds) => either(&kinds.iter().map(|kind| value(*kind, chapters)).collect::<Vec<_>>()),
        ValueKind::Block(table) => link("mapping", table, chapters),
        ValueKind::Tagged(tag, tables) => {
            let links: Vec<String> =
                tables.iter().map(|(name, table)| link(&format!("`{tag}: {name}`"), table, chapters)).collect();
            format!("mapping with {}", either(&links))
        }
    }
}

fn link(text: &str, table: &'static Table, chapters: &[Chapter]) -> String {
    let title = chapters.iter().find(|known| std::ptr::eq(known.table, table)).map_or("", |known| known.title.as_str());
    format!("[{text}](#{})", anchor(title))
}
