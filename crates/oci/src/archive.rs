//! Archives: a tar of an OCI layout, or what `docker save` writes.

use crate::layout::{oci_digest, parse, read_json};
use crate::records::Bounded;
use crate::{Error, Layout};
use kairn_host::files::measure;
use kairn_lifecycle::Digest;
use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType, SCHEMA_VERSION};
use serde::Deserialize;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

/// One image in the `manifest.json` of a docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: PathBuf,
    layers: Vec<PathBuf>,
}

impl Layout {
    /// Turns an archive into a layout. Each blob's digest is checked on the way in.
    ///
    /// # Errors
    /// Neither an OCI nor a docker archive, corrupt, or the file system refuses.
    pub fn import(archive: &Path, dir: &Path) -> Result<Self, Error> {
        let scratch = dir.join("import");
        // Of an import that was interrupted.
        kairn_host::files::remove_tree(&scratch)?;
        fs::create_dir_all(&scratch).map_err(Error::path("create", &scratch))?;
        extract(archive, &scratch)?;
        let layout = Self::create(dir)?;
        if scratch.join("oci-layout").exists() {
            layout.import_oci(archive, &scratch, dir)?;
        } else if scratch.join("manifest.json").exists() {
            layout.import_docker(&scratch)?;
        } else {
            return Err(Error::malformed(archive.display().to_string(), "neither an OCI nor a docker archive"));
        }
        fs::remove_dir_all(&scratch).map_err(Error::path("remove", &scratch))?;
        Ok(layout)
    }

    fn import_oci(&self, archive: &Path, scratch: &Path, dir: &Path) -> Result<(), Error> {
        let blobs = scratch.join("blobs/sha256");
        for entry in fs::read_dir(&blobs).map_err(Error::path("list", &blobs))? {
            let path = entry.map_err(Error::path("list", &blobs))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest: Digest =
                name.parse().map_err(|error| Error::malformed(archive.display().to_string(), error))?;
            self.take(&path, &digest)?;
        }
        let (from, to) = (scratch.join("index.json"), dir.join("index.json"));
        fs::rename(&from, &to).map_err(Error::path("move", &from))
    }

    fn import_docker(&self, scratch: &Path) -> Result<(), Error> {
        let bytes = read_json(&scratch.join("manifest.json"))?;
        let images: Vec<DockerImage> = parse("manifest.json", &bytes)?;
        let [image] = images.as_slice() else {
            return Err(Error::malformed(
                "manifest.json",
                format!("{} images in one archive, one is needed", images.len()),
            ));
        };
        let descriptor = |name: &Path, media_type: MediaType| -> Result<Descriptor, Error> {
            let path = scratch.join(inner(name)?);
            let mut file = File::open(&path).map_err(Error::path("open", &path))?;
            let (size, digest) = measure(&mut file).map_err(Error::path("read", &path))?;
            let digest = Digest(digest);
            if !self.has(&digest, size) {
                self.take(&path, &digest)?;
            }
            Ok(Descriptor::new(media_type, size, oci_digest(&digest)?))
        };
        let config = descriptor(&image.config, MediaType::ImageConfig)?;
        let layers = image.layers.iter().map(|layer| descriptor(layer, MediaType::ImageLayer));
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers.collect::<Result<Vec<_>, _>>()?)
            .build()
            .map_err(|error| Error::malformed("manifest.json", error))?;
        let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::malformed("manifest.json", error))?;
        let digest = self.put(&bytes)?;
        self.set_image(&digest, bytes.len() as u64, MediaType::ImageManifest, None)
    }

    /// Moves a file into the layout under a digest, which is checked.
    fn take(&self, path: &Path, digest: &Digest) -> Result<(), Error> {
        let size = fs::symlink_metadata(path).map_err(Error::path("read", path))?.len();
        fs::rename(path, self.partial(digest)).map_err(Error::path("move", path))?;
        self.admit(digest, size)
    }
}

