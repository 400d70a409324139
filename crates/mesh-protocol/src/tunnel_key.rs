//! The key of a node's WireGuard interface, and the proof that whoever names it in a record has its private half.
//!
//! The key is one of X25519 (RFC 7748), which cannot sign. As a point of the Edwards curve it can: of the two points with its
//! coordinate the one with the even `x` is an Ed25519 key (RFC 8032), and its private scalar is the clamped private key, negated
//! where that key's own point is the other. Signed is [`Purpose::Tunnel`] over the network's and the node's name.

use crate::error::Error;
use crate::identity::{NodeId, Purpose, Signature};
use crate::keys::NetworkId;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A WireGuard key with its private half; it prints as its public one.
#[derive(Clone)]
pub struct TunnelKey {
    private: [u8; 32],
}

impl TunnelKey {
    /// The key of 32 random bytes.
    pub const fn new(private: [u8; 32]) -> Self {
        Self { private }
    }

    /// The private half, for the interface.
    pub const fn private(&self) -> &[u8; 32] {
        &self.private
    }

    /// The public half (RFC 7748, 6.1).
    pub fn public(&self) -> [u8; 32] {
        MontgomeryPoint::mul_base_clamped(self.private).to_bytes()
    }

    /// Says for a node of a network that it has this key.
    pub fn prove(&self, network: &NetworkId, node: &NodeId) -> Signature {
        let scalar = Scalar::from_bytes_mod_order(clamp_integer(self.private));
        let own = MontgomeryPoint::mul_base_clamped(self.private);
        // The first try is the key as it is, whose point may have the odd `x`.
        let hash_prefix =
            Sha256::new().chain_update(b"kairn mesh 1 tunnel nonce\0").chain_update(self.private).finalize().into();
        let secret = ExpandedSecretKey { scalar, hash_prefix };
        let public = VerifyingKey::from(&secret);
        let (secret, public) = match edwards(own) {
            Some(even) if even != public => {
                let negated = ExpandedSecretKey { scalar: -scalar, hash_prefix };
                (negated, even)
            }
            _ => (secret, public),
        };
        let text = Purpose::Tunnel.statement(&text(network, node));
        Signature(raw_sign::<sha2::Sha512>(&secret, &text, &public).to_bytes().to_vec())
    }
}

impl fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelKey({})", data_encoding::HEXLOWER.encode(&self.public()))
    }
}

/// Checks that a node has the private half of a public WireGuard key.
///
/// # Errors
/// The key is none that can sign, or this is not its signature over the network and the node.
pub fn verify(public: &[u8; 32], network: &NetworkId, node: &NodeId, signature: &Signature) -> Result<(), Error> {
    let refused = || Error::Signature { node: *node, purpose: Purpose::Tunnel };
    let key = edwards(MontgomeryPoint(*public)).ok_or_else(refused)?;
    NodeId::new(key.to_bytes()).verify(Purpose::Tunnel, &text(network, node), signature).map_err(|_| refused())
}

/// The point with the even `x`.
fn edwards(key: MontgomeryPoint) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(key.to_edwards(0)?.compress().as_bytes()).ok()
}

fn text(network: &NetworkId, node: &NodeId) -> Vec<u8> {
    [network.as_bytes().as_slice(), node.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_proves_itself_for_one_node_of_one_network(private in any::<[u8; 32]>()) {
            let (network, other) = (Token::new([1; 32], None).network().id, Token::new([2; 32], None).network().id);
            let (node, key) = (NodeId::new([1; 32]), TunnelKey::new(private));
            let signature = key.prove(&network, &node);
            prop_assert_eq!(verify(&key.public(), &network, &node, &signature), Ok(()));
            prop_assert!(verify(&key.public(), &other, &node, &signature).is_err());
            prop_assert!(verify(&key.public(), &network, &NodeId::new([2; 32]), &signature).is_err());
            prop_assert!(verify(&TunnelKey::new([7; 32]).public(), &network, &node, &signature).is_err());
        }

        #[test]
        fn no_bytes_prove_anything_or_panic(public in any::<[u8; 32]>(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let network = Token::new([1; 32], None).network().id;
            prop_assert!(verify(&public, &network, &NodeId::new([1; 32]), &Signature::new(bytes)).is_err());
        }
    }

    #[test]
    fn keys_that_anybody_knows_the_secret_of_prove_nothing() {
        let (network, node) = (Token::new([1; 32], None).network().id, NodeId::new([1; 32]));
        for public in [[0; 32], std::array::from_fn(|at| u8::from(at == 0)), [0xff; 32]] {
            assert!(verify(&public, &network, &node, &Signature::new(vec![0; 64])).is_err());
        }
    }
}
