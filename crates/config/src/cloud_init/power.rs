//! Reads what happens at the end of boot: `final_message` and `power_state`.

use super::get;
use crate::reading::Reader;
use crate::step::Actions;
use crate::{Code, Entry, Node, PowerCondition, PowerMode, PowerState, SettingWork, Work};

pub(super) fn message(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "final_message") else { return };
    let work = actions.reader.attempt(|reader| {
        let text = reader.text(node, "`final_message`")?;
        Some(Work::Setting(SettingWork::Message(text.as_str().into())))
    });
    actions.add("final_message".into(), node.place, work);
}

pub(super) fn state(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "power_state") else { return };
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`power_state`");
        let Some(mode) = get(entries, "mode") else {
            reader.error(Code::BadValue, node.place, "`power_state` needs a `mode`");
            reader.hint("there are `poweroff`, `reboot` and `halt`");
            return None;
        };
        let text = reader.text(mode, "`power_state.mode`")?;
        let mode = match text.as_str() {
            "poweroff" => Some(PowerMode::Poweroff),
            "reboot" => Some(PowerMode::Reboot),
            "halt" => Some(PowerMode::Halt),
            _ => {
                reader.error(Code::BadValue, mode.place, format!("`{text}` is no mode of `power_state`"));
                reader.hint("there are `poweroff`, `reboot` and `halt`");
                None
            }
        };
        let delay = get(entries, "delay").map_or(Some(0), |node| delay(reader, node));
        let message = get(entries, "message").and_then(|node| reader.text(node, "`power_state.message`"));
        let condition = get(entries, "condition").map_or(Some(PowerCondition::Always), |node| condition(reader, node));
        if let Some(node) = get(entries, "timeout") {
            reader.id(node, "`power_state.timeout`");
        }
        // A condition that is false is an order for nothing.
        let state = PowerState { mode: mode?, delay: delay?, message, condition: condition? };
        Some(Work::Setting(SettingWork::Power(state)))
    });
    actions.add("power_state".into(), node.place, work);
}

/// `now`, or a number of minutes, with or without `+`.
fn delay(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let text = reader.text(node, "`power_state.delay`")?;
    if text == "now" {
        return Some(0);
    }
    let minutes = text.strip_prefix('+').unwrap_or(&text).parse().ok();
    if minutes.is_none() {
        let message = format!("`power_state.delay` is `now` or a number of minutes such as `+5`, not `{text}`");
        reader.error(Code::BadValue, node.place, message);
    }
    minutes
}

fn condition(reader: &mut Reader<'_>, node: &Node) -> Option<PowerCondition> {
    if node.items().is_some() {
        let mut words = Vec::new();
        for item in reader.list(node, "`power_state.condition`") {
            let text = reader.text(item, "a word of `power_state.condition`")?;
            words.push(reader.template(text, item.place, "`condition`"));
        }
        if words.is_empty() {
            reader.error(Code::BadValue, node.place, "`power_state.condition` names no program");
        }
        return Some(PowerCondition::Program(words));
    }
    let scalar = node.scalar();
    // Only the words themselves: `true` is a program too, but with the same answer.
    match scalar.map(|scalar| scalar.text.as_str()) {
        Some("true" | "True") => Some(PowerCondition::Always),
        Some("false" | "False") => None,
        Some(line) => Some(PowerCondition::Shell(reader.template(line.to_owned(), node.place, "`condition`"))),
        None => {
            let message = format!("`power_state.condition` is `true`, `false` or a command, not {}", node.kind());
            reader.error(Code::WrongType, node.place, message);
            None
        }
    }
}
