//! Packs a directory as an image of one layer, the same bytes for the same tree: names sorted, times clamped, owners by number.

use crate::layout::oci_digest;
use crate::{Error, Image, Layout};
use kairn_lifecycle::{Architecture, Digest};
use kairn_report::{Event, Sink};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder,
    SCHEMA_VERSION,
};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// gzip level of layers. Level 3 takes a third of the time of 6 for some 5 % more bytes on a Debian tree.
const GZIP_LEVEL: u32 = 3;

/// What the image will say of itself.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// Architecture of the programs in the tree.
    pub architecture: Architecture,
    /// Latest time of a file in seconds since the epoch; later ones are set to it.
    pub epoch: u64,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Name in the layout's index.
    pub name: Option<String>,
}

/// Packs a tree into a layout as its only image.
///
/// # Errors
/// The tree cannot be read or the layout not be written.
pub fn pack(tree: &Path, layout: &Layout, options: &PackOptions, sink: &mut dyn Sink) -> Result<Image, Error> {
    sink.event(Event::start("pack-layer", format!("packing `{}` into a layer", tree.display())));
    let (layer, size, diff_id) = write_layer(tree, layout, options.epoch)?;
    let unbuilt = |error: oci_spec::OciSpecError| Error::malformed("the new image", error);
    let config = ConfigBuilder::default()
        .labels(options.labels.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    let configuration = ImageConfigurationBuilder::default()
        .architecture(match options.architecture {
            Architecture::Amd64 => Arch::Amd64,
            Architecture::Arm64 => Arch::ARM64,
        })
        .os(Os::Linux)
        .config(config.build().map_err(unbuilt)?)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(vec![format!("sha256:{diff_id}")])
                .build()
                .map_err(unbuilt)?,
        )
        .history(Vec::new())
        .build()
        .map_err(unbuilt)?;
    let config_bytes = canonical(&configuration)?;
    let config_digest = layout.put(&config_bytes)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(Descriptor::new(MediaType::ImageConfig, config_bytes.len() as u64, oci_digest(&config_digest)?))
        .layers(vec![Descriptor::new(MediaType::ImageLayerGzip, size, oci_digest(&layer)?)])
        .build()
        .map_err(unbuilt)?;
    let manifest_bytes = canonical(&manifest)?;
    let digest = layout.put(&manifest_bytes)?;
    layout.set_image(&digest, manifest_bytes.len() as u64, MediaType::ImageManifest, options.name.as_deref())?;
    sink.event(Event::done("pack-layer"));
    layout.image_by_digest(&digest)
}

/// Serialises with sorted keys: maps of the specification's types have no order, a value of serde_json has.
fn canonical(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_value(value).and_then(|value| serde_json::to_vec(&value));
    json.map_err(|error| Error::malformed("the new image", error))
}

/// Writes the layer blob and returns its digest, its size and the digest of the tar in it.
fn write_layer(tree: &Path, layout: &Layout, epoch: u64) -> Result<(Digest, u64, Digest), Error> {
    // The name is not known before the bytes are.
    let unnamed = layout.partial(&Digest([0; 32]));
    let file = File::create(&unnamed).map_err(Error::path("create", &unnamed))?;
    let blob = Tee { inner: BufWriter::with_capacity(1 << 18, file), hash: sha2::Sha256::new(), length: 0 };
    let gzip = flate2::GzBuilder::new().write(blob, flate2::Compression::new(GZIP_LEVEL));
    let tar = tar::Builder::new(Tee { inner: gzip, hash: sha2::Sha256::new(), length: 0 });
    let mut packer = Packer { tar, tree, epoch, links: BTreeMap::new() };
    packer.add_children(Path::new(""))?;
    let failed = || Error::path("write", &unnamed);
    let tar = packer.tar.into_inner().map_err(failed())?;
    let diff_id = Digest(tar.hash.finalize().into());
    let mut blob = tar.inner.finish().map_err(failed())?;
    blob.flush().map_err(failed())?;
    let (digest, size) = (Digest(blob.hash.finalize().into()), blob.length);
    fs::rename(&unnamed, layout.partial(&digest)).map_err(failed())?;
    layout.admit(&digest, size)?;
    Ok((digest, size, diff_id))
}

