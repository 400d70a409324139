//! The installed machine that an operation is about, with the doors to it.

use crate::Error;
use crate::executor::{execute, recover};
use crate::facts::{self, Volumes, below};
use crate::journal::{FileJournal, Story, interrupted};
use crate::stage::StageRunner;
use crate::upgrade_actor::UpgradeActor;
use crate::upgrade_source::{ImageSource, Sealer};
use kairn_host::{Clock, Lock, Machine};
use kairn_layout::paths;
use kairn_lifecycle::BootReport;
use kairn_lifecycle::plan::Plan;
use kairn_lifecycle::upgrade::UpgradeAction;
use kairn_report::Sink;
use std::path::{Path, PathBuf};

/// Operations whose actions are [`UpgradeAction`]; an interrupted one of any of them is ended before the next begins.
const OPERATIONS: [&str; 4] = ["upgrade", "upgrade-recovery", "rollback", kairn_lifecycle::reset::OPERATION];

/// An installed machine.
pub struct Node<'a> {
    /// Its root directory; `/`, or a test's.
    pub root: PathBuf,
    /// Applies effects.
    pub machine: &'a mut dyn Machine,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// What kairn-init found.
    pub report: BootReport,
    /// Its partitions.
    pub volumes: Volumes,
}

impl<'a> Node<'a> {
    /// Finds the machine that this program runs on. Gives the calling thread a mount namespace of its own, so that what is mounted for a
    /// change is seen by nobody else and ends with the program; call it before other threads are started.
    ///
    /// # Errors
    /// This is no installed machine, or the namespace is refused (not root).
    pub fn this(machine: &'a mut dyn Machine, clock: &'a dyn Clock) -> Result<Self, Error> {
        let root = PathBuf::from("/");
        let report = facts::boot_report(&root)?;
        facts::refuse_live(&report)?;
        kairn_host::mount::private_namespace()?;
        let volumes = Volumes::of_report(&report)?;
        Ok(Self { root, machine, clock, report, volumes })
    }

    /// Takes the lock that every changing command holds.
    ///
    /// # Errors
    /// Another command holds it; the error says which.
    pub fn lock(&self, command: &str) -> Result<Lock, Error> {
        Ok(Lock::take(&below(&self.root, paths::run::LOCK), command, self.clock.since_epoch())?)
    }

    /// Finds what a crash interrupted.
    ///
    /// # Errors
    /// STATE or a journal cannot be read.
    pub fn interrupted(&self) -> Result<Vec<Story<UpgradeAction>>, Error> {
        self.volumes.state.read(|root| {
            let dir = root.join(paths::JOURNAL);
            let mut found = Vec::new();
            for operation in OPERATIONS {
                found.extend(interrupted::<UpgradeAction>(&dir, operation)?);
            }
            Ok(found)
        })
    }

    /// Ends what a crash interrupted: finishes it or takes it back, as its journal says. Returns the plans of those that were finished:
    /// whoever asked for one of them again has it already.
    ///
    /// # Errors
    /// It could not be ended; the next command tries again.
    pub fn recover(
        &mut self,
        sealer: &mut dyn Sealer,
        stages: &mut dyn StageRunner,
        sink: &mut dyn Sink,
    ) -> Result<Vec<Plan<UpgradeAction>>, Error> {
        let found = self.interrupted()?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let (volumes, clock, root) = (self.volumes.clone(), self.clock, self.root.clone());
        self.volumes.state.write(self.machine, |state, machine| {
            let mut finished = Vec::new();
            for mut story in found {
                // The same file, where it can be written.
                if let Some(name) = story.path.file_name() {
                    story.path = state.join(paths::JOURNAL).join(name);
                }
                let (state, volumes) = (state.to_owned(), &volumes);
                let mut actor = UpgradeActor {
                    machine: &mut *machine,
                    state,
                    volumes,
                    source: None,
                    sealer: &mut *sealer,
                    stages: &mut *stages,
                    root: &root,
                    clock,
                };
                if recover(&story, &mut actor, clock, sink)? {
                    finished.push(story.plan);
                }
            }
            Ok(finished)
        })
    }

    /// Executes a plan of upgrade, rollback or reset with its journal. The caller holds the lock.
    ///
    /// # Errors
    /// The executor's.
    pub fn execute(
        &mut self,
        plan: &Plan<UpgradeAction>,
        source: Option<&mut dyn ImageSource>,
        sealer: &mut dyn Sealer,
        stages: &mut dyn StageRunner,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let (volumes, clock, root) = (self.volumes.clone(), self.clock, self.root.clone());
        self.volumes.state.write(self.machine, |state, machine: &mut dyn Machine| {
            let mut journal = FileJournal::begin(&state.join(paths::JOURNAL), &plan.operation, clock)?;
            let (state, volumes) = (state.to_owned(), &volumes);
            // Reborrowed one by one: behind `Option` a trait object's lifetime does not shorten by itself.
            let source: Option<&mut dyn ImageSource> = match source {
                Some(source) => Some(&mut *source),
                None => None,
            };
            let (sealer, stages) = (&mut *sealer, &mut *stages);
            let mut actor = UpgradeActor { machine, state, volumes, source, sealer, stages, root: &root, clock };
            execute(plan, &mut actor, &mut journal, sink)
        })
    }

    /// Returns the root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
