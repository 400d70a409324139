//! Secrets that lie in the shared state, sealed to each receiver by itself.
//!
//! A secret is some parts, each an entry of its own with shares for at most 64 receivers: the content under a key drawn for the part, and
//! that key for each receiver. What its author says of it (the *binding*) is SHA-256 over `"kairn mesh 1 secret" 0x00`, the network's 16
//! bytes and, in postcard, author, key, time, lifetime, audience and the author's cluster.
//!
//! - A share is the part's key (32 bytes) under XChaCha20-Poly1305 with 24 zero bytes as nonce. Its key is HKDF-SHA256 with the salt
//!   `kairn mesh 1 secret share`, X25519 of the part's own key and the receiver's as key material, and the binding, the sealer's name
//!   and the receiver's name as info.
//! - The content is under the part's key, with 24 zero bytes as nonce and the binding as associated data: the author's signature (64
//!   bytes; purpose `secret`, over the binding and SHA-256 of the value) and the value.
//!
//! So whoever seals a secret anew, for a receiver that came later, can neither alter it nor pass it off as another's. Both keys
//! of a part follow from the sealer's private key and all that is sealed, so nothing has to be drawn, and a key that comes twice
//! seals the same text.

use crate::cluster::ClusterName;
use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use crate::keys::NetworkId;
use crate::role::Role;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use kairn_report::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The most bytes of a secret.
pub const LARGEST_SECRET: usize = 16 * 1024;
/// The longest key in bytes.
pub const LONGEST_SECRET_KEY: usize = 128;
/// The most shares of a part.
pub const SHARES: usize = 64;
/// The most parts: enough for the most members.
pub const PARTS: u16 = 80;
/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// For whom a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Audience {
    /// The nodes of the author's cluster to which this role was assigned, and its masters, which seal it anew for those that come later.
    Role(Role),
    /// One node.
    Node(NodeId),
    /// The administrators; no node can open it.
    Administrators,
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Node(node) => write!(f, "node:{node}"),
            Self::Administrators => f.write_str("administrators"),
        }
    }
}

/// What a secret's author says of it; everybody can read that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label {
    /// Who wrote it.
    pub author: NodeId,
    /// Its name.
    pub key: String,
    /// When, in milliseconds since the Unix epoch by the author's clock; higher in each version.
    pub created: u64,
    /// For how many seconds it holds; 0 is until it is deleted.
    pub lifetime: u32,
    /// For whom it is.
    pub audience: Audience,
    /// The author's cluster: whom a role makes a receiver is a member of that.
    pub cluster: ClusterName,
}

/// Names a secret without its version.
pub fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= LONGEST_SECRET_KEY && !key.contains(char::is_control)
}

impl Label {
    /// What signatures and seals are bound to.
    fn binding(&self, network: &NetworkId) -> Result<[u8; 32], Error> {
        let start = [b"kairn mesh 1 secret\0".as_slice(), network.as_bytes()].concat();
        let text = postcard::to_extend(self, start).map_err(|error| malformed(&error.to_string()))?;
        Ok(Sha256::digest(text).into())
    }

    /// The key of the entry that holds a part: author, number and key.
    pub fn entry_key(&self, number: u16) -> String {
        format!("{}/{number}/{}", self.author, self.key)
    }
}

/// A secret that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What its author says of it.
    pub label: Label,
    /// The secret itself.
    pub value: Secret<Vec<u8>>,
    signature: Signature,
}

impl Opened {
    /// A secret of one's own.
    ///
    /// # Errors
    /// Its key or the value is too long.
    pub fn new(network: &NetworkId, author: &Identity, label: Label, value: Vec<u8>) -> Result<Self, Error> {
        if !is_key(&label.key) || label.author != author.id() {
            return Err(malformed("its key is too long, or of another author"));
        }
        if value.len() > LARGEST_SECRET {
            return Err(Error::TooLarge { kind: "secret", length: value.len(), limit: LARGEST_SECRET });
        }
        let signature = author.sign(Purpose::Secret, &statement(&label.binding(network)?, &value));
        Ok(Self { label, value: Secret::new(value), signature })
    }

