//! Pairing: how a workstation hands a configuration to a machine that shows a QR code.
//!
//! The code holds a one-time secret and the machine's public key ([`Invitation`]). In a TLS 1.3 session with that key the sender proves
//! that it knows the secret, by HMAC-SHA256 over the session's exporter (RFC 8446, 7.5; label `EXPORTER-kairn-pairing-1`, no context) and
//! both keys. Then the machine draws a nonce, and both derive six digits of the exporter and the nonce, which a person compares. So who
//! sees the network only can neither read nor inject; who sees the QR code cannot read, since it has not the machine's private key, and
//! cannot inject, since the digits are not those of the person's sender. The nonce comes after the proof: a sender cannot look for a
//! session that has the digits of another, but by asking the machine for each.

mod invitation;
mod message;
#[cfg(test)]
mod tests;

pub use invitation::{Invitation, InvitationFault, MOST_ADDRESSES};
pub use message::{
    After, Call, Fault, HEADER, LARGEST_CONFIG, LARGEST_OFFER, LARGEST_WORD, MOST_FAULTS, Offer, OfferFault, Refusal,
    Word, decode, encode, length,
};

use crate::identity::NodeId;
use crate::keys::{Material, NetworkKeys, hmac};
use hmac::Mac as _;
use kairn_report::Secret;
use serde::{Serialize, Serializer};
use std::fmt;

/// The label of the exporter.
pub const EXPORTER: &[u8] = b"EXPORTER-kairn-pairing-1";
/// One more than the highest code.
const CODES: u64 = 1_000_000;

/// What follows from the one-time secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The label under which the machine is announced, and an IPv6 prefix that nothing has.
    pub network: NetworkKeys,
    proof: Secret<[u8; 32]>,
    code: Secret<[u8; 32]>,
}

impl Keys {
    /// The keys of a secret.
    pub fn of(secret: &[u8; 16]) -> Self {
        let material = Material::new("kairn pairing 1", secret);
        Self {
            network: material.network(),
            proof: Secret::new(material.key("proof")),
            code: Secret::new(material.key("code")),
        }
    }
}

/// A session, as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the session's exporter gave.
    pub exporter: [u8; 32],
    /// The sender's key.
    pub sender: NodeId,
    /// The machine's key.
    pub machine: NodeId,
}

impl Session {
    fn parts(&self) -> [&[u8]; 3] {
        [&self.exporter, self.sender.as_bytes(), self.machine.as_bytes()]
    }

    /// The sender's proof that it knows the secret: good for this session only.
    pub fn proof(&self, keys: &Keys) -> [u8; 32] {
        self.mac(keys).finalize().into_bytes().into()
    }

    /// Whether this is the sender's proof.
    pub fn is_proven(&self, keys: &Keys, proof: &[u8; 32]) -> bool {
        self.mac(keys).verify_slice(proof).is_ok()
    }

    fn mac(&self, keys: &Keys) -> hmac::Hmac<sha2::Sha256> {
        let [exporter, sender, machine] = self.parts();
        hmac(keys.proof.reveal(), &[b"proof\0", exporter, sender, machine])
    }

    /// The digits that both sides show, once the machine has said the nonce that it drew after the proof.
    pub fn code(&self, keys: &Keys, nonce: &[u8; 16]) -> Code {
        let [exporter, sender, machine] = self.parts();
        let mac = hmac(keys.code.reveal(), &[b"code\0", exporter, sender, machine, nonce]).finalize().into_bytes();
        // 64 bits: no code is likelier than another by more than one in 10^13.
        let number = mac.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Code(number % CODES)
    }
}

/// Six digits that a person compares on two screens. They are no secret: they count for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u64);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:06}", self.0))
    }
}
