//! `install` and `strict`, read from the merged configuration.

use crate::{Code, Configuration, Diagnostic, Merged, MergedValue, Scalar, Severity, Style};
use kairn_report::Span;

/// What `install` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallOptions {
    /// Installs without being asked.
    pub auto: bool,
    /// `auto`, or a device; with the place where it stands.
    pub device: Option<(String, Span)>,
    /// Reboots afterwards.
    pub reboot: bool,
    /// Powers off afterwards.
    pub poweroff: bool,
    /// Accepts that nobody can log in.
    pub nousers: bool,
    /// Overwrites an installation.
    pub force: bool,
}

/// Returns the install options of a merged configuration.
#[must_use]
pub fn install(configuration: &Configuration) -> &InstallOptions {
    &configuration.install
}

/// Says whether a person at the machine has to let a workstation in that hands it a configuration: wherever `pairing.confirm` is not `false`.
#[must_use]
pub fn pairing_confirms(merged: &Merged) -> bool {
    merged.at("pairing.confirm").is_none_or(|confirm| confirm.value != MergedValue::Bool(false))
}

pub(crate) fn read(merged: &Merged) -> (InstallOptions, Vec<Diagnostic>) {
    let mut said = Vec::new();
    let Some(block) = merged.get("install") else { return (InstallOptions::default(), said) };
    if !matches!(block.value, MergedValue::Map(_) | MergedValue::Null) {
        let message = "`install` is a mapping";
        said.push(Diagnostic::new(Severity::Error, Code::WrongType, block.origin.clone(), message).key("install"));
        return (InstallOptions::default(), said);
    }
    let mut options = InstallOptions {
        auto: flag(block, "auto", &mut said),
        device: None,
        reboot: flag(block, "reboot", &mut said),
        poweroff: flag(block, "poweroff", &mut said),
        nousers: flag(block, "nousers", &mut said),
        force: flag(block, "force", &mut said),
    };
    one_end(block, options.reboot, options.poweroff, &mut said);
    match block.get("device").map(|device| (&device.value, device.origin.clone())) {
        None | Some((MergedValue::Null, _)) => {}
        Some((MergedValue::Text(text), _)) if text.is_empty() => {}
        Some((MergedValue::Text(text), span)) if text == "auto" || text.starts_with("/dev/") => {
            options.device = Some((text.clone(), span));
        }
        Some((MergedValue::Text(text), span)) if text.starts_with("script://") => {
            let message = "finding the device by a script is not supported yet";
            let diagnostic = Diagnostic::new(Severity::Warning, Code::NotSupported, span, message);
            said.push(diagnostic.hint("write `auto` or a path below /dev").key("install.device[script://]"));
        }
        Some((_, span)) => {
            let message = "`install.device` is `auto` or a path below /dev";
            said.push(Diagnostic::new(Severity::Error, Code::BadValue, span, message));
        }
    }
    (options, said)
}

/// Says that a machine cannot do both afterwards.
pub(crate) fn one_end(block: &Merged, reboot: bool, poweroff: bool, said: &mut Vec<Diagnostic>) {
    if reboot && poweroff {
        let span = block.get("poweroff").map_or_else(|| block.origin.clone(), |value| value.origin.clone());
        said.push(Diagnostic::new(Severity::Error, Code::BadValue, span, "`reboot` and `poweroff` exclude each other"));
    }
}

/// Reads a bool where one is wanted: words and quoted ones count.
pub(crate) fn flag(block: &Merged, name: &str, said: &mut Vec<Diagnostic>) -> bool {
    let Some(value) = block.get(name) else { return false };
    let read = match &value.value {
        MergedValue::Null => Some(false),
        MergedValue::Bool(value) => Some(*value),
        MergedValue::Text(text) if text.is_empty() => Some(false),
        MergedValue::Text(text) => Scalar { text: text.clone(), style: Style::Quoted }.as_bool(),
        _ => None,
    };
    read.unwrap_or_else(|| {
        let message = format!("`{name}` is `true` or `false`");
        said.push(Diagnostic::new(Severity::Error, Code::WrongType, value.origin.clone(), message));
        false
    })
}

#[cfg(test)]
mod tests {
    use crate::{Document, merge};

    #[test]
    fn a_person_confirms_a_pairing_unless_it_is_said_that_nobody_has_to() {
        for (text, confirms) in [
            ("", true),
            ("pairing: {confirm: false}", false),
            ("pairing: {confirm: true}", true),
            ("pairing: {confirm: }", true),
            ("pairing: {confirm: 'maybe'}", true),
            ("pairing: []", true),
        ] {
            let configuration = merge(&[Document::parse("a", &format!("#cloud-config\n{text}\n"))]);
            assert_eq!(super::pairing_confirms(&configuration.merged), confirms, "{text}");
        }
    }

    #[test]
    fn install_is_read_from_all_documents_together() {
        let configuration = merge(&[
            Document::parse("a", "#cloud-config\ninstall: {auto: yes, device: /dev/vda, reboot: true}\n"),
            Document::parse("b", "#cloud-config\ninstall: {device: auto, reboot: }\nstrict: \"true\"\n"),
        ]);
        assert_eq!(configuration.diagnostics, []);
        let install = configuration.install;
        assert!(install.auto && !install.reboot && configuration.strict == crate::Strictness::Owner);
        assert_eq!(install.device.unwrap().1.to_string(), "b:2:19");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let text = "#cloud-config\ninstall: {auto: maybe, device: sda, reboot: true, poweroff: true}\n";
        let said: Vec<_> = merge(&[Document::parse("a", text)]).diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "a:2:17: error: `auto` is `true` or `false`",
                "a:2:32: error: `install.device` is `auto` or a path below /dev",
                "a:2:61: error: `reboot` and `poweroff` exclude each other",
            ]
        );
    }
}
