//! Applies layers to a directory, lowest first (OCI image specification, layer.md): owners, modes, times, extended attributes,
//! hard links, device nodes, whiteouts.
//!
//! Invariant: nothing outside the directory is touched, whatever a layer holds. Each parent is opened by `openat2` with
//! `RESOLVE_IN_ROOT`, and the last component is only used relative to it and never followed.

use crate::records::{Bounded, shown};
use crate::{Error, Image, Layer, Layout};
use kairn_lifecycle::Digest;
use kairn_report::{Event, Sink};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Keys of extended attributes in PAX headers (star's convention, which the OCI specification names).
const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// What unpacking did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries applied.
    pub entries: u64,
    /// Entries removed by whiteouts.
    pub removed: u64,
    /// Sum of file sizes in bytes.
    pub bytes: u64,
}

impl Image {
    /// Unpacks all layers into an empty directory and checks each layer's `diff_id`.
    ///
    /// # Errors
    /// A corrupt layer, an entry that cannot be applied, or the file system refuses. The directory is then partial.
    pub fn unpack(&self, layout: &Layout, target: &Path, sink: &mut dyn Sink) -> Result<Unpacked, Error> {
        let root = rustix::fs::open(target, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::path("open", target)(errno.into()))?;
        let mut total = Unpacked::default();
        for (number, layer) in self.layers.iter().enumerate() {
            let step = format!("unpack-layer-{}", number + 1);
            let text = format!("unpacking layer {} of {} ({})", number + 1, self.layers.len(), Size(layer.size));
            sink.event(Event::start(&step, text));
            match unpack_layer(layer, layout, &root) {
                Ok(done) => {
                    total.entries += done.entries;
                    total.removed += done.removed;
                    total.bytes += done.bytes;
                    sink.event(Event::done(&step));
                }
                Err(error) => {
                    let error = layout.recheck(&layer.digest)?.unwrap_or(error);
                    sink.event(Event::failed(&step, error.to_string()));
                    return Err(error);
                }
            }
        }
        Ok(total)
    }
}

/// Bytes as a person reads them.
pub(crate) struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = self.0 / 104_858;
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

fn unpack_layer(layer: &Layer, layout: &Layout, root: &OwnedFd) -> Result<Unpacked, Error> {
    let path = layout.blob(&layer.digest);
    let file = BufReader::with_capacity(1 << 18, File::open(&path).map_err(Error::path("open", &path))?);
    let plain = decompressor(&layer.media_type, &layer.digest, file)?;
    let (bounded, allowance) = Bounded::new(Hashing { inner: plain, hash: sha2::Digest::new() });
    let mut archive = tar::Archive::new(bounded);
    let mut target = Target {
        root,
        layer: layer.digest,
        made: BTreeSet::new(),
        dir_times: BTreeMap::new(),
        done: Unpacked::default(),
    };
    let name = format!("layer {}", layer.digest);
    let unreadable = |error: io::Error| Error::malformed(&name, error);
    let mut last = None;
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(|error| allowance.judge(&name, last.as_deref(), error))?;
        allowance.came(&entry);
        last = Some(target.apply(&mut entry)?);
    }
    target.finish_dirs()?;
    let done = target.done;
    let mut rest = archive.into_inner().into_inner();
    // The digest covers what follows the end-of-archive marker too.
    io::copy(&mut rest, &mut io::sink()).map_err(unreadable)?;
    let found = Digest(sha2::Digest::finalize(rest.hash).into());
    if found == layer.diff_id { Ok(done) } else { Err(Error::Digest { expected: layer.diff_id, found }) }
}

/// Puts the decompressor before a reader that a layer's media type asks for.
pub(crate) fn decompressor<'r>(
    media_type: &str,
    layer: &Digest,
    reader: impl BufRead + 'r,
) -> Result<Box<dyn Read + 'r>, Error> {
    let malformed = |error: io::Error| Error::malformed(format!("layer {layer}"), error);
    Ok(match compression(media_type, layer)? {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(reader).map_err(malformed)?),
    })
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

