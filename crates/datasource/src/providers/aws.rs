//! Amazon EC2 (docs.aws.amazon.com, "Instance metadata and user data"), and the same paths as others serve them.

use super::{Datasource, LINK_LOCAL, Machine};
use crate::http::{Client, Question, Service, is_no_such_way, shown};
use crate::{Error, Found};
use ureq::http::Method;

/// Seconds for which a session token is valid: reading takes far less.
const LIFETIME: (&str, &str) = ("X-aws-ec2-metadata-token-ttl-seconds", "300");
const TOKEN: &str = "X-aws-ec2-metadata-token";
/// Bytes of a token at most.
const TOKEN_LIMIT: u64 = 4096;
/// Keys that are asked for, where they are numbered.
const KEYS: usize = 16;

pub(super) struct Aws;

impl Datasource for Aws {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let mut service = machine.service(LINK_LOCAL);
        let mut found = machine.found();
        match token(service.client, &service)? {
            Some(token) => service.headers.push((TOKEN, token)),
            // Session tokens are IMDSv2; a service that does not know them at all is one of before, or one that copies it.
            None => found.warnings.push("the metadata service does not know session tokens (IMDSv2)".to_owned()),
        }
        found.instance_id = Some(service.required("latest/meta-data/instance-id", "instance-id")?);
        metadata(&service, &mut found)?;
        found.region = service.value("latest/meta-data/placement/region")?;
        found.user(service.data("latest/user-data")?);
        Ok(found)
    }
}

/// Asks for a session token; none where there is no such way.
fn token(client: &Client, service: &Service<'_>) -> Result<Option<String>, Error> {
    let url = service.url("latest/api/token");
    let headers = [LIFETIME];
    let question = Question { method: Method::PUT, limit: TOKEN_LIMIT, ..Question::get(&url, &headers) };
    let answer = client.ask(&question)?;
    match answer.status {
        200 => {
            let token = String::from_utf8(answer.body).ok().map(|token| token.trim().to_owned());
            let is_token = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
            let malformed = || Error::Malformed { origin: shown(&url), wanted: "a session token" };
            token.filter(is_token).ok_or_else(malformed).map(Some)
        }
        status if is_no_such_way(status) => Ok(None),
        status => Err(Error::Status { url: shown(&url), status }),
    }
}

/// What is below `latest/meta-data` besides the identity.
pub(super) fn metadata(service: &Service<'_>, found: &mut Found) -> Result<(), Error> {
    let value = |name: &str| service.value(&format!("latest/meta-data/{name}"));
    let local_name = value("local-hostname")?;
    found.hostname = found.hostname.take().or(value("hostname")?).or_else(|| local_name.clone());
    found.public(value("public-ipv4")?.as_deref());
    found.local(value("local-ipv4")?.as_deref());
    found.zone = found.zone.take().or(value("placement/availability-zone")?);
    found.instance_type = found.instance_type.take().or(value("instance-type")?);
    if let Some(name) = local_name {
        found.meta("local-hostname", &name);
    }
    keys(service, found)
}

/// `public-keys/` lists `0=name`; some serve a JSON list of keys in that place, or the keys themselves.
fn keys(service: &Service<'_>, found: &mut Found) -> Result<(), Error> {
    let listed = match service.value("latest/meta-data/public-keys/")? {
        Some(listed) => Some(listed),
        None => service.value("latest/meta-data/public-keys")?,
    };
    let Some(listed) = listed else { return Ok(()) };
    if let Ok(keys) = serde_json::from_str::<Vec<String>>(&listed) {
        keys.iter().for_each(|key| found.keys(key));
        return Ok(());
    }
    for line in listed.lines().take(KEYS) {
        let number = line.split_once('=').map_or(line, |(number, _)| number).trim();
        if number.parse::<u32>().is_ok() {
            let path = format!("latest/meta-data/public-keys/{number}/openssh-key");
            found.keys(&service.value(&path)?.unwrap_or_default());
        } else {
            found.keys(line);
        }
    }
    Ok(())
}
