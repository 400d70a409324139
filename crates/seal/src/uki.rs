//! The unified kernel image: stub, os-release, command line, kernel version, initramfs and kernel in one PE file.

use crate::{Error, tree::boot_file, write};
use kairn_layout::paths;
use kairn_lifecycle::{Blob, BootFacts, ReleaseId, RootImage};
use std::path::Path;

/// Assembles the image and writes it.
pub(crate) fn assemble(
    tree: &Path,
    facts: &BootFacts,
    cmdline: &str,
    root: &RootImage,
    output: &Path,
) -> Result<Blob, Error> {
    let stub = boot_file(tree, paths::boot::STUB)?;
    let kernel = boot_file(tree, paths::boot::KERNEL)?;
    let initramfs = boot_file(tree, paths::boot::INITRAMFS)?;
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
    write(output, &image)
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
