//! The plan of a stage: `S.before`, `S`, `S.after`, each over all documents in their order, each document's steps in theirs.
//!
//! The order is total. Existing files were written for an engine that runs some of them at once, for which one after the other
//! is a legal choice.

use crate::diagnostic::tidy;
use crate::reading::Reader;
use crate::{Action, Diagnostic, Document, Node, cloud_init, step};
use kairn_report::Span;
use serde::Serialize;

/// What a stage does.
#[derive(Clone, Debug, Serialize)]
pub struct StagePlan {
    /// The stage, without `.before` and `.after`.
    pub stage: String,
    /// Its steps, in order.
    pub steps: Vec<PlannedStep>,
    /// What is to be said about them.
    pub diagnostics: Vec<Diagnostic>,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// Its name, or its number in the file.
    pub name: String,
    /// The stage with `.before` or `.after`.
    pub stage: String,
    /// Where it stands.
    pub span: Span,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What it does, in this order; one that fails does not stop the next.
    pub actions: Vec<Action>,
}

/// What must hold for a step to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// `sh -c` of this exits with zero.
    If(String),
    /// Never: it cannot be evaluated, for this reason.
    Unmet(String),
}

/// Plans a stage.
#[must_use]
pub fn plan(documents: &[Document], stage: &str) -> StagePlan {
    let mut plan = StagePlan { stage: stage.to_owned(), steps: Vec::new(), diagnostics: Vec::new() };
    for stage in [format!("{stage}.before"), stage.to_owned(), format!("{stage}.after")] {
        for document in documents {
            let mut reader = Reader::new(document);
            cloud_init::steps(&mut reader, &stage, &mut plan.steps);
            if let Some(stages) = document.get("stages") {
                let list = reader.map(stages, "`stages`").iter().find(|entry| entry.key == stage);
                let items = list.map_or(&[][..], |entry| reader.list(&entry.value, "a stage"));
                let steps = items.iter().enumerate().filter(|(_, item)| !Node::is_null(item));
                plan.steps.extend(steps.map(|(index, item)| step::read(&mut reader, &stage, index, item)));
            }
            plan.diagnostics.append(&mut reader.diagnostics);
        }
    }
    tidy(&mut plan.diagnostics);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Work;

    fn labels(plan: &StagePlan) -> Vec<(&str, Vec<&str>)> {
        plan.steps.iter().map(|s| (s.name.as_str(), s.actions.iter().map(|a| a.label.as_str()).collect())).collect()
    }

    #[test]
    fn steps_come_by_stage_then_document_then_index() {
        let documents = [
            Document::parse("a", "stages: {s.after: [{name: 5}], s: [{name: 2}, {name: 3}]}\n"),
            Document::parse("b", "stages: {s: [{name: 4}], s.before: [{name: 1}], t: [{name: 0}]}\n"),
        ];
        let plan = plan(&documents, "s");
        assert_eq!(labels(&plan).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
        assert_eq!(plan.diagnostics, []);
    }

    #[test]
    fn actions_come_in_the_order_of_the_modules() {
        let text = "stages: {s: [{users: {u: {}}, commands: [a, [b, c]], files: [{path: /f}], hostname: h, directories: \
                    [{path: /d}], environment: {A: 1}, sysctl: {}, systemctl: {start: [x], enable: [y]}, \
                    authorized_keys: {u: [ssh-rsa A]}, ensure_entities: [{entity: '{kind: group, group_name: g}'}]}]}\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        assert_eq!(plan.diagnostics, []);
        assert_eq!(
            labels(&plan),
            [(
                "step 1",
                vec![
                    "sysctl",
                    "group g",
                    "directory /d",
                    "file /f",
                    "command 1",
                    "command 2",
                    "hostname",
                    "user u",
                    "keys of u",
                    "systemctl enable y",
                    "systemctl start x",
                    "environment",
                ]
            )]
        );
    }

    #[test]
    fn a_bad_item_leaves_its_neighbours_alone() {
        let text = "stages:\n  s:\n  - files:\n    - path: rel\n    - path: /ok\n      permissions: 0999\n    - path: /good\n  \
                    - 7\n  - commands: echo\n  - commands: [echo]\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        let good: Vec<bool> =
            plan.steps.iter().flat_map(|s| &s.actions).map(|a| !matches!(a.work, Work::Invalid(_))).collect();
        assert_eq!(good, [false, false, true, false, false, true]);
        let said: Vec<String> = plan.diagnostics.iter().map(|d| d.to_string().replace('\n', " ")).collect();
        assert_eq!(
            said,
            [
                "t:4:13: error: `path` is an absolute path, not `rel`",
                "t:6:20: error: `permissions` is an octal number from 0000 to 7777, not `0999`",
                "t:8:5: error: a step is a mapping, not a single value",
                "t:9:15: error: `commands` is a list, not a single value   hint: put `- ` before it on a line of its own",
            ]
        );
    }

    #[test]
    fn a_condition_that_is_not_supported_never_counts_as_true() {
        let text =
            "stages: {s: [{only_os: Debian, if: 'true', commands: [x]}, {if: '{{ .Values.x }}'}, {only-arch: a}]}\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        let conditions: Vec<_> = plan.steps.iter().map(|step| step.conditions.clone()).collect();
        let unmet = |why: &str| Condition::Unmet(why.into());
        assert_eq!(
            conditions,
            [
                vec![unmet("the condition `only_os` is not supported yet"), Condition::If("true".into())],
                vec![unmet("the template in its `if` is not supported yet")],
                vec![unmet("the condition `only_arch` is not supported yet")],
            ]
        );
    }

    #[test]
    fn top_level_keys_become_steps_when_there_is_a_header() {
        let body = "hostname: h-{{ trunc 4 .MachineID }}\nusers:\n- default\n- name: kairos\n  groups: sudo, adm\n  passwd: p\n\
                    ssh_authorized_keys: [ssh-ed25519 AAAA]\nwrite_files: [{path: /a, permissions: 644, owner: 'x:y'}]\n\
                    runcmd: [[ls, -l], echo]\n";
        let with = [Document::parse("t", &format!("#cloud-config\n{body}"))];
        assert_eq!(labels(&plan(&with, "initramfs")), [("top-level hostname", vec!["hostname"])]);
        let boot = plan(&with, "boot");
        let expected = vec!["file /a", "command 1", "command 2", "user default", "user kairos"];
        assert_eq!(labels(&boot), [("top-level keys", expected)]);
        let [file, _, _, _, user] = boot.steps[0].actions.as_slice() else { panic!() };
        assert!(matches!(&file.work, Work::File(file) if file.mode == Some(crate::Mode(0o644))));
        assert!(matches!(&user.work, Work::User(user) if user.groups == ["sudo", "adm"] && user.keys.len() == 1));
        assert_eq!(plan(&[Document::parse("t", body)], "boot").steps.len(), 0);
        let root = [Document::parse("t", "#cloud-config\nssh_authorized_keys: ssh-ed25519 AAAA\n")];
        assert_eq!(labels(&plan(&root, "boot")), [("top-level keys", vec!["keys of root"])]);
    }

    #[test]
    fn permissions_without_a_leading_zero_keep_their_decimal_value_and_are_pointed_at() {
        let plan = plan(&[Document::parse("t", "stages: {s: [{files: [{path: /a, permissions: 644}]}]}\n")], "s");
        assert!(matches!(&plan.steps[0].actions[0].work, Work::File(file) if file.mode == Some(crate::Mode(0o1204))));
        let said = plan.diagnostics[0].to_string();
        assert!(said.ends_with("warning: `permissions: 644` is decimal and means 1204\n  hint: 0644 meant?"), "{said}");
    }

    #[test]
    fn a_plan_as_json_shows_no_secret() {
        let text = "#cloud-config\nusers: [{name: u, passwd: hunter2}]\nruncmd: [echo hunter2, [echo, hunter2]]\n\
                    write_files: [{path: /a, content: hunter2}]\nstages: {boot: [{environment: {A: hunter2}}]}\n";
        let plan = plan(&[Document::parse("t", text)], "boot");
        let shown = format!("{}{plan:?}", serde_json::to_string(&plan).unwrap());
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
}
