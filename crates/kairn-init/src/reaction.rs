//! What follows a boot that cannot go on. Pure.

use kairn_lifecycle::{Role, Sequence};

/// A boot that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// What was booted, when that is known.
    pub role: Option<Role>,
    /// The deployment is on trial: the loader has counted this boot.
    pub trial: bool,
    /// It was the persistent volume that failed, not the release.
    pub persistent: bool,
    /// EFI variables can be set.
    pub variables: bool,
}

/// What is done, before the machine restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing: the loader counts, or there is nothing to fall back to.
    Restart,
    /// The good deployment gets one try, so that a second failure in a row makes it bad.
    Rearm(Sequence),
    /// The recovery release boots next, once: another release would fail at the same volume.
    Recovery,
}

/// Decides what follows.
#[must_use]
pub const fn decide(situation: Situation) -> Reaction {
    match situation.role {
        Some(Role::Deployment { sequence }) if !situation.trial => {
            if situation.persistent && situation.variables {
                Reaction::Recovery
            } else {
                Reaction::Rearm(sequence)
            }
        }
        _ => Reaction::Restart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_deployment_needs_help_to_fall_back() {
        let good = Situation {
            role: Some(Role::Deployment { sequence: Sequence(3) }),
            trial: false,
            persistent: false,
            variables: true,
        };
        for (situation, reaction) in [
            (good, Reaction::Rearm(Sequence(3))),
            (Situation { trial: true, ..good }, Reaction::Restart),
            (Situation { persistent: true, ..good }, Reaction::Recovery),
            (Situation { persistent: true, variables: false, ..good }, Reaction::Rearm(Sequence(3))),
            (Situation { persistent: true, trial: true, ..good }, Reaction::Restart),
            (Situation { role: Some(Role::Recovery), ..good }, Reaction::Restart),
            (Situation { role: Some(Role::Live), ..good }, Reaction::Restart),
            (Situation { role: None, ..good }, Reaction::Restart),
        ] {
            assert_eq!(decide(situation), reaction, "{situation:?}");
        }
    }
}
