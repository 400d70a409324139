//! The schema against its own meta-schema and against what [`crate::validate`] says.

use super::*;
use crate::classify::{classify, tests::FAULTS};
use crate::keys::tests::{Placed, every_key};
use crate::{Document, Severity};
use jsonschema::Validator;
use proptest::prelude::*;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| schema("1.2.3"));
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft7::new(&SCHEMA).unwrap());

/// Returns what the schema says of a text, as an editor would see it, and what the tables say.
fn judged(text: &str) -> (Vec<String>, Vec<String>) {
    let document = Document::parse("t", text);
    assert_eq!(document.diagnostics, [], "{text}");
    let root = document.root.as_ref().map_or(Json::Null, plain);
    let by_schema = VALIDATOR.iter_errors(&root).map(|error| format!("{}: {error}", error.instance_path())).collect();
    let errors = classify(&document).into_iter().filter(|said| said.severity == Severity::Error);
    (by_schema, errors.map(|said| said.to_string()).collect())
}

#[test]
fn the_schema_is_one_of_draft_7() {
    jsonschema::draft7::meta::validate(&SCHEMA).unwrap();
    assert_eq!(SCHEMA["title"], "Configuration of a Kairn machine, version 1.2.3");
}

#[test]
fn every_reference_leads_to_a_definition_and_every_definition_is_wanted() {
    let text = SCHEMA.to_string();
    let definitions = SCHEMA["definitions"].as_object().unwrap();
    for name in definitions.keys() {
        assert!(text.contains(&format!("\"#/definitions/{name}\"")), "{name}");
    }
    for wanted in text.split("\"#/definitions/").skip(1) {
        assert!(definitions.contains_key(wanted.split('"').next().unwrap()), "{wanted}");
    }
}

#[test]
fn every_key_of_every_block_is_in_the_schema_with_what_it_is_for() {
    for block in TOP_BLOCKS {
        for key in block.keys {
            let description = SCHEMA["properties"][key.name]["description"].as_str().unwrap();
            assert!(description.starts_with(key.about), "{}", key.name);
            assert_eq!(description.ends_with("Not supported yet."), key.standing == Standing::NotYet);
        }
    }
    for (path, about) in [
        ("/definitions/stages/properties/files/description", "Writes files."),
        ("/definitions/stages.files/properties/permissions/description", "Sets its permissions; 0644 without it."),
        (
            "/definitions/install/properties/no-format/description",
            "Leaves the partitions of the disk as they are. Not supported yet.",
        ),
        ("/definitions/p2p.vpn/properties/vpn/deprecationMessage", "write `create`"),
        ("/properties/kairos/deprecationMessage", "write `p2p`"),
    ] {
        assert_eq!(SCHEMA.pointer(path).unwrap(), about, "{path}");
    }
}

#[test]
fn good_documents_are_accepted() {
    for text in [
        "",
        "{}",
        "#cloud-config\nhostname: a\nx-mine: {any: thing}\nsomebody: {elses: key}\n",
        "users: [default, {name: a, uid: '1000', lock_passwd: yes, groups: 'a, b', x-note: 1}]\n",
        "stages: {boot.before: [{name: 7, files: [{path: /a, permissions: 0644, content: 1}]}, ~], mine: [{if: true}]}\n",
        "install: {partitions.oem.size: 60, partitions: {state: {size: 4096}}, device: auto}\n",
        "kubevip: {enable: true, vip_cidr: 32}\nk0s: {anything: goes}\nkairos: {vpn: {vpn: true}}\n",
        "write_files: [{path: /a/b..c, permissions: '0o644', encoding: gz+b64}]\nstrict: all\nswap: {size: 2G}\n",
    ] {
        let (by_schema, by_tables) = judged(text);
        assert!(by_schema.is_empty() && by_tables.is_empty(), "{text}: {by_schema:?} {by_tables:?}");
    }
}

#[test]
fn what_the_tables_refuse_the_schema_refuses_too() {
    let unknown = [
        "install: {devise: auto}\n",
        "users: [{nam: a}]\n",
        "stages: {boot: [{comands: [a]}]}\n",
        "stages: {boot: [{files: [{path: /a, permsisions: 1}]}]}\n",
        "p2p: {auto: {ha: {masters: 1}}}\n",
        "install: {partitions.oem.siz: 60}\n",
    ];
    for text in FAULTS.iter().map(|(text, _)| *text).chain(unknown) {
        let (by_schema, by_tables) = judged(text);
        assert!(!by_schema.is_empty() && !by_tables.is_empty(), "{text}: {by_schema:?} {by_tables:?}");
    }
}

