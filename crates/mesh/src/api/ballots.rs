//! Ballots: to stand in one, and to see how they stand.

use super::stream::{Gone, Lines};
use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use hyper::Method;
use kairn_mesh_protocol::ballot::BallotName;

/// `GET /v1/ballots`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    json(&handle.run(|runner| runner.ballots()).await?)
}

/// `GET` and `POST` of `/v1/ballots/NAME`
pub async fn one(asked: &Asked, name: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET, Method::POST])?;
    let name = BallotName::try_from(name).map_err(|error| Fault::wrong(error.to_string()))?;
    if asked.method == Method::POST {
        return json(&handle.run(move |runner| runner.stand(&name)).await??);
    }
    if asked.query("watch") == Some("true") {
        return Ok(watch(name, handle));
    }
    json(&handle.run(move |runner| runner.ballot(&name)).await??)
}

/// `GET /v1/ballots/NAME?watch=true`
fn watch(name: BallotName, handle: &Handle) -> Answer {
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        match follow(&handle, &lines, name).await {
            Ok(()) => tracing::debug!("a watch of a ballot ends with the node"),
            Err(Gone) => tracing::debug!("a program watches a ballot no more"),
        }
    });
    answer
}

/// Says how the ballot stands whenever that is another than before, from when this node has heard of it until the node ends.
async fn follow(handle: &Handle, lines: &Lines, name: BallotName) -> Result<(), Gone> {
    let (mut revisions, mut said) = (handle.revisions(), None);
    loop {
        let seen = *revisions.borrow_and_update();
        let wanted = name.clone();
        let Ok(status) = handle.run(move |runner| runner.ballot(&wanted)).await else { return Ok(()) };
        if let Ok(status) = status
            && said.as_ref() != Some(&status)
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
