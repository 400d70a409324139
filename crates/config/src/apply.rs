//! What applying a document to a machine that runs comes to: what runs now, what waits, and what can be taken back.

use crate::{
    Action, Document, FileWork, PlannedStep, SettingWork, Settings, SoftwareWork, StagePlan, SystemWork, UnitWork,
    Work, plan,
};
use kairn_report::Span;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The stages that a running machine has behind it, in their order; a document that comes now runs its steps of them now.
const PAST_STAGES: [&str; 4] = ["initramfs", "fs", "boot", "network"];
/// The stages whose results only a boot shows.
const NEXT_BOOT: [&str; 1] = ["rootfs"];

/// What applying documents comes to.
#[derive(Clone, Debug, Serialize)]
pub struct ApplyPlan {
    /// What runs now, by stage.
    pub now: Vec<StagePlan>,
    /// What waits, and for what.
    pub later: Vec<Waiting>,
    /// What runs now and cannot be taken back.
    pub lasting: Vec<Named>,
    /// What is kept so that the rest can be taken back.
    pub kept: Kept,
}

/// Something that is not done now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// What it is.
    #[serde(flatten)]
    pub what: Named,
    /// What it waits for.
    pub until: &'static str,
}

/// Something of a document, by what people call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The key, or what a step does.
    pub label: String,
    /// Where it stands.
    pub span: Span,
}

/// What has to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Files and directories.
    pub paths: BTreeSet<PathBuf>,
    /// The name of the running system.
    pub hostname: bool,
    /// The files of the network.
    pub network: bool,
}

/// How something is taken back.
enum Undo<'a> {
    /// There is nothing to take back.
    Nothing,
    /// By putting back this file or directory.
    Path(&'a Path),
    /// By putting back a file of the system.
    Owned(PathBuf),
    /// By setting the former name.
    Hostname,
    /// By the former files of the network.
    Network,
    /// It cannot be.
    Never,
}

/// Plans what applying documents to a running machine comes to. Conditions of steps are looked at when they run.
#[must_use]
pub fn apply(documents: &[Document]) -> ApplyPlan {
    let mut applied = ApplyPlan { now: Vec::new(), later: Vec::new(), lasting: Vec::new(), kept: Kept::default() };
    for stage in PAST_STAGES {
        let mut plan = plan(documents, stage);
        for step in &mut plan.steps {
            applied.take(step);
        }
        applied.now.push(plan);
    }
    for step in NEXT_BOOT.iter().flat_map(|stage| plan(documents, stage).steps) {
        let what = Named { label: format!("{}: {}", step.stage, step.name), span: step.span };
        applied.later.push(Waiting { what, until: "the next boot" });
    }
    for document in documents.iter().filter(|document| document.header.is_some()) {
        let entries = document.root.as_ref().and_then(|root| root.entries()).unwrap_or_default();
        for (key, until) in [("install", "an installation"), ("upgrade", "an upgrade"), ("reset", "a reset")] {
            for entry in entries.iter().filter(|entry| entry.key == key) {
                let what = Named { label: key.to_owned(), span: document.span(entry.key_place) };
                applied.later.push(Waiting { what, until });
            }
        }
    }
    applied
}

impl ApplyPlan {
    /// Sorts the actions of a step; those that would end the machine's run are taken out of it.
    fn take(&mut self, step: &mut PlannedStep) {
        let settings: &Settings = &step.settings;
        let once = settings.frequency != crate::Frequency::Always;
        let mut actions = Vec::with_capacity(step.actions.len());
        for action in step.actions.drain(..) {
            let named = || Named { label: format!("{}: {}", step.name, action.label), span: action.span.clone() };
            if matches!(action.work, Work::Setting(SettingWork::Power(_))) {
                self.later.push(Waiting { what: named(), until: "the next boot" });
                continue;
            }
            match undo(&action) {
                Undo::Nothing => {}
                // That it ran is written down, so it would not run again when it is applied for good.
                _ if once => self.lasting.push(named()),
                Undo::Path(path) => {
                    self.kept.paths.insert(path.to_owned());
                }
                Undo::Owned(path) => {
                    self.kept.paths.insert(path);
                }
                Undo::Hostname => {
                    self.kept.hostname = true;
                    self.kept.paths.extend(["/etc/hostname".into(), "/etc/hosts".into()]);
                }
                Undo::Network => self.kept.network = true,
                Undo::Never => self.lasting.push(named()),
            }
            actions.push(action);
        }
        step.actions = actions;
    }
}

