//! `reset`, read from the merged configuration.

use crate::install::{flag, one_end};
use crate::{Code, Diagnostic, Merged, MergedValue, Severity};

/// What `reset` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetOptions {
    /// Formats the persistent partition.
    pub persistent: bool,
    /// Formats the OEM partition.
    pub oem: bool,
    /// Reboots afterwards.
    pub reboot: bool,
    /// Powers off afterwards.
    pub poweroff: bool,
}

impl Default for ResetOptions {
    fn default() -> Self {
        Self { persistent: true, oem: false, reboot: false, poweroff: false }
    }
}

pub(crate) fn read(merged: &Merged, said: &mut Vec<Diagnostic>) -> ResetOptions {
    let Some(block) = merged.get("reset") else { return ResetOptions::default() };
    if !matches!(block.value, MergedValue::Map(_) | MergedValue::Null) {
        let message = "`reset` is a mapping";
        said.push(Diagnostic::new(Severity::Error, Code::WrongType, block.origin.clone(), message).key("reset"));
        return ResetOptions::default();
    }
    let given = |name: &str| block.get(name).is_some_and(|value| value.value != MergedValue::Null);
    // What is there and cannot be read is an error; until it is corrected, data stays.
    let persistent = if given("reset-persistent") { flag(block, "reset-persistent", said) } else { true };
    let oem = flag(block, "reset-oem", said);
    let (reboot, poweroff) = (flag(block, "reboot", said), flag(block, "poweroff", said));
    one_end(block, reboot, poweroff, said);
    ResetOptions { persistent, oem, reboot, poweroff }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, merge};

    #[test]
    fn a_reset_formats_persistent_unless_it_is_told_not_to() {
        for (text, expected) in [
            ("hostname: a", ResetOptions::default()),
            ("reset: {reset-persistent: }", ResetOptions::default()),
            ("reset: {reset-persistent: no}", ResetOptions { persistent: false, ..ResetOptions::default() }),
            (
                "reset: {reset-oem: \"true\", reboot: yes}",
                ResetOptions { oem: true, reboot: true, ..ResetOptions::default() },
            ),
            ("reset: {poweroff: true}", ResetOptions { poweroff: true, ..ResetOptions::default() }),
        ] {
            let configuration = merge(&[Document::parse("a", &format!("#cloud-config\n{text}\n"))]);
            assert_eq!((configuration.reset, configuration.diagnostics), (expected, vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_reset_is_pointed_at_and_formats_nothing_more() {
        for (text, persistent, word) in [
            ("reset: {reset-persistent: maybe}", false, "`true` or `false`"),
            ("reset: [a]", true, "a mapping"),
            ("reset: {reboot: true, poweroff: true}", true, "exclude each other"),
        ] {
            let configuration = merge(&[Document::parse("a", &format!("#cloud-config\n{text}\n"))]);
            let [said] = configuration.diagnostics.as_slice() else { panic!("{:?}", configuration.diagnostics) };
            assert!(said.message.contains(word), "{said}");
            assert_eq!(configuration.reset.persistent, persistent, "{text}");
        }
    }
}
