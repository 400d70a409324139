//! What an administrator orders: a node put out for ever, and a new secret, sealed to each member that stays.
//!
//! Orders are entries of the administrators' bucket. `revoked/NAME` puts a node out. A rotation is some entries
//! `rotation/EPOCH/PART`, each small enough for a datagram: together they have a share for each member, which only that member
//! opens. Whoever has no share and does not prove the new secret is a member no longer.
//!
//! The number of an epoch is 16 bits that count rotations and then 16 bits drawn by lot, so that two rotations which were ordered
//! apart have different numbers, and the higher one is valid everywhere once they meet.
//!
//! A share is 32 bytes of secret under XChaCha20-Poly1305 with 24 zero bytes as nonce. The key is HKDF-SHA256 with the salt
//! `kairn mesh 1 share`, X25519 of the rotation's own key and the member's identity as key material, and the network's name, the
//! epoch (4 bytes, big-endian) and the member's name as info. The keys of the epochs before are sealed alike, in part 0, under HKDF
//! of the new secret with the salt `kairn mesh 1 retired`, for members that never had them: without them they could check no
//! record of a member that was off meanwhile.

use crate::error::Error;
use crate::identity::{Identity, NodeId};
use crate::keys::{EpochKeys, NetworkId};
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use kairn_report::Secret;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The most shares of a part: with what is around them they fit a datagram.
const SHARES: usize = 12;
/// The most parts: as many as 4,096 members need, and some.
const PARTS: u16 = 400;
/// The most nodes that one rotation puts out.
pub const MOST_REVOKED: usize = 4;
/// The most retired epochs whose keys are kept and handed on.
pub const MOST_RETIRED: usize = 6;

/// What the value of an entry of the administrators' bucket says, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A node is put out for ever.
    Revocation(NodeId),
    /// The secret changes.
    Rotation(Part),
}

/// A part of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The new epoch.
    pub epoch: u32,
    /// Which part this is, from 0.
    pub number: u16,
    /// How many there are.
    pub parts: u16,
    /// Who is put out with it.
    pub revoked: Vec<NodeId>,
    /// The rotation's own key, drawn for it alone: an Ed25519 key, used for X25519 only.
    pub key: NodeId,
    /// For members the beginning of their name, and their share.
    pub shares: Vec<([u8; 8], Vec<u8>)>,
    /// In part 0 the keys of the epochs before, sealed.
    pub retired: Vec<u8>,
}

/// What a rotation is made of.
pub struct Rotation<'a> {
    /// The network.
    pub network: &'a NetworkId,
    /// The keys of the epochs before, the newest first.
    pub epochs: &'a [EpochKeys],
    /// The new secret: 32 random bytes.
    pub secret: &'a [u8; 32],
    /// Random: the rotation's own key.
    pub seed: &'a [u8; 32],
    /// Random: what tells this rotation from another that is ordered at the same time.
    pub lot: u16,
    /// Who stays.
    pub members: &'a [NodeId],
    /// Who is put out.
    pub revoked: &'a [NodeId],
}

/// A retired epoch as it is handed on.
#[derive(Serialize, Deserialize)]
struct Retired {
    epoch: u32,
    keys: [[u8; 32]; 3],
}

impl Order {
    /// Reads the value of an entry, and checks that it lies where it belongs.
    ///
    /// # Errors
    /// It does not parse, is larger than an order may be, or lies under another key.
    pub fn decode(key: &str, value: &[u8]) -> Result<Self, Error> {
        let refused = |why: &str| Error::Malformed("order", why.to_owned());
        let order: Self = postcard::from_bytes(value).map_err(|error| refused(&error.to_string()))?;
        if let Self::Rotation(part) = &order {
            let fits = part.number < part.parts
                && part.parts <= PARTS
                && part.shares.len() <= SHARES
                && part.revoked.len() <= MOST_REVOKED;
            if !fits {
                return Err(refused("a part that is no part of its rotation, or too large"));
            }
        }
        if order.key() == key { Ok(order) } else { Err(refused("it lies under another key")) }
    }

    /// The order as a value.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|error| Error::Malformed("order", error.to_string()))
    }

    /// The key that its entry has.
    pub fn key(&self) -> String {
        match self {
            Self::Revocation(node) => format!("revoked/{node}"),
            Self::Rotation(part) => format!("rotation/{}/{}", part.epoch, part.number),
        }
    }
}

