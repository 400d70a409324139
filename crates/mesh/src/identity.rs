//! Who a node is, and how that is kept: as files that only the owner reads, or sealed by the machine's TPM.
//!
//! Sealed are both keys in one file, `identity.sealed` ([`kairn_tpm::Sealed`], about the node's name of 32 bytes): a byte 1, the seed of the
//! identity, the WireGuard key. Without it they are `identity` and `wireguard`, 64 hexadecimal digits each.
//!
//! Invariants: a file with keys is removed only after the TPM gave out the very keys from a sealed file that was read back from the disk;
//! while both are there, a sealed file that cannot be opened counts for nothing. And a sealed identity is replaced by another only after
//! the TPM itself disowned it: one that is not there, or busy, is an error, which a later start may not have.

use crate::error::Error;
use crate::state::{self, StateDir};
use kairn_host::files;
use kairn_mesh_protocol::{Identity, NodeId, TunnelKey};
use kairn_report::{Secret, in_one_line};
use kairn_tpm::{Channel, DEVICE, Error as TpmError, Sealed, Tpm};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file with the seed of the identity.
pub(crate) const PLAIN: &str = "identity";
/// The file with the key of the WireGuard interface.
pub(crate) const TUNNEL: &str = "wireguard";
/// The file with both, sealed.
pub(crate) const SEALED: &str = "identity.sealed";
/// A sealed file that this machine's TPM disowned.
const LOST: &str = "identity.sealed.lost";
/// The ending of a file with a key that is not the sealed one.
const ASIDE: &str = "aside";
/// The layout of what is sealed.
const LAYOUT: u8 = 1;

/// How the identity is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// It is to be sealed.
    pub wanted: bool,
    /// The TPM.
    pub tpm: PathBuf,
}

impl Default for Sealing {
    fn default() -> Self {
        Self { wanted: false, tpm: DEVICE.into() }
    }
}

/// How the identity is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// Whether it is sealed by the machine's TPM; else it is in a file.
    pub sealed: bool,
    /// Whether it is to be sealed.
    pub wanted: bool,
    /// Why it is not, where it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The name of the node that this machine was before, and whose identity its TPM does not give out any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// The keys of a node.
pub(crate) struct Keys {
    pub identity: Identity,
    pub wireguard: TunnelKey,
    pub status: IdentityStatus,
}

/// What is sealed.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    seed: [u8; 32],
    wireguard: [u8; 32],
}

impl Pair {
    fn id(&self) -> NodeId {
        Identity::from_seed(&self.seed).id()
    }

    fn encode(&self) -> Secret<Vec<u8>> {
        Secret::new([&[LAYOUT][..], &self.seed, &self.wireguard].concat())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, keys) = bytes.split_first()?;
        let (seed, wireguard) = keys.split_first_chunk()?;
        (*head == LAYOUT).then_some(Self { seed: *seed, wireguard: wireguard.try_into().ok()? })
    }
}

/// Why a sealed file gives nothing.
enum Closed {
    /// The TPM says so.
    Tpm(TpmError),
    /// What it holds is wrong.
    Damaged(String),
}

impl Closed {
    /// Whether every other start finds it as it is now.
    const fn is_lasting(&self) -> bool {
        matches!(self, Self::Tpm(TpmError::Foreign) | Self::Damaged(_))
    }

    fn words(&self) -> String {
        match self {
            Self::Tpm(error) => in_one_line(error),
            Self::Damaged(why) => why.clone(),
        }
    }
}

impl StateDir {
    /// Who this node is: drawn at its first run, the same ever after, and kept as is wanted. With `is_listed` others let in only nodes
    /// that they have a list of, and a new identity is of no use.
    ///
    /// # Errors
    /// The files cannot be read or written, hold no key, or the TPM does not give out what it sealed.
    pub(crate) fn keys(&self, sealing: &Sealing, is_listed: bool) -> Result<Keys, Error> {
        let sealed = files::read_regular(&self.path().join(SEALED), Sealed::LARGEST)?;
        let plain = self.key(PLAIN)?;
        let mut keys = match (sealed, plain) {
            (None, plain) => self.keep(plain, sealing),
            (Some(sealed), None) => self.unseal(&sealed, sealing, is_listed),
            (Some(sealed), Some(plain)) => self.choose(&sealed, plain, sealing),
        }?;
        keys.status.lost = self.lost();
        if let Some(lost) = &keys.status.lost {
            let file = self.path().join(LOST);
            tracing::warn!(before = lost, now = %keys.identity.id(), file = %file.display(), "this machine was another node before: its TPM does not give out that identity");
        }
        if !sealing.wanted && keys.status.sealed {
            tracing::info!("the identity stays sealed by the TPM, though that is not asked for any more");
        }
        Ok(keys)
    }

