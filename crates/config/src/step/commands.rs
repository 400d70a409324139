//! Reads commands.

use super::Actions;
use crate::{CommandWork, Node, Work};
use kairn_report::Secret;

impl Actions<'_, '_> {
    /// Texts go to the shell, lists are programs with their arguments.
    pub fn commands(&mut self, node: &Node, what: &str) {
        self.each(node, what, |actions, index, item| {
            let label = format!("command {}", index + 1);
            let work = actions.reader.attempt(|reader| {
                if item.items().is_some() {
                    let mut words = Vec::new();
                    for word in reader.list(item, "a command") {
                        let text = reader.text(word, "an argument")?;
                        words.push(reader.template(text, word.place, "a command"));
                    }
                    let program = || Work::Command(CommandWork::Program(Secret::new(words)));
                    return (!item.items().unwrap_or_default().is_empty()).then(program);
                }
                let text = reader.text(item, "a command")?;
                Some(Work::Command(CommandWork::Shell(Secret::new(reader.template(text, item.place, "a command")))))
            });
            actions.add(label, item.place, work);
        });
    }
}
