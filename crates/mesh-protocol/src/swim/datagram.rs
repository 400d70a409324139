//! What membership sends: one message and, in the room that it leaves, statements.
//!
//! Encoded with postcard (integers as LEB128 varints, arrays as they are, an enum by the varint of its variant's index), in this
//! order and without anything between or after:
//!
//! 1. `own`: the sender's incarnation;
//! 2. `yours`: the incarnation of the receiver that the sender knows;
//! 3. the message;
//! 4. statements, one after the other, to the end of the datagram.

use super::statement::{Incarnation, Statement};
use crate::error::Error;
use crate::identity::NodeId;
use serde::{Deserialize, Serialize};

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Asks for an [`Message::Ack`] of the same number.
    Ping {
        /// Chosen by the sender.
        number: u32,
    },
    /// Answers a ping.
    Ack {
        /// The ping's.
        number: u32,
    },
    /// Asks to ping a third member and to tell.
    Ask {
        /// Chosen by the asker.
        number: u32,
        /// Whom to ping.
        target: NodeId,
    },
    /// Tells whether that member answered. "No" may be followed by "yes", and shows that the asker itself is heard.
    Told {
        /// The question's.
        number: u32,
        /// Whether the member answered.
        answered: bool,
    },
    /// Brings statements only.
    News,
    /// Asks for what is known of the members in one of the 16 parts (the high half of the first byte of their names).
    Pull {
        /// Which part, below 16.
        part: u8,
        /// The digest over what the asker knows of that part: equal digests need no answer but an empty page.
        digest: u64,
        /// The last member of the page before.
        after: Option<NodeId>,
    },
    /// Brings a page of it, as statements.
    Page {
        /// Which part.
        part: u8,
        /// The last member that this page speaks of, where there are more.
        next: Option<NodeId>,
    },
}

/// A datagram of membership before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The sender's incarnation.
    pub own: Incarnation,
    /// The receiver's, as far as the sender knows.
    pub yours: Incarnation,
    /// What it is for.
    pub message: Message,
    /// What it brings beside.
    pub statements: Vec<Statement>,
}

/// Parts that members fall into by their names.
pub(super) const PARTS: u8 = 16;

/// The part that a member falls into.
pub(super) fn part_of(node: &NodeId) -> u8 {
    node.as_bytes().first().map_or(0, |byte| byte >> 4)
}

impl Datagram {
    /// The most bytes that one has.
    pub const LIMIT: usize = 1_000;

    /// Its bytes. Statements that do not fit are left out, the last first.
    pub fn encode(&self) -> Vec<u8> {
        let mut packet = Packet::new(self.own, self.yours, &self.message);
        for statement in &self.statements {
            packet.add(statement);
        }
        packet.bytes
    }

    /// Reads one; signatures are not looked at.
    ///
    /// # Errors
    /// It is too long, ends early, or is no datagram of membership.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        const KIND: &str = "datagram of membership";
        if bytes.len() > Self::LIMIT {
            return Err(Error::TooLarge { kind: KIND, length: bytes.len(), limit: Self::LIMIT });
        }
        let malformed = |error: postcard::Error| Error::Malformed(KIND, error.to_string());
        let ((own, yours, message), mut rest) = postcard::take_from_bytes(bytes).map_err(malformed)?;
        if let Message::Pull { part, .. } | Message::Page { part, .. } = message
            && part >= PARTS
        {
            return Err(Error::Malformed(KIND, format!("there is no part {part}")));
        }
        let mut statements = Vec::new();
        while !rest.is_empty() {
            let (statement, after) = postcard::take_from_bytes(rest).map_err(malformed)?;
            statements.push(statement);
            rest = after;
        }
        Ok(Self { own, yours, message, statements })
    }
}

