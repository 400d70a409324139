//! Merging against an independent model of its rules, and its laws.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test's panic is its verdict.

use kairn_config::{Document, merge};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The rules once more, on values without places: later wins, mappings merge, lists of mappings are joined, other lists become
/// their union, a later null resets, kinds that differ keep the earlier.
fn model(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            for (key, value) in b {
                let merged = match a.remove(&key) {
                    Some(before) => model(before, value),
                    None => value,
                };
                a.insert(key, merged);
            }
            Value::Object(a)
        }
        (Value::Array(mut a), Value::Array(b)) => {
            let joined = a.is_empty() || a[0].is_object();
            for item in b {
                if joined || !a.contains(&item) {
                    a.push(item);
                }
            }
            Value::Array(a)
        }
        (Value::Null, b) => b,
        (a, Value::Null) => match a {
            Value::Bool(_) => json!(false),
            Value::Number(_) => json!(0),
            Value::String(_) => json!(""),
            Value::Array(_) => json!([]),
            _ => json!({}),
        },
        (a, b) => {
            let same = std::mem::discriminant(&a) == std::mem::discriminant(&b);
            if same { b } else { a }
        }
    }
}

fn merged(values: &[&Value]) -> Value {
    let parse = |value: &&Value| Document::parse("t", &format!("#cloud-config\n{value}\n"));
    merge(&values.iter().map(parse).collect::<Vec<_>>()).merged.to_json()
}

/// Keys that no table knows, so that values mean what they mean by themselves.
fn document(nulls: bool) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-3..9_i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        Just(if nulls { Value::Null } else { json!(1) }),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        let map = prop::collection::btree_map("[p-s]", inner.clone(), 0..4);
        let map = map.prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>()));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            prop::collection::vec(map.clone(), 0..3).prop_map(Value::Array),
            map,
        ]
    });
    prop::collection::btree_map("x-[k-n]", value, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// A document of one shape: each key always has a value of the same kind.
fn of_equal_kinds() -> impl Strategy<Value = Value> {
    let texts = prop::collection::vec("[a-d]", 0..4);
    let maps = prop::collection::vec(prop::collection::btree_map("[p-r]", 0..5_i64, 0..3), 0..3);
    (any::<bool>(), 0..9_i64, texts, maps, prop::collection::btree_map("[u-w]", "[a-c]{0,2}", 0..3)).prop_map(
        |(flag, number, texts, maps, map)| {
            json!({"x-flag": flag, "x-number": number, "x-texts": texts, "x-maps": maps, "x-map": map})
        },
    )
}

proptest! {
    #[test]
    fn merging_is_a_left_fold_of_the_rules(documents in prop::collection::vec(document(true), 1..5)) {
        let expected = documents.iter().cloned().fold(json!({}), model);
        prop_assert_eq!(merged(&documents.iter().collect::<Vec<_>>()), expected);
    }

    #[test]
    fn merging_is_associative_where_kinds_are_equal_and_nothing_is_null(
        a in of_equal_kinds(), b in of_equal_kinds(), c in of_equal_kinds()
    ) {
        let left = merged(&[&merged(&[&a, &b]), &c]);
        let right = merged(&[&a, &merged(&[&b, &c])]);
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(left, merged(&[&a, &b, &c]));
    }

    #[test]
    fn a_configuration_merged_with_nothing_is_itself(a in document(false)) {
        prop_assert_eq!(merged(&[&a]), a.clone());
        prop_assert_eq!(merged(&[&json!({}), &a, &json!({})]), a);
    }
}
