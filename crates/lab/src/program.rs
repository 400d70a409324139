//! The programs and firmware files that a lab needs, each with the Debian package that holds it.

use crate::Error;
use std::path::{Path, PathBuf};

/// QEMU itself.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// Makes and converts disk images.
pub(crate) const QEMU_IMG: &str = "qemu-img";
/// Emulates a TPM.
pub(crate) const SWTPM: &str = "swtpm";

/// Pairs of UEFI code and empty variable store. Distributions name them differently; both must be of one build.
const OVMF: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
];

/// Names the Debian package that holds a program.
pub(crate) fn package(program: &str) -> Option<&'static str> {
    Some(match program {
        QEMU => "qemu-system-x86",
        QEMU_IMG => "qemu-utils",
        SWTPM => "swtpm",
        "ssh" | "scp" | "ssh-keygen" => "openssh-client",
        _ => return None,
    })
}

/// Finds the UEFI firmware: code and the empty variable store that belongs to it.
///
/// # Errors
/// Not installed.
pub(crate) fn ovmf() -> Result<(PathBuf, PathBuf), Error> {
    OVMF.iter()
        .find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file())
        .map(|(code, vars)| (PathBuf::from(code), PathBuf::from(vars)))
        .ok_or(Error::NoPackage { object: "OVMF_CODE_4M.fd".into(), package: "ovmf" })
}