    /// Seals it to receivers, of which there are at most [`SHARES`]; names that are no keys are left out.
    ///
    /// # Errors
    /// There are too many.
    pub fn seal(&self, network: &NetworkId, sealer: &Identity, receivers: &[NodeId]) -> Result<Part, Error> {
        if receivers.len() > SHARES {
            return Err(malformed("too many receivers"));
        }
        let binding = self.label.binding(network)?;
        let (own, key) = draw(sealer, &binding, self.value.reveal(), receivers)?;
        let text = [self.signature.as_bytes(), self.value.reveal()].concat();
        let content = cipher(&key).encrypt(&XNonce::default(), Payload { msg: &text, aad: &binding });
        let share = |receiver: &NodeId| {
            let cipher = share_cipher(&own.shared(receiver)?, &binding, &sealer.id(), receiver)?;
            Some((receiver.tag(), cipher.encrypt(&XNonce::default(), key.as_slice()).ok()?))
        };
        Ok(Part {
            created: self.label.created,
            lifetime: self.label.lifetime,
            audience: self.label.audience,
            cluster: self.label.cluster.clone(),
            own: own.id(),
            shares: receivers.iter().filter_map(share).collect(),
            content: content.map_err(|_| malformed("it cannot be sealed"))?,
        })
    }
}

/// A part, as the value of an entry of the bucket of secrets says it, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    created: u64,
    lifetime: u32,
    audience: Audience,
    cluster: ClusterName,
    /// The part's own key: an Ed25519 key, used for X25519 only.
    own: NodeId,
    /// For receivers the beginning of their name, and their share.
    shares: Vec<([u8; 8], Vec<u8>)>,
    content: Vec<u8>,
}

impl Part {
    /// Reads an entry: what the secret's author says of it, which part this is, and the part.
    ///
    /// # Errors
    /// It does not parse, or is larger than a part may be.
    pub fn decode(key: &str, value: &[u8]) -> Result<(Label, u16, Self), Error> {
        let (part, rest): (Self, _) =
            postcard::take_from_bytes(value).map_err(|error| malformed(&error.to_string()))?;
        let mut words = key.splitn(3, '/');
        let author = words.next().and_then(|word| word.parse::<NodeId>().ok());
        let number = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|number| *number < PARTS);
        let (Some(author), Some(number), Some(name)) = (author, number, words.next()) else {
            return Err(malformed("it lies under a key that no part has"));
        };
        let Self { created, lifetime, audience, .. } = part;
        let cluster = part.cluster.clone();
        let label = Label { author, key: name.to_owned(), created, lifetime, audience, cluster };
        let fits = rest.is_empty()
            && part.shares.len() <= SHARES
            && part.shares.iter().all(|(_, share)| share.len() == 48)
            && part.content.len() <= LARGEST_SECRET + SIGNATURE + 16;
        if !fits || !is_key(name) || label.entry_key(number) != key {
            return Err(malformed("it is larger than a part, or lies under another key"));
        }
        Ok((label, number, part))
    }

    /// The part as a value.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|error| malformed(&error.to_string()))
    }

    /// How many it is sealed to.
    pub const fn receivers(&self) -> usize {
        self.shares.len()
    }

    /// Whether it has a share for a node.
    pub fn is_for(&self, node: &NodeId) -> bool {
        self.shares.iter().any(|(tag, _)| *tag == node.tag())
    }

    /// Opens it with a receiver's identity, and checks that its author wrote it.
    ///
    /// # Errors
    /// It has no share for the receiver, was altered, or is not signed by its author.
    pub fn open(
        &self,
        network: &NetworkId,
        receiver: &Identity,
        sealer: &NodeId,
        label: &Label,
    ) -> Result<Opened, Error> {
        let (binding, id) = (label.binding(network)?, receiver.id());
        let closed = || malformed("it does not open");
        let cipher_of_share = receiver
            .shared(&self.own)
            .and_then(|shared| share_cipher(&shared, &binding, sealer, &id))
            .ok_or_else(closed)?;
        let shares = self.shares.iter().filter(|(tag, _)| *tag == id.tag());
        let mut keys =
            shares.filter_map(|(_, share)| cipher_of_share.decrypt(&XNonce::default(), share.as_slice()).ok());
        let key: [u8; 32] = keys.find_map(|key| key.try_into().ok()).ok_or_else(closed)?;
        let payload = Payload { msg: &self.content, aad: &binding };
        let text = cipher(&key).decrypt(&XNonce::default(), payload).map_err(|_| closed())?;
        let (signature, value) = text.split_at_checked(SIGNATURE).ok_or_else(closed)?;
        let signature = Signature::new(signature.to_vec());
        label.author.verify(Purpose::Secret, &statement(&binding, value), &signature)?;
        Ok(Opened { label: label.clone(), value: Secret::new(value.to_vec()), signature })
    }
}

