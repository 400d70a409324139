//! The shell of another member: the connection becomes the stream to it.

use super::{Answer, Asked, respond};
use crate::fault::Fault;
use crate::handle::Handle;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use kairn_mesh_protocol::shell::Shell;

/// What the connection becomes.
pub const PROTOCOL: HeaderValue = HeaderValue::from_static("kairn-shell");
/// What the session's exporter gave, as hexadecimal digits.
pub const EXPORTER: HeaderName = HeaderName::from_static("kairn-exporter");
/// The network's name.
pub const NETWORK: HeaderName = HeaderName::from_static("kairn-network");
/// The name of the node that is asked.
pub const CLIENT: HeaderName = HeaderName::from_static("kairn-client");
/// The name of the node whose shell it is.
pub const SERVER: HeaderName = HeaderName::from_static("kairn-server");

/// `POST /v1/shell?node=NODE`
pub(super) async fn open(asked: Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let node = asked.query("node").ok_or_else(|| Fault::wrong("`node` is not named"))?.to_owned();
    let upgrade = asked.upgrade.ok_or_else(|| {
        Fault::new(StatusCode::UPGRADE_REQUIRED, "the request does not ask for the connection to become a shell's")
            .hint("send `Connection: upgrade` and `Upgrade: kairn-shell`")
    })?;
    let (place, shells) = handle.run(move |runner| (runner.place_of_shell(&node), runner.shells().0)).await?;
    let (to, addresses) = place?;
    let line = shells.call(to, addresses).await.map_err(|error| {
        Fault::new(StatusCode::BAD_GATEWAY, format!("node {}: {}", to.short(), kairn_report::in_one_line(&error)))
    })?;
    let mut answer = respond(StatusCode::SWITCHING_PROTOCOLS, "application/octet-stream", String::new());
    describe(answer.headers_mut(), &line.shell)?;
    tokio::spawn(async move {
        let carried = match upgrade.await {
            Ok(program) => line.carry(TokioIo::new(program)).await,
            Err(error) => Err(std::io::Error::other(error)),
        };
        tracing::debug!(to = %to.short(), ?carried, "the shell of another node has ended");
    });
    Ok(answer)
}

fn describe(headers: &mut HeaderMap, shell: &Shell) -> Result<(), Fault> {
    headers.remove(CONTENT_TYPE);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, PROTOCOL);
    for (name, text) in [
        (EXPORTER, hex::encode(shell.exporter)),
        (NETWORK, shell.network.to_string()),
        (CLIENT, shell.client.to_string()),
        (SERVER, shell.server.to_string()),
    ] {
        let value = HeaderValue::try_from(text)
            .map_err(|error| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        headers.insert(name, value);
    }
    Ok(())
}

/// Reads what the answer says of the session.
pub fn described(headers: &HeaderMap) -> Option<Shell> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    Some(Shell {
        exporter: hex::decode(text(EXPORTER)?).ok()?.try_into().ok()?,
        network: text(NETWORK)?.parse().ok()?,
        client: text(CLIENT)?.parse().ok()?,
        server: text(SERVER)?.parse().ok()?,
    })
}
