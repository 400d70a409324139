//! Who a node is: an Ed25519 key (RFC 8032) that it makes once and keeps, and what it says under that name.
//!
//! Every signature is over `"kairn mesh 1 " purpose 0x00 text`, so that no statement can be taken for one of another kind.

use crate::error::Error;
use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use thiserror::Error as ThisError;

/// The name of a node: its public key. Written as 52 lower-case letters and digits (RFC 4648 base 32 without padding).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The node of a public key. Whether these bytes are a point of the curve shows at the first signature.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten characters of the name: enough for people to tell the nodes of one network apart.
    pub fn short(&self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// The beginning of the name: where one has to be found quickly among few.
    pub(crate) fn tag(&self) -> [u8; 8] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    /// Checks what this node is said to have signed.
    ///
    /// # Errors
    /// The key is no key, or the signature is not its own over this text and purpose.
    pub fn verify(&self, purpose: Purpose, text: &[u8], signature: &Signature) -> Result<(), Error> {
        let refused = || Error::Signature { node: *self, purpose };
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| refused())?;
        let bytes = <[u8; 64]>::try_from(signature.0.as_slice()).map_err(|_| refused())?;
        // Strict: without it several signatures of one text would be valid, and a digest over them no name for it.
        key.verify_strict(&purpose.statement(text), &ed25519_dalek::Signature::from_bytes(&bytes))
            .map_err(|_| refused())
    }

    /// A number that is the same everywhere for this node and a text, and evenly spread: for orders that nobody can choose.
    pub fn lot(&self, text: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(b"kairn mesh 1 lot\0").chain_update(self.0).chain_update(text).finalize().into()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// A text that names no node.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("`{0}` is not the name of a node: 52 letters and digits, as `kairn mesh peers` prints them")]
pub struct ParseNodeIdError(String);

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE32_NOPAD_NOCASE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| ParseNodeIdError(text.to_owned()))
    }
}

/// What a signed text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// An entry of the shared state.
    Entry,
    /// A node says that it is there.
    Alive,
    /// A node says that another does not answer.
    Suspect,
    /// A node says that it leaves.
    Leave,
    /// A node that saw a claim to an address says so.
    Witness,
    /// A step of a ballot.
    Ballot,
    /// Who has the private half of a WireGuard key; signed with that half.
    Tunnel,
    /// An administrator opens a node's shell.
    Shell,
    /// A secret, by who wrote it.
    Secret,
}

impl Purpose {
    /// The word that stands in the signed text.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Leave => "leave",
            Self::Witness => "witness",
            Self::Ballot => "ballot",
            Self::Tunnel => "tunnel",
            Self::Shell => "shell",
            Self::Secret => "secret",
        }
    }

    pub(crate) fn statement(self, text: &[u8]) -> Vec<u8> {
        [b"kairn mesh 1 ", self.word().as_bytes(), b"\0", text].concat()
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature(pub(crate) Vec<u8>);

impl Signature {
    /// A signature as it came; one of a wrong length is nobody's.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("signature")
    }
}

/// A node's own secret: what makes it this node. It prints as its public name only.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// The identity of a seed of 32 random bytes (the private key of RFC 8032); the same seed is the same node.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The seed, to be kept where only the owner reads it.
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The name that others know it by.
    pub fn id(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// The secret that only this node and another can know: X25519 (RFC 7748) of both keys as points of Curve25519. Nothing where the
    /// other's name is no key, or one whose secret anybody could know.
    pub fn shared(&self, other: &NodeId) -> Option<[u8; 32]> {
        let theirs = VerifyingKey::from_bytes(&other.0).ok().filter(|key| !key.is_weak())?;
        Some((theirs.to_montgomery() * self.key.to_scalar()).to_bytes())
    }

    /// Signs a text for one purpose.
    pub fn sign(&self, purpose: Purpose, text: &[u8]) -> Signature {
        Signature(self.key.sign(&purpose.statement(text)).to_bytes().to_vec())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_one_purpose_one_text_and_one_node() {
        let node = Identity::from_seed(&[1; 32]);
        let other = Identity::from_seed(&[2; 32]);
        let signature = node.sign(Purpose::Alive, b"here");
        assert_eq!(node.id().verify(Purpose::Alive, b"here", &signature), Ok(()));
        for (id, purpose, text) in [
            (other.id(), Purpose::Alive, b"here"),
            (node.id(), Purpose::Suspect, b"here"),
            (node.id(), Purpose::Alive, b"her3"),
        ] {
            assert_eq!(id.verify(purpose, text, &signature), Err(Error::Signature { node: id, purpose }));
        }
        assert!(node.id().verify(Purpose::Alive, b"here", &Signature::new(vec![0; 63])).is_err());
    }

    #[test]
    fn the_name_of_a_node_is_read_back_in_either_case() {
        let id = Identity::from_seed(&[7; 32]).id();
        assert_eq!(id.to_string().len(), 52);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert!("".parse::<NodeId>().is_err());
        assert!(id.short().parse::<NodeId>().unwrap_err().to_string().contains("52 letters"));
    }

    #[test]
    fn two_nodes_share_a_secret_and_nobody_shares_one_with_a_key_that_is_none() {
        let [a, b, c] = [1, 2, 3].map(|seed| Identity::from_seed(&[seed; 32]));
        assert_eq!(a.shared(&b.id()), b.shared(&a.id()));
        assert!(a.shared(&b.id()).is_some());
        assert_ne!(a.shared(&b.id()), a.shared(&c.id()));
        // The neutral point, one of small order, and no point at all.
        let neutral: [u8; 32] = std::array::from_fn(|at| u8::from(at == 0));
        for bytes in [neutral, [0; 32], [2; 32]] {
            assert_eq!(a.shared(&NodeId::new(bytes)), None);
        }
    }

    #[test]
    fn an_identity_does_not_print_its_secret() {
        let identity = Identity::from_seed(&[7; 32]);
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.id().short()));
    }
}
