//! Secrets, as programs of the machine and administrators see them.

use crate::fault::Fault;
use data_encoding::BASE64;
use kairn_mesh_protocol::secret::{Label, Opened, Part};
use kairn_mesh_protocol::{Error as ProtocolError, Identity, NetworkId, NodeId, Role};
use serde::{Deserialize, Serialize};
use std::fmt;

/// For whom a secret is to be sealed, as it is written: `role:ROLE`, `node:NODE` or `administrators`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// Those to whom a role was assigned.
    Role(Role),
    /// A node: its name, the beginning of that, or the name of its machine.
    Node(String),
    /// The administrators.
    Administrators,
}

impl Receivers {
    /// Reads them.
    ///
    /// # Errors
    /// What may stand there.
    pub fn read(text: &str) -> Result<Self, Fault> {
        match text.split_once(':') {
            Some(("role", role)) => match role.parse() {
                Ok(Role::None) => Err(Fault::wrong("a secret is for `role:master` or `role:worker`")),
                Ok(role) => Ok(Self::Role(role)),
                Err(error) => Err(Fault::wrong(error.to_string())),
            },
            Some(("node", node)) if !node.is_empty() => Ok(Self::Node(node.to_owned())),
            None if text == "administrators" => Ok(Self::Administrators),
            _ => Err(Fault::wrong(format!("`{}` says nobody for whom a secret could be", text.escape_debug()))
                .hint("there are role:master, role:worker, node:NODE and administrators")),
        }
    }
}

/// A secret as everybody sees it: never what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStatus {
    /// Its key.
    pub key: String,
    /// The node that wrote it: 52 letters and digits.
    pub author: String,
    /// The name of that node's machine.
    pub name: String,
    /// For whom it is: `role:ROLE`, `node:NODE` or `administrators`.
    pub to: String,
    /// The cluster that its author was in when it was written.
    pub cluster: String,
    /// When it was written by the author's clock, in milliseconds since the Unix epoch.
    pub created: u64,
    /// For how many seconds it still holds; nothing where it does until it is deleted.
    pub left: Option<u64>,
    /// To how many it is sealed.
    pub receivers: usize,
    /// Whether this node is among them.
    pub is_open: bool,
    /// Whether its author is a master, or this node.
    pub is_believed: bool,
}

/// A secret that was opened. It prints without what it says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    /// Its key.
    pub key: String,
    /// The node that wrote it: 52 letters and digits.
    pub author: String,
    /// The name of that node's machine.
    pub name: String,
    /// When it was written by the author's clock, in milliseconds since the Unix epoch.
    pub created: u64,
    /// For how many seconds it still holds; nothing where it does until it is deleted.
    pub left: Option<u64>,
    /// What it says, where that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it says in base64, where it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} of {}: ***)", self.key.escape_debug(), self.author)
    }
}

impl SecretValue {
    /// An opened secret of a machine of this name.
    pub(crate) fn new(opened: &Opened, name: String, left: Option<u64>) -> Self {
        let Label { author, key, created, .. } = &opened.label;
        let value = opened.value.reveal();
        let (text, base64) = match std::str::from_utf8(value) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(BASE64.encode(value))),
        };
        Self { key: key.clone(), author: author.to_string(), name, created: *created, left, text, base64 }
    }

    /// What it says.
    ///
    /// # Errors
    /// Its base64 is none.
    pub fn bytes(&self) -> Result<Vec<u8>, data_encoding::DecodeError> {
        match (&self.text, &self.base64) {
            (None, Some(base64)) => BASE64.decode(base64.as_bytes()),
            (text, _) => Ok(text.clone().unwrap_or_default().into_bytes()),
        }
    }
}

/// A sealed part of a secret, for who has the key of a receiver that is no node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The node that wrote the secret: 52 letters and digits.
    pub author: String,
    /// The name of that node's machine.
    pub name: String,
    /// The node that sealed the part.
    pub sealer: String,
    /// Whether the author is a master, or this node.
    pub is_believed: bool,
    /// For how many seconds it still holds; nothing where it does until it is deleted.
    pub left: Option<u64>,
    /// The key of the entry.
    pub entry: String,
    /// The part, as hexadecimal digits.
    pub part: String,
}

impl SealedSecret {
    /// Opens it with the key of a receiver; nothing where it is not for that.
    ///
    /// # Errors
    /// The node's answer is no part of a secret.
    pub fn open(&self, network: &str, receiver: &Identity) -> Result<Option<SecretValue>, ProtocolError> {
        let strange = |why: &str| ProtocolError::Malformed("part of a secret", why.to_owned());
        let bytes = hex::decode(&self.part).map_err(|_| strange("not hexadecimal digits"))?;
        let (label, _, part) = Part::decode(&self.entry, &bytes)?;
        let sealer: NodeId = self.sealer.parse().map_err(|_| strange("sealed by nobody"))?;
        let network: NetworkId = network.parse()?;
        if !part.is_for(&receiver.id()) {
            return Ok(None);
        }
        let opened = part.open(&network, receiver, &sealer, &label)?;
        Ok(Some(SecretValue::new(&opened, self.name.clone(), self.left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_read_and_what_they_are_not_is_said() {
        assert_eq!(Receivers::read("role:worker"), Ok(Receivers::Role(Role::Worker)));
        assert_eq!(Receivers::read("node:edge-7"), Ok(Receivers::Node("edge-7".to_owned())));
        assert_eq!(Receivers::read("administrators"), Ok(Receivers::Administrators));
        for (text, wanted) in [
            ("role:none", "role:master"),
            ("role:boss", "is no role"),
            ("node:", "says nobody"),
            ("everybody", "says nobody"),
            ("", "says nobody"),
        ] {
            let fault = Receivers::read(text).unwrap_err();
            assert!(fault.said.error.contains(wanted), "{text}: {fault:?}");
        }
    }
}
