//! The record of a member: that it holds the network's secret, and what others must know of it.

use crate::cluster::ClusterName;
use crate::error::Error;
use crate::identity::{NodeId, Signature};
use crate::keys::{EpochKeys, NetworkId};
use crate::role::Role;
use crate::tunnel_key::{self, TunnelKey};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// For how many seconds a record holds that this code writes: 60 days. Who was away for longer comes back as if new.
pub const LIFETIME: u32 = 60 * 24 * 3_600;
/// For how many seconds a record may hold at most: 90 days.
pub const LONGEST_LIFETIME: u32 = 90 * 24 * 3_600;
/// The longest name of a machine (RFC 1035) and of a version, in bytes.
const LONGEST_NAME: usize = 253;

/// What the value of an entry of the members' bucket says, in postcard in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The public key of its WireGuard interface (Curve25519), which is not its identity.
    pub wireguard: [u8; 32],
    /// The name of the machine; for people, two may have the same.
    pub name: String,
    /// The role that its configuration fixes, if it does: its own word, which nobody else vouches for.
    pub role: Option<Role>,
    /// The cluster that it belongs to (`p2p.network_id`), by its own word too.
    pub cluster: ClusterName,
    /// The version of its program.
    pub version: String,
    /// The epoch of the secret that the proof is made with.
    pub epoch: u32,
    /// HMAC-SHA256 under the epoch's admission key of `"member" 0x00`, the node's name, the WireGuard key and the role in one
    /// byte: 0 for none, then in the order of the variants.
    pub proof: [u8; 32],
    /// That the node has the private half of the WireGuard key: see [`TunnelKey`].
    pub possession: Signature,
}

impl MemberRecord {
    /// The record of a node of a network that holds these keys.
    pub fn new(
        (network, keys): (&NetworkId, &EpochKeys),
        node: &NodeId,
        tunnel: &TunnelKey,
        (name, role, cluster): (&str, Option<Role>, &ClusterName),
        version: &str,
    ) -> Self {
        let wireguard = tunnel.public();
        let proof = mac(keys, node, &wireguard, role).finalize().into_bytes().into();
        let (name, cluster, version) = (name.to_owned(), cluster.clone(), version.to_owned());
        let possession = tunnel.prove(network, node);
        Self { wireguard, name, role, cluster, version, epoch: keys.epoch, proof, possession }
    }

    /// The same record, proven with the keys of another epoch.
    #[must_use]
    pub fn renewed(mut self, keys: &EpochKeys, node: &NodeId) -> Self {
        self.proof = mac(keys, node, &self.wireguard, self.role).finalize().into_bytes().into();
        self.epoch = keys.epoch;
        self
    }

    /// Reads the value of a member's entry.
    ///
    /// # Errors
    /// It does not parse, or a text is longer than such a text may be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let record: Self =
            postcard::from_bytes(bytes).map_err(|error| Error::Malformed("member record", error.to_string()))?;
        let texts = [&record.name, &record.version];
        if texts.into_iter().any(|text| text.len() > LONGEST_NAME || text.contains(char::is_control)) {
            return Err(Error::Malformed("member record", "a name is too long or holds control characters".to_owned()));
        }
        Ok(record)
    }

    /// The record as a value.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|error| Error::Malformed("member record", error.to_string()))
    }

    /// Whether the node held the secret of the record's epoch, which must be that of `keys`.
    pub fn is_proven(&self, keys: &EpochKeys, node: &NodeId) -> bool {
        self.epoch == keys.epoch && mac(keys, node, &self.wireguard, self.role).verify_slice(&self.proof).is_ok()
    }

    /// Whether the node has the private half of the WireGuard key that it names, and did not copy another's.
    ///
    /// # Errors
    /// The signature is not that key's over this network and node.
    pub fn check_possession(&self, network: &NetworkId, node: &NodeId) -> Result<(), Error> {
        tunnel_key::verify(&self.wireguard, network, node, &self.possession)
    }
}

fn mac(keys: &EpochKeys, node: &NodeId, wireguard: &[u8; 32], role: Option<Role>) -> Hmac<Sha256> {
    crate::keys::hmac(keys.admission.reveal(), &[b"member\0", node.as_bytes(), wireguard, &[Role::byte(role)]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;

    fn record(token: &Token, node: &NodeId, name: &str) -> MemberRecord {
        MemberRecord::new(
            (&token.network().id, &token.epoch()),
            node,
            &TunnelKey::new([9; 32]),
            (name, Some(Role::Worker), &ClusterName::default()),
            "0.1.0",
        )
    }

    #[test]
    fn a_record_proves_one_node_with_one_key_in_one_epoch() {
        let (token, node) = (Token::new([1; 32], None), NodeId::new([1; 32]));
        let (keys, network) = (token.epoch(), token.network().id);
        let record = record(&token, &node, "edge-1");
        assert_eq!(MemberRecord::decode(&record.encode().unwrap()), Ok(record.clone()));
        assert!(record.is_proven(&keys, &node));
        assert!(record.check_possession(&network, &node).is_ok());
        assert!(!record.is_proven(&keys, &NodeId::new([2; 32])));
        assert!(!record.is_proven(&Token::new([2; 32], None).epoch(), &node));
        assert!(!MemberRecord { wireguard: [8; 32], ..record.clone() }.is_proven(&keys, &node));
        assert!(!MemberRecord { role: Some(Role::Master), ..record.clone() }.is_proven(&keys, &node));
        assert!(!MemberRecord { epoch: 1, ..record.clone() }.is_proven(&keys, &node));
        let next = EpochKeys::rotated(1, &[7; 32]);
        let renewed = record.renewed(&next, &node);
        assert!(renewed.is_proven(&next, &node) && !renewed.is_proven(&keys, &node));
        assert!(renewed.check_possession(&network, &node).is_ok());
    }

    #[test]
    fn a_copied_wireguard_key_is_not_its_copiers() {
        let (token, victim, thief) = (Token::new([1; 32], None), NodeId::new([1; 32]), NodeId::new([2; 32]));
        let (copied, network) = (record(&token, &victim, "edge-1"), token.network().id);
        assert!(copied.clone().renewed(&token.epoch(), &thief).is_proven(&token.epoch(), &thief));
        assert!(copied.check_possession(&network, &thief).is_err());
        // Not by his own key's signature either.
        let own = MemberRecord { wireguard: copied.wireguard, ..record(&token, &thief, "edge-2") };
        let own = MemberRecord { possession: TunnelKey::new([8; 32]).prove(&network, &thief), ..own };
        assert!(own.check_possession(&network, &thief).is_err());
    }

    #[test]
    fn records_that_would_garble_a_terminal_are_refused() {
        let token = Token::new([1; 32], None);
        for name in ["\u{1b}[2J", &"x".repeat(254), "two\nlines"] {
            let record = record(&token, &NodeId::new([1; 32]), name);
            assert!(MemberRecord::decode(&record.encode().unwrap()).is_err(), "{name:?}");
        }
    }
}