/// Extracts regular files only; links and climbing paths are refused, since nothing in an image archive needs them but docker's
/// duplicate layers, which are written as symbolic links and resolved here by name.
fn extract(archive: &Path, scratch: &Path) -> Result<(), Error> {
    let name = archive.display().to_string();
    let file = File::open(archive).map_err(Error::path("open", archive))?;
    let (bounded, allowance) = Bounded::new(std::io::BufReader::new(file));
    let mut tar = tar::Archive::new(bounded);
    let broken = |error: std::io::Error| Error::malformed(&name, error);
    let mut last: Option<PathBuf> = None;
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(|error| allowance.judge(&name, last.as_deref(), error))?;
        allowance.came(&entry);
        let path = &*last.insert(entry.path().map_err(broken)?.into_owned());
        let target = scratch.join(inner(path)?);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            fs::create_dir_all(&target).map_err(Error::path("create", &target))?;
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(Error::path("create", parent))?;
        }
        if kind.is_file() {
            let mut out = File::create_new(&target).map_err(Error::path("create", &target))?;
            std::io::copy(&mut entry, &mut out).map_err(Error::path("write", &target))?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            let link = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
            let base = if kind.is_symlink() { path.parent().unwrap_or(Path::new("")) } else { Path::new("") };
            let from =
                scratch.join(resolve(base, &link).ok_or_else(|| Error::malformed(&name, "a link climbs out of it"))?);
            fs::copy(&from, &target).map_err(Error::path("copy", &from))?;
        } else {
            return Err(Error::malformed(&name, format!("`{}` is neither file, directory nor link", path.display())));
        }
    }
    Ok(())
}

/// Refuses paths that leave the archive.
fn inner(path: &Path) -> Result<PathBuf, Error> {
    resolve(Path::new(""), path)
        .ok_or_else(|| Error::malformed(path.display().to_string(), "the path leaves the archive"))
}

/// Joins and normalises; `None` when the result climbs out.
fn resolve(base: &Path, path: &Path) -> Option<PathBuf> {
    let mut out = base.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PackOptions, pack};
    use kairn_lifecycle::Architecture;
    use kairn_report::Silent;

    fn layout_of(dir: &Path) -> (Layout, crate::Image) {
        let tree = dir.join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "content").unwrap();
        let options = PackOptions {
            architecture: Architecture::Amd64,
            epoch: 1,
            labels: std::collections::BTreeMap::new(),
            name: None,
        };
        let layout = Layout::create(&dir.join("layout")).unwrap();
        let image = pack(&tree, &layout, &options, &mut Silent).unwrap();
        (layout, image)
    }

    #[test]
    fn an_oci_archive_becomes_the_same_layout() {
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = layout_of(dir.path());
        let archive = dir.path().join("image.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        tar.append_dir_all(".", dir.path().join("layout")).unwrap();
        tar.finish().unwrap();
        // What an interrupted import leaves is in nobody's way.
        fs::create_dir_all(dir.path().join("imported/import")).unwrap();
        fs::write(dir.path().join("imported/import/oci-layout"), "half").unwrap();
        let imported = Layout::import(&archive, &dir.path().join("imported")).unwrap();
        assert_eq!(imported.image(Architecture::Amd64).unwrap(), image);
    }

    #[test]
    fn a_docker_archive_with_an_uncompressed_layer_unpacks() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = layout_of(dir.path());
        let layer = fs::read(layout.blob(&image.layers[0].digest)).unwrap();
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(layer.as_slice()), &mut plain).unwrap();
        let archive = dir.path().join("docker.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        let config = fs::read(layout.blob(&image.config.0)).unwrap();
        let manifest = br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l/layer.tar"]}]"#;
        for (name, bytes) in [("l/layer.tar", plain.as_slice()), ("c.json", &config), ("manifest.json", manifest)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes).unwrap();
        }
        tar.finish().unwrap();
        let imported = Layout::import(&archive, &dir.path().join("imported")).unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        imported.image(Architecture::Amd64).unwrap().unpack(&imported, &out, &mut Silent).unwrap();
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "content");
    }

    #[test]
    fn an_archive_that_climbs_out_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("evil.tar");
        let mut bytes = vec![0; 512];
        bytes[..9].copy_from_slice(b"../escape");
        let mut header = tar::Header::from_byte_slice(&bytes).clone();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        tar.append(&header, std::io::empty()).unwrap();
        tar.finish().unwrap();
        let error = Layout::import(&archive, &dir.path().join("in")).unwrap_err();
        assert!(error.to_string().contains("leaves the archive"), "{error}");
        assert!(!dir.path().join("escape").exists());
    }

    #[test]
    fn an_archive_whose_names_would_fill_the_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("evil.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        let name = vec![b'a'; 2 << 20];
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(name.len() as u64);
        header.set_cksum();
        tar.append(&header, name.as_slice()).unwrap();
        tar.finish().unwrap();
        let error = Layout::import(&archive, &dir.path().join("in")).unwrap_err();
        assert!(
            matches!(&error, Error::TooLarge { what, .. } if what.starts_with(archive.to_str().unwrap())),
            "{error}"
        );
    }
}
