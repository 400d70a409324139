//! OCI image layouts: a directory of blobs by digest with an index (OCI image specification, image-layout.md).

use crate::Error;
use kairn_host::files::measure;
use kairn_lifecycle::{Architecture, Digest};
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType, OciLayoutBuilder,
    SCHEMA_VERSION,
};
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Largest manifest, index or configuration that is read, in bytes; registries enforce the same bound.
pub(crate) const MAX_JSON: u64 = 4 << 20;

/// An image layout on disk.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

/// One layer of an image, lowest first in [`Image::layers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the tar in it.
    pub diff_id: Digest,
    /// OCI or docker media type.
    pub media_type: String,
}

/// An image by its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest: the name of the image.
    pub digest: Digest,
    /// Digest and size of the configuration blob.
    pub config: (Digest, u64),
    /// Processor architecture of its programs, in OCI's spelling.
    pub architecture: String,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Returns the sum of the stored sizes in bytes.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).fold(self.config.1, u64::saturating_add)
    }

    /// Refuses an image for other machines: an index that names no platform is taken at its word until here.
    pub(crate) fn must_be_for(self, wanted: Architecture, name: &str) -> Result<Self, Error> {
        if self.architecture == wanted.to_string() {
            return Ok(self);
        }
        Err(Error::Architecture { image: name.to_owned(), wanted, available: self.architecture })
    }
}

impl Layout {
    /// Makes a layout in a directory, or opens the one that is there.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Error::path("create", &blobs))?;
        let layout = Self { dir: dir.to_owned() };
        let marker = OciLayoutBuilder::default()
            .image_layout_version("1.0.0")
            .build()
            .map_err(|error| Error::malformed("oci-layout", error))?;
        layout.write_json("oci-layout", &marker)?;
        Ok(layout)
    }

    /// Opens a layout.
    ///
    /// # Errors
    /// The directory holds none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let marker = dir.join("oci-layout");
        fs::metadata(&marker).map_err(Error::path("find the image layout", &marker))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Returns the path of a blob, present or not.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.to_string())
    }

    /// Returns the path under which an unfinished download of a blob is kept.
    #[must_use]
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(format!("{digest}.partial"))
    }

    /// Says whether a blob is there with this size. Its bytes were checked when it got its name.
    #[must_use]
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|meta| meta.len() == size)
    }

    /// Stores a small blob.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let partial = self.partial(&digest);
        let mut file = File::create(&partial).map_err(Error::path("create", &partial))?;
        file.write_all(bytes).map_err(Error::path("write", &partial))?;
        self.admit(&digest, bytes.len() as u64)?;
        Ok(digest)
    }

    /// Gives a finished partial blob its name, after its size and digest were checked; a wrong one is removed.
    ///
    /// # Errors
    /// Wrong size or digest, or the file system refuses.
    pub fn admit(&self, digest: &Digest, size: u64) -> Result<(), Error> {
        let partial = self.partial(digest);
        let mut file = File::open(&partial).map_err(Error::path("open", &partial))?;
        let (length, found) = measure(&mut file).map_err(Error::path("read", &partial))?;
        let found = Digest(found);
        let wrong = if length != size {
            Some(Error::Length { digest: *digest, expected: size, what: format!("has {length}") })
        } else if found != *digest {
            Some(Error::Digest { expected: *digest, found })
        } else {
            None
        };
        if let Some(error) = wrong {
            fs::remove_file(&partial).map_err(Error::path("remove", &partial))?;
            return Err(error);
        }
        file.sync_all().map_err(Error::path("sync", &partial))?;
        let blob = self.blob(digest);
        fs::rename(&partial, &blob).map_err(Error::path("name", &blob))
    }

    /// Checks a blob's bytes once more, after something in them could not be used. One that the disk damaged is removed, so that the
    /// next pull fetches it anew, and what is wrong with it is returned.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn recheck(&self, digest: &Digest) -> Result<Option<Error>, Error> {
        let path = self.blob(digest);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::path("open", &path))?,
        };
        let found = Digest(measure(&mut file).map_err(Error::path("read", &path))?.1);
        if found == *digest {
            return Ok(None);
        }
        fs::remove_file(&path).map_err(Error::path("remove", &path))?;
        Ok(Some(Error::Digest { expected: *digest, found }))
    }

    /// Makes this manifest the layout's only image.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn set_image(
        &self,
        manifest: &Digest,
        size: u64,
        media_type: MediaType,
        name: Option<&str>,
    ) -> Result<(), Error> {
        let mut descriptor = Descriptor::new(media_type, size, oci_digest(manifest)?);
        if let Some(name) = name {
            // The annotation by which other tools choose among images (image-spec annotations.md).
            descriptor
                .set_annotations(Some([("org.opencontainers.image.ref.name".to_owned(), name.to_owned())].into()));
        }
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![descriptor])
            .build()
            .map_err(|error| Error::malformed("index.json", error))?;
        self.write_json("index.json", &index)
    }

    /// Finds the layout's image for an architecture.
    ///
    /// # Errors
    /// There is none, or it is malformed.
    pub fn image(&self, wanted: Architecture) -> Result<Image, Error> {
        let index: ImageIndex = parse("index.json", &read_json(&self.dir.join("index.json"))?)?;
        let digest = self.choose(&index, wanted, 0)?;
        self.image_by_digest(&digest)?.must_be_for(wanted, &self.dir.display().to_string())
    }

    /// Follows indexes (which may nest, to a depth of four) to the manifest for an architecture.
    fn choose(&self, index: &ImageIndex, wanted: Architecture, depth: u32) -> Result<Digest, Error> {
        let descriptor = choose(index, wanted, &self.dir.display().to_string())?;
        let digest = digest_of_descriptor(descriptor)?;
        if is_index(descriptor.media_type()) && depth < 4 {
            let inner: ImageIndex = self.read_json(&digest)?;
            return self.choose(&inner, wanted, depth + 1);
        }
        Ok(digest)
    }

    /// Reads an image of which manifest and configuration are in the layout.
    ///
    /// # Errors
    /// One is absent or malformed.
    pub fn image_by_digest(&self, digest: &Digest) -> Result<Image, Error> {
        let manifest: ImageManifest = self.read_json(digest)?;
        let config = digest_of_descriptor(manifest.config())?;
        let configuration: ImageConfiguration = self.read_json(&config)?;
        image(*digest, &manifest, &configuration)
    }

    fn read_json<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, Error> {
        let bytes = read_json(&self.blob(digest))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::Digest { expected: *digest, found });
        }
        parse(&digest.to_string(), &bytes)
    }

    fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), Error> {
        let path = self.dir.join(name);
        let bytes = serde_json::to_vec(value).map_err(|error| Error::malformed(name, error))?;
        Ok(kairn_host::files::write_whole(&path, &bytes, 0o644)?)
    }
}

