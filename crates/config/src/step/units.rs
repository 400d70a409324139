//! Reads what is done to units of systemd.

use super::Actions;
use crate::reading::field;
use crate::{Code, Node, UnitVerb, UnitWork, Work};

impl Actions<'_, '_> {
    pub(super) fn systemctl(&mut self, node: &Node) {
        let entries = self.reader.map(node, "`systemctl`");
        for verb in [UnitVerb::Enable, UnitVerb::Disable, UnitVerb::Mask, UnitVerb::Start] {
            let Some(units) = field(entries, verb.name()) else { continue };
            self.each(units, &format!("`systemctl.{}`", verb.name()), |actions, _, item| {
                let mut label = format!("systemctl {}", verb.name());
                let work = actions.reader.attempt(|reader| {
                    let unit = reader.text(item, "a unit")?;
                    // A leading `-` would be an option, a slash a path.
                    if unit.is_empty()
                        || unit.starts_with('-')
                        || unit.contains(|c: char| c == '/' || c.is_whitespace())
                    {
                        reader.error(Code::BadValue, item.place, format!("`{unit}` cannot name a unit"));
                    }
                    label = format!("{label} {unit}");
                    Some(Work::Units(UnitWork::State { verb, unit }))
                });
                actions.add(label, item.place, work);
            });
        }
        if let Some(overrides) = field(entries, "overrides").filter(|node| !node.is_null()) {
            let why = "`systemctl.overrides` is not supported yet".to_owned();
            self.push("systemctl overrides".into(), overrides.place, Work::NotSupported(why));
        }
    }
}
