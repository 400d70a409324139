//! Hetzner Cloud: the paths of EC2, and a network configuration of its own (docs.hetzner.cloud, "Server metadata").

use super::{Datasource, LINK_LOCAL, Machine, aws};
use crate::{Error, Found, NetworkFormat};

pub(super) struct Hetzner;

impl Datasource for Hetzner {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let service = machine.service(LINK_LOCAL);
        let mut found = machine.found();
        found.instance_id = Some(service.required("latest/meta-data/instance-id", "instance-id")?);
        aws::metadata(&service, &mut found)?;
        found.region = service.value("hetzner/v1/metadata/region")?;
        found.network(NetworkFormat::NetworkConfig, service.data("hetzner/v1/metadata/network-config")?);
        found.user(service.data("latest/user-data")?);
        Ok(found)
    }
}
