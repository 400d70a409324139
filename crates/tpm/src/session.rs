//! A session whose key nobody on the bus knows (Part 1, sections 19.6 and 21): it authenticates commands and answers, and encrypts the
//! first parameter of either.

use crate::answer::Sessioned;
use crate::command;
use crate::error::Error;
use crate::wire::Writer;
use aes::Aes128;
use cfb_mode::cipher::{AsyncStreamCipher as _, KeyIvInit as _};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Bytes of a nonce, a digest, a key of a session.
pub(crate) const DIGEST: usize = 32;

const CONTINUE: u8 = 0x01;
/// The TPM decrypts the first parameter of the command.
const DECRYPT: u8 = 0x20;
/// The TPM encrypts the first parameter of its answer.
const ENCRYPT: u8 = 0x40;

/// Which first parameter is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// That of the command.
    Command,
    /// That of the answer.
    Answer,
    /// Neither.
    None,
}

/// A session that was begun.
pub(crate) struct Session {
    pub handle: u32,
    key: [u8; DIGEST],
    tpm: Vec<u8>,
    caller: [u8; DIGEST],
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// What is asked for in a session: the command, the object that it is about, and its parameters.
pub(crate) struct Call<'a> {
    pub code: u32,
    pub handle: u32,
    pub name: &'a [u8],
    pub parameters: Vec<u8>,
    pub hidden: Hidden,
}

impl Session {
    /// The session that comes of a salt and both nonces.
    pub(crate) fn new(handle: u32, salt: &[u8; DIGEST], tpm: &[u8], caller: [u8; DIGEST]) -> Result<Self, Error> {
        Ok(Self { handle, key: kdf_a(salt, b"ATH", tpm, &caller)?, tpm: tpm.to_vec(), caller })
    }

    /// The bytes of a command, under a fresh nonce.
    pub(crate) fn command(&mut self, call: &Call<'_>, nonce: [u8; DIGEST]) -> Result<Vec<u8>, Error> {
        self.caller = nonce;
        let mut parameters = call.parameters.clone();
        if call.hidden == Hidden::Command {
            let (key, iv) = self.cipher(&self.caller, &self.tpm)?;
            if let Some(first) = first_of(&mut parameters) {
                cfb_mode::Encryptor::<Aes128>::new(&key.into(), &iv.into()).encrypt(first);
            }
        }
        let attributes = CONTINUE
            | match call.hidden {
                Hidden::Command => DECRYPT,
                Hidden::Answer => ENCRYPT,
                Hidden::None => 0,
            };
        let digest = Sha256::new().chain_update(call.code.to_be_bytes()).chain_update(call.name);
        let digest = digest.chain_update(&parameters).finalize();
        let hmac = mac(&self.key, &[&digest, &self.caller, &self.tpm, &[attributes]])?.finalize().into_bytes();
        let authorization = Writer::default().u32(self.handle).sized(&self.caller).u8(attributes).sized(&hmac).0;
        Ok(command::authorized(call.code, call.handle, &authorization, &parameters))
    }

    /// The parameters of the answer, once it is known to be the TPM's.
    pub(crate) fn answer(
        &mut self,
        doing: &'static str,
        call: &Call<'_>,
        answer: &Sessioned<'_>,
    ) -> Result<Vec<u8>, Error> {
        let digest = Sha256::new().chain_update([0; 4]).chain_update(call.code.to_be_bytes());
        let digest = digest.chain_update(answer.parameters).finalize();
        let hmac = mac(&self.key, &[&digest, answer.nonce, &self.caller, &[answer.attributes]])?;
        hmac.verify_slice(answer.hmac).map_err(|_| Error::Altered { doing })?;
        self.tpm = answer.nonce.to_vec();
        let mut parameters = answer.parameters.to_vec();
        if call.hidden == Hidden::Answer {
            let (key, iv) = self.cipher(&self.tpm, &self.caller)?;
            if let Some(first) = first_of(&mut parameters) {
                cfb_mode::Decryptor::<Aes128>::new(&key.into(), &iv.into()).decrypt(first);
            }
        }
        Ok(parameters)
    }

    /// Key and first block, from the newer and the older nonce.
    fn cipher(&self, newer: &[u8], older: &[u8]) -> Result<([u8; 16], [u8; 16]), Error> {
        let bytes = kdf_a(&self.key, b"CFB", newer, older)?;
        let (mut key, mut iv) = ([0; 16], [0; 16]);
        key.iter_mut().chain(&mut iv).zip(bytes).for_each(|(to, from)| *to = from);
        Ok((key, iv))
    }
}

