//! The unified kernel image: stub, os-release, command line, kernel version, initramfs and kernel in one PE file.

use crate::{Error, tree::digest_file};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::{Blob, BootFacts, ReleaseId, RootImage};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Assembles the image and writes it.
pub(crate) fn assemble(
    tree: &Path,
    facts: &BootFacts,
    cmdline: &str,
    root: &RootImage,
    output: &Path,
) -> Result<Blob, Error> {
    let read = |name: &str| {
        let path = tree.join(paths::BOOT_DIR).join(name);
        fs::read(&path).map_err(Error::path("read", &path))
    };
    let stub = read(paths::boot::STUB)?;
    let kernel = read(paths::boot::KERNEL)?;
    let initramfs = read(paths::boot::INITRAMFS)?;
    let os_release = os_release(facts, ReleaseId::of_root_hash(&root.root_hash));
    let image = kairn_image::uki::assemble(
        &stub,
        &kairn_image::uki::Sections {
            osrel: os_release.as_bytes(),
            cmdline: cmdline.as_bytes(),
            uname: facts.kernel.as_bytes(),
            initrd: &initramfs,
            linux: &kernel,
        },
    )?;
    let mut file = File::create(output).map_err(Error::path("create", output))?;
    file.write_all(&image).and_then(|()| file.sync_all()).map_err(Error::path("write", output))?;
    let (size, sha256) = digest_file(output)?;
    Ok(Blob { size: Bytes(size), sha256 })
}

/// Renders `.osrel`, from which loaders take the title and sort order of an entry.
fn os_release(facts: &BootFacts, id: ReleaseId) -> String {
    let quoted = |text: &str| {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        plain.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`")
    };
    format!(
        "ID=kairn\nVERSION_ID=\"{}\"\nPRETTY_NAME=\"{}\"\nIMAGE_ID=kairn\nIMAGE_VERSION={id}\n",
        quoted(&facts.version),
        quoted(&facts.title),
    )
}
