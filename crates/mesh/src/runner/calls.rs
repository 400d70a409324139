//! Sessions at work: calling, answering, asking and being asked, each a task of its own that reports to the loop.

use crate::error::Error;
use crate::services::Services;
use crate::session::{self, Caller, Open};
use crate::shell::Shells;
use crate::tls;
use kairn_mesh_protocol::{NodeId, Told, message};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// How many reports wait for the loop.
const WAITING: usize = 256;
/// How many calls and answers are at work at a time.
const AT_ONCE: usize = 32;

/// What a task reports.
pub enum Done {
    /// A session is open and proven.
    Opened(Open),
    /// No session.
    Failed(Error),
    /// A member asks.
    Question {
        /// Who.
        from: NodeId,
        /// What.
        bytes: Vec<u8>,
        /// Where the answer goes.
        answer: oneshot::Sender<Vec<u8>>,
    },
    /// A member answers, or does not.
    Answer {
        /// The number of the question.
        number: u64,
        /// The answer, or why there is none.
        answer: Result<Vec<u8>, String>,
    },
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions, called or answered, that ended because the other side did not prove that it belongs here.
    pub unproven: AtomicU64,
    /// Questions of members that were longer than any may be.
    pub overlong: AtomicU64,
}

/// The sessions.
pub struct Calls {
    caller: Caller,
    services: Arc<Services>,
    shells: Arc<Shells>,
    open: Arc<Mutex<BTreeMap<NodeId, Open>>>,
    /// Addresses that are being called.
    calling: Arc<Mutex<BTreeSet<SocketAddr>>>,
    limit: Arc<tokio::sync::Semaphore>,
    counters: Arc<Counters>,
    sender: mpsc::Sender<Done>,
    receiver: mpsc::Receiver<Done>,
}

impl Calls {
    /// No sessions yet.
    pub fn new(caller: Caller, services: Arc<Services>, shells: Arc<Shells>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let limit = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let (open, calling, counters) = (Arc::default(), Arc::default(), Arc::default());
        Self { caller, services, shells, open, calling, limit, counters, sender, receiver }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The next report.
    pub async fn next(&mut self) -> Option<Done> {
        self.receiver.recv().await
    }

    /// Opens a session with whoever is at an address, unless that is being done.
    pub fn call(&self, address: SocketAddr, time: Told) {
        // What discovery says is not proven: more calls at a time would only help whoever wants others called.
        let is_new = self.calling.lock().is_ok_and(|mut calling| calling.len() < AT_ONCE && calling.insert(address));
        if !is_new {
            return;
        }
        let task = self.task();
        tokio::spawn(async move {
            let done = match task.call(address, time).await {
                Ok(open) => Done::Opened(open),
                Err(error) => Done::Failed(error),
            };
            if let Ok(mut calling) = task.calling.lock() {
                calling.remove(&address);
            }
            task.report(done).await;
        });
    }

    /// Answers a call.
    pub fn answer(&self, incoming: quinn::Incoming, time: Told) {
        let task = self.task();
        // With many at the door, callers show first that they are where they say (RFC 9000, 8.1.2).
        if !incoming.remote_address_validated() && self.limit.available_permits() < AT_ONCE / 2 {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "a caller was not asked to show where it is");
            }
            return;
        }
        tokio::spawn(async move {
            // Whoever only calls and does not prove anything must not keep others out for long, nor cost much.
            let Ok(_permit) = task.limit.clone().try_acquire_owned() else { return incoming.ignore() };
            let done = match session::answer(incoming, task.caller.own, &task.caller.papers, time).await {
                // The permit is for those that prove themselves yet.
                Ok(open) if tls::is_for_services(&open.connection) => {
                    tokio::spawn(task.services.serve(open));
                    return;
                }
                Ok(open) if tls::is_for_shell(&open.connection) => {
                    tokio::spawn(task.shells.serve(open));
                    return;
                }
                Ok(open) => {
                    task.keep(&open);
                    Done::Opened(open)
                }
                Err(error) => Done::Failed(task.counted(error)),
            };
            task.report(done).await;
        });
    }

    /// Asks a member in a session with it, which is opened at one of its addresses where there is none.
    pub fn ask(&self, to: NodeId, addresses: &[SocketAddr], number: u64, question: Vec<u8>, time: Told) {
        let (task, addresses) = (self.task(), addresses.to_vec());
        tokio::spawn(async move {
            let answer = task.ask(to, addresses, &question, time).await.map_err(|error| error.to_string());
            task.report(Done::Answer { number, answer }).await;
        });
    }

    /// Ends the session with a node that is no member any more.
    pub fn end(&self, node: &NodeId) {
        let gone = self.open.lock().ok().and_then(|mut open| open.remove(node));
        if let Some(gone) = gone {
            gone.connection.close(session::UNPROVEN, b"put out of the network");
        }
    }

    fn task(&self) -> Task {
        Task {
            caller: self.caller.clone(),
            services: Arc::clone(&self.services),
            shells: Arc::clone(&self.shells),
            open: Arc::clone(&self.open),
            calling: Arc::clone(&self.calling),
            limit: Arc::clone(&self.limit),
            counters: Arc::clone(&self.counters),
            sender: self.sender.clone(),
        }
    }
}

