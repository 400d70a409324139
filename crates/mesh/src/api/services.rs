//! Services: to list, to expose for as long as the program listens, and to connect to.

use super::stream::{Gone, Lines};
use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::services::{RENEWAL, Services};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How many connections of one listener are carried at a time; further ones wait.
const AT_ONCE: usize = 256;
/// How long is waited after a connection could not be taken, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A line of what is said of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ServiceEvent {
    /// The service is exposed, until the program listens no more.
    Exposed {
        /// Its name.
        name: String,
        /// Where it is on this machine.
        to: SocketAddr,
    },
    /// Connections are taken here, until the program listens no more.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// A connection was not carried; it was reset.
    Refused {
        /// Why.
        why: String,
    },
}

/// `GET /v1/services`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    json(&handle.run(|runner| runner.services()).await?)
}

/// `POST /v1/services/NAME?to=IP:PORT`
pub async fn expose(asked: &Asked, name: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let to = address(asked, "to")?;
    let name = handle.run(move |runner| runner.expose(&name, to)).await??;
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        if keep(&handle, &lines, &name, to).await.is_err() {
            tracing::debug!(name, "the program that exposes it is gone");
        }
        if handle.run(move |runner| runner.hide(&name)).await.is_err() {
            tracing::debug!("the node ends, and hid it itself");
        }
    });
    Ok(answer)
}

/// Says again and again that the service is there, until the program is gone or the node ends.
async fn keep(handle: &Handle, lines: &Lines, name: &str, to: SocketAddr) -> Result<(), Gone> {
    lines.say(&ServiceEvent::Exposed { name: name.to_owned(), to }).await?;
    let mut revisions = handle.revisions();
    let mut ended = std::pin::pin!(async { while revisions.changed().await.is_ok() {} });
    loop {
        tokio::select! {
            () = lines.gone() => return Err(Gone),
            () = &mut ended => return Ok(()),
            () = sleep(RENEWAL) => {}
        }
        let again = name.to_owned();
        if let Ok(Err(fault)) = handle.run(move |runner| runner.say_service(&again)).await {
            lines.say(&ServiceEvent::Refused { why: fault.said.error }).await?;
        }
    }
}

/// `POST /v1/connections?service=NAME&listen=IP:PORT&node=NODE`
pub async fn connect(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let service = asked.query("service").ok_or_else(|| Fault::wrong("`service` is not named"))?.to_ascii_lowercase();
    let node = asked.query("node").map(str::to_owned);
    let listen = address(asked, "listen")?;
    let listener = TcpListener::bind(listen).await;
    let taken = |error| Fault::new(StatusCode::CONFLICT, format!("cannot listen at {listen}: {error}"));
    let listener = listener.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    let carrier = handle.run(|runner| runner.carrier()).await?;
    let mut revisions = handle.revisions();
    let (lines, answer) = Lines::answer();
    tokio::spawn(async move {
        let lines = Arc::new(lines);
        if lines.say(&ServiceEvent::Listening { address }).await.is_err() {
            return;
        }
        tokio::select! {
            () = lines.gone() => {}
            () = async { while revisions.changed().await.is_ok() {} } => {}
            () = take(&listener, &carrier, &lines, &service, node) => {}
        }
    });
    Ok(answer)
}

async fn take(
    listener: &TcpListener,
    carrier: &Arc<Services>,
    lines: &Arc<Lines>,
    service: &str,
    node: Option<String>,
) {
    let limit = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (carrier, lines, service, node) =
            (Arc::clone(carrier), Arc::downgrade(lines), service.to_owned(), node.clone());
        // A connection outlives the listener.
        tokio::spawn(async move {
            if let Err(why) = carrier.call(tcp, &service, node).await {
                tracing::info!(service, why, "a connection was refused");
                if let Some(lines) = lines.upgrade()
                    && lines.say(&ServiceEvent::Refused { why }).await.is_err()
                {
                    tracing::debug!("and nobody listens");
                }
            }
            drop(permit);
        });
    }
}

fn address(asked: &Asked, name: &str) -> Result<SocketAddr, Fault> {
    let text = asked.query(name).ok_or_else(|| Fault::wrong(format!("`{name}` is not named")))?;
    text.parse()
        .map_err(|_| Fault::wrong(format!("`{}` is no address with a port, such as 127.0.0.1:80", text.escape_debug())))
}