    /// Keeps an identity that is not sealed yet, or draws one.
    fn keep(&self, plain: Option<[u8; 32]>, sealing: &Sealing) -> Result<Keys, Error> {
        let pair = Pair {
            seed: plain.map_or_else(|| self.draw(PLAIN), Ok)?,
            wireguard: self.key(TUNNEL)?.map_or_else(|| self.draw(TUNNEL), Ok)?,
        };
        if plain.is_none() {
            // An identity that is kept without its ballots would not vote.
            self.begin_ballots(pair.id())?;
        }
        let mut why = None;
        if sealing.wanted {
            match self.seal(&pair, &sealing.tpm)? {
                Ok(()) => {
                    self.clear(&pair)?;
                    return Ok(pair.into_keys(IdentityStatus { sealed: true, wanted: true, ..Default::default() }));
                }
                Err(closed) => why = Some(closed.words()),
            }
        }
        if let Some(why) = &why {
            tracing::warn!(
                why,
                "the identity is to be sealed by the TPM, and is kept in a file: whoever copies the disk is this node"
            );
        }
        // The identity last: without it the other is nobody's.
        for (name, key) in [(TUNNEL, &pair.wireguard), (PLAIN, &pair.seed)] {
            if self.key(name)?.is_none() {
                files::write_whole(&self.path().join(name), format!("{}\n", hex::encode(key)).as_bytes(), 0o600)?;
            }
        }
        Ok(pair.into_keys(IdentityStatus { wanted: sealing.wanted, why, ..Default::default() }))
    }

    /// Opens an identity of which there is nothing but the sealed file.
    fn unseal(&self, bytes: &[u8], sealing: &Sealing, is_listed: bool) -> Result<Keys, Error> {
        let path = self.path().join(SEALED);
        match open(bytes, &sealing.tpm) {
            Ok(pair) => {
                self.clear(&pair)?;
                let status = IdentityStatus { sealed: true, wanted: sealing.wanted, ..Default::default() };
                Ok(pair.into_keys(status))
            }
            Err(Closed::Tpm(TpmError::Foreign)) if !is_listed => {
                tracing::error!(file = %path.display(), "the TPM does not give out this node's identity, since it is another one or was cleared: the machine joins as a new node");
                let lost = self.path().join(LOST);
                if lost.exists() {
                    files::remove_file(&lost)?;
                }
                // A key of WireGuard that an unfinished sealing left is the lost node's: two nodes with one key are in each other's way.
                files::remove_file(&self.path().join(TUNNEL))?;
                files::rename_new(&path, &lost)?;
                self.keep(None, sealing)
            }
            Err(Closed::Tpm(source)) => Err(Error::Unsealed { path, source }),
            Err(Closed::Damaged(why)) => Err(Error::Damaged { path, why }),
        }
    }

    /// Finishes a sealing that was cut short, if it was one.
    fn choose(&self, bytes: &[u8], plain: [u8; 32], sealing: &Sealing) -> Result<Keys, Error> {
        match open(bytes, &sealing.tpm) {
            Ok(pair) => {
                self.clear(&pair)?;
                let status = IdentityStatus { sealed: true, wanted: sealing.wanted, ..Default::default() };
                Ok(pair.into_keys(status))
            }
            // The keys are removed last, so they are whole.
            Err(closed) if closed.is_lasting() && sealing.wanted => self.keep(Some(plain), sealing),
            Err(closed) => {
                let why = closed.words();
                let file = self.path().join(SEALED);
                tracing::warn!(why, file = %file.display(), "the sealed identity cannot be opened: the one beside it, which is not sealed, is used");
                let mut keys = self.keep(Some(plain), &Sealing { wanted: false, ..sealing.clone() })?;
                keys.status = IdentityStatus { wanted: sealing.wanted, why: Some(why), ..Default::default() };
                Ok(keys)
            }
        }
    }

    /// Seals both keys, and has them unsealed again from what is on the disk.
    fn seal(&self, pair: &Pair, tpm: &Path) -> Result<Result<(), Closed>, Error> {
        let path = self.path().join(SEALED);
        let sealed =
            Channel::open(tpm).and_then(|channel| Tpm::new(channel).seal(&pair.encode(), pair.id().as_bytes()));
        let bytes = match sealed {
            Ok(sealed) => sealed.encode(),
            Err(error) => return Ok(Err(Closed::Tpm(error))),
        };
        // Once before it is written: of a new identity nothing else is there.
        if let Err(closed) = opens_to(&bytes, tpm, pair) {
            return Ok(Err(closed));
        }
        files::write_whole(&path, &bytes, 0o600)?;
        let kept = files::read_regular(&path, Sealed::LARGEST)?.unwrap_or_default();
        Ok(opens_to(&kept, tpm, pair))
    }

