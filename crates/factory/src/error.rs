//! Why something was not converted or built.

use kairn_report::{Diagnostic, Kind};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A conversion or build that did not happen, with the object it failed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The tree has no kernel.
    #[error("`{}` has no kernel: {why}", .root.display())]
    NoKernel {
        /// The tree.
        root: PathBuf,
        /// What was looked at.
        why: String,
    },
    /// The kernel lacks what Kairn needs.
    #[error("kernel {kernel} lacks {}", .missing.join(", "))]
    KernelLacks {
        /// Kernel release.
        kernel: String,
        /// Option and purpose of each.
        missing: Vec<String>,
    },
    /// The image lacks programs or files.
    #[error("the image lacks {}", .missing.join(", "))]
    ImageLacks {
        /// Each with what it is for.
        missing: Vec<String>,
        /// Packages that hold them, for the hint.
        packages: Vec<String>,
        /// The command that installs them, when the distribution is known.
        install: Option<String>,
    },
    /// The tree is no root file system that Kairn understands.
    #[error("`{}` is not a root file system that can be converted: {why}", .root.display())]
    NotARoot {
        /// The tree.
        root: PathBuf,
        /// Why.
        why: String,
    },
    /// A module cannot be read.
    #[error("module `{}` cannot be decompressed: {why}", .path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The compressor is not one that this kernel reads.
    #[error("kernel {kernel} cannot read a root compressed with `{compressor}`: {why}")]
    Compressor {
        /// Kernel release.
        kernel: String,
        /// What was asked for.
        compressor: String,
        /// What is missing.
        why: String,
    },
    /// A path of the tree leads out of it or in circles.
    #[error("`{}` of the tree leads through too many symbolic links", .0.display())]
    LinkLoop(PathBuf),
    /// A kind of source that this verb does not take.
    #[error("{what} cannot be built from `{source_text}`")]
    Source {
        /// The output.
        what: &'static str,
        /// The source.
        source_text: String,
    },
    /// The programs to put into the image are for other machines.
    #[error("`{}` is for {found}, the tree `{}` for {wanted}", .program.display(), .root.display())]
    ForeignProgram {
        /// `kairn` or `kairn-init`.
        program: PathBuf,
        /// What it is for.
        found: kairn_lifecycle::Architecture,
        /// The tree.
        root: PathBuf,
        /// What that is for.
        wanted: kairn_lifecycle::Architecture,
    },
    /// Kairn has no images for this machine's architecture.
    #[error("Kairn makes images for amd64 and arm64, not for this machine's architecture")]
    Architecture,
    /// The output directory holds something.
    #[error("the output directory `{}` is not empty", .0.display())]
    OutputInUse(PathBuf),
    /// Another build works in the output directory.
    #[error("another build works in the output directory `{}`", .0.display())]
    OutputBusy(PathBuf),
    /// apt knows no mirror of Debian.
    #[error("apt on this machine names no mirror of Debian")]
    NoMirror,
    /// The bootstrap failed.
    #[error("Debian {suite} cannot be bootstrapped: {said}")]
    Bootstrap {
        /// The suite.
        suite: String,
        /// The errors of apt, dpkg and mmdebstrap.
        said: String,
    },
    /// The signing keys of Debian are not there.
    #[error("no keyring with Debian's signing keys was found (`{0}`)")]
    NoKeyring(PathBuf),
    /// A program of this machine is missing.
    #[error("`{program}` is not installed on this machine")]
    MissingProgram {
        /// The program.
        program: String,
        /// Debian's package that holds it.
        package: &'static str,
    },
    /// A release directory that does not hold what it says.
    #[error("`{}` is not a whole release: {why}", .path.display())]
    BadRelease {
        /// The directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A written file system has errors.
    #[error("writing the file system `{label}` failed: {said}")]
    FileSystem {
        /// Its label.
        label: String,
        /// What the tool said.
        said: String,
    },
    /// Text that should be JSON is not.
    #[error("`{}` is not readable", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The release's loader is none that a machine may depend on.
    #[error(transparent)]
    Loader(#[from] kairn_firmware::Error),
    /// The release cannot be laid out on a disk.
    #[error(transparent)]
    Disk(#[from] kairn_layout::DiskError),
    /// A format could not be written or read.
    #[error(transparent)]
    Image(#[from] kairn_image::Error),
    /// A file operation or a program failed.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] kairn_seal::Error),
    /// A container image could not be read or written.
    #[error(transparent)]
    Oci(#[from] kairn_oci::Error),
}

impl Error {
    /// Makes a function for `map_err` that names action and path.
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let named = kairn_host::Error::path(action, path);
        move |source| Self::Host(named(source))
    }

    /// Names the package when a program of this machine is missing.
    pub(crate) fn needs(package: &'static str) -> impl FnOnce(kairn_host::Error) -> Self {
        move |error| match error {
            kairn_host::Error::NoProgram { program } => Self::MissingProgram { program, package },
            other => Self::Host(other),
        }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Compressor { .. } | Self::Source { .. } | Self::OutputInUse(_) | Self::OutputBusy(_) => Kind::User,
            Self::Loader(error) => error.kind(),
            Self::Disk(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Host(error) => error.kind(),
            Self::Seal(error) => error.kind(),
            Self::Oci(error) => error.kind(),
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoKernel { .. } => {
                vec![
                    "install the distribution's kernel package in the image, e.g. `linux-image-amd64` of Debian".into(),
                ]
            }
            Self::KernelLacks { .. } => {
                vec!["use a kernel of the distribution that has them; Debian's `linux-image-amd64` does".into()]
            }
            Self::ImageLacks { packages, install, .. } => match install {
                Some(command) => vec![format!("in the image: {command} {}", packages.join(" "))],
                None => vec![format!("install the packages that Debian calls {}", packages.join(", "))],
            },
            Self::NotARoot { .. } => vec!["name the root file system of a Linux distribution with systemd".into()],
            Self::LinkLoop(_) => vec!["correct the links in the image".into()],
            Self::Module { .. } => vec!["install the kernel's package in the image again".into()],
            Self::Json { .. } => vec!["run `kairn convert` again as the last step of the image's build".into()],
            Self::ForeignProgram { wanted, .. } => {
                vec![format!("run the `kairn` for {wanted}, inside the image's own build: `RUN kairn convert`")]
            }
            Self::Source { what, .. } => {
                vec![format!("{what} is made of oci:, ocifile:, dir:, tar: and debian: sources")]
            }
            Self::Compressor { .. } => vec!["leave the compressor to conversion, or use `lz4hc,9`".into()],
            Self::OutputInUse(_) => vec!["name a directory that is empty or does not exist yet".into()],
            Self::OutputBusy(_) => vec!["wait until it has ended, or name another directory".into()],
            Self::NoMirror => vec!["add a Debian source to apt's sources and run `apt-get update`".into()],
            Self::NoKeyring(_) => vec!["install the package `debian-archive-keyring`".into()],
            Self::MissingProgram { package, .. } => vec![format!("apt-get install {package}")],
            Self::BadRelease { .. } => vec!["build it again with `kairn build` or `kairn seal`".into()],
            Self::Loader(error) => error.hints(),
            Self::Disk(error) => error.hints(),
            Self::Image(error) => error.hints(),
            Self::Host(error) => error.hints(),
            Self::Seal(error) => error.hints(),
            Self::Oci(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}
