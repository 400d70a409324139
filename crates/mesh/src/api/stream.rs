//! Answers that go on: lines of JSON, for as long as the program at the other end listens.

use super::{Answer, with};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// How many lines wait for a program that reads slowly; whoever writes them waits then.
const WAITING: usize = 16;

/// Writes lines. Dropping it ends the answer.
pub struct Lines(mpsc::Sender<Bytes>);

/// The program listens no more.
#[derive(Debug)]
pub struct Gone;

impl Lines {
    /// An answer and what writes it.
    pub fn answer() -> (Self, Answer) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), with(StatusCode::OK, "application/x-ndjson", Received(receiver).boxed()))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn say(&self, line: &impl Serialize) -> Result<(), Gone> {
        let mut text = serde_json::to_vec(line).map_err(|error| {
            tracing::error!(%error, "a line cannot be written as JSON");
            Gone
        })?;
        text.push(b'\n');
        self.0.send(text.into()).await.map_err(|_| Gone)
    }

    /// Waits until nobody listens.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

struct Received(mpsc::Receiver<Bytes>);

impl Body for Received {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