#[test]
fn no_value_of_any_key_passes_the_schema_and_fails_the_tables() {
    let (mut accepted, mut refused) = (0, 0);
    for Placed { key, before, after } in every_key() {
        for value in VALUES {
            let text = format!("{before}{}: {value}{after}", key.name);
            let (by_schema, by_tables) = judged(&text);
            assert!(!by_schema.is_empty() || by_tables.is_empty(), "{text}: {by_tables:?}");
            *(if by_schema.is_empty() { &mut accepted } else { &mut refused }) += 1;
        }
    }
    assert!(accepted > 2000 && refused > 2000, "{accepted} accepted, {refused} refused");
}

/// Makes documents from a row of numbers: each choice takes the next.
struct Choices(std::vec::IntoIter<u16>);

/// Values of all kinds, as YAML within a flow. Decimal permissions are left out: once they are numbers, no schema can tell 888
/// from 01570.
const VALUES: &[&str] = &[
    "",
    "~",
    "a",
    "true",
    "'true'",
    "yes",
    "Off",
    "0",
    "7",
    "0644",
    "'0644'",
    "'0999'",
    "-1",
    "65536",
    "99999999999",
    "1.5",
    "'12'",
    "/a",
    "/a/../b",
    "/..",
    "all",
    "512M",
    "'2 GB'",
    "2X",
    "reboot",
    "worker",
    "b64",
    "[a]",
    "[[a]]",
    "{a: b}",
    "[]",
    "{}",
    "[{}]",
    "'x y'",
    "auto",
    "text",
    "'/a/'",
    "1970-01-01",
];

impl Choices {
    fn next(&mut self, of: usize) -> usize {
        usize::from(self.0.next().unwrap_or_default()) % of
    }

    fn any(&mut self) -> String {
        let index = self.next(VALUES.len());
        VALUES[index].to_owned()
    }

    fn block(&mut self, block: &'static Block, depth: usize) -> String {
        let mut entries: Vec<(String, String)> = Vec::new();
        for _ in 0..self.next(4) {
            let (name, value) = match self.next(24) {
                0 => ("x-free".to_owned(), self.any()),
                1 => ("nothing_of_the_kind".to_owned(), self.any()),
                _ => {
                    let key = &block.keys[self.next(block.keys.len())];
                    (key.name.to_owned(), self.value(key.shape, depth))
                }
            };
            if entries.iter().all(|(known, _)| *known != name) {
                entries.push((name, value));
            }
        }
        let entries: Vec<_> = entries.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{{{}}}", entries.join(", "))
    }

    fn value(&mut self, shape: Shape, depth: usize) -> String {
        if depth == 0 || self.next(8) == 0 {
            return self.any();
        }
        match shape {
            Shape::List(item) => format!("[{}, {}]", self.value(*item, depth - 1), self.value(*item, depth - 1)),
            Shape::Map(value) => format!("{{a: {}}}", self.value(*value, depth - 1)),
            Shape::Block(block) => self.block(block, depth - 1),
            Shape::Stages(step) => format!("{{boot: [{}]}}", self.block(step, depth - 1)),
            Shape::OneOf(shapes) => {
                let index = self.next(shapes.len());
                self.value(shapes[index], depth)
            }
            Shape::Enum(texts) => format!("'{}'", texts[self.next(texts.len())]),
            _ => self.any(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_schema_accepts_the_tables_accept(choices in prop::collection::vec(any::<u16>(), 0..60)) {
        let mut choices = Choices(choices.into_iter());
        let block = TOP_BLOCKS[choices.next(TOP_BLOCKS.len())];
        let text = choices.block(block, 6);
        // A list of two empty items cannot be written as `[, ]`.
        prop_assume!(Document::parse("t", &text).diagnostics.is_empty());
        let (by_schema, by_tables) = judged(&text);
        prop_assert!(!by_schema.is_empty() || by_tables.is_empty(), "{}: {:?}", text, by_tables);
    }
}
