//! Secrets: to list, write, open and delete. Their values stand in no log.

use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::sealed::Receivers;
use hyper::Method;
use kairn_mesh_protocol::secret::LARGEST_SECRET;

/// `GET /v1/secrets`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    json(&handle.run(|runner| runner.secrets()).await?)
}

/// `GET`, `PUT` and `DELETE` of `/v1/secrets/KEY`
pub async fn one(asked: Asked, key: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET, Method::PUT, Method::DELETE])?;
    if asked.method == Method::PUT {
        return put(asked, key, handle).await;
    }
    if asked.method == Method::DELETE {
        handle.run(move |runner| runner.delete_secret(&key)).await??;
        return json(&serde_json::Map::new());
    }
    let author = asked.query("author").map(str::to_owned);
    if asked.query("sealed") == Some("true") {
        return json(&handle.run(move |runner| runner.sealed(&key, author.as_deref())).await??);
    }
    json(&handle.run(move |runner| runner.secret(&key, author.as_deref())).await??)
}

async fn put(asked: Asked, key: String, handle: &Handle) -> Result<Answer, Fault> {
    let to = asked.query("to").ok_or_else(|| {
        Fault::wrong("`to` is not named").hint("there are role:master, role:worker, node:NODE and administrators")
    })?;
    let to = Receivers::read(to)?;
    let seconds = match asked.query("ttl") {
        None => None,
        Some(text) => Some(text.parse::<u32>().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
            Fault::wrong(format!("ttl is a number of seconds from 1 to {}, not `{}`", u32::MAX, text.escape_debug()))
        })?),
    };
    let value = asked.bytes("the secret", LARGEST_SECRET).await?;
    json(&handle.run(move |runner| runner.put_secret(&key, &to, seconds, value)).await??)
}
