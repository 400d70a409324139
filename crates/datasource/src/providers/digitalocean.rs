//! DigitalOcean (docs.digitalocean.com, "Droplet metadata API").

use super::{Datasource, LINK_LOCAL, Machine};
use crate::{Error, Found};

pub(super) struct DigitalOcean;

impl Datasource for DigitalOcean {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service(LINK_LOCAL);
        let value = |path: &str| service.value(&format!("metadata/v1/{path}"));
        let mut found = machine.found();
        found.instance_id = Some(service.required("metadata/v1/id", "id")?);
        found.hostname = value("hostname")?;
        found.region = value("region")?;
        for family in ["ipv4", "ipv6"] {
            found.public(value(&format!("interfaces/public/0/{family}/address"))?.as_deref());
            found.local(value(&format!("interfaces/private/0/{family}/address"))?.as_deref());
        }
        found.keys(&value("public-keys")?.unwrap_or_default());
        found.vendor(service.data("metadata/v1/vendor-data")?);
        found.user(service.data("metadata/v1/user-data")?);
        Ok(found)
    }
}
