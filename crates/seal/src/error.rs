//! Why a tree cannot be sealed.

use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A tree that was not sealed, and why. The output directory is left empty or absent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The tree was never converted.
    #[error("`{}` is not a converted image: it has no `{}`", .tree.display(), .missing)]
    NotConverted {
        /// The tree.
        tree: PathBuf,
        /// The file that conversion would have left.
        missing: String,
    },
    /// A file that conversion wrote was changed or removed since.
    #[error("`{file}` of the converted image is not what conversion wrote (expected {expected}, found {found})")]
    Changed {
        /// Path below the tree.
        file: String,
        /// Digest that conversion recorded.
        expected: String,
        /// What is there.
        found: String,
    },
    /// `boot.json` cannot be read.
    #[error("`{file}` is not readable as facts of a conversion")]
    Facts {
        /// Path below the tree.
        file: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `boot.json` was written by a later Kairn.
    #[error("`{file}` has format {found}, this program knows format 1")]
    Format {
        /// Path below the tree.
        file: String,
        /// Its format.
        found: u32,
    },
    /// The output directory holds something.
    #[error("the output directory `{}` is not empty", .0.display())]
    OutputInUse(PathBuf),
    /// A program of the image is missing.
    #[error("`{program}` is not installed in the image")]
    MissingProgram {
        /// The program.
        program: String,
        /// Debian's package that holds it.
        package: &'static str,
        /// The other way it failed.
        #[source]
        source: kairn_host::Error,
    },
    /// The stub or another file has not the format it should have.
    #[error(transparent)]
    Image(#[from] kairn_image::Error),
    /// A file operation or a program failed.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
}

impl Error {
    /// Makes a function for `map_err` that names action and path.
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let named = kairn_host::Error::path(action, path);
        move |source| Self::Host(named(source))
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::OutputInUse(_) => Kind::User,
            Self::Image(error) => error.kind(),
            Self::Host(error) => error.kind(),
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotConverted { tree, .. } => vec![format!("run `kairn convert --root {}` first", tree.display())],
            Self::Changed { .. } | Self::Facts { .. } | Self::Format { .. } => {
                vec!["run `kairn convert` again as the last step of the image's build".into()]
            }
            Self::OutputInUse(_) => vec!["name a directory that is empty or does not exist yet".into()],
            Self::MissingProgram { package, .. } => {
                vec![format!("install the package `{package}` in the image and run `kairn convert` again")]
            }
            Self::Image(error) => error.hints(),
            Self::Host(error) => error.hints(),
        }
    }
}