fn malformed(why: &str) -> Error {
    Error::Malformed("part of a secret", why.to_owned())
}

fn statement(binding: &[u8; 32], value: &[u8]) -> Vec<u8> {
    [binding.as_slice(), &Sha256::digest(value)].concat()
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&(*key).into())
}

fn share_cipher(
    shared: &[u8; 32],
    binding: &[u8; 32],
    sealer: &NodeId,
    receiver: &NodeId,
) -> Option<XChaCha20Poly1305> {
    let hkdf = Hkdf::<Sha256>::new(Some(b"kairn mesh 1 secret share"), shared);
    let mut key = [0; 32];
    hkdf.expand_multi_info(&[binding, sealer.as_bytes(), receiver.as_bytes()], &mut key).ok()?;
    Some(cipher(&key))
}

/// The keys of a part: its own, and that of its content.
fn draw(
    sealer: &Identity,
    binding: &[u8; 32],
    value: &[u8],
    receivers: &[NodeId],
) -> Result<(Identity, [u8; 32]), Error> {
    let hkdf = Hkdf::<Sha256>::new(Some(b"kairn mesh 1 secret draw"), &sealer.seed());
    let names: Vec<u8> = receivers.iter().flat_map(|receiver| *receiver.as_bytes()).collect();
    let text = [binding.as_slice(), &Sha256::digest(value), &Sha256::digest(names)].concat();
    let (mut seed, mut key) = ([0; 32], [0; 32]);
    let drawn = hkdf.expand_multi_info(&[&text, b"own"], &mut seed);
    drawn.and_then(|()| hkdf.expand_multi_info(&[&text, b"content"], &mut key)).map_err(|_| malformed("no key"))?;
    Ok((Identity::from_seed(&seed), key))
}

