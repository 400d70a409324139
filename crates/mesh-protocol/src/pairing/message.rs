//! What the two sides say to each other: on one stream, each message behind four bytes of its length, big-endian. All of it is postcard.

use crate::error::Error;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error as ThisError;

/// The bytes before each message.
pub const HEADER: usize = 4;
/// The most bytes of a configuration.
pub const LARGEST_CONFIG: usize = 1024 * 1024;
/// The most bytes of a message of the sender once it was let in.
pub const LARGEST_OFFER: usize = LARGEST_CONFIG + 1024;
/// The most bytes of a message of the machine, and of the sender before it was let in.
pub const LARGEST_WORD: usize = 64 * 1024;
/// The most faults of a configuration that are told.
pub const MOST_FAULTS: usize = 64;
/// The most bytes of the name of a disk.
const LONGEST_DEVICE: usize = 256;

/// What a sender says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// First: the proof that it knows the secret.
    Hello([u8; 32]),
    /// Once it was let in: what the machine shall be.
    Offer(Offer),
}

/// What a machine shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its configuration.
    pub config: String,
    /// The disk to install on, instead of what the configuration says.
    pub device: Option<String>,
    /// What comes after the installation.
    pub after: After,
}

/// What comes after the installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// What the configuration says.
    #[default]
    AsConfigured,
    /// A reboot.
    Reboot,
    /// The power goes off.
    PowerOff,
}

/// What a machine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// To the proof: the nonce of the digits, and whether a person is asked now.
    Code {
        /// Drawn after the proof came.
        nonce: [u8; 16],
        /// Nothing is let in before a person has compared the digits.
        confirm: bool,
    },
    /// To the proof: another sender was first.
    Taken,
    /// The sender may send what it has.
    Granted,
    /// The sender may not.
    Refused(Refusal),
    /// The configuration is wrong; nothing is installed.
    Invalid(Vec<Fault>),
    /// The configuration is right, and this is done with it.
    Accepted(String),
}

/// Why a machine lets a sender not in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The person before it said no.
    No,
    /// Nobody answered there.
    Nobody,
}

/// A fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Line and column in the configuration that was sent, counted from 1; nothing where the fault is not in its text.
    pub place: Option<(u32, u32)>,
    /// What is wrong.
    pub text: String,
}

/// Why an offer cannot be made, or is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum OfferFault {
    /// Too large a configuration.
    #[error("the configuration has {0} bytes; the most is {LARGEST_CONFIG}")]
    Large(usize),
    /// No name of a disk.
    #[error("`device` is no name of a disk: 1 to {LONGEST_DEVICE} bytes without control characters")]
    Device,
}

impl Offer {
    /// Checks what has bounds.
    ///
    /// # Errors
    /// Which is not within them.
    pub fn check(&self) -> Result<(), OfferFault> {
        if self.config.len() > LARGEST_CONFIG {
            return Err(OfferFault::Large(self.config.len()));
        }
        let is_device =
            |name: &String| (1..=LONGEST_DEVICE).contains(&name.len()) && !name.contains(|c: char| c.is_control());
        if self.device.as_ref().is_some_and(|name| !is_device(name)) {
            return Err(OfferFault::Device);
        }
        Ok(())
    }
}

/// A message with its length before it.
///
/// # Errors
/// It is larger than its kind may be, or memory ran out.
pub fn encode(kind: &'static str, limit: usize, message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let bytes = postcard::to_stdvec(message).map_err(|error| Error::Malformed(kind, error.to_string()))?;
    let length = bytes.len();
    match u32::try_from(length) {
        Ok(header) if length <= limit => Ok([header.to_be_bytes().as_slice(), &bytes].concat()),
        _ => Err(Error::TooLarge { kind, length, limit }),
    }
}

/// How many bytes of the message follow its header.
///
/// # Errors
/// More than its kind may have.
pub fn length(kind: &'static str, limit: usize, header: [u8; HEADER]) -> Result<usize, Error> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length <= limit { Ok(length) } else { Err(Error::TooLarge { kind, length, limit }) }
}

/// Reads a message, of which nothing is left over.
///
/// # Errors
/// It is none of its kind.
pub fn decode<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(Error::Malformed(kind, format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(Error::Malformed(kind, error.to_string())),
    }
}