fn compression(media_type: &str, layer: &Digest) -> Result<Compression, Error> {
    match media_type {
        t if t.ends_with("+gzip") || t.ends_with(".tar.gzip") => Ok(Compression::Gzip),
        t if t.ends_with("+zstd") || t.ends_with(".tar.zstd") => Ok(Compression::Zstd),
        t if t.ends_with(".tar") || t.ends_with("v1.tar") => Ok(Compression::None),
        other => {
            Err(Error::malformed(format!("layer {layer}"), format!("media type `{other}` is no tar that kairn reads")))
        }
    }
}

/// Computes the digest of what passes.
struct Hashing<R> {
    inner: R,
    hash: sha2::Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.hash, buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// One layer being applied.
struct Target<'a> {
    root: &'a OwnedFd,
    layer: Digest,
    /// Paths that this layer made, which its own opaque whiteouts spare.
    made: BTreeSet<PathBuf>,
    /// Directory times, set at the end because filling a directory changes them.
    dir_times: BTreeMap<PathBuf, u64>,
    done: Unpacked,
}

/// Owner, mode and time of an entry.
struct Meta {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    mtime: u64,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Target<'_> {
    /// Applies an entry and returns its path.
    fn apply(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<PathBuf, Error> {
        let raw = entry.path().map_err(|error| Error::malformed(format!("layer {}", self.layer), error))?.into_owned();
        let layer = self.layer;
        let failed =
            |reason: &dyn std::fmt::Display| Error::Entry { layer, entry: shown(&raw), reason: reason.to_string() };
        // Comments for the whole archive, as those of `git archive`; what else could be in there no layer uses.
        if entry.header().entry_type().is_pax_global_extensions() {
            return Ok(raw);
        }
        let Some(path) = normal(&raw).map_err(|reason| failed(&reason))? else {
            // The root directory itself: only its metadata.
            let meta = meta(entry).map_err(|error| failed(&error))?;
            let root = openat(self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| failed(&errno))?;
            apply_meta(&root, &meta).map_err(|error| failed(&error))?;
            return Ok(raw);
        };
        let (parent_path, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
            _ => return Err(failed(&"it has no name")),
        };
        let result = (|| -> io::Result<()> {
            let parent = self.parent(&parent_path)?;
            let bytes = name.as_bytes();
            if bytes == b".wh..wh..opq" {
                return self.clear(&parent, &parent_path);
            }
            if let Some(hidden) = bytes.strip_prefix(b".wh.") {
                let hidden = Path::new(std::ffi::OsStr::from_bytes(hidden));
                // `.wh...` would take away the directory above, which may be outside.
                if !matches!(hidden.components().next(), Some(Component::Normal(_))) {
                    return Err(io::Error::other("a whiteout without a name"));
                }
                return self.hide(&parent, &parent_path, hidden);
            }
            self.put(&parent, Path::new(&name), &path, entry)
        })();
        result.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::path("unpack", &path)(error),
            _ => failed(&error),
        })?;
        self.done.entries += 1;
        self.made.insert(path.clone());
        Ok(path)
    }

    /// Opens the parent of an entry inside the root; absent ones are made as a layer may leave them out.
    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(Errno::NOENT) => {
                let above = path.parent().unwrap_or(Path::new(""));
                let fd = self.parent(above)?;
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                match mkdirat(&fd, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => Ok(self.open_dir(path)?),
                    Err(errno) => Err(errno.into()),
                }
            }
            other => Ok(other?),
        }
    }

    fn open_dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn put(
        &mut self,
        parent: &OwnedFd,
        name: &Path,
        path: &Path,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let meta = meta(entry)?;
        if kind == EntryType::Directory {
            return self.put_dir(parent, name, path, &meta);
        }
        remove(parent, name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
                self.done.bytes += io::copy(entry, &mut file)?;
                apply_meta(&file, &meta)
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a symbolic link without target"))?;
                symlinkat(target.as_ref(), parent, name)?;
                apply_meta_by_name(parent, name, &meta)
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a hard link without target"))?;
                let target = normal(&target).map_err(io::Error::other)?.ok_or(io::ErrorKind::InvalidInput)?;
                let from = self.open_dir(target.parent().unwrap_or(Path::new("")))?;
                let from_name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                linkat(&from, from_name, parent, name, AtFlags::empty()).map_err(|errno| {
                    io::Error::new(io::Error::from(errno).kind(), format!("link to `{}`: {errno}", target.display()))
                })
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (file_type, device) = match kind {
                    EntryType::Fifo => (FileType::Fifo, 0),
                    EntryType::Char => (FileType::CharacterDevice, device(entry)?),
                    _ => (FileType::BlockDevice, device(entry)?),
                };
                mknodat(parent, name, file_type, Mode::from_raw_mode(0o600), device)?;
                apply_meta_by_name(parent, name, &meta)?;
                rustix::fs::chmodat(parent, name, meta.mode, AtFlags::empty())?;
                Ok(())
            }
            other => Err(io::Error::other(format!("entries of type {other:?} are not known"))),
        }
    }

    fn put_dir(&mut self, parent: &OwnedFd, name: &Path, path: &Path, meta: &Meta) -> io::Result<()> {
        let is_dir = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(errno.into()),
        };
        if !is_dir {
            remove(parent, name)?;
            mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty())?;
        self.dir_times.insert(path.to_owned(), meta.mtime);
        apply_meta(&dir, meta)
    }

    /// Removes from a directory what lower layers put there.
    fn clear(&mut self, dir: &OwnedFd, path: &Path) -> io::Result<()> {
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = Path::new(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes())).to_owned();
            if name != Path::new(".") && name != Path::new("..") {
                self.hide(dir, path, &name)?;
            }
        }
        Ok(())
    }

    /// Removes what lower layers put under a name; a whiteout says nothing about what its own layer makes there.
    fn hide(&mut self, dir: &OwnedFd, path: &Path, name: &Path) -> io::Result<()> {
        let child = path.join(name);
        if !self.made.range(child.clone()..).next().is_some_and(|made| made.starts_with(&child)) {
            self.done.removed += 1;
            return remove(dir, name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(dir, name, flags, Mode::empty()) {
            Ok(inner) => self.clear(&inner, &child),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn finish_dirs(&self) -> Result<(), Error> {
        for (path, mtime) in self.dir_times.iter().rev() {
            match self.open_dir(path) {
                // A later entry of the same layer may have removed or replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                opened => {
                    let failed = |errno: Errno| Error::path("set the time of", path)(errno.into());
                    futimens(opened.map_err(failed)?, &times(*mtime)).map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

/// Strips `/` and `.`; `None` is the root; refuses `..`.
pub(crate) fn normal(path: &Path) -> Result<Option<PathBuf>, String> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("its path climbs out with `..`".to_owned()),
        }
    }
    Ok(if out.as_os_str().is_empty() { None } else { Some(out) })
}

fn meta(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Meta> {
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(XATTR_PREFIX)) {
                xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other(format!("owner {id} is out of range")));
    Ok(Meta {
        uid: Uid::from_raw(id(header.uid()?)?),
        gid: Gid::from_raw(id(header.gid()?)?),
        mode: Mode::from_raw_mode(header.mode()? & 0o7777),
        mtime: header.mtime()?,
        xattrs,
    })
}

fn device(entry: &tar::Entry<'_, impl Read>) -> io::Result<u64> {
    let header = entry.header();
    let missing = || io::Error::other("a device without numbers");
    let (major, minor) = (header.device_major()?.ok_or_else(missing)?, header.device_minor()?.ok_or_else(missing)?);
    Ok(rustix::fs::makedev(major, minor))
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets owner first: changing it drops set-id bits and capabilities.
fn apply_meta(file: &impl AsFd, meta: &Meta) -> io::Result<()> {
    fchown(file, Some(meta.uid), Some(meta.gid))?;
    fchmod(file, meta.mode)?;
    for (name, value) in &meta.xattrs {
        fsetxattr(file, name.as_str(), value, XattrFlags::empty()).map_err(|errno| {
            io::Error::new(io::Error::from(errno).kind(), format!("extended attribute `{name}`: {errno}"))
        })?;
    }
    Ok(futimens(file, &times(meta.mtime))?)
}

/// The same for objects that cannot be opened; symbolic links carry no attributes that matter here.
fn apply_meta_by_name(parent: &OwnedFd, name: &Path, meta: &Meta) -> io::Result<()> {
    chownat(parent, name, Some(meta.uid), Some(meta.gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(parent, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes a file or tree below a directory without following links; absent is fine.
fn remove(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let child = Path::new(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes())).to_owned();
        if child != Path::new(".") && child != Path::new("..") {
            remove(&dir, &child)?;
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests;