    /// Removes keys from files once they are sealed. One that is not the sealed one is put aside.
    fn clear(&self, pair: &Pair) -> Result<(), Error> {
        // The identity first: without it the other counts for nothing.
        for (name, key) in [(PLAIN, &pair.seed), (TUNNEL, &pair.wireguard)] {
            let path = self.path().join(name);
            let Some(text) = files::read_text_if_any(&path)? else { continue };
            if decode(&text).as_ref() == Some(key) {
                files::remove_file(&path)?;
                continue;
            }
            let aside = path.with_extension(ASIDE);
            tracing::warn!(file = %aside.display(), "a key that is not the sealed one is put aside and not used: an older system drew it, or a copy brought it");
            if aside.exists() {
                files::remove_file(&aside)?;
            }
            files::rename_new(&path, &aside)?;
        }
        Ok(())
    }

    /// The node whose identity this machine lost, as far as its file says.
    fn lost(&self) -> Option<String> {
        let path = self.path().join(LOST);
        let bytes = match files::read_regular(&path, Sealed::LARGEST) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "what the TPM disowned cannot be looked at");
                return None;
            }
        };
        match Sealed::decode(&bytes) {
            Ok(sealed) => Some(name_of(&sealed).map_or_else(|| "unknown".to_owned(), |id| id.to_string())),
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "what the TPM disowned cannot be read");
                Some("unknown".to_owned())
            }
        }
    }

    /// A key that is kept in a file.
    fn key(&self, name: &str) -> Result<Option<[u8; 32]>, Error> {
        let path = self.path().join(name);
        let Some(text) = files::read_text_if_any(&path)? else { return Ok(None) };
        let damaged = || Error::Damaged { path, why: "it does not hold a key of 64 hexadecimal digits".to_owned() };
        decode(&text).ok_or_else(damaged).map(Some)
    }

    fn draw(&self, name: &str) -> Result<[u8; 32], Error> {
        state::random().map_err(|source| Error::State { path: self.path().join(name), doing: "drawing a key", source })
    }

    /// Who this node is, without a TPM.
    #[cfg(test)]
    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        self.keys(&Sealing::default(), false).map(|keys| keys.identity)
    }

    /// The key of its WireGuard interface, without a TPM.
    #[cfg(test)]
    pub(crate) fn wireguard(&self) -> Result<TunnelKey, Error> {
        self.keys(&Sealing::default(), false).map(|keys| keys.wireguard)
    }

    /// Whether what is kept of an identity can be read, without asking the TPM.
    pub(crate) fn has_identity(&self) -> Result<bool, Error> {
        let path = self.path().join(SEALED);
        if self.key(PLAIN)?.is_some() {
            return Ok(true);
        }
        let Some(bytes) = files::read_regular(&path, Sealed::LARGEST)? else { return Ok(false) };
        match Sealed::decode(&bytes) {
            Ok(_) => Ok(true),
            Err(error) => Err(Error::Damaged { path, why: in_one_line(&error) }),
        }
    }
}

impl Pair {
    fn into_keys(self, status: IdentityStatus) -> Keys {
        let (identity, wireguard) = (Identity::from_seed(&self.seed), TunnelKey::new(self.wireguard));
        Keys { identity, wireguard, status }
    }
}

fn decode(text: &str) -> Option<[u8; 32]> {
    hex::decode(text.trim()).ok()?.try_into().ok()
}

fn name_of(sealed: &Sealed) -> Option<NodeId> {
    sealed.about().try_into().ok().map(NodeId::new)
}

/// Has the TPM give out what is in a sealed file.
fn open(bytes: &[u8], tpm: &Path) -> Result<Pair, Closed> {
    let sealed = Sealed::decode(bytes).map_err(|error| match error {
        TpmError::Damaged { .. } => Closed::Damaged(error.to_string()),
        later => Closed::Tpm(later),
    })?;
    let secret = Channel::open(tpm).and_then(|channel| Tpm::new(channel).unseal(&sealed)).map_err(Closed::Tpm)?;
    let pair = Pair::decode(secret.reveal()).filter(|pair| name_of(&sealed) == Some(pair.id()));
    pair.ok_or_else(|| Closed::Damaged("what is sealed there are not the keys of this node".to_owned()))
}

fn opens_to(bytes: &[u8], tpm: &Path, pair: &Pair) -> Result<(), Closed> {
    let other = || Closed::Damaged("the TPM gives out other keys than it sealed".to_owned());
    if open(bytes, tpm)? == *pair { Ok(()) } else { Err(other()) }
}

#[cfg(test)]
mod tests;
