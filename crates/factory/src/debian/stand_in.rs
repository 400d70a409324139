//! A Debian package that stands for an initramfs generator.
//!
//! Debian's kernel packages depend on `initramfs-tools | linux-initramfs-tool`. Kairn brings its own initramfs, so a package
//! without content provides the name; generators, their hooks and what they depend on stay out of the image.

use crate::Error;
use sha2::Digest as _;
use std::fs;
use std::path::Path;

/// Name of the package.
pub(crate) const NAME: &str = "kairn-initramfs";

const CONTROL: &str = "Package: kairn-initramfs\nVersion: 1\nArchitecture: all\nMaintainer: Kairn <kairn@localhost>\n\
    Section: kernel\nPriority: optional\nProvides: linux-initramfs-tool\n\
    Description: stands for an initramfs generator\n Kairn brings its own initramfs.\n";

/// Writes a repository with this one package, for a source line `deb [trusted=yes] copy:<dir> ./`.
pub(crate) fn write_repository(dir: &Path) -> Result<(), Error> {
    let package = package()?;
    let index = format!(
        "{CONTROL}Filename: ./{NAME}.deb\nSize: {}\nSHA256: {}\n\n",
        package.len(),
        hex::encode(sha2::Sha256::digest(&package))
    );
    fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
    let file = dir.join(format!("{NAME}.deb"));
    fs::write(&file, package).map_err(Error::path("write", file))?;
    let file = dir.join("Packages");
    fs::write(&file, index).map_err(Error::path("write", file))
}

/// Makes the package (deb(5)): an `ar` archive of a version, the control tar and the data tar.
fn package() -> Result<Vec<u8>, Error> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar_of(&[("control", CONTROL.as_bytes())])?),
        ("data.tar", tar_of(&[])?),
    ] {
        // Name, time, owner, group, mode, size, each padded with blanks (ar(5)).
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len());
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(&content);
        if content.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    Ok(archive)
}

fn tar_of(files: &[(&str, &[u8])]) -> Result<Vec<u8>, Error> {
    let broken = |error| Error::path("write", NAME)(error);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        builder.append_data(&mut header, format!("./{name}"), *content).map_err(broken)?;
    }
    builder.into_inner().map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_host::{Invocation, Runner};

    #[test]
    fn dpkg_reads_the_package() {
        let dir = tempfile::tempdir().unwrap();
        write_repository(dir.path()).unwrap();
        let file = dir.path().join(format!("{NAME}.deb")).to_string_lossy().into_owned();
        let ask = Invocation::new("dpkg-deb").args(["--field", &file, "Provides"]);
        match Runner::default().run(&ask) {
            Ok(finished) => assert_eq!(finished.text(), "linux-initramfs-tool\n"),
            Err(kairn_host::Error::NoProgram { .. }) => eprintln!("skipped: dpkg-deb is not installed"),
            Err(other) => panic!("{other}"),
        }
    }
}
