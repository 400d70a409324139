//! Reads `packages` and what goes with it.

use super::{flag, get};
use crate::packages::{MANAGERS, package_fault};
use crate::reading::Reader;
use crate::step::Actions;
use crate::suggest::nearest;
use crate::{ChosenPackage, Code, Entry, Node, Packages, Severity, SoftwareWork, Text, Work};

pub(super) fn read(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let refresh = flag(actions, entries, "package_update");
    let upgrade = flag(actions, entries, "package_upgrade");
    let node = get(entries, "packages");
    let mut packages = Packages { refresh, upgrade, ..Packages::default() };
    if let Some(node) = node {
        actions.each(node, "`packages`", |actions, _, item| {
            // One that cannot be keeps the others from nothing.
            if let Err(why) = actions.reader.attempt(|reader| package(reader, item, &mut packages)) {
                actions.push("package".into(), item.place, Work::Invalid(why));
            }
        });
    }
    // Lists that are fetched before anything is installed, as cloud-init does where packages are wanted.
    packages.refresh |= !(packages.install.is_empty() && packages.chosen.is_empty());
    let first = node.or_else(|| get(entries, "package_upgrade")).or_else(|| get(entries, "package_update"));
    if let Some(node) = first.filter(|_| packages != Packages::default()) {
        actions.push("packages".into(), node.place, Work::Software(SoftwareWork::Packages(packages)));
    }
    if flag(actions, entries, "package_reboot_if_required")
        && let Some(node) = get(entries, "package_reboot_if_required")
    {
        let work = Work::Software(SoftwareWork::RebootIfRequired);
        actions.push("package_reboot_if_required".into(), node.place, work);
    }
}

/// A name, `[name, version]`, or a mapping from managers to lists of such.
fn package(reader: &mut Reader<'_>, item: &Node, packages: &mut Packages) {
    let Some(managers) = item.entries() else {
        let Some((name, version)) = chosen(reader, item) else { return };
        return match version {
            None => packages.install.push(Text::Fixed(name)),
            version => packages.chosen.push(ChosenPackage { name, version, manager: None }),
        };
    };
    for entry in managers {
        if !MANAGERS.contains(&entry.key.as_str()) {
            let message =
                format!("`{}` is no package manager that is known here; what it lists is left out", entry.key);
            reader.say(Severity::Warning, Code::NotSupported, entry.key_place, message);
            match nearest(&entry.key, MANAGERS) {
                Some(near) => reader.hint(format!("did you mean `{near}`?")),
                None => reader.hint(format!("there are {}", MANAGERS.join(", "))),
            }
            continue;
        }
        for item in reader.list(&entry.value, "a list of packages") {
            let Some((name, version)) = chosen(reader, item) else { continue };
            packages.chosen.push(ChosenPackage { name, version, manager: Some(entry.key.clone()) });
        }
    }
}

fn chosen(reader: &mut Reader<'_>, item: &Node) -> Option<(String, Option<String>)> {
    let (name, version) = match item.items() {
        None => (item, None),
        Some([name]) => (name, None),
        Some([name, version]) => (name, Some(version)),
        Some(_) => {
            reader.error(Code::WrongType, item.place, "a package is its name, or its name and a version");
            return None;
        }
    };
    let mut word = |node: &Node| {
        let text = reader.text(node, "a package")?;
        if let Some(fault) = package_fault(&text) {
            let message = format!("`{text}` in `packages` cannot be used: {fault}");
            reader.error(Code::BadValue, node.place, message);
            return None;
        }
        Some(text)
    };
    let name = word(name)?;
    match version {
        None => Some((name, None)),
        Some(version) => word(version).map(|version| (name, Some(version))),
    }
}