/// What is in the first parameter, a byte string behind its length; a shorter one than it says is refused by whoever reads it.
fn first_of(parameters: &mut [u8]) -> Option<&mut [u8]> {
    let length = usize::from(u16::from_be_bytes(*parameters.first_chunk()?));
    parameters.get_mut(2..2 + length)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<Hmac<Sha256>, Error> {
    // HMAC takes keys of any length.
    let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Error::Random)?;
    Ok(parts.iter().fold(mac, |mac, part| mac.chain_update(part)))
}

/// 256 bits derived from a key and two nonces (Part 1, section 11.4.10.2): one block of the counter mode of SP 800-108.
fn kdf_a(key: &[u8], label: &[u8], u: &[u8], v: &[u8]) -> Result<[u8; DIGEST], Error> {
    Ok(mac(key, &[&1_u32.to_be_bytes(), label, &[0], u, v, &256_u32.to_be_bytes()])?.finalize().into_bytes().into())
}

/// 256 bits derived from a shared point (Part 1, section 11.4.10.3): one block of the concatenation of SP 800-56A.
pub(crate) fn kdf_e(z: &[u8], label: &[u8], u: &[u8], v: &[u8]) -> [u8; DIGEST] {
    let digest = Sha256::new().chain_update(1_u32.to_be_bytes()).chain_update(z).chain_update(label);
    digest.chain_update([0]).chain_update(u).chain_update(v).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Computed by a script that shares no code with this.
    #[test]
    fn keys_are_derived_as_an_independent_computation_has_it() {
        let key: Vec<u8> = (0..32).collect();
        let (u, v) = ([0x11; 32], [0x22; 32]);
        let found = hex::encode(kdf_a(&key, b"ATH", &u, &v).unwrap());
        assert_eq!(found, "a8679444f320a6d0a02c03cac153c458f28758eca056594e887fcefdc2d7e95b");
        let found = hex::encode(kdf_e(&key, b"SECRET", &u, &v));
        assert_eq!(found, "c21be073521259773cab940e5cbd0a66105a8da939b0b3ae13b7d7a37555b3e3");
    }

    fn call(parameters: Vec<u8>, hidden: Hidden) -> Call<'static> {
        Call { code: command::UNSEAL, handle: 0x8000_0001, name: b"name", parameters, hidden }
    }

    /// What a TPM would answer in the same session.
    fn answered(session: &Session, call: &Call<'_>, plain: &[u8], nonce: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut parameters = Writer::default().sized(plain).0;
        let (key, iv) = session.cipher(nonce, &session.caller).unwrap();
        cfb_mode::Encryptor::<Aes128>::new(&key.into(), &iv.into()).encrypt(first_of(&mut parameters).unwrap());
        let digest = Sha256::new().chain_update([0; 4]).chain_update(call.code.to_be_bytes());
        let digest = digest.chain_update(&parameters).finalize();
        let hmac = mac(&session.key, &[&digest, nonce, &session.caller, &[ENCRYPT | CONTINUE]]).unwrap();
        (parameters, hmac.finalize().into_bytes().to_vec())
    }

    proptest! {
        #[test]
        fn a_secret_is_not_in_the_command_and_an_answer_is_believed_whole_or_not_at_all(
            secret in prop::collection::vec(any::<u8>(), 16..128), at: usize, bit in 0_u8..8
        ) {
            let mut session = Session::new(1, &[5; 32], &[6; 32], [7; 32]).unwrap();
            let bytes = session.command(&call(command::create(&secret), Hidden::Command), [8; 32]).unwrap();
            prop_assert!(!bytes.windows(secret.len()).any(|window| window == secret));
            let call = call(Vec::new(), Hidden::Answer);
            session.command(&call, [9; 32]).unwrap();
            let (mut parameters, hmac) = answered(&session, &call, &secret, &[4; 32]);
            prop_assert!(!parameters.windows(secret.len()).any(|window| window == secret));
            let whole = parameters.clone();
            let made = |parameters| Sessioned { parameters, nonce: &[4; 32], attributes: ENCRYPT | CONTINUE, hmac: &hmac };
            let at = at % parameters.len();
            parameters[at] ^= 1 << bit;
            let is_refused = matches!(session.answer("a", &call, &made(&parameters)), Err(Error::Altered { .. }));
            prop_assert!(is_refused);
            let found = session.answer("a", &call, &made(&whole)).unwrap();
            prop_assert_eq!(found, Writer::default().sized(&secret).0);
        }
    }
}
