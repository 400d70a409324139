//! Leases: to ask for one, and to see who leads.

use super::stream::{Gone, Lines};
use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use hyper::Method;
use kairn_mesh_protocol::ballot::BallotName;
use std::time::Duration;

/// How long a lease lasts unless said otherwise, in seconds.
const LENGTH: u64 = 20;

/// `GET /v1/leases`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    json(&handle.run(|runner| runner.leases()).await?)
}

/// `GET` and `POST` of `/v1/leases/NAME`
pub async fn one(asked: &Asked, name: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET, Method::POST])?;
    let name = BallotName::try_from(name).map_err(|error| Fault::wrong(error.to_string()))?;
    if asked.method == Method::GET && asked.query("watch") != Some("true") {
        return json(&handle.run(move |runner| runner.lease(&name)).await??);
    }
    let is_wanted = asked.method == Method::POST;
    if is_wanted {
        let (length, name) = (length(asked)?, name.clone());
        handle.run(move |runner| runner.want_lease(&name, length)).await??;
    }
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        match follow(&handle, &lines, name.clone()).await {
            Ok(()) => tracing::debug!("who follows a lease is left with the node"),
            Err(Gone) => tracing::debug!("a program follows a lease no more"),
        }
        if is_wanted && handle.run(move |runner| runner.give_up_lease(&name)).await.is_err() {
            tracing::debug!("the node ends, and gave the lease up itself");
        }
    });
    Ok(answer)
}

fn length(asked: &Asked) -> Result<Duration, Fault> {
    let Some(text) = asked.query("seconds") else { return Ok(Duration::from_secs(LENGTH)) };
    let wrong = || Fault::wrong(format!("`seconds` is a whole number, not `{}`", text.escape_debug()));
    text.parse().map(Duration::from_secs).map_err(|_| wrong())
}

/// Says how the lease stands whenever it is held otherwise than before, until the node ends.
async fn follow(handle: &Handle, lines: &Lines, name: BallotName) -> Result<(), Gone> {
    let (mut revisions, mut said) = (handle.revisions(), None);
    loop {
        let seen = *revisions.borrow_and_update();
        let wanted = name.clone();
        let Ok(status) = handle.run(move |runner| runner.lease(&wanted)).await else { return Ok(()) };
        if let Ok(status) = status
            && status.differs(said.as_ref())
        {
            lines.say(&status).await?;
            said = Some(status);
        }
        tokio::select! {
            changed = revisions.wait_for(|revision| *revision != seen) => if changed.is_err() { return Ok(()) },
            () = lines.gone() => return Err(Gone),
        }
    }
}
