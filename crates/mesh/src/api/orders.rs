//! Orders of an administrator: prepared here, signed where the administrator's key is, and taken in here.

use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::orders::{Signed, Wish};
use hyper::Method;

/// The most bytes of a request: the orders of 4,096 members.
const LARGEST: usize = 4 * 1024 * 1024;

/// `POST /v1/rotation`
pub async fn prepare(asked: Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let wish: Wish = read(&asked.bytes("the request", LARGEST).await?)?;
    json(&handle.run(move |runner| runner.prepare_rotation(&wish)).await??)
}

/// `POST /v1/orders`
pub async fn take(asked: Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::POST])?;
    let signed: Signed = read(&asked.bytes("the orders", LARGEST).await?)?;
    json(&handle.run(move |runner| runner.order(&signed)).await??)
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault::wrong(format!("the request is not understood: {error}")))
}
