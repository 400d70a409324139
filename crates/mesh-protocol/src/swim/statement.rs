//! What nodes say of themselves and of each other, each with the signature of who says it.
//!
//! | statement | signer | purpose | signed text |
//! |---|---|---|---|
//! | alive | the subject | `alive` | subject (32 bytes), incarnation (8, big-endian) |
//! | suspect | the accuser | `suspect` | subject (32), incarnation (8, big-endian), accuser (32) |
//! | leave | the subject | `leave` | subject (32), incarnation (8, big-endian) |
//!
//! Everybody is alive at incarnation 0 without having said so. An incarnation above 0 exists only once its subject has signed it: a
//! suspicion of such a one carries that signature too (the claim), so that no accuser can name an incarnation that the subject
//! could not go beyond.

use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use serde::{Deserialize, Serialize};

/// How often a node had to say anew that it is there. Only the node itself raises it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// What nobody has to say.
    pub const FIRST: Self = Self(0);

    /// The next one. The last is followed by itself: whoever signed that has only silenced itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A signature as it stands on the wire: 64 bytes without a length before them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seal([u8; 32], [u8; 32]);

impl Seal {
    fn of(signature: &Signature) -> Self {
        let mut halves =
            signature.as_bytes().chunks_exact(32).map(|half| <[u8; 32]>::try_from(half).unwrap_or_default());
        Self(halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
    }

    fn signature(&self) -> Signature {
        Signature::new([self.0, self.1].concat())
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("seal")
    }
}

/// A signed statement about the state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Statement {
    /// The subject says that it is there.
    Alive {
        /// Who says it.
        subject: NodeId,
        /// How often it has said so.
        incarnation: Incarnation,
        /// Its signature.
        seal: Seal,
    },
    /// An accuser says that the subject does not answer.
    Suspect {
        /// Who does not answer.
        subject: NodeId,
        /// The incarnation that does not.
        incarnation: Incarnation,
        /// The subject's own signature of that incarnation; absent for the first.
        claim: Option<Seal>,
        /// Who says so.
        accuser: NodeId,
        /// The accuser's signature.
        seal: Seal,
    },
    /// The subject says that it leaves.
    Leave {
        /// Who leaves.
        subject: NodeId,
        /// The incarnation that ends with this.
        incarnation: Incarnation,
        /// Its signature.
        seal: Seal,
    },
}

fn own_text(subject: &NodeId, incarnation: Incarnation) -> Vec<u8> {
    [subject.as_bytes().as_slice(), &incarnation.0.to_be_bytes()].concat()
}

fn suspect_text(subject: &NodeId, incarnation: Incarnation, accuser: &NodeId) -> Vec<u8> {
    [subject.as_bytes().as_slice(), &incarnation.0.to_be_bytes(), accuser.as_bytes()].concat()
}

impl Statement {
    /// Says that this node is there.
    pub fn alive(identity: &Identity, incarnation: Incarnation) -> Self {
        let subject = identity.id();
        let seal = Seal::of(&identity.sign(Purpose::Alive, &own_text(&subject, incarnation)));
        Self::Alive { subject, incarnation, seal }
    }

    /// Says that this node leaves.
    pub fn leave(identity: &Identity, incarnation: Incarnation) -> Self {
        let subject = identity.id();
        let seal = Seal::of(&identity.sign(Purpose::Leave, &own_text(&subject, incarnation)));
        Self::Leave { subject, incarnation, seal }
    }

    /// Says that another node does not answer; `claim` is what that one signed for this incarnation.
    pub fn suspect(identity: &Identity, subject: NodeId, incarnation: Incarnation, claim: Option<Seal>) -> Self {
        let accuser = identity.id();
        let seal = Seal::of(&identity.sign(Purpose::Suspect, &suspect_text(&subject, incarnation, &accuser)));
        Self::Suspect { subject, incarnation, claim, accuser, seal }
    }

    /// The node that it is about.
    pub const fn subject(&self) -> &NodeId {
        match self {
            Self::Alive { subject, .. } | Self::Suspect { subject, .. } | Self::Leave { subject, .. } => subject,
        }
    }

    /// The incarnation of that node.
    pub const fn incarnation(&self) -> Incarnation {
        match self {
            Self::Alive { incarnation, .. } | Self::Suspect { incarnation, .. } | Self::Leave { incarnation, .. } => {
                *incarnation
            }
        }
    }

    /// Who answers for it: the accuser of a suspicion, the subject of any other.
    pub const fn signer(&self) -> &NodeId {
        match self {
            Self::Suspect { accuser, .. } => accuser,
            Self::Alive { subject, .. } | Self::Leave { subject, .. } => subject,
        }
    }

    /// Checks its signatures. `proven` says that the incarnation is known to be the subject's own, so that the claim need not
    /// be looked at.
    ///
    /// # Errors
    /// A signature is not that of whom the statement names, or the claim is missing.
    pub fn verify(&self, proven: bool) -> Result<(), Error> {
        match self {
            Self::Alive { subject, incarnation, seal } => {
                subject.verify(Purpose::Alive, &own_text(subject, *incarnation), &seal.signature())
            }
            Self::Leave { subject, incarnation, seal } => {
                subject.verify(Purpose::Leave, &own_text(subject, *incarnation), &seal.signature())
            }
            Self::Suspect { subject, incarnation, claim, accuser, seal } => {
                accuser.verify(Purpose::Suspect, &suspect_text(subject, *incarnation, accuser), &seal.signature())?;
                if proven || *incarnation == Incarnation::FIRST {
                    return Ok(());
                }
                let claim = claim.ok_or(Error::Signature { node: *subject, purpose: Purpose::Alive })?;
                subject.verify(Purpose::Alive, &own_text(subject, *incarnation), &claim.signature())
            }
        }
    }

    /// The same with the claim that the holder has checked itself: what a relay passes on, it answers for.
    pub(super) const fn with_claim(self, known: Option<Seal>) -> Self {
        match self {
            Self::Suspect { subject, incarnation, accuser, seal, .. } => {
                Self::Suspect { subject, incarnation, claim: known, accuser, seal }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_holds_only_with_the_signature_of_whom_it_names() {
        let (node, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let Statement::Alive { seal: claim, .. } = Statement::alive(&node, Incarnation(3)) else { panic!() };
        let good = Statement::suspect(&other, node.id(), Incarnation(3), Some(claim));
        for statement in [
            Statement::alive(&node, Incarnation(3)),
            Statement::leave(&node, Incarnation(0)),
            Statement::suspect(&other, node.id(), Incarnation(0), None),
            good,
        ] {
            assert_eq!(statement.verify(false), Ok(()), "{statement:?}");
        }
        let Statement::Suspect { seal, .. } = good else { panic!() };
        let (subject, incarnation, accuser) = (node.id(), Incarnation(3), other.id());
        for (name, statement) in [
            ("a claim that is missing", Statement::suspect(&other, subject, incarnation, None)),
            ("an incarnation that was never claimed", Statement::suspect(&other, subject, Incarnation(4), Some(claim))),
            ("an alive statement taken for a leave", Statement::Leave { subject, incarnation, seal: claim }),
            (
                "another's accusation",
                Statement::Suspect { subject, incarnation, claim: Some(claim), accuser: subject, seal },
            ),
            (
                "another subject",
                Statement::Suspect { subject: accuser, incarnation, claim: Some(claim), accuser, seal },
            ),
        ] {
            assert!(statement.verify(false).is_err(), "{name}");
        }
    }
}
