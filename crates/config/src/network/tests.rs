//! The tables of keys and the readers agree: whatever a table lists is read, and nothing else is.

use super::keys::{Key, Standing, Table, ValueKind};
use super::{Dialect, parse};
use crate::{Code, Diagnostic, Document, Severity};

/// How a value looks that is right, in flow style; `None` where the table alone cannot say.
fn right(value: ValueKind) -> Option<String> {
    Some(match value {
        ValueKind::Bool => "true".into(),
        ValueKind::Whole(min, _) => min.to_string(),
        ValueKind::Text | ValueKind::Id | ValueKind::Device => "eth7".into(),
        ValueKind::Secret => "password".into(),
        ValueKind::Pattern => "e*".into(),
        ValueKind::Domain => "example.com".into(),
        ValueKind::Ip => "10.9.8.7".into(),
        ValueKind::Net => "10.9.8.7/24".into(),
        ValueKind::Mac => "'52:54:00:00:00:09'".into(),
        ValueKind::Millis => "100ms".into(),
        ValueKind::Word(words) => words.first()?.to_string(),
        ValueKind::List(item) => format!("[{}]", right(*item)?),
        ValueKind::OneOrMore(item) => right(*item)?,
        ValueKind::Either(kinds) => right(*kinds.first()?)?,
        ValueKind::Named(below) => format!("{{eth7: {}}}", right(*below)?),
        ValueKind::Block(_) | ValueKind::Tagged(..) | ValueKind::Any => return None,
    })
}

/// How a value looks that cannot be.
fn wrong(value: ValueKind) -> Option<String> {
    match value {
        ValueKind::Named(_) | ValueKind::Block(_) => Some("[[]]".into()),
        ValueKind::Any => None,
        _ => Some("{wrong: {}}".into()),
    }
}

/// Where a mapping of a table stands in a whole network: what comes before its keys and what after them.
#[derive(Clone)]
struct Frame {
    before: String,
    after: String,
    /// Keys that are there anyhow, since nothing is read without them.
    needs: Vec<(&'static str, &'static str)>,
    table: &'static Table,
}

/// Lists every mapping below one, with what is needed for it to be read.
fn frames(frame: Frame, all: &mut Vec<Frame>) {
    let needs = |table: &Table| -> Vec<(&'static str, &'static str)> {
        match table.what {
            "a route" if table.find("to").is_some() => vec![("to", "10.0.0.0/8")],
            "a route" => vec![("destination", "10.0.0.0")],
            "a subnet" => vec![("type", "static"), ("address", "10.0.0.2")],
            "a rule" => vec![("table", "7")],
            "`vlan`" => vec![("id", "7"), ("link", "eth7")],
            "a VLAN" if table.find("vlan_id").is_some() => vec![("vlan_id", "7"), ("vlan_link", "eth7")],
            "a VLAN" => vec![("id", "7"), ("link", "eth7")],
            "a wireless network" if table.find("ssid").is_some() => vec![("ssid", "x")],
            _ => vec![],
        }
    };
    let named = |table: &Table| table.find("name").is_some_and(|key| matches!(key.value, ValueKind::Id));
    for key in frame.table.keys().filter(|key| key.standing == Standing::Done) {
        let others: String = frame
            .needs
            .iter()
            .filter(|(name, _)| *name != key.name)
            .map(|(name, value)| format!("{name}: {value}, "))
            .collect();
        let mut below = |open: &str, close: &str, table: &'static Table, more: Vec<(&'static str, &'static str)>| {
            let mut needs = needs(table);
            needs.extend(more);
            if named(table) {
                needs.push(("name", "eth8"));
            }
            let before = format!("{}{others}{}: {open}", frame.before, key.name);
            frames(Frame { before, after: format!("{close}{}", frame.after), needs, table }, all);
        };
        match key.value {
            ValueKind::Block(table) => below("{", "}", table, vec![]),
            ValueKind::List(ValueKind::Block(table)) => below("[{", "}]", table, vec![]),
            ValueKind::OneOrMore(ValueKind::Block(table)) => below("[{", "}]", table, vec![]),
            ValueKind::List(ValueKind::Either([_, ValueKind::Named(ValueKind::Block(table))]))
            | ValueKind::OneOrMore(ValueKind::Either([_, ValueKind::Named(ValueKind::Block(table))])) => {
                below("[{10.0.0.1/8: {", "}}]", table, vec![]);
            }
            ValueKind::Named(ValueKind::Block(table)) => below("{eth8: {", "}}", table, vec![]),
            ValueKind::Either([ValueKind::List(ValueKind::Tagged(tag, tables)), ..]) => {
                for (name, table) in *tables {
                    below("[{", "}]", table, vec![(tag, name)]);
                }
            }
            _ => {}
        }
    }
    all.push(frame);
}

fn said(text: &str, dialect: Dialect) -> Vec<Diagnostic> {
    let document = Document::parse("t", text);
    let root = document.root.clone().unwrap_or_else(|| panic!("{text}: {:?}", document.diagnostics));
    parse(&document, &root, dialect).1
}

fn with(frame: &Frame, key: &Key, value: &str) -> String {
    let others = frame.needs.iter().filter(|(name, _)| *name != key.name);
    let others: String = others.map(|(name, value)| format!("{name}: {value}, ")).collect();
    format!("{{{}{others}{}: {value}{}}}", frame.before, key.name, frame.after)
}

