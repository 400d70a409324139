//! The shell of a node, lent to members: in recovery to whoever knows the one-time code on its console, and to administrators.
//!
//! A session for a shell is a QUIC connection of its own (`tls::SHELL`) with one stream, whose frames `mesh-protocol::shell` has. The node
//! opens the door; what is behind it is an attendant's, which is a process of its own.

mod attendant;
mod call;
mod caller;
mod frames;
mod program;
mod serve;

use crate::handle::Handle;
use crate::session::Caller;
pub use attendant::{Attendance, Order, SOCKET, attend};
pub use caller::{Asked, ShellEnd};
use kairn_mesh_protocol::shell::{Code, Gate, Policy};
use kairn_mesh_protocol::{NetworkId, NodeId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// How many shells are lent at a time.
const SHELLS: usize = 8;
/// How many members stand at the door at a time.
const CALLERS: usize = 16;

/// When and how this node lends its shell.
#[derive(Clone, Debug)]
pub struct ShellSettings {
    /// When.
    pub policy: Policy,
    /// Whether the machine is in recovery.
    pub is_recovery: bool,
    /// Where codes are shown, and that a shell is opened; the kernel's consoles where none is named.
    pub consoles: Vec<PathBuf>,
    /// Who runs what is asked for.
    pub attendance: Attendance,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Shells that were lent.
    pub opened: AtomicU64,
    /// Members that got none.
    pub refused: AtomicU64,
}

/// The shells of a node.
pub struct Shells {
    handle: Handle,
    network: NetworkId,
    caller: Caller,
    settings: ShellSettings,
    /// What a code opens; nothing where none does.
    gate: Mutex<Option<Gate>>,
    /// Sessions with members that have a shell, or want one.
    open: Mutex<BTreeMap<NodeId, Vec<quinn::Connection>>>,
    /// Members at the door. Each stands there once.
    waiting: Mutex<BTreeMap<NodeId, quinn::Connection>>,
    shells: Semaphore,
    callers: Semaphore,
    counters: Counters,
}

impl Shells {
    /// No shell is lent yet. The caller calls as one does for shells.
    pub fn new(handle: Handle, network: NetworkId, caller: Caller, settings: ShellSettings) -> Arc<Self> {
        let (shells, callers) = (Semaphore::new(SHELLS), Semaphore::new(CALLERS));
        let (gate, open, waiting) = (Mutex::default(), Mutex::default(), Mutex::default());
        let counters = Counters::default();
        Arc::new(Self { handle, network, caller, settings, gate, open, waiting, shells, callers, counters })
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Draws a code and shows it, if one opens anything here. `machine` is its name.
    pub fn begin(self: &Arc<Self>, machine: &str) {
        if !self.doors().0 {
            return;
        }
        match draw() {
            Ok(code) => {
                self.show(&code, machine, "the recovery shell");
                if let Ok(mut gate) = self.gate.lock() {
                    *gate = Some(Gate::new(code));
                }
            }
            Err(why) => tracing::error!(why, "no code opens the shell of this machine"),
        }
    }

    /// Whether a code and an administrator's key, in this order, open the shell.
    const fn doors(&self) -> (bool, bool) {
        self.settings.policy.doors(self.settings.is_recovery)
    }

    /// Shows a code on the consoles. It is in no log.
    fn show(self: &Arc<Self>, code: &Code, machine: &str, what: &str) {
        let (node, code) = (self.caller.own.short(), code.reveal());
        let machine: String = machine.chars().filter(|c| c.is_ascii_graphic() && *c != '\\').collect();
        let standing = format!(
            "The recovery shell of this machine opens once, from another member of the mesh:\n\n    kairn mesh shell {node}\n    code {code}\n\n"
        );
        let text = format!("\nkairn: {what} of {machine}, node {node}: `kairn mesh shell {node}`, code {code}\n\n");
        self.have_shown(text, Some(standing));
    }

    /// Takes away what stands on the consoles: the node ends.
    pub async fn hide(&self) {
        let any = self.gate.lock().is_ok_and(|mut gate| gate.take().is_some());
        if any {
            let order = Order::Show { consoles: self.settings.consoles.clone(), text: String::new(), standing: None };
            if let Err(why) = self.settings.attendance.order(&order).await {
                tracing::warn!(why, "a code that opens nothing stays on the consoles");
            }
        }
    }

    fn have_shown(self: &Arc<Self>, text: String, standing: Option<String>) {
        let shells = Arc::clone(self);
        tokio::spawn(async move {
            let order = Order::Show { consoles: shells.settings.consoles.clone(), text, standing };
            if let Err(why) = shells.settings.attendance.order(&order).await {
                tracing::error!(
                    why,
                    "the code for the shell of this machine is not shown: an administrator's key opens it"
                );
            }
        });
    }

    /// Ends the sessions with a node that is no member any more.
    pub fn end(&self, node: &NodeId) {
        let gone = self.open.lock().ok().and_then(|mut open| open.remove(node));
        for connection in gone.into_iter().flatten() {
            connection.close(crate::session::UNPROVEN, b"put out of the network");
        }
    }

    /// Has a member stand at the door; where it stood before it stands no more.
    fn wait(&self, peer: NodeId, connection: &quinn::Connection) {
        let Ok(mut waiting) = self.waiting.lock() else { return };
        if let Some(before) = waiting.insert(peer, connection.clone()) {
            before.close(0_u8.into(), b"another session took its place");
        }
    }

    /// A member does not stand at the door any more, unless it came anew.
    fn waited(&self, peer: &NodeId, connection: &quinn::Connection) {
        let Ok(mut waiting) = self.waiting.lock() else { return };
        if waiting.get(peer).is_some_and(|last| last.stable_id() == connection.stable_id()) {
            waiting.remove(peer);
        }
    }

    fn keep(&self, peer: NodeId, connection: &quinn::Connection) {
        let Ok(mut open) = self.open.lock() else { return };
        open.retain(|_, all| {
            all.retain(|connection| connection.close_reason().is_none());
            !all.is_empty()
        });
        open.entry(peer).or_default().push(connection.clone());
    }
}

/// A code that nobody knows yet.
fn draw() -> Result<Code, String> {
    crate::state::random().map(Code::new).map_err(|error| format!("the kernel gives no random bytes: {error}"))
}
