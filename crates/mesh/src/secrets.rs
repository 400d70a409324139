//! What a node keeps of an administrator's orders: the secrets that came after its token's, and the orders themselves.

use crate::error::Error;
use crate::state::StateDir;
use kairn_mesh_protocol::{EpochKeys, NetworkId, Token};
use kairn_report::Secret;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// The file in the node's directory.
pub(crate) const FILE: &str = "secrets.json";

/// The secrets that a node knows.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The keys of the epochs, the newest first.
    pub epochs: Vec<EpochKeys>,
    /// The secret of the newest, where that is a rotated one.
    pub newest: Option<Secret<[u8; 32]>>,
    /// The orders, encoded.
    pub orders: Vec<Vec<u8>>,
}

/// The file: bytes as hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    network: String,
    epochs: Vec<KeptEpoch>,
    secret: Option<String>,
    orders: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptEpoch {
    epoch: u32,
    admission: String,
    datagrams: String,
    wireguard: String,
}

impl StateDir {
    /// The secrets of a network: those that were kept, and the token's, which a configuration may bring anew.
    ///
    /// # Errors
    /// The file cannot be read or is damaged: a node that forgot who was put out must not run.
    pub fn secrets(&self, network: &NetworkId, token: &Token) -> Result<Secrets, Error> {
        let kept: Option<Kept> = self.read(FILE)?;
        let (of_token, secret) = (token.epoch(), token.secret());
        let mut secrets = match kept {
            Some(kept) if kept.network == network.to_string() => self.decode(&kept)?,
            Some(_) => {
                tracing::warn!("the secrets that were kept are another network's, and are not used");
                Secrets::default()
            }
            None => Secrets::default(),
        };
        if secrets.epochs.first().is_none_or(|newest| newest.epoch < of_token.epoch) {
            secrets.newest = secret;
        }
        if secrets.epochs.iter().all(|keys| keys.epoch != of_token.epoch) {
            secrets.epochs.push(of_token);
            secrets.epochs.sort_by_key(|keys| Reverse(keys.epoch));
        }
        Ok(secrets)
    }

    /// Keeps the secrets.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_secrets(&self, network: &NetworkId, secrets: &Secrets) -> Result<(), Error> {
        let epoch = |keys: &EpochKeys| KeptEpoch {
            epoch: keys.epoch,
            admission: hex::encode(keys.admission.reveal()),
            datagrams: hex::encode(keys.datagram.reveal()),
            wireguard: hex::encode(keys.wireguard.reveal()),
        };
        let kept = Kept {
            network: network.to_string(),
            epochs: secrets.epochs.iter().map(epoch).collect(),
            secret: secrets.newest.as_ref().map(|secret| hex::encode(secret.reveal())),
            orders: secrets.orders.iter().map(hex::encode).collect(),
        };
        self.write(FILE, &kept)
    }

    fn decode(&self, kept: &Kept) -> Result<Secrets, Error> {
        let damaged = || Error::Damaged {
            path: self.path().join(FILE),
            why: "it does not hold keys in hexadecimal digits".to_owned(),
        };
        let key = |text: &str| {
            let bytes: Option<[u8; 32]> = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.map(Secret::new).ok_or_else(damaged)
        };
        let mut epochs = Vec::new();
        for KeptEpoch { epoch, admission, datagrams, wireguard } in &kept.epochs {
            let (admission, datagram, wireguard) = (key(admission)?, key(datagrams)?, key(wireguard)?);
            epochs.push(EpochKeys { epoch: *epoch, admission, datagram, wireguard });
        }
        let newest = kept.secret.as_deref().map(key).transpose()?;
        let orders: Result<Vec<_>, _> =
            kept.orders.iter().map(|text| hex::decode(text).map_err(|_| damaged())).collect();
        Ok(Secrets { epochs, newest, orders: orders? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_secret_wins_over_the_token_that_it_came_from_and_a_later_token_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let token = Token::new([1; 32], None);
        let network = token.network();
        assert_eq!(state.secrets(&network.id, &token).unwrap().epochs, [token.epoch()]);
        let first = EpochKeys::rotated(1 << 16, &[2; 32]);
        let kept = Secrets {
            epochs: vec![first.clone(), token.epoch()],
            newest: Some(Secret::new([2; 32])),
            orders: vec![vec![1, 2, 3]],
        };
        state.keep_secrets(&network.id, &kept).unwrap();
        let read = state.secrets(&network.id, &token).unwrap();
        assert_eq!(read.epochs, kept.epochs);
        assert_eq!((read.newest, read.orders), (kept.newest, kept.orders));
        let later = Token::rotated(network.clone(), 2 << 16, [3; 32], None);
        let read = state.secrets(&network.id, &later).unwrap();
        assert_eq!(read.epochs, [later.epoch(), first, token.epoch()]);
        assert_eq!(read.newest, Some(Secret::new([3; 32])));
        let other = Token::new([9; 32], None);
        assert_eq!(state.secrets(&other.network().id, &other).unwrap().epochs, [other.epoch()]);
    }

    #[test]
    fn damaged_secrets_are_an_error_and_never_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let token = Token::new([1; 32], None);
        let network = token.network().id;
        for text in ["{", r#"{"network":"#, r#"{"epochs":[]}"#] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(state.secrets(&network, &token).unwrap_err().to_string().contains(FILE), "{text}");
        }
        let kept = format!(r#"{{"network":"{network}","epochs":[],"secret":"zz","orders":[]}}"#);
        std::fs::write(dir.path().join(FILE), kept).unwrap();
        assert!(state.secrets(&network, &token).unwrap_err().to_string().contains("hexadecimal"));
    }
}
