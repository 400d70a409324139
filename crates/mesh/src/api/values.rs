//! Values of programs: to read, write, delete and watch.

use super::stream::{Gone, Lines};
use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::runner::Wanted;
use crate::values::{Change, Shown, Value, check_key};
use hyper::Method;
use kairn_mesh_protocol::entry::{Bucket, LARGEST_VALUE};
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// Changes within this time are looked at together.
const GATHERING: Duration = Duration::from_millis(20);

/// `GET /v1/values?prefix=P`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    let wanted = Wanted::Prefix(asked.query("prefix").unwrap_or_default().to_owned());
    let seen = handle.run(move |runner| runner.values(&wanted)).await??;
    json(&seen.into_iter().map(|seen| seen.value).collect::<Vec<Value>>())
}

/// `GET`, `PUT` and `DELETE` of `/v1/values/KEY`
pub async fn one(asked: Asked, key: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET, Method::PUT, Method::DELETE])?;
    check_key(&key)?;
    if asked.method == Method::PUT {
        return put(asked, key, handle).await;
    }
    if asked.method == Method::DELETE {
        handle.run(move |runner| runner.delete(Bucket::Values, &key)).await??;
        return json(&serde_json::Map::new());
    }
    let author = asked.query("author").map(str::to_owned);
    json(&handle.run(move |runner| get(runner, key, author.as_deref())).await??)
}

/// What stands under a key, the newest first.
fn get(runner: &crate::runner::Runner, key: String, author: Option<&str>) -> Result<Vec<Value>, Fault> {
    let author = author.map(|author| runner.member_called(author)).transpose()?;
    let mut seen = runner.values(&Wanted::Key(key.clone()))?;
    seen.retain(|seen| author.is_none_or(|author| seen.author == author));
    seen.sort_by_key(|seen| std::cmp::Reverse((seen.stamp, seen.author)));
    if seen.is_empty() {
        let by = author.map_or_else(String::new, |author| format!(" of node {}", author.short()));
        return Err(Fault::missing(format!("there is no value{by} under `{key}`")));
    }
    Ok(seen.into_iter().map(|seen| seen.value).collect())
}

async fn put(asked: Asked, key: String, handle: &Handle) -> Result<Answer, Fault> {
    let lifetime = match asked.query("ttl") {
        None => 0,
        Some(text) => text.parse::<u32>().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
            Fault::wrong(format!("ttl is a number of seconds from 1 to {}, not `{}`", u32::MAX, text.escape_debug()))
        })?,
    };
    let value = asked.bytes("the value", LARGEST_VALUE).await?;
    json(&handle.run(move |runner| runner.put_value(key, value, lifetime)).await??)
}

/// `GET /v1/watch?prefix=P`
pub fn watch(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    let prefix = asked.query("prefix").unwrap_or_default().to_owned();
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        match follow(&handle, &lines, prefix).await {
            Ok(()) => tracing::debug!("a watch ends with the node"),
            Err(Gone) => tracing::debug!("a program watches no more"),
        }
    });
    Ok(answer)
}

/// Says what changes until the node ends.
async fn follow(handle: &Handle, lines: &Lines, prefix: String) -> Result<(), Gone> {
    let (mut shown, mut revisions, wanted) = (Shown::default(), handle.revisions(), Wanted::Prefix(prefix));
    let mut is_first = true;
    loop {
        let seen = revisions.borrow_and_update().values;
        let wanted = wanted.clone();
        let current = match handle.run(move |runner| runner.values(&wanted)).await {
            Ok(Ok(current)) => current,
            Ok(Err(fault)) => return lines.say(&fault.said).await,
            Err(_) => return Ok(()),
        };
        for change in shown.follow(current, Instant::now()) {
            lines.say(&change).await?;
        }
        if std::mem::take(&mut is_first) {
            lines.say(&Change::Ready).await?;
        }
        let expiry = shown.next_expiry();
        tokio::select! {
            // Members that come and go are no reason to look.
            changed = revisions.wait_for(|revision| revision.values != seen) => if changed.is_err() { return Ok(()) },
            () = sleep_until(expiry.unwrap_or_else(Instant::now).into()), if expiry.is_some() => {}
            () = lines.gone() => return Err(Gone),
        }
        tokio::time::sleep(GATHERING).await;
    }
}
