//! The network token: all that machines need to have in common.
//!
//! A new one is bech32m (BIP 350) with the human-readable part `kairn`, then one character of version (`q`, 0), then 32 random
//! bytes, and where the network has an administrator the 32 bytes of their Ed25519 public key: 65 or 116 characters. It is read
//! in small or capital letters (a QR code of capitals is smaller). White space is dropped before anything else, as people paste it.

use crate::error::TokenFault;
use crate::keys::{EpochKeys, Material, NetworkKeys};
use crate::{NodeId, legacy};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32m, Fe32, Hrp};
use ed25519_dalek::VerifyingKey;
use std::fmt;
use std::str::FromStr;

/// The human-readable part with its separator.
const PREFIX: &str = "kairn1";
/// The alphabet of bech32's data part (BIP 173).
const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Characters of a token without and with an administrator's key.
const LENGTHS: [usize; 2] = [65, 116];

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
    Old { decoded: Vec<u8>, text: String },
}

impl Token {
    /// A new token of 32 random bytes, with the key of its administrator.
    pub const fn new(secret: [u8; 32], admin: Option<AdminKey>) -> Self {
        Self(Form::New { secret, admin })
    }

    /// Its text, for a person or a file that only they read.
    pub fn reveal(&self) -> String {
        match &self.0 {
            Form::Old { text, .. } => text.clone(),
            Form::New { secret, admin } => {
                let payload = secret.iter().chain(admin.iter().flat_map(|admin| admin.id().as_bytes())).copied();
                let hrp = Hrp::parse_unchecked("kairn");
                let data = payload.bytes_to_fes().with_checksum::<Bech32m>(&hrp);
                data.with_witness_version(Fe32::Q).chars().collect()
            }
        }
    }

    /// The administrator's key that it carries.
    pub const fn admin(&self) -> Option<&AdminKey> {
        match &self.0 {
            Form::New { admin, .. } => admin.as_ref(),
            Form::Old { .. } => None,
        }
    }

    /// What belongs to its network for ever.
    pub fn network(&self) -> NetworkKeys {
        self.material().network()
    }

    /// The keys of the network's first epoch.
    pub fn epoch(&self) -> EpochKeys {
        self.material().epoch(0)
    }

    fn material(&self) -> Material {
        match &self.0 {
            Form::New { secret, .. } => Material::new("kairn mesh 1", secret),
            Form::Old { decoded, .. } => Material::new("kairn mesh 1 old token", decoded),
        }
    }
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
        if text.get(..PREFIX.len()).is_none_or(|start| !start.eq_ignore_ascii_case(PREFIX)) {
            return legacy::decode(&text).map(|decoded| Self(Form::Old { decoded, text }));
        }
        let (has_small, has_capital) =
            (text.contains(|c: char| c.is_ascii_lowercase()), text.contains(|c: char| c.is_ascii_uppercase()));
        if has_small && has_capital {
            return Err(TokenFault::Case);
        }
        read(&text.to_ascii_lowercase())
    }
}

/// Reads a new token in small letters that begins with the prefix.
fn read(text: &str) -> Result<Token, TokenFault> {
    let foreign = |(at, character): &(usize, char)| *at >= PREFIX.len() && !ALPHABET.contains(*character);
    if let Some((at, character)) = text.chars().enumerate().find(foreign) {
        return Err(TokenFault::Character { position: at + 1, character });
    }
    let Ok(checked) = CheckedHrpstring::new::<Bech32m>(text) else { return Err(mistake(text)) };
    let mut characters = checked.fe32_iter();
    let version = characters.next().map_or(0, Fe32::to_u8);
    if version != 0 {
        return Err(TokenFault::Version(version));
    }
    let bytes: Vec<u8> = characters.fes_to_bytes().collect();
    let (secret, admin) = match bytes.split_first_chunk::<32>() {
        Some((secret, [])) => (*secret, None),
        Some((secret, rest)) if rest.len() == 32 => {
            let key = rest.try_into().map_err(|_| TokenFault::AdminKey)?;
            (*secret, Some(AdminKey::new(key)?))
        }
        _ => return Err(TokenFault::Length { characters: text.len() }),
    };
    let token = Token::new(secret, admin);
    // The bits that fill the last character are zero in a token of ours; another text for the same secret is not accepted.
    if token.reveal() == text { Ok(token) } else { Err(TokenFault::Checksum) }
}

/// Where a token whose checksum fails is mistyped: a code word of this length has at most one neighbour that differs in one
/// character, so the only single character that mends it is the wrong one.
fn mistake(text: &str) -> TokenFault {
    let mends = |at: usize| {
        ALPHABET.chars().any(|other| {
            let mut mended = text.to_owned();
            mended.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
            CheckedHrpstring::new::<Bech32m>(&mended).is_ok()
        })
    };
    if !LENGTHS.contains(&text.len()) {
        return TokenFault::Length { characters: text.len() };
    }
    let mut wrong = text.chars().enumerate().skip(PREFIX.len()).filter(|(at, _)| mends(*at));
    match (wrong.next(), wrong.next()) {
        (Some((at, character)), None) => TokenFault::Mistyped { position: at + 1, character },
        _ => TokenFault::Checksum,
    }
}

#[cfg(test)]
mod tests;
