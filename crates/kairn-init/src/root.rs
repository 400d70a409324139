//! Opens the sealed root: loop devices over image and hash tree, dm-verity, and the mount.

use crate::Error;
use kairn_host::dm::{VerityTable, open_verity};
use kairn_host::mount::{Access, FileSystem};
use kairn_host::{Error as HostError, LoopDevice, LoopOptions};
use kairn_layout::paths::release;
use kairn_lifecycle::ReleaseId;
use kairn_lifecycle::cmdline::RootTokens;
use std::path::{Path, PathBuf};

const NAME: &str = "kairn-root";
/// Of image, hash tree and verity alike.
const BLOCK: u64 = 4096;
const LOOP: LoopOptions = LoopOptions { read_only: true, block_size: 4096, direct_io: true, autoclear: true };

/// Opens the release in `dir` and mounts it read-only on `target`. Returns the device.
///
/// # Errors
/// A file is absent or short, or the kernel refuses: then it is not the release that the command line names.
pub fn open(dir: &Path, tokens: &RootTokens, panic_on_corruption: bool, target: &Path) -> Result<PathBuf, Error> {
    let image = dir.join(release::ROOT);
    let found = image.metadata().map_err(HostError::path("read", &image))?.len();
    let wanted = tokens.data_blocks.saturating_mul(BLOCK);
    if found < wanted {
        return Err(Error::Short { path: image, found, wanted });
    }
    let data = LoopDevice::attach(&image, LOOP)?;
    let hash = LoopDevice::attach(&dir.join(release::VERITY), LOOP)?;
    let table = VerityTable {
        data: data.path.clone(),
        hash: hash.path.clone(),
        data_blocks: tokens.data_blocks,
        root_hash: tokens.root_hash.to_string(),
        salt: hex::encode(&tokens.salt),
        panic_on_corruption,
    };
    let uuid = format!("KAIRN-{}", ReleaseId::of_root_hash(&tokens.root_hash));
    let device = open_verity(NAME, &uuid, &table)?;
    std::fs::create_dir_all(target).map_err(HostError::path("create", target))?;
    let format = tokens.format.to_string();
    FileSystem::new(&format, Access::ReadOnly).mount(&device, target)?;
    // From here on the mapping holds the loop devices, which go away with it.
    drop((data, hash));
    Ok(device)
}
