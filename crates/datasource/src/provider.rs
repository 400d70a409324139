//! The datasources by name.

use crate::Error;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// A datasource, by the name that configurations give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the name of a service or medium")]
pub enum ProviderName {
    Cdrom,
    ConfigDrive,
    #[serde(rename = "nocloud")]
    NoCloud,
    Aws,
    Azure,
    #[serde(rename = "digitalocean")]
    DigitalOcean,
    Gcp,
    Hetzner,
    #[serde(rename = "openstack")]
    OpenStack,
    Scaleway,
    Vultr,
    #[serde(rename = "vmware")]
    VMware,
    Maas,
    Metaldata,
    Packet,
    File,
}

impl ProviderName {
    /// All of them; media first, as they are asked.
    pub const ALL: [Self; 16] = [
        Self::Cdrom,
        Self::ConfigDrive,
        Self::NoCloud,
        Self::Aws,
        Self::Azure,
        Self::DigitalOcean,
        Self::Gcp,
        Self::Hetzner,
        Self::OpenStack,
        Self::Scaleway,
        Self::Vultr,
        Self::VMware,
        Self::Maas,
        Self::Metaldata,
        Self::Packet,
        Self::File,
    ];

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cdrom => "cdrom",
            Self::ConfigDrive => "config-drive",
            Self::NoCloud => "nocloud",
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::DigitalOcean => "digitalocean",
            Self::Gcp => "gcp",
            Self::Hetzner => "hetzner",
            Self::OpenStack => "openstack",
            Self::Scaleway => "scaleway",
            Self::Vultr => "vultr",
            Self::VMware => "vmware",
            Self::Maas => "maas",
            Self::Metaldata => "metaldata",
            Self::Packet => "packet",
            Self::File => "file",
        }
    }

    /// Says whether it lies on the machine itself, so that asking it needs no network and almost no time.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Cdrom | Self::ConfigDrive | Self::VMware | Self::File)
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProviderName {
    type Err = Error;

    /// Takes our names, and those that cloud-init gives on the kernel command line (`ds=`).
    fn from_str(text: &str) -> Result<Self, Error> {
        let folded = text.trim().to_ascii_lowercase();
        let own = Self::ALL.into_iter().find(|known| known.name() == folded);
        let foreign = match folded.as_str() {
            "ec2" => Some(Self::Aws),
            "gce" => Some(Self::Gcp),
            "configdrive" => Some(Self::ConfigDrive),
            "nocloud-net" => Some(Self::NoCloud),
            _ => None,
        };
        own.or(foreign).ok_or_else(|| Error::UnknownProvider { name: text.trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_serialises_as_itself() {
        for provider in ProviderName::ALL {
            assert_eq!(provider.name().parse::<ProviderName>().unwrap(), provider);
            assert_eq!(serde_json::to_value(provider).unwrap(), provider.name());
        }
        assert_eq!("Ec2".parse::<ProviderName>().unwrap(), ProviderName::Aws);
        let error = "azur".parse::<ProviderName>().unwrap_err();
        assert_eq!(error.to_string(), "there is no datasource `azur`");
    }
}
