//! Functions of lists.

use super::{Arguments, Function, exactly, from, truth};
use crate::template::print::{kind, plain};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const ALL: &[Function] = &[
    from("list", 0, |it| Ok(it.all.to_vec().into())),
    from("tuple", 0, |it| Ok(it.all.to_vec().into())),
    exactly("len", 1, |it| {
        Ok(match it.value(0) {
            // In bytes, as Go counts it.
            Value::String(text) => text.len(),
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => return Err(it.wanted(0, "a text, a list or a mapping")),
        }
        .into())
    }),
    from("index", 1, |it| {
        let mut value = it.value(0);
        for at in 1..it.all.len() {
            value = item(it, value, at)?;
        }
        Ok(value.clone())
    }),
    from("slice", 1, slice),
    exactly("first", 1, |it| Ok(it.list(0)?.first().cloned().unwrap_or_default())),
    exactly("last", 1, |it| Ok(it.list(0)?.last().cloned().unwrap_or_default())),
    exactly("rest", 1, |it| Ok(it.list(0)?.get(1..).unwrap_or_default().to_vec().into())),
    exactly("initial", 1, |it| {
        let list = it.list(0)?;
        Ok(list.get(..list.len().saturating_sub(1)).unwrap_or_default().to_vec().into())
    }),
    exactly("append", 2, |it| {
        let mut list = it.list(0)?.clone();
        list.push(it.value(1).clone());
        Ok(list.into())
    }),
    exactly("prepend", 2, |it| {
        let mut list = it.list(0)?.clone();
        list.insert(0, it.value(1).clone());
        Ok(list.into())
    }),
    from("concat", 0, |it| {
        let lists = (0..it.all.len()).map(|at| it.list(at).cloned());
        Ok(lists.collect::<Result<Vec<_>, _>>()?.concat().into())
    }),
    exactly("has", 2, |it| Ok((!it.value(1).is_null() && it.list(1)?.contains(it.value(0))).into())),
    from("without", 1, |it| {
        let unwanted: BTreeSet<String> = it.all.get(1..).unwrap_or_default().iter().map(Value::to_string).collect();
        Ok(it.list(0)?.iter().filter(|item| !unwanted.contains(&item.to_string())).cloned().collect())
    }),
    exactly("uniq", 1, |it| {
        let mut seen = BTreeSet::new();
        Ok(it.list(0)?.iter().filter(|item| seen.insert(item.to_string())).cloned().collect())
    }),
    exactly("compact", 1, |it| Ok(it.list(0)?.iter().filter(|item| truth(item)).cloned().collect())),
    exactly("reverse", 1, |it| Ok(it.list(0)?.iter().rev().cloned().collect())),
    exactly("sortAlpha", 1, |it| {
        let mut texts = texts(it.value(0));
        texts.sort();
        Ok(texts.into())
    }),
    exactly("toStrings", 1, |it| Ok(texts(it.value(0)).into())),
    // `push` is an old name.
    exactly("push", 2, |it| {
        let mut list = it.list(0)?.clone();
        list.push(it.value(1).clone());
        Ok(list.into())
    }),
    exactly("chunk", 2, |it| {
        let size = usize::try_from(it.integer(0)?).ok().filter(|size| *size > 0);
        let size = size.ok_or_else(|| it.wanted(0, "a number above zero"))?;
        Ok(it.list(1)?.chunks(size).map(|part| Value::from(part.to_vec())).collect())
    }),
];

/// What is there of a list, as texts; what is no list becomes one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(plain).collect(),
        Value::Null => Vec::new(),
        value => vec![plain(value)],
    }
}

/// Takes an item by an argument: of a list by its place, of a mapping by its key. What a mapping lacks is nothing.
fn item<'a>(it: &Arguments<'_>, value: &'a Value, at: usize) -> Result<&'a Value, String> {
    const NOTHING: &Value = &Value::Null;
    match value {
        Value::Object(entries) => Ok(entries.get(it.text(at)?).unwrap_or(NOTHING)),
        Value::Array(items) => {
            let place = usize::try_from(it.integer(at)?).ok();
            place.and_then(|place| items.get(place)).ok_or_else(|| {
                format!("`index` {} is outside of a list with {} items", plain(it.value(at)), items.len())
            })
        }
        Value::Null => Err("`index` is given nothing to take an item of".to_owned()),
        other => Err(format!("`index` wants a list or a mapping; here is a {}", kind(other))),
    }
}

/// Go's own, of texts in bytes and of lists.
fn slice(it: &Arguments<'_>) -> Result<Value, String> {
    let place = |at: usize, otherwise: usize| if it.all.len() > at { it.size(at) } else { Ok(otherwise) };
    let outside = || "`slice` reaches outside".to_owned();
    match it.value(0) {
        Value::String(text) => {
            let (begin, end) = (place(1, 0)?, place(2, text.len())?);
            text.get(begin..end).map(Value::from).ok_or_else(outside)
        }
        _ => {
            let list = it.list(0)?;
            let (begin, end) = (place(1, 0)?, place(2, list.len())?);
            list.get(begin..end).map(|items| items.to_vec().into()).ok_or_else(outside)
        }
    }
}
