//! Reads `phone_home`: what is posted where when the machine is up.

use super::get;
use crate::reading::Reader;
use crate::step::Actions;
use crate::step::downloads::address;
use crate::suggest::nearest;
use crate::{Code, Entry, Node, PhoneHome, PhoneHomeFact, SettingWork, Work};

/// Tries where the configuration names no number; as many as cloud-init's.
const TRIES: u32 = 10;

pub(super) fn read(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "phone_home") else { return };
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`phone_home`");
        let Some(url) = get(entries, "url") else {
            reader.error(Code::BadValue, node.place, "`phone_home` needs a `url`");
            return None;
        };
        let url = address(reader, url, "`phone_home.url`")?;
        let facts = get(entries, "post").map_or_else(|| PhoneHomeFact::ALL.to_vec(), |node| facts(reader, node));
        let tries = get(entries, "tries").and_then(|node| tries(reader, node)).unwrap_or(TRIES);
        Some(Work::Setting(SettingWork::PhoneHome(PhoneHome { url, facts, tries })))
    });
    actions.add("phone_home".into(), node.place, work);
}

fn facts(reader: &mut Reader<'_>, node: &Node) -> Vec<PhoneHomeFact> {
    if node.scalar().is_some_and(|scalar| scalar.text == "all") {
        return PhoneHomeFact::ALL.to_vec();
    }
    let mut facts = Vec::new();
    for item in reader.list(node, "`phone_home.post`") {
        let Some(name) = reader.text(item, "what is posted") else { continue };
        if let Some(fact) = PhoneHomeFact::ALL.into_iter().find(|fact| fact.name() == name) {
            facts.push(fact);
            continue;
        }
        reader.error(Code::BadValue, item.place, format!("`{name}` is nothing that can be posted"));
        let names = PhoneHomeFact::ALL.map(|fact| fact.name());
        match nearest(&name, names.iter().map(String::as_str)) {
            Some(near) => reader.hint(format!("did you mean `{near}`?")),
            None => reader.hint(format!("there are {}", names.join(", "))),
        }
    }
    facts
}

/// A number; what is none is told, and the usual one counts, as in cloud-init.
fn tries(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let tries = reader.id(node, "`phone_home.tries`")?;
    if tries == 0 {
        reader.error(Code::BadValue, node.place, "`phone_home.tries` is at least 1");
    }
    Some(tries)
}
