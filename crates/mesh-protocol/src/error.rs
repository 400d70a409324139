//! What can be wrong with what others sent or a person typed.

use crate::cluster::ClusterName;
use crate::identity::{NodeId, Purpose};
use kairn_report::{Diagnostic, Kind};
use thiserror::Error;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A token that cannot be used. The fault is part of the sentence, and no cause that would be said once more.
    #[error("the network token {0}")]
    Token(TokenFault),
    /// A statement that its node did not sign.
    #[error("this {purpose} statement does not carry a signature of node {node}", node = .node.short())]
    Signature {
        /// Who is said to have signed.
        node: NodeId,
        /// What the statement is for.
        purpose: Purpose,
    },
    /// A message that does not parse.
    #[error("not a {0}: {1}")]
    Malformed(&'static str, String),
    /// A message larger than its kind may be.
    #[error("a {kind} of {length} bytes; the most is {limit}")]
    TooLarge {
        /// The kind of message.
        kind: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// What belongs to another cluster of the mesh.
    #[error("a letter of a ballot of the cluster `{theirs}`, and this node is of `{ours}`")]
    OtherCluster {
        /// Whose it is.
        theirs: ClusterName,
        /// This node's.
        ours: ClusterName,
    },
    /// A node takes part in as many ballots as it may.
    #[error("this node already takes part in {most} ballots, which is the most")]
    Ballots {
        /// The most.
        most: usize,
    },
    /// A number of nodes that no ballot can be held with.
    #[error("{key} is {value}; it is between 1 and {most}")]
    Nodes {
        /// The key of the configuration.
        key: &'static str,
        /// What it says.
        value: u16,
        /// The most that it may say.
        most: u16,
    },
}

/// Why a text is no network token. No variant carries any of the text but one character.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenFault {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Neither ours nor an old one.
    #[error("is neither a token of `kairn mesh token` (`kairn1…`) nor an old one (base64 of YAML): {0}")]
    Foreign(String),
    /// A character that no token has.
    #[error("has `{character}` at character {position}, which no token has")]
    Character {
        /// Counted from 1.
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
        /// Counted from 1.
        position: usize,
        /// What stands there.
        character: char,
    },
    /// A checksum that no single character mends.
    #[error("is mistyped or cut off: its checksum fails")]
    Checksum,
    /// A length that no token has.
    #[error(
        "has {characters} characters, and a token has 65, or 116 with an administrator's key; of a rotated secret 145 or 196"
    )]
    Length {
        /// What was given.
        characters: usize,
    },
    /// A token of a later release.
    #[error("is of version {0}, which this release does not know")]
    Version(u8),
    /// An administrator's key that is none.
    #[error("carries an administrator's key that is no Ed25519 key")]
    AdminKey,
    /// An old token whose YAML holds no key.
    #[error("is an old token without keys: none of otp.dht.key, otp.crypto.key, room and rendezvous is set")]
    Keyless,
}

impl From<TokenFault> for Error {
    fn from(fault: TokenFault) -> Self {
        Self::Token(fault)
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Token(_) | Self::Ballots { .. } => Kind::User,
            Self::Nodes { .. } => Kind::Config,
            Self::Signature { .. } | Self::Malformed(..) | Self::TooLarge { .. } | Self::OtherCluster { .. } => {
                Kind::Environment
            }
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Token(TokenFault::Version(_)) => vec!["upgrade this node, or make a token with its release".into()],
            Self::Token(_) => {
                vec![
                    "copy the token whole, as `kairn mesh token` printed it; all nodes of a network have the same"
                        .into(),
                ]
            }
            _ => Vec::new(),
        }
    }
}
