//! Barriers: a program waits until enough nodes are there.

use super::stream::{Gone, Lines};
use super::{Answer, Asked};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::runner::{BarrierEvent, Place};
use hyper::Method;
use kairn_mesh_protocol::ballot::{BallotName, Barrier};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is said again that this node is there.
const RENEWAL: Duration = Duration::from_secs(200);

/// `POST /v1/barriers/NAME?at_least=N&ballot=BALLOT`
pub async fn wait(asked: &Asked, name: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let read = |name: String| BallotName::try_from(name).map_err(|error| Fault::wrong(error.to_string()));
    let name = read(name)?;
    let ballot = asked.query("ballot").map(|name| read(name.to_owned())).transpose()?;
    let number = |text: &str| {
        let number = text.parse::<usize>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| Fault::wrong(format!("`at_least` is a number of nodes, not `{}`", text.escape_debug())))
    };
    let at_least = asked.query("at_least").map(number).transpose()?;
    let own = name.clone();
    let (barrier, place) = handle
        .run(move |runner| {
            let barrier = runner.barrier(at_least, ballot.as_ref())?;
            Ok::<(Barrier, Arc<Place>), Fault>((barrier, runner.come(&own)?))
        })
        .await??;
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        if follow(&handle, &lines, &name, &barrier, &place).await.is_err() {
            tracing::debug!("a program waits at a barrier no more");
            if handle.run(move |runner| runner.go(&name, place)).await.is_err() {
                tracing::debug!("the node ends, and others forget it");
            }
        }
    });
    Ok(answer)
}

/// Says how the barrier stands whenever that is another than before, until it is open or the node ends. Once it is open this node is
/// known to have been there for a while, so that it opens for those too that see it later.
async fn follow(
    handle: &Handle,
    lines: &Lines,
    name: &BallotName,
    barrier: &Barrier,
    place: &Place,
) -> Result<(), Gone> {
    let (mut revisions, mut said) = (handle.revisions(), None);
    let (mut renewal, mut is_due) = (Box::pin(sleep(RENEWAL)), false);
    loop {
        let seen = *revisions.borrow_and_update();
        let (own, waiting) = (name.clone(), barrier.clone());
        let Ok(event) = handle.run(move |runner| runner.gathering(&own, &waiting)).await else { return Ok(()) };
        if event == BarrierEvent::Open {
            place.open();
        }
        if said.as_ref() != Some(&event) {
            lines.say(&event).await?;
        }
        if event == BarrierEvent::Open {
            return Ok(());
        }
        said = Some(event);
        tokio::select! {
            changed = revisions.wait_for(|revision| *revision != seen) => if changed.is_err() { return Ok(()) },
            () = &mut renewal => is_due = true,
            () = lines.gone() => return Err(Gone),
        }
        if !std::mem::take(&mut is_due) {
            continue;
        }
        renewal = Box::pin(sleep(RENEWAL));
        let own = name.clone();
        match handle.run(move |runner| runner.stay(&own)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(barrier = %name, why = fault.said.error, "others forget that this node is there");
            }
            Err(_) => return Ok(()),
        }
    }
}
