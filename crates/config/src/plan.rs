//! The plan of a stage: `S.before`, `S`, `S.after`, each over all documents in their order, each document's steps in theirs.
//!
//! The order is total. Existing files were written for an engine that runs some of them at once, for which one after the other
//! is a legal choice.

use crate::diagnostic::tidy;
use crate::order::{self, Candidate};
use crate::reading::Reader;
use crate::{Action, Condition, Diagnostic, Document, Node, Settings, cloud_init, step};
use kairn_report::Span;
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// How it is run.
    pub settings: Settings,
    /// It may run at the same time as the one before it.
    pub beside: bool,
    /// How many steps of this name come before it in the same stage of its file.
    #[serde(skip_serializing_if = "is_zero")]
    pub twin: usize,
    /// What it does, in this order; one that fails does not stop the next.
    pub actions: Vec<Action>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Plans a stage.
#[must_use]
pub fn plan(documents: &[Document], stage: &str) -> StagePlan {
    let mut plan = StagePlan { stage: stage.to_owned(), steps: Vec::new(), diagnostics: Vec::new() };
    for stage in [format!("{stage}.before"), stage.to_owned(), format!("{stage}.after")] {
        let mut candidates = Vec::new();
        for (number, document) in documents.iter().enumerate() {
            let mut reader = Reader::new(document);
            let mut top_level = Vec::new();
            cloud_init::steps(&mut reader, &stage, &mut top_level);
            let candidate = |step, index, named| Candidate { step, document: number, index, named };
            candidates.extend(top_level.into_iter().map(|step| candidate(step, None, false)));
            for (index, item) in stage_items(&mut reader, &stage) {
                let step = step::read(&mut reader, &stage, index, item);
                candidates.push(candidate(step, Some(index), item.get("name").is_some_and(|name| !name.is_null())));
            }
            plan.diagnostics.append(&mut reader.diagnostics);
        }
        number_twins(&mut candidates);
        plan.steps.extend(order::sort(candidates, documents, &mut plan.diagnostics));
    }
    for document in documents {
        let mut reader = Reader::new(document);
        cloud_init::last_steps(&mut reader, stage, &mut plan.steps);
        plan.diagnostics.append(&mut reader.diagnostics);
    }
    tidy(&mut plan.diagnostics);
    plan
}

/// Tells steps apart that have one name in one file.
fn number_twins(candidates: &mut [Candidate]) {
    let mut seen: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for candidate in candidates {
        let count = seen.entry((candidate.document, candidate.step.name.clone())).or_default();
        candidate.step.twin = *count;
        *count += 1;
    }
}

