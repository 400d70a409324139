//! How two nodes prove to each other that they hold the network's secret.
//!
//! They have a TLS 1.3 session whose certificates bear their identities. Either side says HMAC-SHA256 under the admission key of
//! its epoch of `"admission" 0x00`, `client` or `server`, `0x00`, 32 bytes of the session's exporter (RFC 8446, 7.5; label
//! `EXPORTER-kairn-mesh-1`, no context), the client's name and the server's name. So a proof holds in one session only, cannot be passed on,
//! and cannot be turned round. The client speaks first: who does not know the secret learns nothing that it could try secrets on
//! but the proof of a client that came to it.

use crate::error::Error;
use crate::identity::NodeId;
use crate::keys::{EpochKeys, hmac};
use crate::time::Wall;
use hmac::Mac as _;
use serde::{Deserialize, Serialize};

/// The label of the exporter.
pub const EXPORTER: &[u8] = b"EXPORTER-kairn-mesh-1";
/// The most bytes of a proof message.
pub const LARGEST: usize = 2_048;

/// Which side of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It opened the session.
    Client,
    /// It was called.
    Server,
}

/// A session, as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the session's exporter gave.
    pub exporter: [u8; 32],
    /// The name that the client's certificate bears.
    pub client: NodeId,
    /// The name that the server's certificate bears.
    pub server: NodeId,
}

/// What either side sends first, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The epoch of the secret.
    pub epoch: u32,
    /// The proof.
    pub mac: [u8; 32],
    /// The sender's wall clock, in milliseconds since the Unix epoch; nothing where it was never set.
    pub wall: Option<Wall>,
    /// The sender's own entry in the members' bucket, encoded: the other side may not know it yet. Nothing while the sender does
    /// not know the time, and so signs nothing.
    pub record: Option<Vec<u8>>,
}

impl Proof {
    /// The proof of one side.
    pub fn new(keys: &EpochKeys, session: &Session, side: Side, wall: Option<Wall>, record: Option<Vec<u8>>) -> Self {
        Self { epoch: keys.epoch, mac: session.mac(keys, side).finalize().into_bytes().into(), wall, record }
    }

    /// Reads what the other side sent.
    ///
    /// # Errors
    /// It is too long or does not parse.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (length, limit) = (bytes.len(), LARGEST);
        if length > limit {
            return Err(Error::TooLarge { kind: "proof", length, limit });
        }
        postcard::from_bytes(bytes).map_err(|error| Error::Malformed("proof", error.to_string()))
    }

    /// The message.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|error| Error::Malformed("proof", error.to_string()))
    }

    /// The epoch whose secret the other side has, among those that are known here.
    pub fn check<'a>(&self, epochs: &'a [EpochKeys], session: &Session, side: Side) -> Option<&'a EpochKeys> {
        let of_epoch = epochs.iter().find(|keys| keys.epoch == self.epoch);
        of_epoch.filter(|keys| session.mac(keys, side).verify_slice(&self.mac).is_ok())
    }
}

impl Session {
    fn mac(&self, keys: &EpochKeys, side: Side) -> hmac::Hmac<sha2::Sha256> {
        let side: &[u8] = if side == Side::Client { b"client\0" } else { b"server\0" };
        let parts: [&[u8]; 5] = [b"admission\0", side, &self.exporter, self.client.as_bytes(), self.server.as_bytes()];
        hmac(keys.admission.reveal(), &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;

    #[test]
    fn a_proof_holds_for_one_side_of_one_session_with_one_secret() {
        let keys = Token::new([1; 32], None).epoch();
        let session = Session { exporter: [7; 32], client: NodeId::new([1; 32]), server: NodeId::new([2; 32]) };
        let proof = Proof::new(&keys, &session, Side::Client, Some(Wall(1)), Some(b"record".to_vec()));
        assert_eq!(Proof::decode(&proof.encode().unwrap()), Ok(proof.clone()));
        let epochs = [EpochKeys::rotated(1, &[9; 32]), keys.clone()];
        assert_eq!(proof.check(&epochs, &session, Side::Client), Some(&keys));
        let turned = Session { client: session.server, server: session.client, ..session };
        let relayed = Session { exporter: [8; 32], ..session };
        for (session, side) in [(session, Side::Server), (turned, Side::Client), (relayed, Side::Client)] {
            assert_eq!(proof.check(&epochs, &session, side), None);
        }
        assert_eq!(proof.check(&[Token::new([2; 32], None).epoch()], &session, Side::Client), None);
        assert_eq!(Proof { epoch: 1, ..proof }.check(&epochs, &session, Side::Client), None);
    }
}
