//! What a datasource says about the machine.

use crate::ProviderName;
use kairn_report::Secret;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Longest value that is kept in the flat map, in bytes.
const META_VALUE: usize = 4096;
/// Values that are kept in the flat map.
const META_VALUES: usize = 512;
/// Pieces of keys whose values are secrets.
const SECRET_KEYS: [&str; 7] = ["pass", "secret", "token", "random_seed", "private", "credential", "signature"];

/// What a datasource says about the machine. Absent is what it does not say; empty user-data is user-data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who says it.
    pub provider: ProviderName,
    /// The instance's identity: a new one means that the machine is a new one.
    pub instance_id: Option<String>,
    /// Host name, perhaps with its domain.
    pub hostname: Option<String>,
    /// Addresses within the provider's network.
    pub local_addresses: Vec<IpAddr>,
    /// Addresses on the Internet.
    pub public_addresses: Vec<IpAddr>,
    /// Region.
    pub region: Option<String>,
    /// Availability zone within the region.
    pub zone: Option<String>,
    /// Kind of machine.
    pub instance_type: Option<String>,
    /// Lines for `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// User-data as it came, not decoded.
    pub user_data: Option<Secret<Vec<u8>>>,
    /// The provider's own configuration, in the formats of user-data.
    pub vendor_data: Option<Secret<Vec<u8>>>,
    /// How the network is to be set up.
    pub network_config: Option<NetworkConfig>,
    /// Everything else that was said, with keys joined by dots; never a secret.
    pub meta: BTreeMap<String, String>,
    /// What should be known about the answer.
    pub warnings: Vec<String>,
}

/// A network configuration; a secret, since Wi-Fi has passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its language.
    pub format: NetworkFormat,
    /// The text.
    pub text: Secret<String>,
}

/// The language of a network configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFormat {
    /// cloud-init's network-config, version 1 or 2, as YAML.
    NetworkConfig,
    /// OpenStack's `network_data.json`.
    OpenStack,
}

impl Found {
    /// Begins an answer.
    pub(crate) fn new(provider: ProviderName) -> Self {
        Self {
            provider,
            instance_id: None,
            hostname: None,
            local_addresses: Vec::new(),
            public_addresses: Vec::new(),
            region: None,
            zone: None,
            instance_type: None,
            ssh_keys: Vec::new(),
            user_data: None,
            vendor_data: None,
            network_config: None,
            meta: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes lines of keys; comments and empty lines count for nothing.
    pub(crate) fn keys(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if !self.ssh_keys.iter().any(|known| known == line) {
                self.ssh_keys.push(line.to_owned());
            }
        }
    }

    pub(crate) fn local(&mut self, text: Option<&str>) {
        push(&mut self.local_addresses, text);
    }

    pub(crate) fn public(&mut self, text: Option<&str>) {
        push(&mut self.public_addresses, text);
    }

    pub(crate) fn user(&mut self, bytes: Option<Vec<u8>>) {
        self.user_data = bytes.map(Secret::new);
    }

    pub(crate) fn vendor(&mut self, bytes: Option<Vec<u8>>) {
        self.vendor_data = bytes.filter(|bytes| !bytes.trim_ascii().is_empty()).map(Secret::new);
    }

    /// Takes a network configuration, unless it is empty or no text.
    pub(crate) fn network(&mut self, format: NetworkFormat, bytes: Option<Vec<u8>>) {
        let Some(bytes) = bytes.filter(|bytes| !bytes.trim_ascii().is_empty()) else { return };
        match String::from_utf8(bytes) {
            Ok(text) => self.network_config = Some(NetworkConfig { format, text: Secret::new(text) }),
            Err(_) => self.warnings.push("the network configuration is not UTF-8 and is left out".to_owned()),
        }
    }

    /// Keeps a value of the flat map, unless its key is that of a secret.
    pub(crate) fn meta(&mut self, key: &str, value: &str) {
        let folded = key.to_ascii_lowercase();
        let is_secret = SECRET_KEYS.iter().any(|piece| folded.contains(piece)) && !folded.contains("private_ip");
        if !is_secret && !value.is_empty() && value.len() <= META_VALUE && self.meta.len() < META_VALUES {
            self.meta.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Keeps all single values of a tree.
    pub(crate) fn meta_tree(&mut self, prefix: &str, value: &Value) {
        let inner = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match value {
            Value::Null => {}
            Value::String(text) => self.meta(prefix, text),
            Value::Bool(_) | Value::Number(_) => self.meta(prefix, &value.to_string()),
            Value::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    self.meta_tree(&inner(&number.to_string()), item);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.meta_tree(&inner(key), value);
                }
            }
        }
    }
}

fn push(addresses: &mut Vec<IpAddr>, text: Option<&str>) {
    // Some say `10.0.0.4/24`.
    let address = text.and_then(|text| text.trim().split('/').next()).and_then(|text| text.parse().ok());
    addresses.extend(address.filter(|address| !addresses.contains(address)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flat_map_holds_single_values_and_no_secrets() {
        let mut found = Found::new(ProviderName::OpenStack);
        let tree = serde_json::json!({"uuid": "u", "admin_pass": "hunter2", "random_seed": "x", "meta": {"a": 1, "b": [true, null]}});
        found.meta_tree("", &tree);
        let expected = [("meta.a", "1"), ("meta.b.0", "true"), ("uuid", "u")];
        assert_eq!(found.meta.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_answer_prints_neither_user_data_nor_the_network() {
        let mut found = Found::new(ProviderName::Cdrom);
        found.user(Some(b"hunter2".to_vec()));
        found.network(NetworkFormat::NetworkConfig, Some(b"password: hunter2".to_vec()));
        assert!(!format!("{found:?}").contains("hunter2"));
        found.keys("# note\nssh-rsa A a\n\nssh-rsa A a\n");
        found.local(Some("10.0.0.4/24\n"));
        assert_eq!((found.ssh_keys.len(), found.local_addresses.len()), (1, 1));
    }
}
