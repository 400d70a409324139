//! `manifest.json`: what a build made, by size and digest. It holds no time and no path of the machine, so two builds of one
//! source write the same.

use crate::Error;
use crate::debian::Origin;
use kairn_lifecycle::{Architecture, Blob, Digest, ReleaseId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; 1.
    pub format: u32,
    /// The source as it was named.
    pub source: String,
    /// Name of the release.
    pub release: ReleaseId,
    /// Version of the image.
    pub version: String,
    /// What a person reads.
    pub title: String,
    /// Processor architecture.
    pub architecture: Architecture,
    /// Kernel release.
    pub kernel: String,
    /// Digest of the converted image's manifest, when one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Archive and packages of a Debian source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Every file, except those of the image's layout, which are named by their digests.
    pub outputs: Vec<Output>,
}

/// One file of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Path below the output directory.
    pub path: String,
    /// Size and digest.
    #[serde(flatten)]
    pub blob: Blob,
}

impl Output {
    pub(crate) fn of(dir: &Path, path: &str) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), blob: kairn_seal::blob(&dir.join(path))? })
    }
}

impl Manifest {
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        text.push(b'\n');
        Ok(kairn_host::files::write_whole(path, &text, 0o644)?)
    }
}