/// Computes digest and length of what passes.
struct Tee<W> {
    inner: W,
    hash: sha2::Sha256,
    length: u64,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Packer<'a, W: Write> {
    tar: tar::Builder<W>,
    tree: &'a Path,
    epoch: u64,
    /// First name of each file with several, by device and inode.
    links: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn add_children(&mut self, dir: &Path) -> Result<(), Error> {
        let full = self.tree.join(dir);
        let mut names = fs::read_dir(&full)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(Error::path("list", &full))?;
        names.sort();
        for name in names {
            let path = dir.join(name);
            let full = self.tree.join(&path);
            let meta = fs::symlink_metadata(&full).map_err(Error::path("read", &full))?;
            self.add(&path, &full, &meta).map_err(Error::path("pack", &full))?;
            if meta.is_dir() {
                self.add_children(&path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, full: &Path, meta: &Metadata) -> io::Result<()> {
        let kind = meta.file_type();
        if kind.is_socket() {
            // Sockets belong to processes; tar has no type for them.
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_mode(meta.mode() & 0o7777);
        header.set_uid(meta.uid().into());
        header.set_gid(meta.gid().into());
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0).min(self.epoch));
        header.set_size(0);
        if !meta.is_dir() && meta.nlink() > 1 {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())) {
                header.set_entry_type(EntryType::Link);
                return self.tar.append_link(&mut header, path, first);
            }
            self.links.insert((meta.dev(), meta.ino()), path.to_owned());
        }
        self.add_xattrs(full)?;
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.tar.append_link(&mut header, path, fs::read_link(full)?);
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(meta.len());
            return self.tar.append_data(&mut header, path, File::open(full)?);
        }
        header.set_entry_type(match kind {
            kind if kind.is_dir() => EntryType::Directory,
            kind if kind.is_fifo() => EntryType::Fifo,
            kind if kind.is_block_device() => EntryType::Block,
            _ => EntryType::Char,
        });
        if kind.is_block_device() || kind.is_char_device() {
            header.set_device_major(rustix::fs::major(meta.rdev()))?;
            header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
        }
        self.tar.append_data(&mut header, path, io::empty())
    }

    fn add_xattrs(&mut self, full: &Path) -> io::Result<()> {
        let mut names = vec![0; 1 << 16];
        let length = match rustix::fs::llistxattr(full, &mut names) {
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let mut found = BTreeMap::new();
        for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(full, std::ffi::OsStr::from_bytes(name), &mut value)?;
            value.truncate(length);
            let name = String::from_utf8(name.to_vec()).map_err(io::Error::other)?;
            found.insert(format!("SCHILY.xattr.{name}"), value);
        }
        if found.is_empty() {
            return Ok(());
        }
        self.tar.append_pax_extensions(found.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_report::Silent;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree(dir: &Path) {
        fs::create_dir_all(dir.join("usr/bin")).unwrap();
        fs::write(dir.join("usr/bin/tool"), vec![7; 100_000]).unwrap();
        fs::set_permissions(dir.join("usr/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(dir.join("usr/bin/tool"), dir.join("usr/bin/alias")).unwrap();
        symlink("usr/bin", dir.join("bin")).unwrap();
        fs::write(dir.join("n".repeat(200)), "long").unwrap();
        let file = File::open(dir.join("usr/bin/tool")).unwrap();
        if rustix::fs::fsetxattr(&file, "user.kairn", b"\0\xff", rustix::fs::XattrFlags::empty()).is_err() {
            eprintln!("skipped: extended attributes (the file system has none)");
        }
    }

    fn options() -> PackOptions {
        PackOptions {
            architecture: Architecture::Amd64,
            epoch: 1_000_000,
            labels: [("a".into(), "b".into())].into(),
            name: None,
        }
    }

    #[test]
    fn packing_twice_gives_the_same_image_and_unpacking_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        let mut images = Vec::new();
        for copy in ["one", "two"] {
            let source = dir.path().join(copy);
            tree(&source);
            let layout = Layout::create(&dir.path().join(format!("{copy}.oci"))).unwrap();
            images.push((pack(&source, &layout, &options(), &mut Silent).unwrap(), layout));
        }
        let (image, layout) = images.pop().unwrap();
        assert_eq!(image, images.pop().unwrap().0);
        assert_eq!(layout.image(Architecture::Amd64).unwrap(), image);
        assert!(matches!(layout.image(Architecture::Arm64), Err(Error::Architecture { .. })));

        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        image.unpack(&layout, &out, &mut Silent).unwrap();
        let again = Layout::create(&dir.path().join("again.oci")).unwrap();
        assert_eq!(pack(&out, &again, &options(), &mut Silent).unwrap().digest, image.digest);
        let (a, b) = (fs::metadata(out.join("bin/tool")).unwrap(), fs::metadata(out.join("usr/bin/alias")).unwrap());
        assert_eq!((a.ino(), a.mtime()), (b.ino(), 1_000_000));
    }
}
