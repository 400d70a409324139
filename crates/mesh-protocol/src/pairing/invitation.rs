//! The text in the QR code.
//!
//! bech32m with the human-readable part `kairnpair`, one character of version (`q`, 0), then: 16 bytes of the one-time secret, 32 bytes of
//! the machine's Ed25519 key, 2 bytes of its UDP port, and at most four addresses, each one byte of family (4 or 6) and 4 or 16 bytes. All
//! numbers are big-endian. In capitals it is of the alphabet that QR codes pack tightest.

use super::Keys;
use crate::identity::NodeId;
use crate::typed::{self, Kind};
use bech32::Fe32;
use ed25519_dalek::VerifyingKey;
use kairn_report::{Diagnostic, Kind as ReportKind, Secret};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use thiserror::Error;

/// The most addresses in a QR code: each makes it larger, and others are found by multicast.
pub const MOST_ADDRESSES: usize = 4;
/// Secret, key and port.
const FIXED: usize = 16 + 32 + 2;
/// How it is written.
const KIND: Kind = Kind { prefix: "kairnpair1", is_length };

/// Prefix, version and checksum, and of the payload a character for each five bits.
fn is_length(characters: usize) -> bool {
    let of = |bytes: usize| KIND.prefix.len() + 1 + (bytes * 8).div_ceil(5) + 6;
    (0..=MOST_ADDRESSES).any(|v4| (0..=MOST_ADDRESSES - v4).any(|v6| of(FIXED + 5 * v4 + 17 * v6) == characters))
}

/// What a machine shows to whoever may hand it a configuration. The secret in it prints as `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The one-time secret.
    pub secret: Secret<[u8; 16]>,
    /// The machine's key, for as long as it shows this.
    pub machine: NodeId,
    /// Its UDP port.
    pub port: u16,
    /// Where it is reached, at most [`MOST_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
}

/// Why a text is no invitation. No variant carries any of the text but one character.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvitationFault {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Something else.
    #[error("is not the text of a machine that waits to be paired (`kairnpair1…`)")]
    Foreign,
    /// The token of a network.
    #[error("is the token of a network, not the text of a machine that waits to be paired")]
    Token,
    /// A character that none has.
    #[error("has `{character}` at character {position}, which none has")]
    Character {
        /// Counted from 1, without white space.
        position: usize,
        /// What stands there.
        character: char,
    },
    /// Small and capital letters together.
    #[error("has small and capital letters; it is written in one of them")]
    Case,
    /// A checksum that one other character would mend.
    #[error("is mistyped at character {position}, `{character}`: its checksum fails there and only there")]
    Mistyped {
        /// Counted from 1, without white space.
        position: usize,
        /// What stands there.
        character: char,
    },
    /// A checksum that no single character mends.
    #[error("is mistyped or cut off: its checksum fails")]
    Checksum,
    /// A length that none has.
    #[error("has {characters} characters, which none has: it is cut off, or more than one")]
    Length {
        /// What was given.
        characters: usize,
    },
    /// One of a later release.
    #[error("is of version {0}, which this release does not know")]
    Version(u8),
    /// What it holds cannot be.
    #[error("holds {0}")]
    Content(&'static str),
}

impl Diagnostic for InvitationFault {
    fn kind(&self) -> ReportKind {
        ReportKind::User
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Version(_) => vec!["use the `kairn` of the machine's release".to_owned()],
            Self::Token => vec!["put the token into the configuration, as `p2p.network_token`".to_owned()],
            _ => vec!["give a picture of the machine's QR code, or the whole text that stands beside it".to_owned()],
        }
    }
}

impl Invitation {
    /// What is shown; addresses beyond the most are left out.
    pub fn new(secret: [u8; 16], machine: NodeId, port: u16, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = addresses.into_iter().take(MOST_ADDRESSES).collect();
        Self { secret: Secret::new(secret), machine, port, addresses }
    }

    /// What follows from its secret.
    pub fn keys(&self) -> Keys {
        Keys::of(self.secret.reveal())
    }

    /// Where the machine is reached.
    pub fn places(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|address| SocketAddr::new(*address, self.port)).collect()
    }

    /// Its text, for whoever is before the machine's screen.
    pub fn reveal(&self) -> String {
        let mut payload = [self.secret.reveal().as_slice(), self.machine.as_bytes(), &self.port.to_be_bytes()].concat();
        for address in self.addresses.iter().take(MOST_ADDRESSES) {
            match address {
                IpAddr::V4(v4) => payload.extend([[4].as_slice(), &v4.octets()].concat()),
                IpAddr::V6(v6) => payload.extend([[6].as_slice(), &v6.octets()].concat()),
            }
        }
        KIND.write(Fe32::Q, &[&payload])
    }

    /// Whether a text is meant to be one, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        KIND.is_meant(text.trim_start())
    }
}

impl FromStr for Invitation {
    type Err = InvitationFault;

    fn from_str(text: &str) -> Result<Self, InvitationFault> {
        let text: String = text.split_whitespace().collect();
        if text.is_empty() {
            return Err(InvitationFault::Empty);
        }
        if !KIND.is_meant(&text) {
            let is_token = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("kairn1"));
            return Err(if is_token { InvitationFault::Token } else { InvitationFault::Foreign });
        }
        let length = InvitationFault::Length { characters: text.len() };
        let (version, bytes, written) = KIND.read(&text).map_err(|fault| match fault {
            typed::Fault::Character(position, character) => InvitationFault::Character { position, character },
            typed::Fault::Case => InvitationFault::Case,
            typed::Fault::Mistyped(position, character) => InvitationFault::Mistyped { position, character },
            typed::Fault::Checksum => InvitationFault::Checksum,
            typed::Fault::Length => length.clone(),
        })?;
        if version != 0 {
            return Err(InvitationFault::Version(version));
        }
        let invitation = read(&bytes).ok_or(length)??;
        // The bits that fill the last character are zero; another text for the same is not accepted.
        if invitation.reveal() == written { Ok(invitation) } else { Err(InvitationFault::Checksum) }
    }
}

/// Reads the payload; nothing where it has another length.
fn read(bytes: &[u8]) -> Option<Result<Invitation, InvitationFault>> {
    let (secret, rest) = bytes.split_first_chunk::<16>()?;
    let (machine, rest) = rest.split_first_chunk::<32>()?;
    let (port, mut rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    if port == 0 {
        return Some(Err(InvitationFault::Content("port 0")));
    }
    if VerifyingKey::from_bytes(machine).map_or(true, |key| key.is_weak()) {
        return Some(Err(InvitationFault::Content("a key that is no Ed25519 key")));
    }
    let mut addresses = Vec::new();
    while let Some((family, after)) = rest.split_first() {
        let (address, after) = match family {
            4 => {
                let (octets, after) = after.split_first_chunk::<4>()?;
                (IpAddr::from(Ipv4Addr::from(*octets)), after)
            }
            6 => {
                let (octets, after) = after.split_first_chunk::<16>()?;
                (IpAddr::from(Ipv6Addr::from(*octets)), after)
            }
            _ => return Some(Err(InvitationFault::Content("an address of a family that there is not"))),
        };
        if address.is_unspecified() || address.is_multicast() {
            return Some(Err(InvitationFault::Content("an address that no machine has")));
        }
        addresses.push(address);
        rest = after;
    }
    if addresses.len() > MOST_ADDRESSES {
        return None;
    }
    Some(Ok(Invitation { secret: Secret::new(*secret), machine: NodeId::new(*machine), port, addresses }))
}
