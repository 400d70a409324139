//! The way from other tasks of the process to the loop that runs the node: work is sent there, and done between two events.

use crate::fault::Fault;
use crate::runner::Runner;
use tokio::sync::{mpsc, oneshot, watch};

/// How much work waits for the loop.
const WAITING: usize = 64;

/// Work for the loop.
pub type Job = Box<dyn FnOnce(&mut Runner) + Send>;

/// Counts changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Of anything.
    pub any: u64,
    /// Of values of programs.
    pub values: u64,
}

/// The tasks' end.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
    revisions: watch::Receiver<Revision>,
}

/// The loop's end.
pub struct Jobs {
    receiver: mpsc::Receiver<Job>,
    /// Counts changes of what programs can watch; nothing once the node ends.
    revisions: Option<watch::Sender<Revision>>,
}

impl Handle {
    /// Both ends.
    pub fn new() -> (Self, Jobs) {
        let (jobs, receiver) = mpsc::channel(WAITING);
        let (sender, revisions) = watch::channel(Revision::default());
        (Self { jobs, revisions }, Jobs { receiver, revisions: Some(sender) })
    }

    /// Has the loop do something and hands back what came of it.
    ///
    /// # Errors
    /// The node ends.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Runner) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, done) = oneshot::channel();
        let job: Job = Box::new(move |runner| {
            if sender.send(work(runner)).is_err() {
                tracing::debug!("who asked did not wait for the answer");
            }
        });
        self.jobs.send(job).await.map_err(|_| Fault::ending())?;
        done.await.map_err(|_| Fault::ending())
    }

    /// Tells of changes of what programs can watch, and of the node's end.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.clone()
    }
}

impl Jobs {
    /// The next work.
    pub async fn next(&mut self) -> Option<Job> {
        self.receiver.recv().await
    }

    /// Something that programs can watch changed: a value, or something else.
    pub fn changed(&self, is_value: bool) {
        if let Some(revisions) = &self.revisions {
            revisions.send_modify(|revision| {
                revision.any = revision.any.wrapping_add(1);
                revision.values = revision.values.wrapping_add(is_value.into());
            });
        }
    }

    /// Takes no more work and has those that watch end: the node says farewell.
    pub fn end(&mut self) {
        self.revisions = None;
        self.receiver.close();
        while self.receiver.try_recv().is_ok() {}
    }
}
