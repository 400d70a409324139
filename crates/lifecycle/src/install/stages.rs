//! The steps of an installation that run stages of the configuration.

use super::{InstallAction, InstallRequest, Steps, mount_point};
use crate::plan::Step;
use crate::stage::{self, AFTER_INSTALL, AFTER_INSTALL_CHROOT, BEFORE_INSTALL, INSTALL_PRE, ReleaseRoot};
use kairn_layout::{PartLabel, paths};

/// Where the results of stages are left on the new machine.
pub(super) fn results() -> String {
    format!("{}/{}", mount_point(PartLabel::State), stage::RESULTS)
}

impl Steps<'_> {
    /// A step for a stage, if the configuration has any for it.
    pub(super) fn stage(
        &mut self,
        request: &InstallRequest,
        name: &str,
        root: Option<ReleaseRoot>,
        results: Option<String>,
    ) {
        let Some(count) = request.stages.get(name).filter(|count| **count > 0) else { return };
        let place = if root.is_some() { " in the root of the release" } else { "" };
        let text = format!("run the stage {name} ({}){place}", stage::in_words(*count));
        let action = InstallAction::RunStage { stage: name.to_owned(), root, results };
        self.plan.step(Step::new(stage::step_name(name), text, action, stage::AFTER));
    }

    pub(super) fn before_stages(&mut self, request: &InstallRequest) {
        if request.stages.contains_key(INSTALL_PRE) {
            let action = InstallAction::KeepResults { dir: results() };
            let text = format!("keep the result of the stage {INSTALL_PRE}, which ran first, on STATE");
            self.add("keep-results", text, action, "STATE has it, readable by root only");
        }
        self.stage(request, BEFORE_INSTALL, None, Some(results()));
        if request.stages.contains_key(BEFORE_INSTALL) {
            let text = format!("look whether a step made {}", stage::VETO);
            self.add("heed-veto", text, InstallAction::HeedVeto, "no step forbids the installation");
        }
    }

    /// Everything but the entry is written: a failure that counts leaves a disk that is not installed.
    pub(super) fn after_stages(&mut self, request: &InstallRequest) {
        let release = &self.source.release;
        let dir = format!("{}/{}/{}", mount_point(PartLabel::State), paths::RELEASES, release.id);
        let root =
            ReleaseRoot { image: format!("{dir}/{}", paths::release::ROOT), format: release.root.format };
        self.stage(request, AFTER_INSTALL_CHROOT, Some(root), Some(results()));
        self.stage(request, AFTER_INSTALL, None, Some(results()));
    }
}