impl Rotation<'_> {
    /// The orders of the rotation, with a revocation for each node that is put out.
    ///
    /// # Errors
    /// There are no keys before it, more members or nodes to put out than a rotation holds, or no more epochs.
    pub fn orders(&self) -> Result<Vec<Order>, Error> {
        let refused = |why: &str| Error::Malformed("rotation", why.to_owned());
        let epoch = next_epoch(self.epochs, self.lot)?;
        if self.revoked.len() > MOST_REVOKED {
            return Err(refused("too many nodes at once"));
        }
        let own = Identity::from_seed(self.seed);
        let stay = self.members.iter().filter(|member| !self.revoked.contains(member));
        // A name that is no key is nobody who could open a share.
        let shares: Vec<([u8; 8], Vec<u8>)> =
            stay.filter_map(|member| Some((member.tag(), self.share(&own, epoch, member)?))).collect();
        // The first part has the retired keys and no share, so that it fits a datagram too.
        let lists: Vec<&[([u8; 8], Vec<u8>)]> = std::iter::once([].as_slice()).chain(shares.chunks(SHARES)).collect();
        let parts = u16::try_from(lists.len()).ok().filter(|parts| *parts <= PARTS);
        let parts = parts.ok_or_else(|| refused("too many members"))?;
        let mut orders: Vec<Order> = self.revoked.iter().copied().map(Order::Revocation).collect();
        for (number, shares) in (0..parts).zip(lists) {
            let retired = if number == 0 { self.retired()? } else { Vec::new() };
            let (revoked, shares) = (self.revoked.to_vec(), shares.to_vec());
            orders.push(Order::Rotation(Part { epoch, number, parts, revoked, key: own.id(), shares, retired }));
        }
        Ok(orders)
    }

    fn share(&self, own: &Identity, epoch: u32, member: &NodeId) -> Option<Vec<u8>> {
        let cipher = share_cipher(&own.shared(member)?, self.network, epoch, member)?;
        cipher.encrypt(&XNonce::default(), self.secret.as_slice()).ok()
    }

    fn retired(&self) -> Result<Vec<u8>, Error> {
        let failed = |error: String| Error::Malformed("rotation", error);
        let list: Vec<Retired> = self.epochs.iter().take(MOST_RETIRED).map(Retired::of).collect();
        let text = postcard::to_stdvec(&list).map_err(|error| failed(error.to_string()))?;
        let sealed =
            retired_cipher(self.secret).and_then(|cipher| cipher.encrypt(&XNonce::default(), text.as_slice()).ok());
        sealed.ok_or_else(|| failed("the retired keys cannot be sealed".to_owned()))
    }
}

impl Part {
    /// The new secret, where this part has the node's share.
    pub fn open(&self, network: &NetworkId, own: &Identity) -> Option<Secret<[u8; 32]>> {
        let id = own.id();
        let shares = self.shares.iter().filter(|(of, _)| *of == id.tag());
        let cipher = share_cipher(&own.shared(&self.key)?, network, self.epoch, &id)?;
        let mut opened = shares.filter_map(|(_, share)| cipher.decrypt(&XNonce::default(), share.as_slice()).ok());
        opened.find_map(|secret| secret.try_into().ok()).map(Secret::new)
    }

    /// The keys of the epochs before, for who knows the new secret.
    pub fn open_retired(&self, secret: &Secret<[u8; 32]>) -> Vec<EpochKeys> {
        let text = retired_cipher(secret.reveal())
            .and_then(|cipher| cipher.decrypt(&XNonce::default(), self.retired.as_slice()).ok());
        let list = text.and_then(|text| postcard::from_bytes::<Vec<Retired>>(&text).ok()).unwrap_or_default();
        list.into_iter()
            .take(MOST_RETIRED)
            .filter(|retired| retired.epoch < self.epoch)
            .map(Retired::into_keys)
            .collect()
    }

    /// Whether the part has a share for a node.
    pub fn names(&self, node: &NodeId) -> bool {
        self.shares.iter().any(|(of, _)| *of == node.tag())
    }
}

impl Retired {
    fn of(keys: &EpochKeys) -> Self {
        let keys_of = [&keys.admission, &keys.datagram, &keys.wireguard].map(|key| *key.reveal());
        Self { epoch: keys.epoch, keys: keys_of }
    }

