//! Reads which datasources are asked.

use super::Actions;
use crate::reading::{Reader, field};
use crate::suggest::nearest;
use crate::{Code, DATASOURCES, Datasource, Node, Work};

/// Where user-data goes when a step does not say.
const DEFAULT_PATH: &str = "/run/config";

impl Actions<'_, '_> {
    pub(super) fn datasource(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| read(reader, node).map(Work::Datasource));
        self.add("datasource".into(), node.place, work);
    }
}

fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Datasource> {
    let entries = reader.map(node, "`datasource`");
    let get = |name: &str| field(entries, name).filter(|node| !node.is_null());
    let mut providers = Vec::new();
    for item in get("providers").map(|node| reader.list(node, "`datasource.providers`")).unwrap_or_default() {
        let Some(name) = reader.text(item, "a datasource") else { continue };
        if DATASOURCES.contains(&name.as_str()) {
            providers.push(name);
            continue;
        }
        // One that is not known leaves the others alone.
        let message = format!("there is no datasource `{name}`; the others are asked");
        reader.say(crate::Severity::Warning, Code::BadValue, item.place, message);
        match nearest(&name, DATASOURCES.iter().copied()) {
            Some(near) => reader.hint(format!("did you mean `{near}`?")),
            None => reader.hint(format!("there are {}", DATASOURCES.join(", "))),
        }
    }
    if providers.is_empty() {
        reader.error(Code::BadValue, node.place, "`providers` is missing: it lists whom to ask");
        return None;
    }
    let path = match get("path") {
        Some(node) => reader.path(node, "`datasource.path`")?,
        None => DEFAULT_PATH.into(),
    };
    let name = get("userdata_name").and_then(|node| reader.text(node, "`datasource.userdata_name`"));
    let scripts = get("scripts").and_then(|node| reader.bool(node, "`datasource.scripts`")).unwrap_or_default();
    Some(Datasource { providers, path, userdata_name: name.unwrap_or_else(|| "userdata.yaml".to_owned()), scripts })
}

#[cfg(test)]
mod tests {
    use crate::{Datasource, Document, Work, plan};

    #[test]
    fn datasources_are_read_and_an_unknown_one_leaves_the_others_alone() {
        let text = "stages:\n  s:\n  - datasource: {providers: [cdrom, awz], path: /oem/95_userdata}\n  - datasource: {path: /a}\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        let Work::Datasource(datasource) = &plan.steps[0].actions[0].work else { panic!("{plan:?}") };
        let expected = Datasource {
            providers: vec!["cdrom".into()],
            path: "/oem/95_userdata".into(),
            userdata_name: "userdata.yaml".into(),
            scripts: false,
        };
        assert_eq!(datasource, &expected);
        assert!(matches!(plan.steps[1].actions[0].work, Work::Invalid(_)));
        let said: Vec<String> = plan.diagnostics.iter().map(|said| said.to_string().replace('\n', " ")).collect();
        assert_eq!(
            said,
            [
                "t:3:37: warning: there is no datasource `awz`; the others are asked   hint: did you mean `aws`?",
                "t:4:17: error: `providers` is missing: it lists whom to ask",
            ]
        );
    }
}
