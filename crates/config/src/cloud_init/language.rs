//! Reads how people talk to the machine: `locale` and `keyboard`.

use super::get;
use crate::reading::Reader;
use crate::step::Actions;
use crate::{Code, Entry, Keyboard, Locale, SettingWork, Work};

pub(super) fn locale(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "locale") else { return };
    // `false` leaves it to the distribution.
    if node.scalar().is_some_and(|scalar| scalar.as_bool() == Some(false)) {
        return;
    }
    let file = get(entries, "locale_configfile");
    let work = actions.reader.attempt(|reader| {
        let name = reader.text(node, "`locale`")?;
        // locale(7): language, territory, character set, modifier.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.@-".contains(c)) {
            reader.error(Code::BadValue, node.place, format!("`{name}` cannot name a locale"));
            reader.hint("a locale is written as `de_DE.UTF-8`");
        }
        let file = file.and_then(|node| reader.path(node, "`locale_configfile`"));
        Some(Work::Setting(SettingWork::Locale(Locale { name, file })))
    });
    actions.add("locale".into(), node.place, work);
}

pub(super) fn keyboard(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "keyboard") else { return };
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`keyboard`");
        let layout = field(reader, entries, "layout").filter(|layout| !layout.is_empty());
        if layout.is_none() && node.entries().is_some() {
            reader.error(Code::BadValue, node.place, "`keyboard` needs a `layout`");
        }
        let model = field(reader, entries, "model").unwrap_or_else(|| "pc105".to_owned());
        let variant = field(reader, entries, "variant").unwrap_or_default();
        let options = field(reader, entries, "options").unwrap_or_default();
        Some(Work::Setting(SettingWork::Keyboard(Keyboard { layout: layout?, model, variant, options })))
    });
    actions.add("keyboard".into(), node.place, work);
}

fn field(reader: &mut Reader<'_>, entries: &[Entry], key: &str) -> Option<String> {
    let node = get(entries, key)?;
    let what = format!("`keyboard.{key}`");
    let text = reader.text(node, &what)?;
    // It becomes a word of a file that shells read.
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_-+:,.()".contains(c)) {
        reader.error(
            Code::BadValue,
            node.place,
            format!("{what} has letters, digits and `_-+:,.()` only, not `{text}`"),
        );
    }
    Some(text)
}
