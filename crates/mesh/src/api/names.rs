//! Names: to list, and to set and delete records.

use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::names::NameRow;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The most bytes of the addresses of a record.
const LARGEST: usize = 1_024;

/// The names of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Their domain.
    pub domain: String,
    /// Where programs of this machine can ask; nothing where the node does not answer.
    pub server: Option<IpAddr>,
    /// One for each member and record.
    pub names: Vec<NameRow>,
}

/// `GET /v1/names`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    let names = handle.run(|runner| {
        let zone = runner.names().zone;
        Names { domain: zone.domain().to_string(), server: runner.names_server(), names: zone.rows().to_vec() }
    });
    json(&names.await?)
}

/// `PUT` and `DELETE` of `/v1/names/NAME`
pub async fn one(asked: Asked, name: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::PUT, Method::DELETE])?;
    if asked.method == Method::DELETE {
        handle.run(move |runner| runner.delete_name(&name)).await??;
        return json(&serde_json::Map::new());
    }
    let body = asked.bytes("the list of addresses", LARGEST).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Fault::wrong("the list of addresses is not UTF-8"))?;
    let addresses: Result<Vec<IpAddr>, Fault> = text
        .split_whitespace()
        .map(|word| word.parse().map_err(|_| Fault::wrong(format!("`{}` is no IP address", word.escape_debug()))))
        .collect();
    let addresses = addresses?;
    handle.run(move |runner| runner.set_name(&name, addresses)).await??;
    json(&serde_json::Map::new())
}
