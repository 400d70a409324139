//! Scaleway: `KEY=VALUE` lines, and user-data for root only, who is known by a port below 1024.

use super::{Datasource, Machine};
use crate::http::{Client, Service};
use crate::{Error, Found};

pub(super) struct Scaleway;

impl Datasource for Scaleway {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service("http://169.254.42.42");
        let text = service.required("conf", "conf")?;
        let mut found = machine.found();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = unquoted(value.trim());
            match key.trim() {
                "ID" => found.instance_id = Some(value.to_owned()),
                "HOSTNAME" => found.hostname = Some(value.to_owned()),
                "COMMERCIAL_TYPE" => found.instance_type = Some(value.to_owned()),
                "LOCATION_ZONE_ID" | "ZONE" => found.zone = Some(value.to_owned()),
                "PUBLIC_IP_ADDRESS" => found.public(Some(value)),
                "PRIVATE_IP" => found.local(Some(value)),
                key if key.starts_with("SSH_PUBLIC_KEYS_") && key.ends_with("_KEY") => found.keys(value),
                key => found.meta(key, value),
            }
        }
        if found.instance_id.is_none() && found.hostname.is_none() {
            return Err(Error::Missing { provider: machine.provider, what: "ID" });
        }
        let privileged = Client::privileged(&machine.options.root, machine.patience);
        let service = Service { client: &privileged, ..service };
        found.user(service.data("user_data/cloud-init")?);
        Ok(found)
    }
}

fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}
