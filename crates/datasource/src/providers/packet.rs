//! Equinix Metal, once Packet. The service was closed in 2026; who serves the same elsewhere names the base.

use super::{Datasource, Machine, items_at, text_at};
use crate::{Error, Found};

pub(super) struct Packet;

impl Datasource for Packet {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service("https://metadata.platformequinix.com");
        let missing = |what| Error::Missing { provider: machine.provider, what };
        let metadata = service.json("metadata")?.ok_or(missing("metadata"))?;
        let mut found = machine.found();
        found.instance_id = Some(text_at(&metadata, "/id").ok_or(missing("id"))?);
        found.hostname = text_at(&metadata, "/hostname");
        found.region = text_at(&metadata, "/metro");
        found.zone = text_at(&metadata, "/facility");
        found.instance_type = text_at(&metadata, "/plan");
        for key in items_at(&metadata, "/ssh_keys") {
            found.keys(key.as_str().unwrap_or_default());
        }
        for address in items_at(&metadata, "/network/addresses") {
            let text = text_at(address, "/address");
            if address.get("public").and_then(serde_json::Value::as_bool) == Some(true) {
                found.public(text.as_deref());
            } else {
                found.local(text.as_deref());
            }
        }
        // A script of iPXE is for the firmware that started the machine.
        found.user(service.data("userdata")?.filter(|bytes| !bytes.trim_ascii_start().starts_with(b"#!ipxe")));
        Ok(found)
    }
}
