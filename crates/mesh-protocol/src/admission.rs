//! How two nodes prove to each other that they hold the network's secret.
//!
//! They have a TLS 1.3 session whose certificates bear their identities. Either side says HMAC-SHA256 under the admission key of
//! its epoch of `"admission" 0x00`, `client` or `server`, `0x00`, 32 bytes of the session's exporter (RFC 8446, 7.5; label
//! `EXPORTER-kairn-mesh-1`, no context), the client's name, the server's name and its own fixed role in one byte. So a proof holds in one session only, cannot be passed on,
//! and cannot be turned round. The client speaks first: who does not know the secret learns nothing that it could try secrets on
//! but the proof of a client that came to it.

use crate::entry::Entry;
use crate::identity::NodeId;
use crate::keys::{EpochKeys, hmac};
use crate::member::MemberRecord;
use crate::role::Role;
use crate::time::Told;
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
    /// The role that the sender's configuration fixes, if it does. The proofs cover it, and the record has to say the same.
    pub role: Option<Role>,
    /// The sender's time; nothing from the caller of a session that is not of the control plane.
    pub time: Option<Told>,
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
        role: Option<Role>,
        time: Option<Told>,
        record: Option<Vec<u8>>,
    ) -> Self {
        let mac = |keys: &EpochKeys| session.mac(keys, side, role).finalize().into_bytes().into();
        Self { macs: epochs.iter().map(|keys| (keys.epoch, mac(keys))).collect(), role, time, record }
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
            macs.any(|(_, mac)| session.mac(keys, side, self.role).verify_slice(mac).is_ok())
        };
        let proven = epochs.iter().position(proves);
        if proven.is_some() && self.record.as_deref().is_some_and(|record| !self.is_of_role(record)) {
            return Err(Unadmitted::Role);
        }
        match proven {
            Some(0) => Ok(()),
            // A member that was off while the secret changed.
            Some(_) if is_known => Ok(()),
            Some(_) => Err(Unadmitted::Retired),
            None => Err(Unadmitted::Stranger),
        }
    }
}

impl Proof {
    /// Whether a record says what the proof says; one that cannot be read is refused where it is taken in.
    fn is_of_role(&self, record: &[u8]) -> bool {
        let entry = Entry::decode(record).ok();
        let record = entry.and_then(|entry| MemberRecord::decode(entry.content().value.as_ref()?).ok());
        record.is_none_or(|record| record.role == self.role)
    }
}

/// Why a node may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unadmitted {
    /// It has no secret of this network.
    #[error("it does not hold this network's secret")]
    Stranger,
    /// It shows a record of another role than it proves in the session.
    #[error("the record that it shows is of another role than it says here")]
    Role,
    /// It has one that was rotated away, and no member knows it.
    #[error("its token was rotated away: give it the one that `kairn mesh rotate` printed")]
    Retired,
}

impl Session {
    fn mac(&self, keys: &EpochKeys, side: Side, role: Option<Role>) -> hmac::Hmac<sha2::Sha256> {
        let side: &[u8] = if side == Side::Client { b"client\0" } else { b"server\0" };
        let (client, server) = (self.client.as_bytes(), self.server.as_bytes());
        hmac(keys.admission.reveal(), &[b"admission\0", side, &self.exporter, client, server, &[Role::byte(role)]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Bucket;
    use crate::{Identity, Token};

    #[test]
    fn a_proof_holds_for_one_side_of_one_session_with_one_secret() {
        let keys = Token::new([1; 32], None).epoch();
        let session = Session { exporter: [7; 32], client: NodeId::new([1; 32]), server: NodeId::new([2; 32]) };
        let epochs = [keys.clone()];
        let proof = Proof::new(
            &epochs,
            &session,
            Side::Client,
            None,
            Some(Told::Unkept(crate::Wall(1))),
            Some(b"record".to_vec()),
        );
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
    fn the_role_is_proven_and_the_record_says_the_same() {
        let (token, identity) = (Token::new([1; 32], None), Identity::from_seed(&[1; 32]));
        let (keys, network, id) = (token.epoch(), token.network().id, identity.id());
        let session = Session { exporter: [7; 32], client: id, server: NodeId::new([2; 32]) };
        let tunnel = crate::TunnelKey::new([9; 32]);
        let record = MemberRecord::new(
            (&network, &keys),
            &id,
            &tunnel,
            ("edge", Some(Role::Worker), &crate::ClusterName::default()),
            "1",
        );
        let mut store = crate::store::Store::new(network, vec![keys.clone()], []);
        let (place, value) = ((Bucket::Members, id.to_string()), Some(record.encode().unwrap()));
        let now = (crate::Moment::default(), crate::Wall(1_800_000_000_000));
        let record = store.write(&identity, place, value, 0, now).unwrap().encode().unwrap();
        let epochs = [keys];
        let proof = |role| Proof::new(&epochs, &session, Side::Client, role, None, Some(record.clone()));
        assert_eq!(proof(Some(Role::Worker)).check(&epochs, &session, Side::Client, false), Ok(()));
        assert_eq!(proof(Some(Role::Master)).check(&epochs, &session, Side::Client, true), Err(Unadmitted::Role));
        let altered = Proof { role: Some(Role::Master), ..proof(Some(Role::Worker)) };
        assert_eq!(altered.check(&epochs, &session, Side::Client, true), Err(Unadmitted::Stranger));
    }

    #[test]
    fn a_secret_that_was_rotated_away_lets_in_whom_one_knows_and_nobody_else() {
        let (old, new) = (Token::new([1; 32], None).epoch(), EpochKeys::rotated(1 << 16, &[9; 32]));
        let session = Session { exporter: [7; 32], client: NodeId::new([1; 32]), server: NodeId::new([2; 32]) };
        let late = Proof::new(std::slice::from_ref(&old), &session, Side::Client, None, None, None);
        let rotated = Proof::new(&[new.clone(), old.clone()], &session, Side::Client, None, None, None);
        let epochs = [new, old.clone()];
        assert_eq!(late.check(&epochs, &session, Side::Client, true), Ok(()));
        assert_eq!(late.check(&epochs, &session, Side::Client, false), Err(Unadmitted::Retired));
        assert_eq!(rotated.check(&epochs, &session, Side::Client, false), Ok(()));
        // A member that was off takes one for its like that has both secrets.
        assert_eq!(rotated.check(&[old], &session, Side::Client, false), Ok(()));
        let most: Vec<EpochKeys> = (0..17).map(|epoch| EpochKeys::rotated(epoch, &[1; 32])).collect();
        let proof = Proof::new(&most, &session, Side::Client, None, None, Some(vec![0; 4_500]));
        assert_eq!(Proof::decode(&proof.encode().unwrap()), Ok(proof));
    }
}
