//! Turns the tree of a document into values of the merged configuration, by the types that the tables of keys give.
//!
//! A key stands there by its own name, whatever its spelling; a dotted one leads down; a scalar is what its key wants, or what it
//! means by itself where nothing is wanted.

use super::{Merged, MergedValue};
use crate::keys::{Block, Found, STEPS, Shape, TOP};
use crate::{Document, Entry, Node, Resolved, Scalar, Value};

/// Converts the root of a document.
pub(super) fn document(document: &Document, root: &Node) -> Merged {
    node(document, root, Shape::Block(&TOP))
}

fn node(document: &Document, node: &Node, shape: Shape) -> Merged {
    let shape = match shape {
        Shape::OneOf(shapes) => *shapes.iter().find(|shape| shape.misfit(node).is_none()).unwrap_or(&Shape::Any),
        shape => shape,
    };
    let value = match &node.value {
        Value::Scalar(value) => scalar(value, shape),
        Value::Seq(items) => {
            let item = match shape {
                Shape::List(item) => *item,
                Shape::Words => Shape::Text,
                _ => Shape::Any,
            };
            MergedValue::List(items.iter().map(|node| self::node(document, node, item)).collect())
        }
        Value::Map(entries) => {
            let mut map = Vec::new();
            for entry in entries {
                put(document, &mut map, entry, shape);
            }
            MergedValue::Map(map)
        }
    };
    Merged { value, origin: document.span(node.place), overrode: Vec::new() }
}

/// Puts an entry where its name leads.
fn put(document: &Document, map: &mut Vec<(String, Merged)>, entry: &Entry, shape: Shape) {
    let (path, shape) = lead(&entry.key, shape);
    let mut value = node(document, &entry.value, shape);
    let mut path: Vec<String> = path;
    let Some(first) = (!path.is_empty()).then(|| path.remove(0)) else { return };
    for name in path.into_iter().rev() {
        value = Merged {
            value: MergedValue::Map(vec![(name, value)]),
            origin: document.span(entry.key_place),
            overrode: Vec::new(),
        };
    }
    match map.iter_mut().find(|(known, _)| *known == first) {
        // `a.b: 1` beside `a.c: 2`, or beside `a: {c: 2}`.
        Some((_, known)) => super::merge_into(known, value, &mut Vec::new()),
        None => map.push((first, value)),
    }
}

/// Says where a key leads from here, and what is wanted there.
fn lead(key: &str, shape: Shape) -> (Vec<String>, Shape) {
    let alone = |shape| (vec![key.to_owned()], shape);
    let block = match shape {
        Shape::Block(block) => block,
        Shape::Map(value) => return alone(*value),
        Shape::Stages(_) => return alone(STEPS),
        _ => return alone(Shape::Any),
    };
    if let Found::Exact(found) | Found::Respelled(found) = block.find(key) {
        return (vec![found.name.to_owned()], found.shape);
    }
    if block.dotted && key.contains('.') {
        dotted(block, key).unwrap_or_else(|| alone(Shape::Any))
    } else {
        alone(Shape::Any)
    }
}

/// Follows a dotted key; `None` where it leads nowhere.
fn dotted(block: &'static Block, key: &str) -> Option<(Vec<String>, Shape)> {
    let mut shape = Shape::Block(block);
    let mut path = Vec::new();
    for part in key.split('.') {
        let Shape::Block(here) = shape else { return None };
        let (Found::Exact(found) | Found::Respelled(found)) = here.find(part) else { return None };
        path.push(found.name.to_owned());
        shape = found.shape;
    }
    Some((path, shape))
}

fn scalar(scalar: &Scalar, shape: Shape) -> MergedValue {
    if scalar.is_null() {
        return MergedValue::Null;
    }
    let wanted = match shape {
        Shape::Bool => scalar.as_bool().map(MergedValue::Bool),
        Shape::Int(..) => scalar.as_int().map(MergedValue::Int),
        Shape::Text | Shape::Path | Shape::Enum(_) | Shape::Words => Some(MergedValue::Text(scalar.text.clone())),
        _ => None,
    };
    wanted.unwrap_or_else(|| match scalar.resolve() {
        Resolved::Null => MergedValue::Null,
        Resolved::Bool(value) => MergedValue::Bool(value),
        Resolved::Int(value) => MergedValue::Int(value),
        Resolved::Float(value) => MergedValue::Float(value),
        Resolved::Text(value) => MergedValue::Text(value),
    })
}
