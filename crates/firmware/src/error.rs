//! What can go wrong between us and the firmware.

use kairn_lifecycle::Sequence;
use kairn_report::{Diagnostic, Kind};
use thiserror::Error as ThisError;

/// A refusal or failure at the ESP, the loader or the EFI variables.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The machine failed at an effect or a read.
    #[error(transparent)]
    Host(#[from] kairn_host::Error),
    /// A deployment has no entry on the ESP.
    #[error("deployment {0} has no entry on the ESP")]
    NoEntry(Sequence),
    /// Every entry of a deployment lacks the lines that an entry needs.
    #[error("every entry of deployment {0} on the ESP is damaged")]
    DamagedEntry(Sequence),
    /// A loader binary does not say which version it is.
    #[error("`{0}` is not a systemd-boot binary: it does not say its version")]
    NotALoader(String),
    /// A loader whose counting of tries was not proven.
    #[error(
        "systemd-boot {version} is not supported: its counting of boot tries was not proven (supported: {supported})"
    )]
    UnsupportedLoader {
        /// What was offered.
        version: String,
        /// The majors that are.
        supported: String,
    },
    /// All 65536 boot option numbers are taken.
    #[error("the firmware has no free boot option number")]
    NoFreeBootOption,
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Host(error) => error.kind(),
            Self::NoEntry(_) => Kind::User,
            Self::DamagedEntry(_) | Self::NotALoader(_) | Self::UnsupportedLoader { .. } | Self::NoFreeBootOption => {
                Kind::Environment
            }
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.hints(),
            Self::NoEntry(_) => vec!["`kairn boot-entry list` shows the deployments that have one".into()],
            Self::DamagedEntry(_) => {
                vec!["upgrade again: a new deployment gets a new entry and the damaged one is left to garbage collection".into()]
            }
            Self::NotALoader(_) => vec!["run `kairn convert` in the image again".into()],
            Self::UnsupportedLoader { .. } => {
                vec![
                    "install a supported version of the package systemd-boot-efi in the image and convert it again"
                        .into(),
                ]
            }
            Self::NoFreeBootOption => {
                vec!["remove boot options in the firmware's setup or with `efibootmgr -B`".into()]
            }
        }
    }
}