    fn into_keys(self) -> EpochKeys {
        let [admission, datagram, wireguard] = self.keys.map(Secret::new);
        EpochKeys { epoch: self.epoch, admission, datagram, wireguard }
    }
}

/// The number of the epoch after these.
///
/// # Errors
/// There is none before it, or no further one.
pub fn next_epoch(epochs: &[EpochKeys], lot: u16) -> Result<u32, Error> {
    let refused = |why: &str| Error::Malformed("rotation", why.to_owned());
    let newest = epochs.first().ok_or_else(|| refused("nothing to rotate"))?;
    let count = u16::try_from(newest.epoch >> 16).ok().and_then(|count| count.checked_add(1));
    Ok(u32::from(count.ok_or_else(|| refused("no more epochs"))?) << 16 | u32::from(lot))
}

fn share_cipher(shared: &[u8; 32], network: &NetworkId, epoch: u32, member: &NodeId) -> Option<XChaCha20Poly1305> {
    let hkdf = Hkdf::<Sha256>::new(Some(b"kairn mesh 1 share"), shared);
    let mut key = [0; 32];
    hkdf.expand_multi_info(&[network.as_bytes(), &epoch.to_be_bytes(), member.as_bytes()], &mut key).ok()?;
    Some(XChaCha20Poly1305::new(&key.into()))
}

fn retired_cipher(secret: &[u8; 32]) -> Option<XChaCha20Poly1305> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(b"kairn mesh 1 retired"), secret).expand(b"", &mut key).ok()?;
    Some(XChaCha20Poly1305::new(&key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;

    fn rotation(count: u8) -> (Vec<Identity>, Vec<Part>) {
        let nodes: Vec<Identity> = (0..count).map(|seed| Identity::from_seed(&[seed; 32])).collect();
        let members: Vec<NodeId> = nodes.iter().map(Identity::id).collect();
        let token = Token::new([1; 32], None);
        let rotation = Rotation {
            network: &token.network().id,
            epochs: &[token.epoch()],
            secret: &[8; 32],
            seed: &[9; 32],
            lot: 7,
            members: &members,
            revoked: &members[..1],
        };
        let parts = rotation.orders().unwrap().into_iter().filter_map(|order| match order {
            Order::Rotation(part) => Some(part),
            Order::Revocation(_) => None,
        });
        (nodes, parts.collect())
    }

    #[test]
    fn every_member_that_stays_opens_its_own_share_and_nobody_elses() {
        let (nodes, parts) = rotation(30);
        let network = Token::new([1; 32], None).network().id;
        assert_eq!(parts.len(), 4);
        for (at, node) in nodes.iter().enumerate() {
            let opened: Vec<_> = parts.iter().filter_map(|part| part.open(&network, node)).collect();
            assert_eq!(opened, if at == 0 { vec![] } else { vec![Secret::new([8; 32])] });
            assert_eq!(parts.iter().any(|part| part.names(&node.id())), at != 0);
        }
        let mut moved = parts[1].clone();
        moved.epoch += 1;
        assert!(nodes.iter().all(|node| moved.open(&network, node).is_none()));
        assert_eq!(parts[0].open_retired(&Secret::new([8; 32])), [Token::new([1; 32], None).epoch()]);
        assert_eq!(parts[0].open_retired(&Secret::new([7; 32])), []);
    }

    #[test]
    fn an_order_lies_under_its_own_key() {
        let (_, parts) = rotation(3);
        let order = Order::Rotation(parts[1].clone());
        assert_eq!(order.key(), "rotation/65543/1");
        assert_eq!(Order::decode(&order.key(), &order.encode().unwrap()), Ok(order.clone()));
        assert!(Order::decode("rotation/65543/2", &order.encode().unwrap()).is_err());
        let large = Order::Rotation(Part { shares: vec![([0; 8], vec![]); 13], ..parts[1].clone() });
        assert!(Order::decode(&large.key(), &large.encode().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_value_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let network = Token::new([1; 32], None).network().id;
            if let Ok(Order::Rotation(part)) = Order::decode("rotation/1/0", &bytes) {
                prop_assert!(part.open(&network, &Identity::from_seed(&[1; 32])).is_none());
                prop_assert!(part.open_retired(&Secret::new([1; 32])).is_empty());
            }
        }
    }
}