/// A datagram that is being filled.
pub(super) struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    pub(super) fn new(own: Incarnation, yours: Incarnation, message: &Message) -> Self {
        Self { bytes: wire(&(own, yours, message)) }
    }

    /// Adds a statement if there is room.
    pub(super) fn add(&mut self, statement: &Statement) -> bool {
        let bytes = wire(statement);
        let fits = self.bytes.len().saturating_add(bytes.len()) <= Datagram::LIMIT;
        if fits {
            self.bytes.extend(bytes);
        }
        fits
    }

    /// Says whether even the smallest statement has no room left.
    pub(super) const fn is_full(&self) -> bool {
        // Kind, name, incarnation and signature.
        self.bytes.len() > Datagram::LIMIT - (1 + 32 + 1 + 64)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Postcard into memory fails for types that do not know their length, and there is none here.
fn wire<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Message> {
        let node = any::<[u8; 32]>().prop_map(NodeId::new);
        prop_oneof![
            any::<u32>().prop_map(|number| Message::Ping { number }),
            any::<u32>().prop_map(|number| Message::Ack { number }),
            (any::<u32>(), node.clone()).prop_map(|(number, target)| Message::Ask { number, target }),
            (any::<u32>(), any::<bool>()).prop_map(|(number, answered)| Message::Told { number, answered }),
            Just(Message::News),
            (0..PARTS, any::<u64>(), proptest::option::of(node.clone()))
                .prop_map(|(part, digest, after)| Message::Pull { part, digest, after }),
            (0..PARTS, proptest::option::of(node)).prop_map(|(part, next)| Message::Page { part, next }),
        ]
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol_page() {
        let message = Message::Ping { number: 300 };
        let ping = Datagram { own: Incarnation(1), yours: Incarnation(128), message, statements: Vec::new() };
        assert_eq!(ping.encode(), [1, 0x80, 1, 0, 0xac, 2]);
        let node = Identity::from_seed(&[1; 32]);
        let said = Statement::alive(&node, Incarnation(2));
        let news = Datagram { message: Message::News, statements: vec![said], ..ping };
        let bytes = news.encode();
        assert_eq!(bytes.len(), 4 + 1 + 32 + 1 + 64);
        assert_eq!(bytes[3..5], [4, 0]);
        assert_eq!(bytes[5..37], *node.id().as_bytes());
        assert_eq!(bytes[37], 2);
    }

    #[test]
    fn what_is_too_long_or_goes_on_after_its_end_is_refused() {
        assert!(matches!(Datagram::decode(&[0; 1001]), Err(Error::TooLarge { length: 1001, .. })));
        for bytes in [&[][..], &[0], &[0, 0], &[0, 0, 9], &[0, 0, 4, 7], &[0, 0, 6, 16, 0]] {
            assert!(matches!(Datagram::decode(bytes), Err(Error::Malformed(..))), "{bytes:?}");
        }
    }

    #[test]
    fn statements_without_room_are_left_out() {
        let node = Identity::from_seed(&[1; 32]);
        let statements = vec![Statement::alive(&node, Incarnation(2)); 40];
        let news = Datagram { own: Incarnation(0), yours: Incarnation(0), message: Message::News, statements };
        let bytes = news.encode();
        assert!(bytes.len() <= Datagram::LIMIT);
        assert_eq!(Datagram::decode(&bytes).map(|read| read.statements.len()), Ok((1_000 - 3) / 98));
    }

    proptest! {
        #[test]
        fn datagrams_are_read_as_they_were_written(own: u64, yours: u64, message in messages(), claimed: bool, count in 0..4_u64) {
            let (node, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
            let Statement::Alive { seal, .. } = Statement::alive(&node, Incarnation(count)) else { panic!() };
            let suspicion = Statement::suspect(&other, node.id(), Incarnation(count), claimed.then_some(seal));
            let statements = [suspicion, Statement::alive(&node, Incarnation(count)), Statement::leave(&node, Incarnation(own))];
            let statements = statements.into_iter().cycle().take(count as usize).collect();
            let datagram = Datagram { own: Incarnation(own), yours: Incarnation(yours), message, statements };
            prop_assert_eq!(Datagram::decode(&datagram.encode()), Ok(datagram));
        }

        #[test]
        fn no_bytes_make_the_reader_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            match Datagram::decode(&bytes) {
                Ok(_) | Err(_) => {}
            }
        }
    }
}