/// What one task needs.
#[derive(Clone)]
struct Task {
    caller: Caller,
    services: Arc<Services>,
    shells: Arc<Shells>,
    open: Arc<Mutex<BTreeMap<NodeId, Open>>>,
    calling: Arc<Mutex<BTreeSet<SocketAddr>>>,
    limit: Arc<tokio::sync::Semaphore>,
    counters: Arc<Counters>,
    sender: mpsc::Sender<Done>,
}

impl Task {
    async fn call(&self, address: SocketAddr, time: Told) -> Result<Open, Error> {
        let open = self.caller.call(address, Some(time)).await.map_err(|error| self.counted(error))?;
        self.keep(&open);
        Ok(open)
    }

    async fn ask(&self, to: NodeId, addresses: Vec<SocketAddr>, question: &[u8], time: Told) -> Result<Vec<u8>, Error> {
        let known = self.open.lock().ok().and_then(|open| open.get(&to).cloned());
        if let Some(open) = known.filter(|open| open.connection.close_reason().is_none()) {
            return session::ask(&open.connection, question).await;
        }
        let mut failed = None;
        for address in addresses {
            match self.call(address, time).await {
                Ok(open) if open.peer == to => {
                    let answer = session::ask(&open.connection, question).await;
                    self.report(Done::Opened(open)).await;
                    return answer;
                }
                // Somebody else lives there now; that is a session too.
                Ok(open) => self.report(Done::Opened(open)).await,
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(Error::Unknown(to)))
    }

    /// Keeps a session and answers what is asked in it. Of two with one member the later is asked, both answer.
    fn keep(&self, open: &Open) {
        if let Ok(mut sessions) = self.open.lock() {
            sessions.retain(|_, open| open.connection.close_reason().is_none());
            sessions.insert(open.peer, open.clone());
        }
        let (task, open) = (self.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((send, receive)) = open.connection.accept_bi().await {
                let task = task.clone();
                tokio::spawn(async move { task.serve(open.peer, send, receive).await });
            }
        });
    }

    async fn serve(&self, from: NodeId, mut send: quinn::SendStream, mut receive: quinn::RecvStream) {
        let bytes = match receive.read_to_end(message::LARGEST).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let is_overlong = matches!(error, quinn::ReadToEndError::TooLong);
                self.counters.overlong.fetch_add(is_overlong.into(), Ordering::Relaxed);
                return tracing::debug!(from = %from.short(), %error, "a question that did not come whole");
            }
        };
        let (answer, text) = oneshot::channel();
        self.report(Done::Question { from, bytes, answer }).await;
        let Ok(text) = text.await else { return };
        let sent = match send.write_all(&text).await {
            Ok(()) => send.finish().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(from = %from.short(), error, "who asked went away");
        }
    }

    fn counted(&self, error: Error) -> Error {
        let is_unproven = matches!(error, Error::Unproven { .. });
        self.counters.unproven.fetch_add(is_unproven.into(), Ordering::Relaxed);
        error
    }

    async fn report(&self, done: Done) {
        if self.sender.send(done).await.is_err() {
            tracing::debug!("the node has ended");
        }
    }
}
