//! Orders of an administrator as a node and a program of its machine exchange them.
//!
//! The node knows who is a member, and the administrator's key never comes to it: the node says what is to be signed, the program
//! looks whether that is what was asked for, signs it and hands it back.

use kairn_mesh_protocol::entry::{Content, Entry};
use kairn_mesh_protocol::order::Order;
use kairn_mesh_protocol::{Error as ProtocolError, Identity, NetworkId, NodeId};
use serde::{Deserialize, Serialize};

/// What an administrator wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The administrator's public key, written as a node's name.
    pub administrator: String,
    /// Nodes to put out: their names, beginnings of these, or the names of their machines.
    pub revoke: Vec<String>,
}

/// What is to be signed for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// The network's name.
    pub network: String,
    /// Who is put out: their whole names.
    pub revoke: Vec<String>,
    /// How many members have a share in the new secret.
    pub members: usize,
    /// The token that new machines need from then on.
    pub token: String,
    /// The entries to sign, in postcard, as hexadecimal digits.
    pub contents: Vec<String>,
}

/// Signed orders: entries, encoded, as hexadecimal digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The entries.
    pub entries: Vec<String>,
}

impl Prepared {
    /// Signs what was prepared, if it is a rotation that puts out these nodes and nobody else.
    ///
    /// # Errors
    /// It is something else.
    pub fn sign(&self, administrator: &Identity) -> Result<Signed, ProtocolError> {
        let strange = |why: &str| ProtocolError::Malformed("rotation", why.to_owned());
        let network: NetworkId = self.network.parse()?;
        let mut entries = Vec::new();
        for text in &self.contents {
            let bytes = hex::decode(text).map_err(|_| strange("not hexadecimal digits"))?;
            let content: Content = postcard::from_bytes(&bytes).map_err(|error| strange(&error.to_string()))?;
            let value = content.value.as_ref().ok_or_else(|| strange("an entry without a value"))?;
            let named = match Order::decode(&content.key, value)? {
                Order::Revocation(node) => vec![node],
                Order::Rotation(part) => part.revoked,
            };
            if !named.iter().all(|node: &NodeId| self.revoke.contains(&node.to_string())) {
                return Err(strange("it puts out a node that it does not name"));
            }
            entries.push(hex::encode(Entry::sign(&network, administrator, content)?.encode()?));
        }
        Ok(Signed { entries })
    }
}
