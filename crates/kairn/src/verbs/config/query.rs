//! Questions to a configuration, in the language of jq.

use jaq_core::load::{Arena, Error as LoadError, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};
use kairn_report::{Diagnostic, Kind};
use serde_json::Value;
use thiserror::Error as ThisError;

/// A query that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum QueryError {
    /// It is not jq.
    #[error("`{query}` is no query: it cannot be read at {at}")]
    Syntax {
        /// The query.
        query: String,
        /// From where on it cannot be read.
        at: String,
    },
    /// It names a function or variable that is not there.
    #[error("`{query}` is no query: there is no {kind} `{name}`")]
    Undefined {
        /// The query.
        query: String,
        /// What is missing.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It was read, and then failed.
    #[error("`{query}` fails: {why}")]
    Failed {
        /// The query.
        query: String,
        /// Why.
        why: String,
    },
}

impl Diagnostic for QueryError {
    fn kind(&self) -> Kind {
        Kind::User
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "a query is a key path of jq, such as `install.device`; a key with a dash needs quotes: '\"k3s-agent\".args'"
                .into(),
        ]
    }
}

/// Answers `QUERY`: the results of `.QUERY` that are not null, in order. A dot in front may be there already.
///
/// # Errors
/// It is not of the language, or fails on this value.
pub fn query(query: &str, value: &Value) -> Result<Vec<Value>, QueryError> {
    let path = query.trim();
    let path = path.strip_prefix('.').unwrap_or(path);
    let code = format!(".{path} | if type == \"null\" then empty else . end");
    let failed = |why: String| QueryError::Failed { query: query.to_owned(), why };
    let syntax = |rest: &str| QueryError::Syntax { query: query.to_owned(), at: head(rest) };
    let arena = Arena::default();
    let loader = Loader::new(jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()));
    let modules = loader.load(&arena, File { code: code.as_str(), path: () }).map_err(|errors| {
        let rest = errors.iter().find_map(|(_, error)| match error {
            LoadError::Io(files) => files.first().map(|(name, _)| *name),
            LoadError::Lex(faults) => faults.first().map(|(_, rest)| *rest),
            LoadError::Parse(faults) => faults.first().map(|(_, rest)| *rest),
        });
        syntax(rest.unwrap_or_default())
    })?;
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
        let first = errors.iter().flat_map(|(_, faults)| faults).next();
        first.map_or_else(
            || syntax(""),
            |(name, what)| QueryError::Undefined {
                query: query.to_owned(),
                kind: what.as_str(),
                name: (*name).to_owned(),
            },
        )
    })?;
    let text = value.to_string();
    let input = read::parse_single(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let results = filter.id.run((context, input)).map(unwrap_valr);
    results
        .map(|result| {
            let value = result.map_err(|error| failed(error.to_string()))?;
            // What JSON has no words for, such as binary text and infinity, is no answer.
            serde_json::from_str(&value.to_string()).map_err(|error| failed(format!("a result is not JSON: {error}")))
        })
        .collect()
}

/// The beginning of what could not be read.
fn head(rest: &str) -> String {
    // The query ends before what was put behind it.
    let rest = rest.split(" | if type == ").next().unwrap_or_default();
    if rest.is_empty() { "its end".to_owned() } else { format!("`{}`", rest.chars().take(30).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries_are_answered_as_kairos_answers_them() {
        let value = json!({
            "k3s": {"enabled": true, "args": ["--a", "--b"]}, "k3s-agent": {"args": [1]}, "users": [{"name": "ann"}, {"name": "bob"}],
            "none": null, "f": 1.5,
        });
        for (text, expected) in [
            ("k3s.enabled", vec![json!(true)]),
            (".k3s.enabled", vec![json!(true)]),
            ("k3s.args", vec![json!(["--a", "--b"])]),
            ("\"k3s-agent\".args", vec![json!([1])]),
            ("k3s.args[]", vec![json!("--a"), json!("--b")]),
            ("users[1].name", vec![json!("bob")]),
            ("users[].name | ascii_upcase", vec![json!("ANN"), json!("BOB")]),
            ("users | map(select(.name | test(\"^b\"))) | length", vec![json!(1)]),
            ("f * 2", vec![json!(3.0)]),
            ("absent.below", vec![]),
            ("none", vec![]),
            ("", vec![value.clone()]),
        ] {
            assert_eq!(query(text, &value).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_query_is_named_with_its_fault() {
        let value = json!({"a": {"b": "x"}});
        for (text, said) in [
            ("a[", "`a[` is no query: it cannot be read at its end"),
            ("a | nope", "`a | nope` is no query: there is no filter `nope`"),
            ("a | $x", "`a | $x` is no query: there is no variable `$x`"),
            ("a.b.c", "`a.b.c` fails: cannot index \"x\" with \"c\""),
        ] {
            let error = query(text, &value).unwrap_err();
            assert_eq!(error.to_string(), said, "{text}");
            assert_eq!(error.kind(), Kind::User);
        }
    }
}
