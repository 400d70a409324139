//! What is particular about a stage, by its name.

use crate::Frequency;

/// The stage that runs once in the life of an installation.
pub const FIRST_BOOT: &str = "first-boot";

/// Stages of operations, which end at the first failure that counts; those of the boot run to their end.
const OF_OPERATIONS: [&str; 11] = [
    "kairos-install.pre",
    "before-install",
    "after-install-chroot",
    "after-install",
    "kairos-install.after",
    "before-upgrade",
    "after-upgrade-chroot",
    "after-upgrade",
    "before-reset",
    "after-reset-chroot",
    "after-reset",
];

/// Says whether a stage is part of an operation, such as an installation: it ends at the first failure that counts, and the operation with
/// it.
#[must_use]
pub fn is_of_operation(stage: &str) -> bool {
    OF_OPERATIONS.contains(&stage)
}

/// Says whether a stage runs in the root of a release that does not run yet, which is sealed but for `/oem` and `/usr/local`.
#[must_use]
pub fn is_in_release(stage: &str) -> bool {
    is_of_operation(stage) && stage.ends_with("-chroot")
}

/// How often a step runs that does not say it; `stage` may have `.before` or `.after`.
pub(crate) fn usual_frequency(stage: &str) -> Frequency {
    let base = stage.strip_suffix(".before").or_else(|| stage.strip_suffix(".after")).unwrap_or(stage);
    if base == FIRST_BOOT { Frequency::Once } else { Frequency::Always }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, plan};

    #[test]
    fn the_names_of_operations_are_those_that_something_runs_or_will() {
        let known = crate::keys::STAGES_DONE.iter().chain(crate::keys::STAGES_NOT_YET);
        let known: Vec<&str> = known.copied().collect();
        assert!(OF_OPERATIONS.iter().all(|stage| known.contains(stage)));
        assert!(
            is_in_release("after-install-chroot") && !is_in_release("after-install") && !is_in_release("my-chroot")
        );
        assert!(!is_of_operation("boot") && !is_of_operation("reconcile"));
    }

    #[test]
    fn a_step_of_the_first_boot_runs_once_unless_it_says_otherwise() {
        let text = "stages: {first-boot: [{name: a}, {name: b, frequency: always}], first-boot.after: [{name: c}], boot: [{name: d}]}";
        let documents = [Document::parse("t", text)];
        let often = |stage: &str| -> Vec<Frequency> {
            plan(&documents, stage).steps.iter().map(|step| step.settings.frequency).collect()
        };
        assert_eq!(often("first-boot"), [Frequency::Once, Frequency::Always, Frequency::Once]);
        assert_eq!(often("boot"), [Frequency::Always]);
    }
}
