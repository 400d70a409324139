//! Members that want the shell of this node.

use super::{Order, Shells, draw, frames};
use crate::runner::Runner;
use crate::session::Open;
use kairn_mesh_protocol::shell::{EXPORTER, Frame, Shell, Tried};
use kairn_mesh_protocol::{Moment, NodeId};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional_with_sizes, join};
use tokio::time::timeout;

/// How long a program may take to say what it knows without asking anybody.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a person may take to type a code.
const TYPING: Duration = Duration::from_secs(300);
/// Bytes that are copied at a time, in each direction.
const BUFFER: usize = 64 * 1024;

/// A session, and who has it.
struct Caller {
    shell: Shell,
    /// For people.
    name: String,
    address: std::net::SocketAddr,
}

impl Shells {
    /// Serves a session until it ends.
    pub async fn serve(self: Arc<Self>, open: Open) {
        let (connection, peer, address) = (open.connection.clone(), open.peer, open.address);
        // Its record comes with the session: it may be one that this node has not heard of.
        let opened = self.handle.run(move |runner| {
            runner.opened(&open);
            runner.name_of(&peer)
        });
        let Ok(machine) = opened.await else { return };
        let mut exporter = [0; 32];
        if connection.export_keying_material(&mut exporter, EXPORTER, b"").is_err() {
            return connection.close(0_u8.into(), b"no exporter");
        }
        let shell = Shell { network: self.network, exporter, client: peer, server: self.caller.own };
        let name = format!("{} ({})", peer.short(), machine.escape_debug());
        self.keep(peer, &connection);
        let caller = Caller { shell, name, address };
        if let Err(error) = self.at_the_door(&connection, &caller).await {
            tracing::info!(peer = caller.name, %address, %error, "a session for a shell broke off");
        }
        connection.close(0_u8.into(), b"the shell has ended");
    }

    async fn at_the_door(&self, connection: &quinn::Connection, caller: &Caller) -> io::Result<()> {
        let (mut send, mut receive) = soon(PATIENCE, connection.accept_bi()).await?.map_err(io::Error::other)?;
        if !matches!(soon(PATIENCE, frames::read(&mut receive)).await??, Some(Frame::Knock)) {
            return Err(io::Error::other("it does not knock"));
        }
        let peer = caller.shell.client;
        self.wait(peer, connection);
        let asked = match self.callers.try_acquire() {
            Ok(_permit) => self.ask(&mut send, &mut receive, caller).await,
            Err(_) => Ok(Err("as many as can are at the door".to_owned())),
        };
        self.waited(&peer, connection);
        let let_in = asked?;
        let granted = match (let_in, self.shells.try_acquire()) {
            (Ok(who), Ok(permit)) => {
                let order = Order::Serve { consoles: self.settings.consoles.clone(), who: who.clone() };
                self.settings.attendance.order(&order).await.map(|attendant| (who, permit, attendant))
            }
            (Ok(_), Err(_)) => Err("as many shells as can be are open".to_owned()),
            (Err(why), _) => Err(why),
        };
        let (who, _permit, mut attendant) = match granted {
            Ok(granted) => granted,
            Err(why) => return self.refuse(connection, send, caller, why).await,
        };
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(who, address = %caller.address, "a shell of this machine is opened");
        let since = Instant::now();
        let carried = async {
            frames::write(&mut send, &Frame::Granted).await?;
            let mut stream = join(&mut receive, &mut send);
            copy_bidirectional_with_sizes(&mut attendant, &mut stream, BUFFER, BUFFER).await
        };
        let broken = carried.await.err().filter(|_| !is_hung_up(connection)).map(|error| error.to_string());
        tracing::warn!(who, seconds = since.elapsed().as_secs(), broken, "a shell of this machine has ended");
        Ok(())
    }

