//! Roles: to see who has which, and to assign them.

use super::stream::{Gone, Lines};
use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use hyper::Method;
use kairn_mesh_protocol::Role;

/// The most bytes of a role.
const LARGEST: usize = 64;

/// `GET /v1/roles`
pub async fn list(asked: &Asked, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::GET])?;
    if asked.query("watch") == Some("true") {
        return Ok(watch(handle));
    }
    json(&handle.run(|runner| runner.roles()).await?)
}

/// `PUT` and `DELETE` of `/v1/roles/NODE`
pub async fn one(asked: Asked, node: String, handle: &Handle) -> Result<Answer, Fault> {
    asked.only(&[Method::PUT, Method::DELETE])?;
    let role = if asked.method == Method::PUT { Some(read(&asked.bytes("the role", LARGEST).await?)?) } else { None };
    json(&handle.run(move |runner| runner.assign(&node, role)).await??)
}

fn read(body: &[u8]) -> Result<Role, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::wrong("the role is not UTF-8"))?;
    text.trim().parse::<Role>().map_err(|error| Fault::wrong(error.to_string()))
}

/// `GET /v1/roles?watch=true`
fn watch(handle: &Handle) -> Answer {
    let (lines, answer) = Lines::answer();
    let handle = handle.clone();
    tokio::spawn(async move {
        match follow(&handle, &lines).await {
            Ok(()) => tracing::debug!("a watch of roles ends with the node"),
            Err(Gone) => tracing::debug!("a program watches roles no more"),
        }
    });
    answer
}

/// Says all roles whenever one is another than before, until the node ends.
async fn follow(handle: &Handle, lines: &Lines) -> Result<(), Gone> {
    let (mut revisions, mut said) = (handle.revisions(), None);
    loop {
        let seen = *revisions.borrow_and_update();
        let Ok(roles) = handle.run(|runner| runner.roles()).await else { return Ok(()) };
        if said.as_ref() != Some(&roles) {
            lines.say(&roles).await?;
            said = Some(roles);
        }
        tokio::select! {
            changed = revisions.wait_for(|revision| *revision != seen) => if changed.is_err() { return Ok(()) },
            () = lines.gone() => return Err(Gone),
        }
    }
}
