//! What every supported loader must do with the names of entries. One table holds for all of them, and the product's planner must
//! foresee each boot.

use crate::fault::{Fault, ensure};
use crate::rig::{Rig, Shape};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_init::role::Booted;
use kairn_lifecycle::{EntryName, Sequence};

/// A set of entries and what becomes of it.
struct Case {
    about: &'static str,
    entries: &'static [&'static str],
    /// Entries with something odd about them, in addition.
    odd: &'static [(&'static str, Shape)],
    steps: &'static [Step],
}

enum Step {
    /// A boot of this entry, which leaves its name.
    Boots(&'static str),
    /// A boot of the first entry, whose name becomes the second.
    Counts(&'static str, &'static str),
    /// As `Boots`; within it, another entry is selected for one boot.
    Selects(&'static str, &'static str),
    /// `kairn health` finds a deployment healthy.
    Bless(u32),
    /// A good deployment has failed and gets one more try.
    Rearm(u32),
}
use Step::{Bless, Boots, Counts, Rearm, Selects};

const RECOVERY: &str = "kairn-recovery.conf";

const CASES: &[Case] = &[
    Case {
        about: "the highest is tried as often as its name says, then stands behind the good one",
        entries: &["kairn-1.conf", "kairn-2+2.conf", RECOVERY],
        odd: &[],
        steps: &[
            Counts("kairn-2+2.conf", "kairn-2+1-1.conf"),
            Counts("kairn-2+1-1.conf", "kairn-2+0-2.conf"),
            Boots("kairn-1.conf"),
        ],
    },
    Case {
        about: "recovery stands behind what can be tried and before what is bad",
        entries: &["kairn-1+1.conf", "kairn-2+0-2.conf", RECOVERY],
        odd: &[],
        steps: &[Counts("kairn-1+1.conf", "kairn-1+0-1.conf"), Boots(RECOVERY)],
    },
    Case {
        about: "a blessed deployment stays uncounted; one that failed boots once more, and then is bad",
        entries: &["kairn-2.conf", "kairn-3+2.conf", RECOVERY],
        odd: &[],
        steps: &[
            Counts("kairn-3+2.conf", "kairn-3+1-1.conf"),
            Bless(3),
            Boots("kairn-3.conf"),
            Rearm(3),
            Counts("kairn-3+1.conf", "kairn-3+0-1.conf"),
            Boots("kairn-2.conf"),
        ],
    },
    Case {
        about: "numbers are numbers, and a counted deployment comes before a good one only when it is higher",
        entries: &["kairn-9+2.conf", "kairn-10.conf", "kairn-11+1.conf", RECOVERY],
        odd: &[],
        steps: &[Counts("kairn-11+1.conf", "kairn-11+0-1.conf"), Boots("kairn-10.conf")],
    },
    Case {
        about: "a selection is for one boot, whatever the counter, and means no longer number",
        entries: &["kairn-1+2.conf", "kairn-11+1.conf", "kairn-12.conf", RECOVERY],
        odd: &[],
        steps: &[
            Selects("kairn-12.conf", "kairn-1.conf"),
            Counts("kairn-1+2.conf", "kairn-1+1-1.conf"),
            Selects("kairn-12.conf", RECOVERY),
            Boots(RECOVERY),
            Boots("kairn-12.conf"),
        ],
    },
    Case {
        about: "of names that a half-done change left, the loader takes the one that the planner expects",
        entries: &["kairn-1.conf", "kairn-2.conf", "kairn-2+2.conf", RECOVERY],
        odd: &[],
        steps: &[Counts("kairn-2+2.conf", "kairn-2+1-1.conf")],
    },
    Case {
        about: "entries are passed over whose image is absent or is named by another key than this loader wants",
        entries: &["kairn-1.conf", RECOVERY],
        odd: &[("kairn-2+2.conf", Shape::NoImage), ("kairn-3+2.conf", Shape::OtherKey)],
        steps: &[Boots("kairn-1.conf")],
    },
];

/// The loader of Debian 12.
pub fn debian_12(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    conforms(stage, "bookworm", 252)
}

/// The loader of Debian 13.
pub fn debian_13(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    conforms(stage, "trixie", 257)
}

fn conforms(stage: &Stage<'_>, suite: &str, major: u32) -> Result<Verdict, Fault> {
    let rig = Rig::set(stage, suite)?;
    let loader = rig.loader();
    ensure(loader.major == major, || format!("{suite} has systemd-boot {loader} instead of {major}"))?;
    for case in CASES {
        case.play(&rig).map_err(|fault| Fault::Failed(format!("{}: {fault}", case.about)))?;
        stage.note(case.about);
    }
    Ok(Verdict::Passed)
}

impl Case {
    fn play(&self, rig: &Rig<'_>) -> Result<(), Fault> {
        let sound = self.entries.iter().map(|name| (*name, Shape::Sound));
        rig.reset(sound.chain(self.odd.iter().copied()))?;
        // What another key hides from the loader is not hidden from the planner, since the product never writes it.
        let foreseeable = self.odd.iter().all(|(_, shape)| *shape != Shape::OtherKey);
        let mut selected = false;
        for step in self.steps {
            let (before, after, once) = match *step {
                Boots(name) => (name, None, None),
                Counts(name, after) => (name, Some(after), None),
                Selects(name, once) => (name, None, EntryName::parse(once)),
                Bless(sequence) => {
                    rig.change(|esp| esp.bless(Sequence(sequence)))?;
                    continue;
                }
                Rearm(sequence) => {
                    rig.change(|esp| esp.rearm(Sequence(sequence), 1))?;
                    continue;
                }
            };
            let next = rig.selection()?.next_boot().map(|entry| entry.name.clone());
            ensure(selected || !foreseeable || next.as_deref() == Some(before), || {
                format!("the planner expects {next:?} instead of {before}")
            })?;
            boot(rig, before, after, once)?;
            selected = once.is_some();
        }
        Ok(())
    }
}

/// Boots and compares: the entry that ran, whether kairn-init would take it for a trial, what the loader says of its counter, and all
/// names on the ESP.
fn boot(rig: &Rig<'_>, before: &str, after: Option<&str>, once: Option<EntryName>) -> Result<(), Fault> {
    let mut expected = rig.names()?;
    if let Some(after) = after {
        expected.retain(|name| name != before && name != after);
        expected.push(after.to_owned());
        expected.sort();
    }
    let told = rig.boot(once)?;
    let entry = EntryName::parse(before).map(EntryName::stripped);
    let Booted { name, trial } = told.booted;
    ensure(Some(name.stripped()) == entry, || format!("{name} ran instead of {before}"))?;
    ensure(trial == after.is_some(), || format!("{before} boots as if {}on trial", if trial { "" } else { "not " }))?;
    ensure(told.counted.as_deref() == after, || format!("the loader counted {:?} instead of {after:?}", told.counted))?;
    let names = rig.names()?;
    ensure(names == expected, || format!("after a boot of {before} there are {names:?} instead of {expected:?}"))
}

#[cfg(test)]
mod tests {
    use crate::scenarios::ALL;
    use kairn_firmware::SUPPORTED_LOADERS;

    #[test]
    fn every_supported_loader_has_its_conformance_run_and_no_other() {
        let mut tried: Vec<u32> = ALL.iter().filter_map(|s| s.name.strip_prefix("loader-")?.parse().ok()).collect();
        tried.sort_unstable();
        assert_eq!(tried, SUPPORTED_LOADERS);
    }
}