#[test]
fn every_key_of_every_table_is_read_and_judged() {
    let mut keys = 0;
    for (dialect, table) in
        [(Dialect::Own, &super::keys::OWN), (Dialect::V1, &super::keys::V1), (Dialect::V2, &super::keys::V2)]
    {
        let mut all = Vec::new();
        frames(Frame { before: String::new(), after: String::new(), needs: vec![], table }, &mut all);
        assert!(all.len() > 5);
        for frame in all {
            for key in frame.table.keys() {
                assert!(!key.about.is_empty() && !key.about.ends_with('.'), "{}", key.name);
                keys += 1;
                if key.standing != Standing::Done {
                    let text = with(&frame, key, "1");
                    let about = said(&text, dialect);
                    assert!(
                        about.iter().any(|said| said.code == Code::NotSupported),
                        "nothing said of\n{text}\n{about:?}"
                    );
                    continue;
                }
                if let Some(value) = right(key.value) {
                    let text = with(&frame, key, &value);
                    let mut about = said(&text, dialect);
                    about.retain(|said| matches!(said.code, Code::UnknownKey | Code::WrongType | Code::DuplicateKey));
                    assert_eq!(about, [], "{text}");
                }
                if let Some(value) = wrong(key.value) {
                    let text = with(&frame, key, &value);
                    let column = u32::try_from(text.find(&value).unwrap() + 1).unwrap();
                    let about = said(&text, dialect);
                    let bad = |said: &&Diagnostic| said.severity == Severity::Error && said.span.place.column >= column;
                    assert!(about.iter().any(|said| bad(&said)), "`{}` is not judged in\n{text}\n{about:?}", key.name);
                }
            }
        }
    }
    assert!(keys > 300, "{keys}");
}

#[test]
fn the_schema_takes_what_the_readers_take_and_refuses_what_no_table_has() {
    let schema = jsonschema::draft7::new(&crate::schema("1")).unwrap();
    let accepts = |text: &str| {
        let root = Document::parse("t", &format!("network: {text}\n")).root.unwrap_or_else(|| panic!("{text}"));
        schema.is_valid(&crate::schema::plain(&root))
    };
    let mut keys = 0;
    for (version, table) in
        [("", &super::keys::OWN), ("version: 1, ", &super::keys::V1), ("version: 2, ", &super::keys::V2)]
    {
        let mut all = Vec::new();
        frames(Frame { before: String::new(), after: String::new(), needs: vec![], table }, &mut all);
        for frame in all {
            let versioned = |text: String| text.replacen('{', &format!("{{{version}"), 1);
            // What an item is cannot be another word.
            let is_fixed = |key: &Key| {
                key.name == "version" || frame.needs.iter().any(|(name, _)| (*name, key.name) == ("type", "type"))
            };
            for key in frame.table.keys().filter(|key| !is_fixed(key)) {
                if let Some(value) = right(key.value) {
                    let text = versioned(with(&frame, key, &value));
                    assert!(accepts(&text), "{text}");
                    let slip = versioned(with(&frame, key, &value).replace(
                        &format!("{}: {value}{}", key.name, frame.after),
                        &format!("{}q: {value}{}", key.name, frame.after),
                    ));
                    assert!(!accepts(&slip), "{slip}");
                }
                if let Some(value) = wrong(key.value).filter(|_| key.standing == Standing::Done) {
                    let text = versioned(with(&frame, key, &value));
                    assert!(!accepts(&text), "{text}");
                }
                keys += 1;
            }
        }
    }
    assert!(keys > 300, "{keys}");
    for (text, good) in [
        ("{config: disabled}", true),
        ("{ethernets: {eth0: {dhcp4: yes, dhcp4_overrides: {use_dns: false}}}}", true),
        ("{version: '2', bonds: {b: {parameters: {mode: Active-Backup, aging-time: 1}}}}", false),
        ("{version: '2', bonds: {b: {parameters: {mode: Active-Backup, all-slaves-active: true}}}}", true),
        ("{version: 3, interfaces: []}", false),
        ("{interfaces: [{name: a, addresses: [10.0.0.1]}]}", false),
        ("{version: 1, config: [{type: physcal, name: a}]}", false),
    ] {
        assert_eq!(accepts(text), good, "{text}");
    }
}

#[test]
fn the_schema_takes_whole_examples() {
    let schema = jsonschema::draft7::new(&crate::schema("1")).unwrap();
    for (version, text) in [
        ("", include_str!("../../tests/network/own.yaml")),
        ("1", include_str!("../../tests/network/v1.yaml")),
        ("2", include_str!("../../tests/network/v2.yaml")),
    ] {
        let mut root = crate::schema::plain(&Document::parse("t", text).root.unwrap());
        if root.get("network").is_none() {
            root = serde_json::json!({ "network": root });
        }
        let errors: Vec<String> =
            schema.iter_errors(&root).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "version {version}: {errors:?}");
    }
}

#[test]
fn no_two_keys_of_a_table_are_the_same() {
    for (_, table) in
        [(Dialect::Own, &super::keys::OWN), (Dialect::V1, &super::keys::V1), (Dialect::V2, &super::keys::V2)]
    {
        let mut all = Vec::new();
        frames(Frame { before: String::new(), after: String::new(), needs: vec![], table }, &mut all);
        for Frame { table, .. } in all {
            for key in table.keys() {
                assert!(std::ptr::eq(table.find(key.name).unwrap(), key), "{} in {}", key.name, table.what);
            }
            for (alias, name) in table.aliases {
                assert_eq!(table.find(alias).map(|key| key.name), Some(*name), "{alias} in {}", table.what);
            }
        }
    }
}
