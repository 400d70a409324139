//! What follows from the health of a booted system: blessing, or another boot.
//!
//! Invariant: nothing but a passed set of checks blesses, and only the deployment that runs. A deployment that fails gets its reason
//! recorded before the machine is restarted.

use crate::attempt::Verdict;
use crate::entries::EntryState;
use crate::{DeploymentState, Role, Sequence};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long all checks together may take to pass, unless a file of checks says more.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// How long one command may take, unless it says otherwise.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Something that must hold on a healthy machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What a person reads.
    pub name: String,
    /// What is looked at.
    #[serde(flatten)]
    pub probe: Probe,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A unit of systemd that must be active.
    Unit(String),
    /// A program that must exit with zero.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
    /// The results of stages in this directory: none has failures that count, as the owner's `strict` says.
    Stages(PathBuf),
    /// A check that cannot be made and therefore does not pass, such as one in a damaged file.
    Impossible(String),
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check.
    pub name: String,
    /// Why it does not pass; `None` when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What was found about the running system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", rename_all = "kebab-case")]
pub enum Finding {
    /// All checks passed.
    Passed,
    /// Some did not pass in their time.
    Failed {
        /// Why, in a sentence.
        reason: String,
    },
    /// The time of a boot was over before health was known.
    Late,
}

/// One thing to do about it, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum HealthAction {
    /// Removes the counter of the deployment's entry.
    Bless {
        /// Which.
        sequence: Sequence,
    },
    /// Writes the verdict into the record of this boot.
    Record {
        /// The verdict.
        verdict: Verdict,
    },
    /// Gives a good deployment one counted try.
    Rearm {
        /// Which.
        sequence: Sequence,
    },
    /// Restarts the machine.
    Reboot,
}

/// Decides what to do. `entry` is the running deployment's; `verdict` that of this boot's record, when there is one.
#[must_use]
pub fn act(role: Role, entry: Option<&EntryState>, verdict: Option<&Verdict>, finding: &Finding) -> Vec<HealthAction> {
    // Recovery is never counted and is the last resort: it reports and stays. A live medium has nothing to bless.
    let Role::Deployment { sequence } = role else { return Vec::new() };
    let reason = match (finding, verdict) {
        // What decided before the deadline passed stands.
        (Finding::Late, Some(Verdict::Healthy)) => return Vec::new(),
        (Finding::Late, _) => "its time was over before the health checks passed".to_owned(),
        // What the initramfs found wrong is not undone by services that run.
        (_, Some(Verdict::Failed { reason })) => reason.clone(),
        (Finding::Failed { reason }, _) => format!("health: {reason}"),
        (Finding::Passed, _) => {
            let counted = entry.is_some_and(|entry| entry.counter.is_some() || !entry.duplicates.is_empty());
            let bless = counted.then_some(HealthAction::Bless { sequence });
            let record =
                (verdict != Some(&Verdict::Healthy)).then_some(HealthAction::Record { verdict: Verdict::Healthy });
            return bless.into_iter().chain(record).collect();
        }
    };
    let good = entry.is_some_and(|entry| entry.state == DeploymentState::Good);
    let mut actions = vec![HealthAction::Record { verdict: Verdict::Failed { reason } }];
    // A counted entry lost its try when the loader started it; an uncounted one has to be counted from now on.
    if good {
        actions.push(HealthAction::Rearm { sequence });
    }
    actions.push(HealthAction::Reboot);
    actions
}

