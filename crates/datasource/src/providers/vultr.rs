//! Vultr (vultr.com/metadata).

use super::{Datasource, LINK_LOCAL, Machine};
use crate::{Error, Found};

pub(super) struct Vultr;

impl Datasource for Vultr {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service(LINK_LOCAL);
        let value = |path: &str| service.value(&format!("v1/{path}"));
        let mut found = machine.found();
        found.instance_id = match value("instance-v2-id")? {
            Some(id) => Some(id),
            None => Some(service.required("v1/instanceid", "instanceid")?),
        };
        found.hostname = value("hostname")?;
        found.region = value("region/regioncode")?;
        found.public(value("interfaces/0/ipv4/address")?.as_deref());
        found.public(value("interfaces/0/ipv6/address")?.as_deref());
        found.local(value("interfaces/1/ipv4/address")?.as_deref());
        found.keys(&value("public-keys")?.unwrap_or_default());
        found.user(service.data("latest/user-data")?);
        Ok(found)
    }
}
