//! What became of a stage, its steps and their actions.

use kairn_config::{Diagnostic, Severity, Strictness};
use serde::Serialize;

/// What an action did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "reason", rename_all = "lowercase")]
pub enum Effect {
    /// The machine is different now; for commands, they ran.
    Changed,
    /// It was so already.
    Unchanged,
    /// Not done, for this reason.
    Skipped(String),
    /// It failed, for this reason.
    Failed(String),
}

impl Effect {
    pub(crate) const fn of(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Unchanged }
    }
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionResult {
    /// Kind and object.
    pub label: String,
    /// What it did.
    #[serde(flatten)]
    pub effect: Effect,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepResult {
    /// Its name.
    pub name: String,
    /// The stage with `.before` or `.after`.
    pub stage: String,
    /// `file:line:column`.
    pub place: String,
    /// Why it did not run, when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Its actions.
    pub actions: Vec<ActionResult>,
}

/// What became of a stage; `/run/kairn/stages/<stage>.json`.
#[derive(Clone, Debug, Serialize)]
pub struct StageResult {
    /// Version of this format; 1.
    pub format: u32,
    /// The stage.
    pub stage: String,
    /// How many failures count, by the strictness that the owner wants: with any, a trial is not blessed.
    pub refused: usize,
    /// What is to be said about the files.
    pub diagnostics: Vec<Diagnostic>,
    /// Its steps.
    pub steps: Vec<StepResult>,
}

impl StepResult {
    /// Says whether every action is done: none failed and none was skipped.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.actions.iter().all(|action| matches!(action.effect, Effect::Changed | Effect::Unchanged))
    }

    /// Counts failed actions.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action.effect, Effect::Failed(_))).count()
    }
}

impl StageResult {
    /// The result of a stage in which there is nothing to do.
    #[must_use]
    pub fn empty(stage: &str) -> Self {
        Self { format: 1, stage: stage.to_owned(), refused: 0, diagnostics: Vec::new(), steps: Vec::new() }
    }

    /// Counts failed actions and errors of files.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.counted(Strictness::All)
    }

    /// Counts the failures that matter to this strictness.
    pub(crate) fn counted(&self, strictness: Strictness) -> usize {
        let steps = self.steps.iter().filter(|step| strictness.counts(&step.place)).map(StepResult::failures);
        let is_fault = |said: &&Diagnostic| said.severity == Severity::Error && strictness.counts(&said.span.source);
        steps.sum::<usize>() + self.diagnostics.iter().filter(is_fault).count()
    }
}