/// Puts failed checks into a sentence.
#[must_use]
pub fn finding(results: &[CheckResult]) -> Finding {
    let failures = results.iter().filter_map(|result| Some(format!("{} ({})", result.name, result.failure.as_ref()?)));
    let failures: Vec<_> = failures.collect();
    if failures.is_empty() { Finding::Passed } else { Finding::Failed { reason: failures.join(", ") } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::EntryFact;
    use crate::entries::Selection;

    const ROLE: Role = Role::Deployment { sequence: Sequence(7) };

    fn entry(names: &[&str]) -> EntryState {
        let facts: Vec<_> =
            names.iter().map(|name| EntryFact { name: (*name).into(), uki: Some("u.efi".into()) }).collect();
        Selection::new(&facts, &["u.efi".to_owned()].into()).get(Sequence(7)).unwrap().clone()
    }

    fn failed() -> Finding {
        Finding::Failed { reason: "ssh (failed)".into() }
    }

    fn record(reason: &str) -> HealthAction {
        HealthAction::Record { verdict: Verdict::Failed { reason: reason.into() } }
    }

    #[test]
    fn only_passed_checks_bless_and_only_what_is_counted() {
        let healthy = HealthAction::Record { verdict: Verdict::Healthy };
        let bless = HealthAction::Bless { sequence: Sequence(7) };
        let handed = Some(&Verdict::HandedOver);
        for (names, verdict, actions) in [
            (&["kairn-7+1-1.conf"][..], handed, vec![bless.clone(), healthy.clone()]),
            // The last try: its name says bad while it is being tried.
            (&["kairn-7+0-2.conf"], handed, vec![bless.clone(), healthy.clone()]),
            (&["kairn-7.conf"], handed, vec![healthy.clone()]),
            (&["kairn-7.conf"], Some(&Verdict::Healthy), vec![]),
            // A half-done blessing is finished.
            (&["kairn-7.conf", "kairn-7+1-1.conf"], Some(&Verdict::Healthy), vec![bless]),
            (&["kairn-7.conf"], None, vec![healthy]),
        ] {
            assert_eq!(act(ROLE, Some(&entry(names)), verdict, &Finding::Passed), actions, "{names:?}");
        }
    }

    #[test]
    fn a_failure_is_recorded_then_counted_then_left_to_the_next_boot() {
        let handed = Some(&Verdict::HandedOver);
        assert_eq!(
            act(ROLE, Some(&entry(&["kairn-7+1-1.conf"])), handed, &failed()),
            [record("health: ssh (failed)"), HealthAction::Reboot]
        );
        assert_eq!(
            act(ROLE, Some(&entry(&["kairn-7.conf"])), handed, &failed()),
            [record("health: ssh (failed)"), HealthAction::Rearm { sequence: Sequence(7) }, HealthAction::Reboot]
        );
        let broken = Verdict::Failed { reason: "stage rootfs failed".into() };
        assert_eq!(
            act(ROLE, Some(&entry(&["kairn-7+1-1.conf"])), Some(&broken), &Finding::Passed),
            [record("stage rootfs failed"), HealthAction::Reboot]
        );
    }

    #[test]
    fn a_deadline_counts_only_while_nothing_was_decided() {
        let trial = entry(&["kairn-7+1-1.conf"]);
        assert_eq!(act(ROLE, Some(&trial), Some(&Verdict::Healthy), &Finding::Late), []);
        let late = act(ROLE, Some(&trial), Some(&Verdict::HandedOver), &Finding::Late);
        assert!(matches!(late.as_slice(), [HealthAction::Record { .. }, HealthAction::Reboot]));
    }

    #[test]
    fn recovery_and_live_systems_stay_whatever_is_found() {
        for role in [Role::Recovery, Role::Live] {
            for finding in [Finding::Passed, failed(), Finding::Late] {
                assert_eq!(act(role, None, None, &finding), []);
            }
        }
    }

    #[test]
    fn failed_checks_make_one_sentence() {
        let result =
            |name: &str, failure: Option<&str>| CheckResult { name: name.into(), failure: failure.map(str::to_owned) };
        assert_eq!(finding(&[result("a", None)]), Finding::Passed);
        let both =
            finding(&[result("ssh.service", Some("failed")), result("x", None), result("disk", Some("exit code 1"))]);
        assert_eq!(both, Finding::Failed { reason: "ssh.service (failed), disk (exit code 1)".into() });
    }
}
