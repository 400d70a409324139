//! OpenStack, as a service and on a config drive (docs.openstack.org, "Metadata" of nova): its own JSON, else the paths of EC2.

use super::{Datasource, Files, LINK_LOCAL, Machine, aws, items_at, text_at};
use crate::http::{DATA, json};
use crate::{Error, Found, NetworkFormat};
use serde_json::Value;

pub(super) struct OpenStack;

impl Datasource for OpenStack {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service(LINK_LOCAL);
        let mut found = machine.found();
        if own(&mut found, &mut |path| service.bytes(path, DATA))? {
            // The JSON has no addresses.
            found.local(service.value("latest/meta-data/local-ipv4")?.as_deref());
            found.public(service.value("latest/meta-data/public-ipv4")?.as_deref());
            return Ok(found);
        }
        found.instance_id = Some(service.required("latest/meta-data/instance-id", "instance-id")?);
        aws::metadata(&service, &mut found)?;
        found.user(service.data("latest/user-data")?);
        Ok(found)
    }
}

/// Reads what is below `openstack/latest`; false when there is no such thing.
pub(super) fn own(found: &mut Found, read: &mut Files<'_>) -> Result<bool, Error> {
    let mut read = |name: &str| read(&format!("openstack/latest/{name}"));
    let Some(bytes) = read("meta_data.json")? else { return Ok(false) };
    let meta = json(&bytes, "openstack/latest/meta_data.json")?;
    if !meta.is_object() {
        return Err(Error::Malformed { origin: "openstack/latest/meta_data.json".to_owned(), wanted: "a mapping" });
    }
    found.instance_id = Some(text_at(&meta, "/uuid").ok_or(Error::Missing { provider: found.provider, what: "uuid" })?);
    found.hostname = text_at(&meta, "/hostname").or_else(|| text_at(&meta, "/name"));
    found.zone = text_at(&meta, "/availability_zone");
    found.instance_type = text_at(&meta, "/instance_type");
    for key in meta.get("public_keys").and_then(Value::as_object).into_iter().flat_map(|keys| keys.values()) {
        found.keys(key.as_str().unwrap_or_default());
    }
    for key in items_at(&meta, "/keys") {
        if text_at(key, "/type").as_deref() == Some("ssh") {
            found.keys(&text_at(key, "/data").unwrap_or_default());
        }
    }
    found.meta_tree("", &meta);
    found.user(read("user_data")?);
    found.network(NetworkFormat::OpenStack, read("network_data.json")?);
    if let Some(bytes) = read("vendor_data.json")? {
        vendor(found, &bytes);
    }
    Ok(true)
}

/// The vendor's JSON is a text, or has one under `cloud-init`; everything else is for others.
fn vendor(found: &mut Found, bytes: &[u8]) {
    match json(bytes, "openstack/latest/vendor_data.json") {
        Ok(Value::String(text)) => found.vendor(Some(text.into_bytes())),
        Ok(value) => found.vendor(text_at(&value, "/cloud-init").map(String::into_bytes)),
        Err(error) => found.warnings.push(format!("{error}; it is left out")),
    }
}
