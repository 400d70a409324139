//! The reference of all keys for people, made from the tables of keys, as Markdown.

mod network;

use crate::keys::{Block, Key, STAGES_DONE, STAGES_NOT_YET, Shape, Standing, TOP_BLOCKS, either};

/// Returns the reference of the configuration language: every key by block, with its type, its purpose, an example, and whether
/// it does something yet.
#[must_use]
pub fn reference() -> String {
    let titles = ["The top level", "Keys of cloud-init", "Tools of cloud-init"];
    let top = TOP_BLOCKS.into_iter().zip(titles);
    let mut chapters: Vec<Chapter> =
        top.map(|(block, title)| Chapter { block, title: title.to_owned(), places: Vec::new() }).collect();
    let mut at = 0;
    while let Some(chapter) = chapters.get(at) {
        let (block, place) = (chapter.block, chapter.places.first().cloned().unwrap_or_default());
        for key in block.keys {
            add_below(key, &join(&place, key.name), &mut chapters);
        }
        at += 1;
    }
    let mut acted_on = Vec::new();
    TOP_BLOCKS.iter().for_each(|block| add_acted_on(block, &mut acted_on));
    let mut out = HEAD.to_owned();
    for chapter in &chapters {
        chapter.write(&chapters, &acted_on, &mut out);
    }
    network::write(&mut out);
    out.push_str(
        "\n## Names of stages\n\nEach may also be written with `.before` or `.after`.\n\n| stage | |\n|---|---|\n",
    );
    for (names, standing) in [(STAGES_DONE, ""), (STAGES_NOT_YET, NOT_YET)] {
        for name in names {
            out.push_str(&format!("| `{name}` | {standing} |\n"));
        }
    }
    out
}

const HEAD: &str = "\
# Configuration

Every key that Kairn knows. This page is made from the tables that files are checked by (`kairn config validate`),
and `kairn config schema` prints the same for editors.

A key marked *not yet* is accepted, checked and reported as doing nothing. Null is the empty value of every key.
Keys that begin with `x-` are free at every level. The examples show a value of each key, not a sensible whole.
";

const NOT_YET: &str = "*not yet*";

/// A block, and where it may stand.
struct Chapter {
    block: &'static Block,
    title: String,
    places: Vec<String>,
}

/// Adds the blocks below a key as chapters, each once.
fn add_below(key: &Key, place: &str, chapters: &mut Vec<Chapter>) {
    for (block, way) in key.shape.blocks() {
        let place = format!("{place}{way}");
        match chapters.iter_mut().find(|known| std::ptr::eq(known.block, block)) {
            Some(known) => known.places.push(place),
            None => chapters.push(Chapter { block, title: format!("`{place}`"), places: vec![place] }),
        }
    }
}

/// Adds a block and those to which keys lead that are done.
fn add_acted_on(block: &'static Block, acted_on: &mut Vec<&'static Block>) {
    if acted_on.iter().any(|known| std::ptr::eq(*known, block)) {
        return;
    }
    acted_on.push(block);
    for key in block.keys.iter().filter(|key| key.standing == Standing::Done) {
        key.shape.blocks().iter().for_each(|(below, _)| add_acted_on(below, acted_on));
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

impl Chapter {
    fn write(&self, chapters: &[Self], acted_on: &[&'static Block], out: &mut String) {
        out.push_str(&format!("\n## {}\n\n", self.title));
        if let [_, further @ ..] = self.places.as_slice()
            && !further.is_empty()
        {
            let further: Vec<_> = further.iter().map(|place| format!("`{place}`")).collect();
            out.push_str(&format!("The same stands at {}.\n\n", further.join(", ")));
        }
        if !acted_on.iter().any(|block| std::ptr::eq(*block, self.block)) {
            out.push_str("Nothing acts on this block yet.\n\n");
        }
        if self.block.open {
            out.push_str("Other keys are allowed and passed on.\n\n");
        }
        if self.block.dotted {
            out.push_str("A key may be a path: `a.b: 1` is `a: {b: 1}`.\n\n");
        }
        out.push_str("| key | holds | |\n|---|---|---|\n");
        for key in self.block.keys {
            let late = if key.standing == Standing::NotYet { format!(" {NOT_YET}") } else { String::new() };
            let others = self.block.aliases.iter().chain(self.block.former).filter(|(_, meant)| *meant == key.name);
            let others: String = others.map(|(other, _)| format!(" Also written `{other}`.")).collect();
            let holds = holds(key.shape, chapters);
            out.push_str(&format!("| `{}` | {holds} | {}{others}{late} |\n", key.name, cell(key.about)));
        }
        let examples: String = self.block.keys.iter().filter_map(Key::yaml).collect();
        if !examples.is_empty() {
            out.push_str(&format!("\n```yaml\n{examples}```\n"));
        }
    }
}

/// Names a type, with a link to the chapter of a block.
fn holds(shape: Shape, chapters: &[Chapter]) -> String {
    match shape {
        Shape::Any => "anything".into(),
        Shape::Network => network::holds(),
        Shape::Bool => "`true` or `false`".into(),
        Shape::Int(0, most) if most >= i64::from(u32::MAX) - 1 => "number".into(),
        Shape::Int(least, most) => format!("number from {least} to {most}"),
        Shape::Size => "bytes, or a size such as `512M`".into(),
        Shape::Mode => "permissions".into(),
        Shape::OctalMode => "permissions, always octal".into(),
        Shape::Path => "absolute path".into(),
        Shape::Words => "texts: a list, or one".into(),
        Shape::Text | Shape::Enum(_) => shape.expected(),
        Shape::List(Shape::Text) => "list of texts".into(),
        Shape::Map(Shape::Text) => "mapping from names to texts".into(),
        Shape::List(item) => format!("list of: {}", holds(*item, chapters)),
        Shape::Map(value) => format!("mapping from names to: {}", holds(*value, chapters)),
        Shape::Stages(step) => format!("mapping from stages to lists of {}", link(step, chapters)),
        Shape::Block(block) => link(block, chapters),
        Shape::OneOf(shapes) => either(&shapes.iter().map(|shape| holds(*shape, chapters)).collect::<Vec<_>>()),
    }
}

fn link(block: &'static Block, chapters: &[Chapter]) -> String {
    let title = chapters.iter().find(|known| std::ptr::eq(known.block, block)).map_or("", |known| known.title.as_str());
    format!("[mapping](#{})", anchor(title))
}

/// What a heading is called in links, by the common renderers of Markdown.
fn anchor(title: &str) -> String {
    let title = title.to_lowercase().replace(' ', "-");
    title.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Keeps a sentence within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
