//! The one grammar for every SOURCE on the command line and in configuration.
//!
//! `oci:REF[@DIGEST] | ocifile:PATH | dir:PATH | tar:PATH | release:DIR | debian:SUITE`. A text without one of these prefixes is an
//! `oci:` reference, as existing configurations write it; `docker:` is an alias of `oci:`.

use kairn_report::{Diagnostic, Kind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// Where a root file system or a release comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// An image in a registry: `HOST[:PORT]/NAME[:TAG][@DIGEST]`.
    Oci(String),
    /// An OCI or docker archive file.
    OciFile(PathBuf),
    /// A directory that holds a root file system.
    Dir(PathBuf),
    /// A tar of a root file system.
    Tar(PathBuf),
    /// A release directory made by `kairn seal` or `kairn build`.
    Release(PathBuf),
    /// A Debian suite, bootstrapped from the mirror that apt uses (build only).
    Debian(String),
}

/// A SOURCE that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Nothing after the prefix.
    #[error("`{0}` names no source")]
    Empty(String),
    /// A Debian suite with characters that no suite has.
    #[error("`{0}` is not the name of a Debian suite")]
    Suite(String),
    /// A reference with a character that no image reference has, or a path in its place.
    #[error("`{0}` is not an image reference")]
    Reference(String),
}

impl Diagnostic for SourceError {
    fn kind(&self) -> Kind {
        Kind::User
    }

    fn hints(&self) -> Vec<String> {
        vec!["a source is oci:REF[@DIGEST], ocifile:PATH, dir:PATH, tar:PATH, release:DIR or debian:SUITE".into()]
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme @ ("oci" | "docker" | "ocifile" | "dir" | "tar" | "release" | "debian"), rest)) => {
                (scheme, rest)
            }
            _ => ("oci", text),
        };
        let rest = rest.strip_prefix("//").filter(|_| matches!(scheme, "oci" | "docker")).unwrap_or(rest);
        if rest.trim().is_empty() {
            return Err(SourceError::Empty(text.to_owned()));
        }
        Ok(match scheme {
            "ocifile" => Self::OciFile(rest.into()),
            "dir" => Self::Dir(rest.into()),
            "tar" => Self::Tar(rest.into()),
            "release" => Self::Release(rest.into()),
            "debian" if rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') => {
                Self::Debian(rest.to_owned())
            }
            "debian" => return Err(SourceError::Suite(rest.to_owned())),
            // A path where a reference belongs; with a second slash it would print as another source.
            _ if rest.starts_with('/') || rest.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                return Err(SourceError::Reference(rest.to_owned()));
            }
            _ => Self::Oci(rest.to_owned()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci(reference) => write!(f, "oci:{reference}"),
            Self::OciFile(path) => write!(f, "ocifile:{}", path.display()),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Tar(path) => write!(f, "tar:{}", path.display()),
            Self::Release(path) => write!(f, "release:{}", path.display()),
            Self::Debian(suite) => write!(f, "debian:{suite}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_begins_with_a_slash_is_none() {
        // Found by the fuzz target `records`: the second was read as a reference that its own text does not give back.
        for text in ["/etc", "////", "oci:///x", "docker:////"] {
            assert!(matches!(text.parse::<Source>(), Err(SourceError::Reference(_))), "{text}");
        }
    }

    #[test]
    fn every_form_of_the_grammar_parses_and_prints_back() {
        for (text, printed) in [
            ("oci:quay.io/a/b:v1", "oci:quay.io/a/b:v1"),
            ("docker://quay.io/a/b", "oci:quay.io/a/b"),
            ("localhost:5000/a@sha256:00", "oci:localhost:5000/a@sha256:00"),
            ("ocifile:/x.tar", "ocifile:/x.tar"),
            ("dir:/x", "dir:/x"),
            ("tar:x.tar", "tar:x.tar"),
            ("release:out", "release:out"),
            ("debian:trixie", "debian:trixie"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), printed);
        }
        for text in ["", "oci:", "debian:Tri xie", "oci:a b"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
