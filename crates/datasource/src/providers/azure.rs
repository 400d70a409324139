//! Azure (learn.microsoft.com, "Azure Instance Metadata Service"): user-data, not custom data, which comes on a provisioning medium.
//!
//! The machine reports that it is ready, or Azure takes it down after a while.

use super::{Datasource, LINK_LOCAL, Machine, items_at, text_at};
use crate::http::{Question, shown};
use crate::{Error, Found};
use base64::Engine as _;
use ureq::http::Method;

/// Where readiness is reported (the "wire server").
const WIRE: &str = "http://168.63.129.16";
const VERSION: &str = "2021-01-01";
/// Bytes of its answers.
const GOAL: u64 = 64 << 10;

pub(super) struct Azure;

impl Datasource for Azure {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let mut service = machine.service(LINK_LOCAL);
        service.headers.push(("Metadata", "true".to_owned()));
        let missing = |what| Error::Missing { provider: machine.provider, what };
        let path = format!("metadata/instance?api-version={VERSION}&format=json");
        let instance = service.json(&path)?.ok_or(missing("instance"))?;
        let mut found = machine.found();
        found.instance_id = Some(text_at(&instance, "/compute/vmId").ok_or(missing("vmId"))?);
        found.hostname =
            text_at(&instance, "/compute/osProfile/computerName").or_else(|| text_at(&instance, "/compute/name"));
        found.region = text_at(&instance, "/compute/location");
        found.zone = text_at(&instance, "/compute/zone");
        found.instance_type = text_at(&instance, "/compute/vmSize");
        for key in items_at(&instance, "/compute/publicKeys") {
            // Keys that were pasted keep their line breaks.
            let key = text_at(key, "/keyData").unwrap_or_default().replace("\r\n", "").replace('\n', "");
            found.keys(&key);
        }
        for interface in items_at(&instance, "/network/interface") {
            for address in items_at(interface, "/ipv4/ipAddress").iter().chain(items_at(interface, "/ipv6/ipAddress")) {
                found.local(text_at(address, "/privateIpAddress").as_deref());
                found.public(text_at(address, "/publicIpAddress").as_deref());
            }
        }
        for name in
            ["name", "resourceGroupName", "subscriptionId", "vmScaleSetName", "sku", "offer", "publisher", "tags"]
        {
            if let Some(value) = text_at(&instance, &format!("/compute/{name}")) {
                found.meta(name, &value);
            }
        }
        let path = format!("metadata/instance/compute/userData?api-version={VERSION}&format=text");
        let encoded = service.value(&path)?.or_else(|| text_at(&instance, "/compute/userData"));
        if let Some(encoded) = encoded {
            let decoded =
                base64::engine::general_purpose::STANDARD.decode(encoded.split_whitespace().collect::<String>());
            let malformed = |_| Error::Malformed { origin: shown(&service.url(&path)), wanted: "base64" };
            found.user(Some(decoded.map_err(malformed)?));
        }
        if let Err(error) = report_ready(machine) {
            found
                .warnings
                .push(format!("Azure was not told that the machine is ready: {}", kairn_report::in_one_line(&error)));
        }
        Ok(found)
    }
}

/// Tells the wire server what cloud-init's agent tells it: which goal state this machine has reached.
fn report_ready(machine: &Machine<'_>) -> Result<(), Error> {
    let base = machine.options.azure_wire.as_deref().unwrap_or(WIRE);
    let headers = [("x-ms-agent-name", "kairn"), ("x-ms-version", "2012-11-30")];
    let url = format!("{base}/machine/?comp=goalstate");
    let answer = machine.client.ask(&Question { limit: GOAL, ..Question::get(&url, &headers) })?;
    if answer.status != 200 {
        return Err(Error::Status { url: shown(&url), status: answer.status });
    }
    let goal = String::from_utf8_lossy(&answer.body);
    let field =
        |name: &str| element(&goal, name).ok_or(Error::Malformed { origin: shown(&url), wanted: "a goal state" });
    let (incarnation, container, instance) = (field("Incarnation")?, field("ContainerId")?, field("InstanceId")?);
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Health><GoalStateIncarnation>{incarnation}</GoalStateIncarnation>\
         <Container><ContainerId>{container}</ContainerId><RoleInstanceList><Role><InstanceId>{instance}</InstanceId>\
         <Health><State>Ready</State></Health></Role></RoleInstanceList></Container></Health>"
    );
    let url = format!("{base}/machine/?comp=health");
    let headers =
        [("x-ms-agent-name", "kairn"), ("x-ms-version", "2012-11-30"), ("Content-Type", "text/xml;charset=utf-8")];
    let question = Question { method: Method::POST, body: body.as_bytes(), ..Question::get(&url, &headers) };
    match machine.client.ask(&question)?.status {
        200..=299 => Ok(()),
        status => Err(Error::Status { url: shown(&url), status }),
    }
}

/// The text of the first element of a name. What is sent back is what was received, so entities stay as they are; anything with markup
/// in it is no identifier.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim();
    (!text.is_empty() && text.len() <= 256 && !text.contains(['<', '>'])).then_some(text)
}