/// Chooses the manifest for an architecture; a single manifest without platform is taken as it is.
pub(crate) fn choose<'a>(index: &'a ImageIndex, wanted: Architecture, name: &str) -> Result<&'a Descriptor, Error> {
    let spelled = wanted.to_string();
    let fits = |descriptor: &&Descriptor| match descriptor.platform() {
        Some(platform) => platform.architecture().to_string() == spelled && platform.os().to_string() == "linux",
        None => index.manifests().len() == 1,
    };
    index.manifests().iter().find(fits).ok_or_else(|| {
        let available: Vec<String> = index
            .manifests()
            .iter()
            .filter_map(|descriptor| descriptor.platform().as_ref())
            .map(|platform| format!("{}/{}", platform.os(), platform.architecture()))
            .collect();
        let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
        Error::Architecture { image: name.to_owned(), wanted, available }
    })
}

/// Combines manifest and configuration; their lists of layers must agree.
pub(crate) fn image(digest: Digest, manifest: &ImageManifest, config: &ImageConfiguration) -> Result<Image, Error> {
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers().len() {
        return Err(Error::malformed(
            digest.to_string(),
            format!("{} layers but {} diff_ids", manifest.layers().len(), diff_ids.len()),
        ));
    }
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        Ok(Layer {
            digest: digest_of_descriptor(layer)?,
            size: layer.size(),
            diff_id: diff_id.parse().map_err(|error| Error::malformed(digest.to_string(), error))?,
            media_type: layer.media_type().to_string(),
        })
    });
    Ok(Image {
        digest,
        config: (digest_of_descriptor(manifest.config())?, manifest.config().size()),
        architecture: config.architecture().to_string(),
        layers: layers.collect::<Result<_, Error>>()?,
    })
}

pub(crate) fn is_index(media_type: &MediaType) -> bool {
    let text = media_type.to_string();
    *media_type == MediaType::ImageIndex || text.contains("manifest.list.v2") || text.contains("image.index")
}

pub(crate) fn digest_of_descriptor(descriptor: &Descriptor) -> Result<Digest, Error> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|error| Error::malformed(text, error))
}

pub(crate) fn oci_digest(digest: &Digest) -> Result<oci_spec::image::Digest, Error> {
    format!("sha256:{digest}").parse().map_err(|error| Error::malformed(digest.to_string(), error))
}

/// Reads a file that describes an image, which has a bound.
pub(crate) fn read_json(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::path("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON + 1).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(Error::malformed(path.display().to_string(), format!("it has more than {MAX_JSON} bytes")));
    }
    Ok(bytes)
}

pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::malformed(what, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_gets_its_name_only_when_its_bytes_are_right() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let digest = layout.put(b"hello").unwrap();
        assert!(layout.has(&digest, 5) && !layout.has(&digest, 6));
        let other = Digest::of(b"other");
        fs::write(layout.partial(&other), b"0ther").unwrap();
        assert!(matches!(layout.admit(&other, 5), Err(Error::Digest { .. })));
        assert!(!layout.partial(&other).exists());
        fs::write(layout.partial(&other), b"othe").unwrap();
        assert!(matches!(layout.admit(&other, 5), Err(Error::Length { .. })));
    }
}
