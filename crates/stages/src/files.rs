//! Files and directories.

use crate::{Context, Error};
use kairn_config::{Directory, File, Mode, Owner};
use kairn_host::{files, identity};
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// Mode of a new file, and of a new directory, that states none.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Makes a directory with its parents and gives it mode and owner; says whether anything changed.
pub fn ensure_directory(context: &Context, directory: &Directory) -> Result<bool, Error> {
    let path = context.at(&directory.path);
    let (uid, gid) = owners(context, directory.owner.as_ref(), directory.group.as_ref())?;
    let made = match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => false,
        Ok(_) => {
            return Err(Error::InTheWay { path: directory.path.clone(), found: "a file", wanted: "a directory" });
        }
        Err(_) => {
            files::make_dir(&path, directory.mode.map_or(DIRECTORY_MODE, |mode| mode.0))?;
            true
        }
    };
    Ok(settle(&path, directory.mode, uid, gid)? || made)
}

/// Writes a file whole when it does not hold this already; says whether anything changed.
pub fn ensure_file(context: &Context, file: &File) -> Result<bool, Error> {
    let path = context.at(&file.path);
    let (uid, gid) = owners(context, file.owner.as_ref(), file.group.as_ref())?;
    let before = fs::metadata(&path).ok();
    if before.as_ref().is_some_and(Metadata::is_dir) {
        return Err(Error::InTheWay { path: file.path.clone(), found: "a directory", wanted: "a file" });
    }
    let mode = file.mode.map(|mode| mode.0).or(before.as_ref().map(|before| before.mode() & 0o7777));
    let written = write_if_other(&path, file.content.reveal(), mode.unwrap_or(FILE_MODE), before.as_ref())?;
    Ok(settle(&path, file.mode, uid, gid)? || written)
}

/// Replaces a file's content atomically, keeping the owner of the one that it replaces.
pub fn write_if_other(path: &Path, content: &[u8], mode: u32, before: Option<&Metadata>) -> Result<bool, Error> {
    if let Some(before) = before
        && before.len() == content.len() as u64
        && files::read(path)? == content
    {
        return Ok(false);
    }
    if let Some(parent) = path.parent()
        && !parent.is_dir()
    {
        files::make_dir(parent, DIRECTORY_MODE)?;
    }
    files::write_whole(path, content, mode)?;
    if let Some(before) = before {
        settle(path, None, Some(before.uid()), Some(before.gid()))?;
    }
    Ok(true)
}

/// Sets mode and owner where they differ; owner first, since changing it drops set-id bits.
pub fn settle(path: &Path, mode: Option<Mode>, uid: Option<u32>, gid: Option<u32>) -> Result<bool, Error> {
    let metadata = fs::metadata(path).map_err(Error::path("read", path))?;
    let (uid, gid) = (uid.filter(|uid| *uid != metadata.uid()), gid.filter(|gid| *gid != metadata.gid()));
    if uid.is_some() || gid.is_some() {
        chown(path, uid, gid).map_err(Error::path("change the owner of", path))?;
    }
    let now = fs::metadata(path).map_err(Error::path("read", path))?.mode() & 0o7777;
    let wanted = mode.map_or(metadata.mode() & 0o7777, |mode| mode.0);
    if now != wanted {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))
            .map_err(Error::path("change the mode of", path))?;
    }
    Ok(uid.is_some() || gid.is_some() || metadata.mode() & 0o7777 != wanted)
}

fn owners(
    context: &Context,
    owner: Option<&Owner>,
    group: Option<&Owner>,
) -> Result<(Option<u32>, Option<u32>), Error> {
    let uid = match owner {
        None => None,
        Some(Owner::Id(id)) => Some(*id),
        Some(Owner::Name(name)) => match identity::user(&context.root, name)? {
            Some(user) => Some(user.uid),
            None => return Err(Error::NoAccount { kind: "user", name: name.clone() }),
        },
    };
    let gid = match group {
        None => None,
        Some(Owner::Id(id)) => Some(*id),
        Some(Owner::Name(name)) => match identity::group(&context.root, name)? {
            Some(group) => Some(group.gid),
            None => return Err(Error::NoAccount { kind: "group", name: name.clone() }),
        },
    };
    Ok((uid, gid))
}
