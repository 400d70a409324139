//! How two nodes prove to each other that they hold the network's secret.
//!
//! They have a TLS 1.3 session whose certificates bear their identities. Either side says HMAC-SHA256 under the admission key of
//! its epoch of `"admission" 0x00`, `client` or `server`, `0x00`, 32 bytes of the session's exporter (RFC 8446, 7.5; label
//! `EXPORTER-kairn-mesh-1`, no context), the client's name and the server's name. So a proof holds in one session only, cannot be passed on,
//! and cannot be turned round. The client speaks first: who does not know the secret learns nothing that it could try secrets on
//! but the proof of a client that came to it.

use crate::identity::NodeId;
use crate::keys::{EpochKeys, hmac};
use crate::time::Wall;
use hmac::Mac as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The label of the exporter.
pub const EXPORTER: &[u8] = b"EXPORTER-kairn-mesh-1";
/// The most bytes of a proof message.
pub const LARGEST: usize = 8_192;

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
    /// For each epoch whose secret the sender has, the newest first, its number and the proof.
    pub macs: Vec<(u32, [u8; 32])>,
    /// The sender's wall clock, in milliseconds since the Unix epoch; nothing where it was never set.
    pub wall: Option<Wall>,
    /// The sender's own entry in the members' bucket, encoded: the other side may not know it yet. Nothing while the sender does
    /// not know the time, and so signs nothing.
    pub record: Option<Vec<u8>>,
}

impl Proof {
    /// The proof of one side.
    pub fn new(
        epochs: &[EpochKeys],
        session: &Session,
        side: Side,
        wall: Option<Wall>,
        record: Option<Vec<u8>>,
    ) -> Self {
        let mac = |keys: &EpochKeys| session.mac(keys, side).finalize().into_bytes().into();
        Self { macs: epochs.iter().map(|keys| (keys.epoch, mac(keys))).collect(), wall, record }
    }

    /// Reads what the other side sent.
    ///
    /// # Errors
    /// It is too long or does not parse.
    pub fn decode(bytes: &[u8]) -> Result<Self, crate::Error> {
        let (length, limit) = (bytes.len(), LARGEST);
        if length > limit {
            return Err(crate::Error::TooLarge { kind: "proof", length, limit });
        }
        postcard::from_bytes(bytes).map_err(|error| crate::Error::Malformed("proof", error.to_string()))
    }

    /// The message.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, crate::Error> {
        postcard::to_stdvec(self).map_err(|error| crate::Error::Malformed("proof", error.to_string()))
    }

    /// Whether the other side may come in.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, epochs: &[EpochKeys], session: &Session, side: Side, is_known: bool) -> Result<(), Unadmitted> {
        let proves = |keys: &EpochKeys| {
            let mut macs = self.macs.iter().filter(|(epoch, _)| *epoch == keys.epoch);
            macs.any(|(_, mac)| session.mac(keys, side).verify_slice(mac).is_ok())
        };
        match epochs.iter().position(proves) {
            Some(0) => Ok(()),
            // A member that was off while the secret changed.
            Some(_) if is_known => Ok(()),
            Some(_) => Err(Unadmitted::Retired),
            None => Err(Unadmitted::Stranger),
        }
    }
}

/// Why a node may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unadmitted {
    /// It has no secret of this network.
    #[error("it does not hold this network's secret")]
    Stranger,
    /// It has one that was rotated away, and no member knows it.
    #[error("its token was rotated away: give it the one that `kairn mesh rotate` printed")]
    Retired,
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
        let epochs = [keys.clone()];
        let proof = Proof::new(&epochs, &session, Side::Client, Some(Wall(1)), Some(b"record".to_vec()));
        assert_eq!(Proof::decode(&proof.encode().unwrap()), Ok(proof.clone()));
        assert_eq!(proof.check(&epochs, &session, Side::Client, false), Ok(()));
        let turned = Session { client: session.server, server: session.client, ..session };
        let relayed = Session { exporter: [8; 32], ..session };
        for (session, side) in [(session, Side::Server), (turned, Side::Client), (relayed, Side::Client)] {
            assert_eq!(proof.check(&epochs, &session, side, true), Err(Unadmitted::Stranger));
        }
        let other = [Token::new([2; 32], None).epoch()];
        assert_eq!(proof.check(&other, &session, Side::Client, true), Err(Unadmitted::Stranger));
    }

    #[test]
    fn a_secret_that_was_rotated_away_lets_in_whom_one_knows_and_nobody_else() {
        let (old, new) = (Token::new([1; 32], None).epoch(), EpochKeys::rotated(1 << 16, &[9; 32]));
        let session = Session { exporter: [7; 32], client: NodeId::new([1; 32]), server: NodeId::new([2; 32]) };
        let late = Proof::new(std::slice::from_ref(&old), &session, Side::Client, None, None);
        let rotated = Proof::new(&[new.clone(), old.clone()], &session, Side::Client, None, None);
        let epochs = [new, old.clone()];
        assert_eq!(late.check(&epochs, &session, Side::Client, true), Ok(()));
        assert_eq!(late.check(&epochs, &session, Side::Client, false), Err(Unadmitted::Retired));
        assert_eq!(rotated.check(&epochs, &session, Side::Client, false), Ok(()));
        // A member that was off takes one for its like that has both secrets.
        assert_eq!(rotated.check(&[old], &session, Side::Client, false), Ok(()));
        let most: Vec<EpochKeys> = (0..17).map(|epoch| EpochKeys::rotated(epoch, &[1; 32])).collect();
        let proof = Proof::new(&most, &session, Side::Client, None, Some(vec![0; 4_500]));
        assert_eq!(Proof::decode(&proof.encode().unwrap()), Ok(proof));
    }
}
