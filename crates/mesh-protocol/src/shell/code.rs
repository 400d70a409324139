//! The one-time code on a node's console, and the two proofs that open its shell. Both hold in one session only, for the two nodes that
//! its certificates name: whoever is shown one can neither use it elsewhere nor learn the code from it.

use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use crate::keys::{NetworkId, hmac};
use data_encoding::BASE32_NOPAD;
use hmac::Mac as _;
use kairn_report::Secret;
use std::str::FromStr;
use thiserror::Error as ThisError;

/// Random bytes of a code: too many to be tried out, also by whoever was shown a proof of it.
const BYTES: usize = 10;
/// Characters that stand together.
const GROUP: usize = 4;

/// A one-time code: 80 random bits. People see 16 letters and digits (RFC 4648 base 32) in groups of four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code(Secret<[u8; BYTES]>);

/// A text that is no code. It does not carry the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error("this is no code: one has 16 letters and digits in four groups, as the machine's console shows it")]
pub struct ParseCodeError;

/// A session for a shell, as both its ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shell {
    /// The network.
    pub network: NetworkId,
    /// What the session's exporter gave.
    pub exporter: [u8; 32],
    /// Who calls.
    pub client: NodeId,
    /// Whose shell it is.
    pub server: NodeId,
}

impl Code {
    /// The code of these random bytes.
    pub const fn new(bytes: [u8; BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The code for people. It goes to a console and nowhere else.
    pub fn reveal(&self) -> String {
        let text = BASE32_NOPAD.encode(self.0.reveal()).to_ascii_lowercase();
        let groups: Vec<&str> =
            (0..text.len()).step_by(GROUP).filter_map(|at| text.get(at..at.saturating_add(GROUP))).collect();
        groups.join("-")
    }

    /// Shows in one session that the caller knows the code.
    pub fn prove(&self, shell: &Shell) -> [u8; 32] {
        self.mac(shell).finalize().into_bytes().into()
    }

    /// Whether a proof is of this code, in this session.
    pub fn is_proven(&self, shell: &Shell, proof: &[u8; 32]) -> bool {
        self.mac(shell).verify_slice(proof).is_ok()
    }

    fn mac(&self, shell: &Shell) -> hmac::Hmac<sha2::Sha256> {
        let mut key = [0; 32];
        // As RFC 2104 fills a short key.
        key.iter_mut().zip(self.0.reveal()).for_each(|(to, from)| *to = *from);
        hmac(&key, &[b"shell\0", &shell.text()])
    }
}

impl FromStr for Code {
    type Err = ParseCodeError;

    /// Case, white space and hyphens do not count; digits that no code has stand for the letters that they look like.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letter = |c: char| match c.to_ascii_uppercase() {
            '0' => 'O',
            '1' => 'L',
            '8' => 'B',
            c => c,
        };
        let plain: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(letter).collect();
        let bytes = BASE32_NOPAD.decode(plain.as_bytes()).map_err(|_| ParseCodeError)?;
        bytes.try_into().map(Self::new).map_err(|_| ParseCodeError)
    }
}

impl Shell {
    /// What is proven over: network, exporter, client, server.
    fn text(&self) -> Vec<u8> {
        [self.network.as_bytes().as_slice(), &self.exporter, self.client.as_bytes(), self.server.as_bytes()].concat()
    }

    /// An administrator's word that this session may have the shell.
    pub fn sign(&self, administrator: &Identity) -> Signature {
        administrator.sign(Purpose::Shell, &self.text())
    }

    /// Checks an administrator's word.
    ///
    /// # Errors
    /// It is not theirs, or for another session.
    pub fn verify(&self, administrator: &NodeId, signature: &Signature) -> Result<(), Error> {
        administrator.verify(Purpose::Shell, &self.text(), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;

    fn shell() -> Shell {
        Shell {
            network: Token::new([1; 32], None).network().id,
            exporter: [7; 32],
            client: NodeId::new([5; 32]),
            server: NodeId::new([6; 32]),
        }
    }

    fn others() -> [Shell; 4] {
        let one = shell();
        [
            Shell { network: Token::new([2; 32], None).network().id, ..one },
            Shell { exporter: [8; 32], ..one },
            Shell { client: NodeId::new([9; 32]), ..one },
            Shell { client: one.server, server: one.client, ..one },
        ]
    }

    #[test]
    fn a_proof_of_a_code_holds_in_one_session_only() {
        let (code, other) = (Code::new([1; 10]), Code::new([2; 10]));
        let proof = code.prove(&shell());
        assert!(code.is_proven(&shell(), &proof) && !other.is_proven(&shell(), &proof));
        for session in others() {
            assert!(!code.is_proven(&session, &proof), "{session:?}");
        }
    }

    #[test]
    fn an_administrators_word_holds_in_one_session_only() {
        let (key, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let word = shell().sign(&key);
        assert_eq!(shell().verify(&key.id(), &word), Ok(()));
        assert!(shell().verify(&other.id(), &word).is_err());
        for session in others() {
            assert!(session.verify(&key.id(), &word).is_err(), "{session:?}");
        }
    }

    #[test]
    fn a_code_is_read_as_people_write_it_and_does_not_print_itself() {
        let code = Code::new([0x74, 0xa1, 0x0c, 0x5d, 0x16, 0x62, 0x9f, 0x01, 0xe3, 0x77]);
        assert_eq!(code.reveal(), "osqq-yxiw-mkpq-dy3x");
        for text in ["osqq-yxiw-mkpq-dy3x", " OSQQ YXIW MKPQ DY3X\n", "0sqqyxiwmkpqdy3x"] {
            assert_eq!(text.parse(), Ok(code.clone()), "{text}");
        }
        for text in
            ["", "osqq-yxiw-mkpq", "osqq-yxiw-mkpq-dy3x-aaaa", "osqq-yxiw-mkpq-dy3\u{e9}", "osqq-yxiw-mkpq-dy39"]
        {
            assert_eq!(text.parse::<Code>(), Err(ParseCodeError), "{text}");
        }
        assert_eq!(format!("{code:?}"), "Code(***)");
    }

    proptest! {
        #[test]
        fn codes_are_read_as_they_were_shown(bytes: [u8; 10]) {
            prop_assert_eq!(Code::new(bytes).reveal().parse(), Ok(Code::new(bytes)));
        }
    }
}