/// How receivers that lack a share are put into parts: the number of each part to be written, and for whom it is then.
pub fn place(own: &[(u16, Vec<NodeId>)], missing: &[NodeId]) -> Vec<(u16, Vec<NodeId>)> {
    let mut missing = missing.iter().copied();
    let mut placed = Vec::new();
    let taken: Vec<u16> = own.iter().map(|(number, _)| *number).collect();
    let free = (0..PARTS).filter(|number| !taken.contains(number)).map(|number| (number, Vec::new()));
    for (number, mut receivers) in own.iter().cloned().chain(free) {
        let more: Vec<NodeId> = missing.by_ref().take(SHARES.saturating_sub(receivers.len())).collect();
        if more.is_empty() && missing.len() == 0 {
            break;
        }
        if !more.is_empty() {
            receivers.extend(more);
            placed.push((number, receivers));
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;

    fn network() -> NetworkId {
        Token::new([1; 32], None).network().id
    }

    fn identity(seed: u8) -> Identity {
        Identity::from_seed(&[seed; 32])
    }

    fn opened(value: &[u8]) -> Opened {
        let (author, audience) = (identity(1), Audience::Role(Role::Worker));
        let (key, cluster) = ("join/k3s".to_owned(), ClusterName::default());
        let label = Label { author: author.id(), key, created: 7, lifetime: 60, audience, cluster };
        Opened::new(&network(), &author, label, value.to_vec()).unwrap()
    }

    #[test]
    fn each_receiver_opens_its_share_and_nobody_else_and_the_author_is_known() {
        let secret = opened(b"K10token");
        let receivers: Vec<NodeId> = (2..5).map(|seed| identity(seed).id()).collect();
        let part = secret.seal(&network(), &identity(1), &receivers).unwrap();
        let (label, number, read) = Part::decode(&secret.label.entry_key(3), &part.encode().unwrap()).unwrap();
        assert_eq!((&label, number, &read, read.receivers()), (&secret.label, 3, &part, 3));
        for seed in 2..5 {
            assert!(read.is_for(&identity(seed).id()));
            assert_eq!(read.open(&network(), &identity(seed), &identity(1).id(), &label), Ok(secret.clone()));
        }
        for seed in [1, 9] {
            assert!(read.open(&network(), &identity(seed), &identity(1).id(), &label).is_err());
        }
        let encoded = read.encode().unwrap();
        assert!(!encoded.windows(8).any(|bytes| bytes == b"K10token"));
        assert!(!format!("{secret:?}").contains("K10"));
    }

    #[test]
    fn a_share_is_bound_to_key_author_audience_cluster_time_and_sealer() {
        let (secret, receiver) = (opened(b"x"), identity(2));
        let part = secret.seal(&network(), &identity(1), &[receiver.id()]).unwrap();
        let sealer = identity(1).id();
        let label = &secret.label;
        for other in [
            Label { key: "join/k0s".to_owned(), ..label.clone() },
            Label { author: identity(3).id(), ..label.clone() },
            Label { created: 8, ..label.clone() },
            Label { lifetime: 61, ..label.clone() },
            Label { audience: Audience::Role(Role::Master), ..label.clone() },
            Label { cluster: "edge".parse().unwrap(), ..label.clone() },
        ] {
            assert!(part.open(&network(), &receiver, &sealer, &other).is_err(), "{other:?}");
        }
        assert!(part.open(&network(), &receiver, &identity(3).id(), label).is_err());
        assert!(part.open(&Token::new([2; 32], None).network().id, &receiver, &sealer, label).is_err());
        let mut altered = part.clone();
        altered.content[70] ^= 1;
        assert!(altered.open(&network(), &receiver, &sealer, label).is_err());
    }

    #[test]
    fn who_seals_it_anew_can_neither_alter_it_nor_claim_it() {
        let (secret, other, newcomer) = (opened(b"x"), identity(2), identity(3));
        let anew = secret.seal(&network(), &other, &[newcomer.id()]).unwrap();
        assert_eq!(anew.open(&network(), &newcomer, &other.id(), &secret.label), Ok(secret.clone()));
        let forged = Opened { value: Secret::new(b"y".to_vec()), ..secret.clone() };
        let forged = forged.seal(&network(), &other, &[newcomer.id()]).unwrap();
        let refused = forged.open(&network(), &newcomer, &other.id(), &secret.label).unwrap_err();
        assert!(matches!(refused, Error::Signature { purpose: Purpose::Secret, .. }), "{refused}");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let label = Label { key: "x".repeat(129), ..opened(b"x").label };
        assert!(Opened::new(&network(), &identity(1), label.clone(), vec![]).is_err());
        let label = Label { key: "x".to_owned(), ..label };
        assert!(Opened::new(&network(), &identity(1), label, vec![0; LARGEST_SECRET + 1]).is_err());
        let large = opened(&vec![7; LARGEST_SECRET]);
        let receivers: Vec<NodeId> = (0..64).map(|seed| identity(seed).id()).collect();
        let part = large.seal(&network(), &identity(1), &receivers).unwrap();
        assert!(part.encode().unwrap().len() <= crate::entry::LARGEST_VALUE);
        assert!(large.seal(&network(), &identity(1), &[receivers.clone(), receivers].concat()).is_err());
    }

    proptest! {
        #[test]
        fn everybody_who_lacks_a_share_is_placed_once_and_no_part_overflows(
            sizes in proptest::collection::vec(0_usize..=SHARES, 0..4), count in 0_usize..200,
        ) {
            let name = |number: usize| { let mut bytes = [0; 32]; bytes[..8].copy_from_slice(&number.to_be_bytes()); NodeId::new(bytes) };
            let own: Vec<(u16, Vec<NodeId>)> =
                sizes.iter().zip(0..).map(|(size, number)| (number, (0..*size).map(|at| name(1_000 * (1 + usize::from(number)) + at)).collect())).collect();
            let missing: Vec<NodeId> = (0..count).map(name).collect();
            let placed = place(&own, &missing);
            let mut found: Vec<NodeId> = placed.iter().flat_map(|(_, receivers)| receivers).filter(|node| missing.contains(node)).copied().collect();
            found.sort();
            prop_assert_eq!(found, missing);
            for (number, receivers) in &placed {
                prop_assert!(receivers.len() <= SHARES);
                let before = own.iter().find(|(own, _)| own == number);
                prop_assert!(before.is_none_or(|(_, before)| receivers.starts_with(before)));
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(key in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let own = identity(1).id().to_string();
            for key in [key.clone(), format!("{own}/0/{key}")] {
                if let Ok((label, _, part)) = Part::decode(&key, &bytes) {
                    prop_assert!(part.open(&network(), &identity(1), &identity(2).id(), &label).is_err());
                }
            }
        }
    }
}
