//! What a step does to software: repositories, packages, images.

use crate::Text;
use kairn_report::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Something about software.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoftwareWork {
    /// A clone of a repository is where its branch is.
    Git(Git),
    /// Packages stay at a version, by name.
    Pins(BTreeMap<String, String>),
    /// Packages are there or are not.
    Packages(Packages),
    /// A container image is unpacked.
    Image(UnpackedImage),
    /// Whether a package that was installed asks for a reboot is told.
    RebootIfRequired,
}

/// A clone of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Git {
    /// Where it comes from, without a login.
    pub url: String,
    /// Where it is; absolute.
    pub path: PathBuf,
    /// The branch.
    pub branch: String,
    /// That branch alone is fetched.
    pub branch_only: bool,
    /// How to log in.
    pub login: GitLogin,
}

/// How to log in to where a repository is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GitLogin {
    /// The user's name.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret<String>>,
    /// A key of SSH.
    pub private_key: Option<Secret<String>>,
    /// The key that a server of SSH must show.
    pub host_key: Option<String>,
    /// The server is not verified.
    pub insecure: bool,
}

/// Packages, by the names that the distribution's manager knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packages {
    /// Lists are fetched first.
    pub refresh: bool,
    /// All that is installed is brought up to date.
    pub upgrade: bool,
    /// These are there.
    pub install: Vec<Text>,
    /// These are not.
    pub remove: Vec<Text>,
    /// These are there too, at a version or by a certain manager.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<ChosenPackage>,
}

/// A package at a version, or one that a certain manager is to install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChosenPackage {
    /// Its name.
    pub name: String,
    /// Its version; any when absent.
    pub version: Option<String>,
    /// The manager, as it is called there; that of the distribution when absent.
    pub manager: Option<String>,
}

/// A container image whose files lie in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnpackedImage {
    /// The image: a reference, or `oci:`, `ocifile:` or `dir:` before where it is.
    pub source: String,
    /// The directory; absolute.
    pub target: PathBuf,
    /// Its architecture, in OCI's spelling; the machine's when absent.
    pub architecture: Option<String>,
}