/// The steps of a stage as a document lists them; an item that is nothing is left out.
fn stage_items<'d>(reader: &mut Reader<'d>, stage: &str) -> Vec<(usize, &'d Node)> {
    let Some(stages) = reader.document.get("stages") else { return Vec::new() };
    let list = reader.map(stages, "`stages`").iter().find(|entry| entry.key == stage);
    let items = list.map_or(&[][..], |entry| reader.list(&entry.value, "a stage"));
    items.iter().enumerate().filter(|(_, item)| !item.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccountWork, FileCheck, FileWork, Pattern, Severity, Work};

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
                    [{path: /d}], environment: {A: 1}, sysctl: {a.b: 1}, \
                    systemctl: {start: [x], enable: [y], overrides: [{service: z}]}, dns: {nameservers: [::1]}, \
                    modules: [m], timesyncd: {NTP: a}, systemd_firstboot: {locale: C}, \
                    authorized_keys: {u: [ssh-rsa A]}, ensure_entities: [{entity: '{kind: group, group_name: g}'}]}]}\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        assert_eq!(plan.diagnostics, []);
        assert_eq!(
            labels(&plan),
            [(
                "step 1",
                vec![
                    "dns",
                    "group g",
                    "directory /d",
                    "file /f",
                    "command 1",
                    "command 2",
                    "hostname",
                    "sysctl a.b",
                    "user u",
                    "keys of u",
                    "module m",
                    "timesyncd",
                    "drop-in of z.service",
                    "systemctl enable y",
                    "systemctl start x",
                    "environment",
                    "systemd_firstboot",
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
    fn a_condition_that_cannot_be_evaluated_never_counts_as_true() {
        let text = "stages: {s: [{if: 'true', only_os: Debian.*, commands: [x]}, {node: '^(?!a)'}, {only-arch: ''}, \
                    {only_service_manager: sysv}, {if_files: {any: [/a], some: [/b]}}, {if_files: {none: [/a], all: []}}]}\n";
        let plan = plan(&[Document::parse("t", text)], "s");
        let conditions: Vec<_> = plan.steps.iter().map(|step| step.conditions.clone()).collect();
        let unmet = |why: &str| vec![Condition::Unmet(why.into())];
        assert_eq!(
            conditions,
            [
                vec![Condition::OnlyOs(Pattern::parse("Debian.*").unwrap()), Condition::If("true".into())],
                unmet("its `node` is not a regular expression"),
                unmet("its `only_arch` is empty"),
                unmet("there is no service manager `sysv`"),
                unmet("unknown key `some` in `if_files`"),
                vec![Condition::Files { check: FileCheck::None, paths: vec!["/a".into()] }],
            ]
        );
    }

    #[test]
    fn a_text_that_is_no_template_stays_as_it_is_and_is_pointed_at() {
        let text = "stages:\n  s:\n  - commands: ['echo {{ .a']\n    files:\n    - path: /a\n      content: '{{ item.name }}'\n";
        let planned = plan(&[Document::parse("t", text)], "s");
        let severities: Vec<_> = planned.diagnostics.iter().map(|said| (said.span.place.line, said.severity)).collect();
        assert_eq!(severities, [(3, Severity::Error), (6, Severity::Warning)], "{:?}", planned.diagnostics);
        assert!(planned.steps[0].actions.iter().all(|action| !matches!(action.work, Work::Invalid(_))));
        let plain = plan(&[Document::parse("t", &format!("template: false\n{text}"))], "s");
        assert_eq!(plain.diagnostics, []);
    }

    #[test]
    fn top_level_keys_become_steps_when_there_is_a_header() {
        let body = "hostname: h-{{ trunc 4 .MachineID }}\nusers:\n- default\n- name: kairos\n  groups: sudo, adm\n  passwd: p\n\
                    ssh_authorized_keys: [ssh-ed25519 AAAA]\nwrite_files: [{path: /a, permissions: 644, owner: 'x:y'}]\n\
                    runcmd: [[ls, -l], echo]\n";
        let with = [Document::parse("t", &format!("#cloud-config\n{body}"))];
        assert_eq!(labels(&plan(&with, "initramfs")), [("top-level keys", vec!["hostname"])]);
        let boot = plan(&with, "boot");
        let expected = vec!["file /a", "command 1", "command 2", "user kairos", "user kairos"];
        assert_eq!(labels(&boot), [("top-level keys", expected)]);
        let [file, _, _, _, user] = boot.steps[0].actions.as_slice() else { panic!() };
        assert!(matches!(&file.work, Work::Files(FileWork::File(file)) if file.mode == Some(crate::Mode(0o644))));
        assert!(
            matches!(&user.work, Work::Accounts(AccountWork::User(user)) if user.groups == ["sudo", "adm"] && user.keys.len() == 1)
        );
        assert_eq!(plan(&[Document::parse("t", body)], "boot").steps.len(), 0);
        let root = [Document::parse("t", "#cloud-config\nssh_authorized_keys: ssh-ed25519 AAAA\n")];
        assert_eq!(labels(&plan(&root, "boot")), [("top-level keys", vec!["keys of root"])]);
    }

    #[test]
    fn permissions_without_a_leading_zero_keep_their_decimal_value_and_are_pointed_at() {
        let plan = plan(&[Document::parse("t", "stages: {s: [{files: [{path: /a, permissions: 644}]}]}\n")], "s");
        assert!(
            matches!(&plan.steps[0].actions[0].work, Work::Files(FileWork::File(file)) if file.mode == Some(crate::Mode(0o1204)))
        );
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