    /// Asks for a code or a key, and says who is let in, or why not.
    async fn ask(
        &self,
        send: &mut quinn::SendStream,
        receive: &mut quinn::RecvStream,
        caller: &Caller,
    ) -> io::Result<Result<String, String>> {
        let peer = caller.shell.client;
        let is_member = self.handle.run(move |runner| (runner.is_member(&peer), runner.has_administrators()));
        let Ok((is_member, has_administrators)) = is_member.await else {
            return Ok(Err("the node ends".to_owned()));
        };
        let (code, key) = self.doors();
        if !is_member {
            return Ok(Err("the caller is no member".to_owned()));
        }
        if !code && !key {
            return Ok(Err(self.closed()));
        }
        if !code && !has_administrators {
            return Ok(Err(
                "only an administrator's key opens its shell, and this network has no administrator".to_owned()
            ));
        }
        frames::write(send, &Frame::Door { code, key: key && has_administrators }).await?;
        let shown = soon(TYPING, frames::read(receive)).await??;
        Ok(match shown {
            Some(Frame::Code(proof)) if code => self.try_code(caller, proof).await,
            Some(Frame::Key { administrator, signature }) if key => {
                let shell = caller.shell;
                let is_theirs = shell.verify(&administrator, &signature).is_ok();
                let known = self.handle.run(move |runner| runner.is_administrator(&administrator)).await;
                if is_theirs && known.is_ok_and(|known| known) {
                    Ok(format!("administrator {} from {}", administrator.short(), caller.name))
                } else {
                    Err("this is not the key of an administrator of this network".to_owned())
                }
            }
            _ => Err("it shows neither a code nor a key".to_owned()),
        })
    }

    fn closed(&self) -> String {
        match self.settings.policy {
            kairn_mesh_protocol::shell::Policy::Never => "p2p.shell is `never` there".to_owned(),
            _ => "it runs its ordinary system, and lends its shell in recovery only; `p2p.shell: always` lets administrators in".to_owned(),
        }
    }

    async fn try_code(&self, caller: &Caller, proof: [u8; 32]) -> Result<String, String> {
        let shell = caller.shell;
        let tried = self.handle.run(move |runner| runner.try_code(&shell, &proof)).await;
        match tried.map_err(|fault| fault.said.error)?? {
            Tried::Right => Ok(format!("{} with the code", caller.name)),
            Tried::Wrong { is_void: false } => Err("this is not the code".to_owned()),
            Tried::Wrong { is_void: true } => {
                Err("this is not the code; too many were wrong, and another is on its console now".to_owned())
            }
            Tried::Unheard => Err("too many codes were wrong; it looks at no other for ten minutes".to_owned()),
        }
    }

    async fn refuse(
        &self,
        connection: &quinn::Connection,
        mut send: quinn::SendStream,
        caller: &Caller,
        why: String,
    ) -> io::Result<()> {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(peer = caller.name, address = %caller.address, why, "a member gets no shell");
        frames::write(&mut send, &Frame::Refused(why)).await?;
        send.shutdown().await?;
        // The reason must be there before the session ends.
        let heard = timeout(PATIENCE, connection.closed()).await;
        tracing::debug!(?heard, "and was told so");
        Ok(())
    }

    /// Tries what shows that a member knows the code. A code that is used up or void is replaced.
    pub(crate) fn prove_code(
        self: &Arc<Self>,
        now: Moment,
        machine: &str,
        shell: &Shell,
        proof: &[u8; 32],
    ) -> Result<Tried, String> {
        let next = draw()?;
        let mut gate = self.gate.lock().map_err(|_| "the node stopped".to_owned())?;
        let gate = gate.as_mut().ok_or_else(|| "no code opens its shell".to_owned())?;
        let tried = gate.try_code(now, shell, proof, next);
        match tried {
            Tried::Right => self.show(gate.code(), machine, "the code was used up; the next for the recovery shell"),
            Tried::Wrong { is_void: true } => {
                tracing::warn!("too many wrong codes: a new one is on the consoles");
                self.show(gate.code(), machine, "many tried wrong codes; the new one for the recovery shell");
            }
            Tried::Wrong { is_void: false } | Tried::Unheard => {}
        }
        Ok(tried)
    }
}

impl Runner {
    fn try_code(&self, shell: &Shell, proof: &[u8; 32]) -> Result<Tried, String> {
        let (shells, now) = self.shells();
        shells.prove_code(now, self.machine(), shell, proof)
    }

    fn has_administrators(&self) -> bool {
        !self.administrators().is_empty()
    }

    fn is_administrator(&self, key: &NodeId) -> bool {
        self.administrators().contains(key)
    }
}

/// Whether the caller ended the session because the shell has ended.
fn is_hung_up(connection: &quinn::Connection) -> bool {
    let reason = connection.close_reason();
    matches!(reason, Some(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code == 0_u8.into())
}

async fn soon<T>(patience: Duration, what: impl Future<Output = T>) -> io::Result<T> {
    timeout(patience, what).await.map_err(|_| io::ErrorKind::TimedOut.into())
}
