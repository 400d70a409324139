//! One room for each datasource, all behind one trait.

mod aws;
mod azure;
mod digitalocean;
mod gcp;
mod hetzner;
mod local;
mod maas;
mod metaldata;
mod nocloud;
mod openstack;
mod packet;
mod scaleway;
mod vmware;
mod vultr;

use crate::http::{Client, Patience, Service};
use crate::{Error, Found, Hints, Options, ProviderName};
use serde_json::Value;

/// Where most clouds answer (RFC 3927 keeps it on the link).
const LINK_LOCAL: &str = "http://169.254.169.254";

/// Reads a file of a seed by its name, wherever the seed is; absent is fine.
type Files<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, Error> + 'a;

/// Something that can say about the machine.
pub(crate) trait Datasource {
    /// Reads everything that is said. An answer is one when it identifies the machine, user-data or not.
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error>;
}

/// What a datasource may use.
pub(crate) struct Machine<'a> {
    pub(crate) provider: ProviderName,
    pub(crate) options: &'a Options,
    pub(crate) hints: &'a Hints,
    pub(crate) client: &'a Client,
    pub(crate) patience: Patience,
}

impl<'a> Machine<'a> {
    /// The service of this datasource; its base is the one that the options name, if any.
    fn service(&self, default: &str) -> Service<'a> {
        let base = self.options.bases.get(&self.provider).map_or(default, String::as_str);
        Service { client: self.client, provider: self.provider, base: base.to_owned(), headers: Vec::new() }
    }

    fn found(&self) -> Found {
        Found::new(self.provider)
    }

    fn not_here(&self, reason: impl Into<String>) -> Error {
        Error::NotHere { provider: self.provider, reason: reason.into() }
    }
}

/// Returns the datasource of a name.
pub(crate) fn datasource(provider: ProviderName) -> &'static dyn Datasource {
    match provider {
        ProviderName::Cdrom => &local::Cdrom,
        ProviderName::ConfigDrive => &local::ConfigDrive,
        ProviderName::File => &local::Path,
        ProviderName::NoCloud => &nocloud::Seeded,
        ProviderName::Aws => &aws::Aws,
        ProviderName::Azure => &azure::Azure,
        ProviderName::DigitalOcean => &digitalocean::DigitalOcean,
        ProviderName::Gcp => &gcp::Gcp,
        ProviderName::Hetzner => &hetzner::Hetzner,
        ProviderName::OpenStack => &openstack::OpenStack,
        ProviderName::Scaleway => &scaleway::Scaleway,
        ProviderName::Vultr => &vultr::Vultr,
        ProviderName::VMware => &vmware::VMware,
        ProviderName::Maas => &maas::Maas,
        ProviderName::Metaldata => &metaldata::Metaldata,
        ProviderName::Packet => &packet::Packet,
    }
}

/// The text of a single value in a tree.
fn text_at(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn items_at<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
