//! Reads settings of the system.

use super::Actions;
use crate::action::hostname_fault;
use crate::{Code, Node, Severity, SystemWork, Template, Work};

impl Actions<'_, '_> {
    pub fn hostname(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let text = reader.text(node, "`hostname`")?;
            match Template::parse(&text) {
                Err(error) => {
                    reader.say(
                        Severity::Warning,
                        Code::Template,
                        node.place,
                        format!("{error}; the host name is left alone"),
                    );
                    reader.hint("a host name has .MachineID, .Random and .UUID, as in `node-{{ trunc 4 .MachineID }}`");
                    Some(Work::NotSupported(error.to_string()))
                }
                Ok(template) => {
                    if let Some(fault) = hostname_fault(&text).filter(|_| template.is_plain()) {
                        reader.error(Code::BadValue, node.place, format!("`{text}` cannot be a host name: {fault}"));
                    }
                    Some(Work::System(SystemWork::Hostname(template)))
                }
            }
        });
        self.add("hostname".into(), node.place, work);
    }
}
