//! A release: one sealed thing, named by the root hash of its root file system.

use crate::Digest;
use kairn_layout::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a release: the first 16 hex digits of its root hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId([u8; 8]);

impl ReleaseId {
    /// Names the release with this root hash.
    #[must_use]
    pub fn of_root_hash(root_hash: &Digest) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = root_hash.0;
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ReleaseId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 8];
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(format!("`{text}` is not a release id (16 lower-case hex digits)"));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> Self {
        id.to_string()
    }
}

/// The processor architecture of an image, in OCI's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// Returns the architecture that this program was built for, if Kairn knows it.
    #[must_use]
    pub const fn of_this_program() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::Amd64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm64)
        } else {
            None
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// The file system of a root image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootFormat {
    /// EROFS, the default.
    Erofs,
    /// squashfs, where a kernel lacks EROFS.
    Squashfs,
}

impl fmt::Display for RootFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        })
    }
}

/// A file by size and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Size in bytes.
    pub size: Bytes,
    /// Digest of the content.
    pub sha256: Digest,
}

/// The root image and what dm-verity needs to open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootImage {
    /// Its file system.
    pub format: RootFormat,
    /// `root.erofs`.
    pub image: Blob,
    /// `root.verity`.
    pub verity: Blob,
    /// Root hash of the hash tree.
    pub root_hash: Digest,
    /// Salt of the hash tree, hex.
    pub salt: String,
    /// Number of 4096-byte data blocks.
    pub data_blocks: u64,
}

/// The boot loader that a release ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loader {
    /// `loader.efi`.
    pub file: Blob,
    /// systemd's version as the binary states it, e.g. `252.39-1~deb12u1`.
    pub version: String,
}

/// `release.json`: names all digests of a release. A function of the image alone, so it holds no time or place of its making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Version of this format; 1.
    pub format: u32,
    /// The name.
    pub id: ReleaseId,
    /// Version of the image as its builder states it (`KAIRN_VERSION` in `/etc/kairn-release`).
    pub version: String,
    /// What a person reads, e.g. `Debian GNU/Linux 12 (bookworm)`.
    pub title: String,
    /// Processor architecture.
    pub architecture: Architecture,
    /// Kernel release, e.g. `6.1.0-56-amd64`.
    pub kernel: String,
    /// Size of the tree before sealing, sum of file sizes rounded to 4096.
    pub unpacked: Bytes,
    /// The root.
    pub root: RootImage,
    /// The unified kernel image.
    pub uki: Blob,
    /// The loader.
    pub loader: Loader,
    /// The whole kernel command line in the UKI.
    pub cmdline: String,
}

impl Release {
    /// Returns the size of root image, hash tree and UKI together: "sealed size".
    #[must_use]
    pub fn sealed_size(&self) -> Bytes {
        self.root.image.size + self.root.verity.size + self.uki.size
    }

    /// Returns the file name of the UKI on the ESP: `<id>-<8 hex of its sha256>.efi`.
    #[must_use]
    pub fn uki_name(&self) -> String {
        let digest = self.uki.sha256.to_string();
        format!("{}-{}.efi", self.id, digest.get(..8).unwrap_or(&digest))
    }
}

/// `boot.json`: what `convert` found in the distribution and sealing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFacts {
    /// Version of this format; 1.
    pub format: u32,
    /// Version of the image.
    pub version: String,
    /// What a person reads.
    pub title: String,
    /// Processor architecture.
    pub architecture: Architecture,
    /// Kernel release.
    pub kernel: String,
    /// Root format that this kernel reads and the image can make.
    pub root_format: RootFormat,
    /// Compressor for it: of EROFS as `mkfs.erofs -z` takes it (`lz4`, `lz4hc,12`, `zstd,9`), of squashfs its name for `mksquashfs -comp`
    /// (or `lz4hc`) with a level (`zstd,3`, `gzip,9`).
    pub compressor: String,
    /// Version of systemd-boot in the image.
    pub loader_version: String,
    /// Modules that Kairn wants in the initramfs and this kernel does not have.
    pub missing_modules: Vec<String>,
    /// Digests of the files below `/usr/lib/kairn/boot`, by name, so that sealing refuses half-converted trees.
    pub files: std::collections::BTreeMap<String, Blob>,
    /// Upper bound of all file times in seconds since the epoch (`SOURCE_DATE_EPOCH` of the conversion).
    pub epoch: u64,
}
