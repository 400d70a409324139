//! The network token: all that machines need to have in common.
//!
//! A new one is bech32m (BIP 350) with the human-readable part `kairn`, then one character of version (`q`, 0), then 32 random
//! bytes, and where the network has an administrator the 32 bytes of their Ed25519 public key: 65 or 116 characters. One of a
//! rotated secret (version `p`, 1) has between the secret and the administrator's key 4 bytes of epoch, big-endian, and 46 bytes of
//! what belongs to the network for ever: 145 or 196 characters. It is read in small or capital letters (a QR code of capitals is
//! smaller). White space is dropped before anything else, as people paste it.

use crate::error::TokenFault;
use crate::keys::{EpochKeys, Material, NetworkKeys};
use crate::typed::{Fault, Kind};
use crate::{NodeId, legacy};
use bech32::Fe32;
use ed25519_dalek::VerifyingKey;
use kairn_report::Secret;
use std::fmt;
use std::str::FromStr;

/// How a new one is written: without and with an administrator's key, first and rotated.
const KIND: Kind = Kind { prefix: "kairn1", is_length: |length| matches!(length, 65 | 116 | 145 | 196) };

/// The public key of whoever may rotate the secret and put nodes out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdminKey(NodeId);

impl AdminKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// They are not a point of the curve, or one of the few that anybody can sign for.
    pub fn new(bytes: [u8; 32]) -> Result<Self, TokenFault> {
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(NodeId::new(bytes))),
            _ => Err(TokenFault::AdminKey),
        }
    }

    /// The key as one that statements are checked with.
    pub const fn id(&self) -> &NodeId {
        &self.0
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A network token. It prints as `***`; its text is handed out on request only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    New { secret: [u8; 32], admin: Option<AdminKey> },
    Rotated { secret: [u8; 32], epoch: u32, network: NetworkKeys, admin: Option<AdminKey> },
    Old { decoded: Vec<u8>, text: String },
}

impl Token {
    /// A new token of 32 random bytes, with the key of its administrator.
    pub const fn new(secret: [u8; 32], admin: Option<AdminKey>) -> Self {
        Self(Form::New { secret, admin })
    }

    /// The token of a rotated secret, for machines that are new to the network.
    pub const fn rotated(network: NetworkKeys, epoch: u32, secret: [u8; 32], admin: Option<AdminKey>) -> Self {
        Self(Form::Rotated { secret, epoch, network, admin })
    }

    /// Its text, for a person or a file that only they read.
    pub fn reveal(&self) -> String {
        match &self.0 {
            Form::Old { text, .. } => text.clone(),
            Form::New { secret, admin } => KIND.write(Fe32::Q, &[secret, admin_bytes(admin)]),
            Form::Rotated { secret, epoch, network, admin } => {
                KIND.write(Fe32::P, &[secret, &epoch.to_be_bytes(), &network.to_bytes(), admin_bytes(admin)])
            }
        }
    }

    /// The administrator's key that it carries.
    pub const fn admin(&self) -> Option<&AdminKey> {
        match &self.0 {
            Form::New { admin, .. } | Form::Rotated { admin, .. } => admin.as_ref(),
            Form::Old { .. } => None,
        }
    }

    /// What belongs to its network for ever.
    pub fn network(&self) -> NetworkKeys {
        match &self.0 {
            Form::New { secret, .. } => first(secret).network(),
            Form::Old { decoded, .. } => old(decoded).network(),
            Form::Rotated { network, .. } => network.clone(),
        }
    }

    /// The keys of its epoch: the network's first, or that of the rotation that it came from.
    pub fn epoch(&self) -> EpochKeys {
        match &self.0 {
            Form::New { secret, .. } => first(secret).epoch(0),
            Form::Old { decoded, .. } => old(decoded).epoch(0),
            Form::Rotated { secret, epoch, .. } => EpochKeys::rotated(*epoch, secret),
        }
    }

    /// The secret of a rotation, which later orders build on.
    pub const fn secret(&self) -> Option<Secret<[u8; 32]>> {
        match &self.0 {
            Form::Rotated { secret, .. } => Some(Secret::new(*secret)),
            Form::New { .. } | Form::Old { .. } => None,
        }
    }
}

fn first(secret: &[u8; 32]) -> Material {
    Material::new("kairn mesh 1", secret)
}

fn old(decoded: &[u8]) -> Material {
    Material::new("kairn mesh 1 old token", decoded)
}

fn admin_bytes(admin: &Option<AdminKey>) -> &[u8] {
    admin.as_ref().map_or(&[], |admin| admin.id().as_bytes())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Token {
    type Err = TokenFault;

    fn from_str(text: &str) -> Result<Self, TokenFault> {
        let text: String = text.split_whitespace().collect();
        if text.is_empty() {
            return Err(TokenFault::Empty);
        }
        if !KIND.is_meant(&text) {
            return legacy::decode(&text).map(|decoded| Self(Form::Old { decoded, text }));
        }
        read(&text)
    }
}

/// Reads a new token.
fn read(text: &str) -> Result<Token, TokenFault> {
    let wrong_length = || TokenFault::Length { characters: text.len() };
    let (version, bytes, text) = KIND.read(text).map_err(|fault| match fault {
        Fault::Character(position, character) => TokenFault::Character { position, character },
        Fault::Case => TokenFault::Case,
        Fault::Mistyped(position, character) => TokenFault::Mistyped { position, character },
        Fault::Checksum => TokenFault::Checksum,
        Fault::Length => wrong_length(),
    })?;
    let (secret, rest) = bytes.split_first_chunk::<32>().ok_or_else(wrong_length)?;
    let token = match version {
        0 => Token::new(*secret, admin(rest).ok_or_else(wrong_length)??),
        1 => {
            let (epoch, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong_length)?;
            let (network, rest) = rest.split_first_chunk::<46>().ok_or_else(wrong_length)?;
            let admin = admin(rest).ok_or_else(wrong_length)??;
            Token::rotated(NetworkKeys::from_bytes(network), u32::from_be_bytes(*epoch), *secret, admin)
        }
        version => return Err(TokenFault::Version(version)),
    };
    // The bits that fill the last character are zero in a token of ours; another text for the same secret is not accepted.
    if token.reveal() == text { Ok(token) } else { Err(TokenFault::Checksum) }
}

/// The administrator's key at the end of a token, if any; nothing where the rest has another length.
fn admin(rest: &[u8]) -> Option<Result<Option<AdminKey>, TokenFault>> {
    match rest {
        [] => Some(Ok(None)),
        key => Some(AdminKey::new(key.try_into().ok()?).map(Some)),
    }
}

#[cfg(test)]
mod tests;
