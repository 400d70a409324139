//! Files and directories.

use crate::{Context, Error};
use kairn_config::{Directory, File, Mode, Owner};
use kairn_host::{files, identity};
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

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
pub fn ensure_file(context: &Context, file: &File, content: &[u8]) -> Result<bool, Error> {
    let path = follow(context, context.at(&file.path))?;
    let (uid, gid) = owners(context, file.owner.as_ref(), file.group.as_ref())?;
    let before = fs::metadata(&path).ok();
    if before.as_ref().is_some_and(Metadata::is_dir) {
        return Err(Error::InTheWay { path: file.path.clone(), found: "a directory", wanted: "a file" });
    }
    let mode = file.mode.map(|mode| mode.0).or(before.as_ref().map(|before| before.mode() & 0o7777));
    let written = write_if_other(&path, content, mode.unwrap_or(FILE_MODE), before.as_ref())?;
    Ok(settle(&path, file.mode, uid, gid)? || written)
}

/// Adds to the end of a file what it does not hold anywhere; says whether anything changed.
pub fn ensure_appended(context: &Context, file: &File, content: &[u8]) -> Result<bool, Error> {
    let path = follow(context, context.at(&file.path))?;
    let before = if path.is_file() { files::read(&path)? } else { Vec::new() };
    let there = content.is_empty() || before.windows(content.len()).any(|window| window == content);
    let whole = if there { before } else { [before.as_slice(), content].concat() };
    ensure_file(context, file, &whole)
}

/// Returns where a chain of links ends, within the root: what is written must land in the file that the link names, such as an
/// `/etc/hostname` that lies on the persistent partition, and not in place of the link.
pub fn follow(context: &Context, path: PathBuf) -> Result<PathBuf, Error> {
    let mut here = path.clone();
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&here) else { return Ok(here) };
        here = match here.parent() {
            Some(parent) if target.is_relative() => parent.join(target),
            _ => context.at(&target),
        };
    }
    Err(Error::InTheWay { path, found: "a link that leads in a circle", wanted: "a file" })
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

pub fn owners(
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

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_config::{Content, TemplateValues};
    use kairn_report::Secret;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_appended_is_there_once_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context { root: dir.path().to_owned(), ..Context::this(TemplateValues::default()) };
        let file = File {
            path: "/etc/hosts".into(),
            content: Secret::new(Content::Bytes(Vec::new())),
            mode: None,
            owner: None,
            group: None,
        };
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/hosts"), "one\n").unwrap();
        fs::set_permissions(dir.path().join("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap();
        for (content, changed) in [("two\n", true), ("two\n", false), ("three\n", true), ("two\n", false), ("", false)]
        {
            assert_eq!(ensure_appended(&context, &file, content.as_bytes()).unwrap(), changed, "{content}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("etc/hosts")).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(fs::metadata(dir.path().join("etc/hosts")).unwrap().mode() & 0o7777, 0o600);
        let new = File { path: "/etc/new".into(), ..file };
        assert!(ensure_appended(&context, &new, b"x").unwrap());
        assert_eq!(fs::read(dir.path().join("etc/new")).unwrap(), b"x");
    }

    #[test]
    fn a_file_behind_a_link_is_written_and_the_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context { root: dir.path().to_owned(), ..Context::this(TemplateValues::default()) };
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        symlink("/usr/local/etc/name", dir.path().join("etc/name")).unwrap();
        symlink("b", dir.path().join("etc/a")).unwrap();
        symlink("a", dir.path().join("etc/b")).unwrap();
        let file = |path: &str| File {
            path: path.into(),
            content: Secret::new(Content::Bytes(b"x".to_vec())),
            mode: None,
            owner: None,
            group: None,
        };
        assert!(ensure_file(&context, &file("/etc/name"), b"x").unwrap());
        assert!(!ensure_file(&context, &file("/etc/name"), b"x").unwrap());
        assert_eq!(fs::read(dir.path().join("usr/local/etc/name")).unwrap(), b"x");
        assert!(dir.path().join("etc/name").is_symlink());
        assert!(matches!(ensure_file(&context, &file("/etc/a"), b"x"), Err(Error::InTheWay { .. })));
    }
}