fn undo(action: &Action) -> Undo<'_> {
    match &action.work {
        Work::NotSupported(_) | Work::Invalid(_) | Work::Setting(SettingWork::Message(_)) => Undo::Nothing,
        Work::Files(FileWork::Directory(directory)) => Undo::Path(&directory.path),
        Work::Files(FileWork::File(file) | FileWork::Append(file)) => Undo::Path(&file.path),
        Work::Files(FileWork::Download(download)) => Undo::Path(&download.path),
        Work::Files(FileWork::Sourced(sourced)) => Undo::Path(&sourced.file.path),
        Work::Software(SoftwareWork::RebootIfRequired) => Undo::Nothing,
        Work::Files(FileWork::Environment(environment)) => Undo::Path(&environment.file),
        Work::System(SystemWork::Resolver(resolver)) => Undo::Path(&resolver.path),
        Work::System(SystemWork::Hostname(_)) | Work::Setting(SettingWork::Name(_)) => Undo::Hostname,
        Work::Units(UnitWork::DropIn(drop_in)) => Undo::Owned(drop_in.path()),
        Work::Network(_) => Undo::Network,
        _ => Undo::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> ApplyPlan {
        apply(&[Document::parse("t", text)])
    }

    fn labels(named: &[Named]) -> Vec<&str> {
        named.iter().map(|named| named.label.as_str()).collect()
    }

    #[test]
    fn steps_of_past_stages_run_now_and_the_rest_waits() {
        let plan = applied(
            "#cloud-config\ninstall: {device: auto}\npower_state: {mode: reboot}\nstages: {network.after: [{name: n}], \
             rootfs.before: [{name: r}], initramfs: [{name: i}], before-install: [{name: x}]}\n",
        );
        let now = plan.now.iter().flat_map(|plan| &plan.steps);
        let names: Vec<_> = now.map(|step| (step.stage.as_str(), step.name.as_str())).collect();
        assert!(names.contains(&("initramfs", "i")) && names.contains(&("network.after", "n")), "{names:?}");
        let waits: Vec<_> = plan.later.iter().map(|waiting| (waiting.what.label.as_str(), waiting.until)).collect();
        assert!(waits.contains(&("rootfs.before: r", "the next boot")), "{waits:?}");
        assert!(waits.contains(&("install", "an installation")), "{waits:?}");
        assert_eq!(waits.len(), 3, "{waits:?}");
        assert!(plan.now.iter().flat_map(|plan| &plan.steps).flat_map(|step| &step.actions).next().is_none());
    }

    #[test]
    fn what_is_kept_is_what_can_be_taken_back() {
        let plan = applied(
            "#cloud-config\nhostname: h\nnetwork: {interfaces: [{name: e, dhcp: true}]}\nstages: {boot: [{files: [{path: /a}], \
             directories: [{path: /d}], environment: {A: b}, dns: {nameservers: [::1]}, \
             systemctl: {overrides: [{service: s, content: x}]}}]}\n",
        );
        assert_eq!(labels(&plan.lasting), Vec::<&str>::new());
        let paths: Vec<_> = plan.kept.paths.iter().map(|path| path.to_str().unwrap()).collect();
        let drop_in = "/etc/systemd/system/s.service.d/override-yip.conf";
        let expected = ["/a", "/d", "/etc/environment", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", drop_in];
        assert_eq!(paths, expected);
        assert!(plan.kept.hostname && plan.kept.network);
    }

    #[test]
    fn what_runs_users_software_and_steps_that_run_once_lasts() {
        let plan = applied(
            "#cloud-config\nruncmd: [echo]\nusers: [{name: u}]\nstages: {boot: [{name: s, sysctl: {a.b: 1}, \
             packages: {install: [x]}}, {name: o, frequency: once, files: [{path: /o}]}]}\n",
        );
        let lasting = labels(&plan.lasting);
        for label in ["top-level keys: command 1", "top-level keys: user u", "s: sysctl a.b", "o: file /o"] {
            assert!(lasting.contains(&label), "{lasting:?}");
        }
        assert_eq!(plan.kept, Kept::default());
        assert_eq!(plan.lasting.first().unwrap().span.to_string(), "t:2:10");
    }
}
