//! Functions of mappings. Those that sprig lets change a mapping make a changed one, which takes the place of the variable that was given.

use super::{Arguments, Function, changing, exactly, from, truth};
use crate::template::print::{kind, plain};
use serde_json::{Map, Value};

pub(super) const ALL: &[Function] = &[
    from("dict", 0, |it| {
        let pairs = it.all.chunks(2).map(|pair| match pair {
            [key, value] => (plain(key), value.clone()),
            // A key without a value has an empty one.
            rest => (rest.first().map(plain).unwrap_or_default(), "".into()),
        });
        Ok(pairs.collect())
    }),
    // Of what is not there, a text that is empty: sprig's own choice.
    exactly("get", 2, |it| Ok(it.map(0)?.get(it.text(1)?).cloned().unwrap_or_else(|| "".into()))),
    exactly("hasKey", 2, |it| Ok(it.map(0)?.contains_key(it.text(1)?).into())),
    from("keys", 0, |it| {
        let mut keys = Vec::new();
        for at in 0..it.all.len() {
            keys.extend(it.map(at)?.keys().map(|key| Value::from(key.as_str())));
        }
        Ok(keys.into())
    }),
    exactly("values", 1, |it| Ok(it.map(0)?.values().cloned().collect())),
    from("pluck", 1, |it| {
        let key = it.text(0)?;
        let maps = (1..it.all.len()).map(|at| it.map(at).map(|map| map.get(key).cloned()));
        Ok(maps.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }),
    from("dig", 3, |it| {
        let mut value = it.value(it.last());
        for at in 0..it.last() - 1 {
            let entries = value
                .as_object()
                .ok_or_else(|| format!("`dig` found a {} above `{}`", kind(value), it.text(at).unwrap_or_default()))?;
            match entries.get(it.text(at)?) {
                Some(found) => value = found,
                None => return Ok(it.value(it.last() - 1).clone()),
            }
        }
        Ok(value.clone())
    }),
    changing("set", (3, Some(3)), |it| {
        let mut map = it.map(0)?.clone();
        map.insert(it.text(1)?.to_owned(), it.value(2).clone());
        Ok(map.into())
    }),
    changing("unset", (2, Some(2)), |it| {
        let mut map = it.map(0)?.clone();
        map.remove(it.text(1)?);
        Ok(map.into())
    }),
    from("pick", 1, |it| {
        let wanted = it.all.get(1..).unwrap_or_default();
        let has = |key: &str| wanted.iter().any(|name| name.as_str() == Some(key));
        Ok(it.map(0)?.iter().filter(|(key, _)| has(key)).map(|(key, value)| (key.clone(), value.clone())).collect())
    }),
    from("omit", 1, |it| {
        let unwanted = it.all.get(1..).unwrap_or_default();
        let has = |key: &str| unwanted.iter().any(|name| name.as_str() == Some(key));
        Ok(it.map(0)?.iter().filter(|(key, _)| !has(key)).map(|(key, value)| (key.clone(), value.clone())).collect())
    }),
    changing("merge", (1, None), |it| merged(it, false)),
    changing("mergeOverwrite", (1, None), |it| merged(it, true)),
];

/// Lays mappings over the first one; what is empty counts as absent, as sprig's library for it has it.
fn merged(it: &Arguments<'_>, overwrite: bool) -> Result<Value, String> {
    let mut sum = it.map(0)?.clone();
    for at in 1..it.all.len() {
        lay(&mut sum, it.map(at)?, overwrite);
    }
    Ok(sum.into())
}

fn lay(sum: &mut Map<String, Value>, over: &Map<String, Value>, overwrite: bool) {
    for (key, value) in over {
        match (sum.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => lay(below, above, overwrite),
            (Some(present), value) if if overwrite { truth(value) } else { !truth(present) } => {
                *present = value.clone()
            }
            (Some(_), _) => {}
            (None, value) => {
                sum.insert(key.clone(), value.clone());
            }
        }
    }
}
