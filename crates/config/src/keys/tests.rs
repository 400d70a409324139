//! The tables against themselves and against the readers.

use super::*;
use crate::{Code, Diagnostic, Document, Severity, validate, yaml};
use std::collections::BTreeSet;

/// A key, and the text of a document before and after it that puts it where it belongs.
pub(crate) struct Placed {
    pub key: &'static Key,
    pub before: String,
    pub after: String,
}

/// Returns every key of every block, each once, in a place where it may stand.
pub(crate) fn every_key() -> Vec<Placed> {
    fn add(block: &'static Block, before: &str, after: &str, seen: &mut Vec<*const Block>, out: &mut Vec<Placed>) {
        let address: *const Block = block;
        if seen.contains(&address) {
            return;
        }
        seen.push(address);
        for key in block.keys {
            out.push(Placed { key, before: before.to_owned(), after: after.to_owned() });
            descend(key.shape, &format!("{before}{}: ", key.name), after, seen, out);
        }
    }
    fn descend(shape: Shape, before: &str, after: &str, seen: &mut Vec<*const Block>, out: &mut Vec<Placed>) {
        match shape {
            Shape::Block(block) => add(block, &format!("{before}{{"), &format!("}}{after}"), seen, out),
            Shape::List(item) => descend(*item, &format!("{before}["), &format!("]{after}"), seen, out),
            Shape::Map(value) => descend(*value, &format!("{before}{{a: "), &format!("}}{after}"), seen, out),
            Shape::Stages(step) => add(step, &format!("{before}{{boot: [{{"), &format!("}}]}}{after}"), seen, out),
            Shape::OneOf(shapes) => shapes.iter().for_each(|shape| descend(*shape, before, after, seen, out)),
            _ => {}
        }
    }
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    for block in TOP_BLOCKS {
        add(block, "#cloud-config\n{", "}\n", &mut seen, &mut out);
    }
    out
}

#[test]
fn every_key_says_in_one_sentence_what_it_is_for() {
    let keys = every_key();
    assert!(keys.len() > 300, "{}", keys.len());
    for Placed { key, before, .. } in keys {
        let about = key.about;
        let whole =
            about.ends_with('.') && !about.contains(". ") && about.starts_with(|c: char| c.is_ascii_uppercase());
        assert!(whole && about.len() <= 100, "{before}{}: {about}", key.name);
    }
}

#[test]
fn no_block_has_a_name_twice() {
    let mut top = BTreeSet::new();
    for key in TOP_BLOCKS.iter().flat_map(|block| block.keys) {
        assert!(top.insert(key.name), "{}", key.name);
    }
    for Placed { key, .. } in every_key() {
        let Shape::Block(block) = key.shape else { continue };
        let names: BTreeSet<_> = block.keys.iter().map(|key| key.name.replace('-', "_")).collect();
        assert_eq!(names.len(), block.keys.len(), "{}", block.what);
        for (other, meant) in block.aliases.iter().chain(block.former) {
            assert!(matches!(block.find(other), Found::Respelled(key) if key.name == *meant), "{other}");
        }
    }
}

#[test]
fn every_key_has_an_example_or_shows_those_below_it() {
    fn is_shown_below(shape: Shape) -> bool {
        match shape {
            Shape::Any | Shape::Block(_) => true,
            Shape::List(below) | Shape::Map(below) => is_shown_below(*below),
            Shape::OneOf(shapes) => shapes.iter().any(|shape| is_shown_below(*shape)),
            _ => false,
        }
    }
    let without = every_key().into_iter().filter(|placed| placed.key.yaml().is_none());
    let without: Vec<_> =
        without.filter(|placed| !is_shown_below(placed.key.shape)).map(|placed| placed.key.name).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn every_example_is_what_it_shows() {
    for Placed { key, before, after } in every_key() {
        let Some(example) = key.yaml() else { continue };
        let parsed = yaml::read("example", &example);
        assert_eq!(parsed.diagnostics, [], "{example}");
        let root = parsed.root.unwrap();
        assert_eq!(root.entries().unwrap().len(), 1, "{example}");
        let value = crate::schema::plain(root.get(key.name).unwrap());
        assert!(!value.is_null(), "{example}");
        let text = format!("{before}{}: {value}{after}", key.name);
        let said = validate(&[Document::parse("example", &text)]);
        // The example of one key need not have the others of its block, nor the steps that it names.
        let lacking = |said: &Diagnostic| {
            said.code == Code::BadReference
                || said.message.contains("is missing")
                || said.message.contains(" needs a `")
                || said.message.contains(" needs the `")
        };
        let mut wrong = said.iter().filter(|said| said.severity == Severity::Error && !lacking(said));
        assert!(wrong.next().is_none(), "{text}: {said:?}");
    }
}
