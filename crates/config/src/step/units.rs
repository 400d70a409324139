//! Reads what is done to units of systemd.

use super::Actions;
use crate::reading::{Reader, field};
use crate::{Code, DropIn, Node, UnitVerb, UnitWork, Work, unit_name};
use kairn_report::{Place, Secret};

/// Name of a drop-in that states none.
const DEFAULT_NAME: &str = "override-yip.conf";

impl Actions<'_, '_> {
    pub(super) fn systemctl(&mut self, node: &Node) {
        let entries = self.reader.map(node, "`systemctl`");
        // Before the rest: a unit that starts has them then.
        if let Some(overrides) = field(entries, "overrides").filter(|node| !node.is_null()) {
            self.each(overrides, "`systemctl.overrides`", |actions, _, item| actions.drop_in(item));
        }
        for verb in [UnitVerb::Enable, UnitVerb::Disable, UnitVerb::Mask, UnitVerb::Start] {
            let Some(units) = field(entries, verb.name()) else { continue };
            self.each(units, &format!("`systemctl.{}`", verb.name()), |actions, _, item| {
                let mut label = format!("systemctl {}", verb.name());
                let work = actions.reader.attempt(|reader| {
                    let unit = reader.text(item, "a unit")?;
                    check_name(reader, &unit, item.place, "a unit");
                    label = format!("{label} {unit}");
                    Some(Work::Units(UnitWork::State { verb, unit }))
                });
                actions.add(label, item.place, work);
            });
        }
    }

    fn drop_in(&mut self, item: &Node) {
        let mut label = "drop-in".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "an override");
            let mut text = |name: &str| {
                let node = field(entries, name).filter(|node| !node.is_null())?;
                reader.text(node, &format!("`{name}`")).map(|text| (text, node.place))
            };
            let (service, name, content) = (text("service"), text("name"), text("content"));
            let Some((service, service_place)) = service else {
                reader.error(Code::BadValue, item.place, "`service` is missing");
                return None;
            };
            let unit = unit_name(&service);
            label = format!("drop-in of {unit}");
            check_name(reader, &service, service_place, "a unit");
            let (mut name, name_place) = name.unwrap_or_else(|| (DEFAULT_NAME.to_owned(), item.place));
            check_name(reader, &name, name_place, "a drop-in");
            if !name.ends_with(".conf") {
                // systemd reads no others.
                name.push_str(".conf");
            }
            let content = content.map(|(content, _)| content).unwrap_or_default();
            Some(Work::Units(UnitWork::DropIn(DropIn { unit, name, content: Secret::new(content) })))
        });
        self.add(label, item.place, work);
    }
}

/// A leading `-` would be an option, a slash a path.
fn check_name(reader: &mut Reader<'_>, name: &str, place: Place, what: &str) {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.starts_with(['-', '.']) || name.contains(bad) {
        reader.error(Code::BadValue, place, format!("`{name}` cannot name {what}"));
    }
}
