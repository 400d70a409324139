//! Metaldata: a service in one's own network, found by its name.

use super::{Datasource, Machine};
use crate::{Error, Found};

pub(super) struct Metaldata;

impl Datasource for Metaldata {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service("http://metaldata");
        let value = |name: &str| service.value(&format!("get/meta/{name}"));
        let mut found = machine.found();
        found.hostname = Some(service.required("get/meta/hostname", "hostname")?);
        found.instance_id = value("machine-id")?;
        found.instance_type = value("machine-type")?;
        found.zone = value("failure-domain")?;
        found.public(value("public-ipv4")?.as_deref());
        found.local(value("private-ipv4")?.as_deref());
        found.keys(&value("authorized-keys")?.unwrap_or_default());
        found.user(service.data("get/user")?);
        Ok(found)
    }
}
