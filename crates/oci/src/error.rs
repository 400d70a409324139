//! What can go wrong with images.

use kairn_lifecycle::{Architecture, Digest};
use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An operation on an image that failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// A reference that is none.
    #[error("`{reference}` is not an image reference: {reason}")]
    Reference {
        /// As given.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// The registry could not be asked.
    #[error("cannot reach the registry `{registry}`")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Docker's configuration names credentials that cannot be had.
    #[error("cannot get the credentials for the registry `{registry}`")]
    Credentials {
        /// Host and port.
        registry: String,
        /// Why.
        #[source]
        source: docker_credential::CredentialRetrievalError,
    },
    /// The registry answered with a refusal.
    #[error("the registry refused `{reference}`")]
    Refused {
        /// The image.
        reference: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is not there.
    #[error("there is no image `{reference}`")]
    NotFound {
        /// The image.
        reference: String,
    },
    /// The image exists, but not for this architecture.
    #[error("`{image}` has no image for {wanted}; it has {available}")]
    Architecture {
        /// The image.
        image: String,
        /// What was wanted.
        wanted: Architecture,
        /// What there is.
        available: String,
    },
    /// A blob's bytes are not those that its digest names.
    #[error("blob {expected} is corrupt: its bytes have the digest {found}")]
    Digest {
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of the bytes.
        found: Digest,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("blob {digest} should have {expected} bytes but {what}")]
    Length {
        /// The blob.
        digest: Digest,
        /// Size in the manifest.
        expected: u64,
        /// What came instead.
        what: String,
    },
    /// A download kept failing.
    #[error("gave up on blob {digest} after {tries} tries without progress, at byte {at} of {size}")]
    GaveUp {
        /// The blob.
        digest: Digest,
        /// Tries since the last progress.
        tries: u32,
        /// Bytes on disk, kept for the next attempt.
        at: u64,
        /// All of them.
        size: u64,
        /// The last failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A manifest or index that does not follow the specification.
    #[error("`{what}` is not a usable image: {reason}")]
    Malformed {
        /// Manifest, index, layout or archive.
        what: String,
        /// Why.
        reason: String,
    },
    /// What a registry or an archive gave is longer than what is taken into memory.
    #[error("{what} has more than {limit} bytes, the most that is read of it")]
    TooLarge {
        /// The object: an address, or a record in a layer.
        what: String,
        /// The most, in bytes.
        limit: u64,
    },
    /// A layer holds an entry that cannot be applied.
    #[error("layer {layer}: cannot unpack `{entry}`: {reason}")]
    Entry {
        /// The layer.
        layer: Digest,
        /// Path in the layer.
        entry: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let named = kairn_host::Error::path(action, path);
        move |source| Self::Host(named(source))
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string() }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Reference { .. } | Self::Credentials { .. } => Kind::User,
            Self::Host(error) => error.kind(),
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.hints(),
            Self::Reference { .. } => vec!["a reference is HOST[:PORT]/NAME[:TAG][@sha256:DIGEST]".into()],
            Self::Unreachable { registry, .. } => vec![
                format!("check the network, the name `{registry}` and its port"),
                format!("a registry that speaks plain HTTP needs --allow-insecure-registry {registry}"),
            ],
            Self::Refused { .. } => {
                vec!["a private image needs credentials in /root/.docker/config.json or $DOCKER_CONFIG".into()]
            }
            Self::NotFound { .. } => {
                vec!["check name and tag; a private image may look absent without credentials".into()]
            }
            Self::Architecture { .. } => vec!["build the image for this architecture".into()],
            Self::Credentials { .. } => vec![
                "correct /root/.docker/config.json (or the one in $DOCKER_CONFIG), or take it away for a public image"
                    .into(),
            ],
            Self::Digest { .. } | Self::Length { .. } => vec![
                "the registry, the disk or something between changed it, and nothing of it was used: run the same command again"
                    .into(),
                "if it stays so, push the image again".into(),
            ],
            Self::GaveUp { .. } => vec!["run the same command again: it goes on where it stopped".into()],
            Self::TooLarge { .. } => vec![
                "no image needs that much there: check that the name is that of a registry and its image".into(),
                "build the image again with less in it: fewer layers and labels, shorter names and attributes".into(),
            ],
            Self::Malformed { .. } | Self::Entry { .. } => {
                vec!["build and push the image again, with a tool that follows the OCI image specification".into()]
            }
        }
    }
}
