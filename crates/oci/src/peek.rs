//! Reading one file out of an image in a registry without storing anything: to refuse an image before a byte is written.
//!
//! What is read here is not checked against digests, since a layer is not read to its end; it may say no, but a yes is only a reason to
//! pull, which checks.

use crate::records::Bounded;
use crate::unpack::{decompressor, normal};
use crate::{Error, Registry, Resolved};
use bytes::{Buf, Bytes};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

/// Label of images that Kairn packs itself: converted, so that nobody has to look for it.
pub const CONVERTED_LABEL: &str = "kairn.converted";
/// Largest file that is read.
const LIMIT: u64 = 1 << 20;

impl Resolved {
    /// Says whether the image's own description states that `kairn convert` ran in it: by our label, or by a build step in its history.
    #[must_use]
    pub fn states_conversion(&self) -> bool {
        let Ok(config) = serde_json::from_slice::<serde_json::Value>(self.config()) else { return false };
        let labelled = config.pointer("/config/Labels").and_then(|labels| labels.get(CONVERTED_LABEL)).is_some();
        let steps = config.get("history").and_then(serde_json::Value::as_array).into_iter().flatten();
        let mut steps = steps.filter_map(|step| step.get("created_by")?.as_str());
        labelled || steps.any(|step| step.contains("kairn convert"))
    }
}

impl Registry {
    /// Reads a file of an image, from the highest layer that says something about it; `None` when the image has no such file. Layers are
    /// read from their start until the file is found, so one that no layer has costs the whole image's bytes.
    ///
    /// # Errors
    /// A layer cannot be fetched or is malformed.
    pub fn peek(&self, resolved: &Resolved, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        for layer in resolved.image.layers.iter().rev() {
            let next = self.chunks(resolved, &layer.digest)?;
            let stream = BufReader::with_capacity(1 << 18, Chunks { next, chunk: Bytes::new() });
            let layer_name = format!("layer {}", layer.digest);
            let malformed = |error: io::Error| Error::malformed(&layer_name, error);
            let (bounded, allowance) = Bounded::new(decompressor(&layer.media_type, &layer.digest, stream)?);
            let mut archive = tar::Archive::new(bounded);
            let (mut hidden, mut last) = (false, None);
            for entry in archive.entries().map_err(malformed)? {
                let entry = entry.map_err(|error| allowance.judge(&layer_name, last.as_deref(), error))?;
                allowance.came(&entry);
                let name = last.insert(entry.path().map_err(malformed)?.into_owned());
                let Ok(Some(name)) = normal(name) else { continue };
                if name == path {
                    let mut content = Vec::new();
                    entry.take(LIMIT).read_to_end(&mut content).map_err(malformed)?;
                    return Ok(Some(content));
                }
                hidden |= hides(&name, path);
            }
            if hidden {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// Says whether an entry of a layer takes a path of lower layers away: a whiteout of it or of a directory above it, or an opaque
/// directory above it (OCI image specification, layer.md).
fn hides(entry: &Path, path: &Path) -> bool {
    let Some(Component::Normal(name)) = entry.components().next_back() else { return false };
    let Some(name) = name.to_str().and_then(|name| name.strip_prefix(".wh.")) else { return false };
    let dir = entry.parent().unwrap_or(Path::new(""));
    if name == ".wh..opq" { path.starts_with(dir) } else { path.starts_with(dir.join(name)) }
}

/// The chunks of a download as a reader.
struct Chunks<F> {
    next: F,
    chunk: Bytes,
}

impl<F: FnMut() -> io::Result<Option<Bytes>>> Read for Chunks<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match (self.next)()? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        if let Some(target) = buffer.get_mut(..count) {
            self.chunk.copy_to_slice(target);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_hide_what_lies_at_or_below_them() {
        let path = Path::new("usr/lib/kairn/boot/boot.json");
        for (entry, expected) in [
            ("usr/lib/kairn/boot/.wh.boot.json", true),
            ("usr/lib/.wh.kairn", true),
            ("usr/lib/kairn/.wh..wh..opq", true),
            (".wh..wh..opq", true),
            ("usr/lib/.wh.kai", false),
            ("etc/.wh..wh..opq", false),
            ("usr/lib/kairn", false),
        ] {
            assert_eq!(hides(Path::new(entry), path), expected, "{entry}");
        }
    }

    #[test]
    fn chunks_read_as_one_stream_and_errors_pass() {
        let mut chunks = vec![Ok(Some("ab")), Ok(Some("")), Ok(Some("cde")), Ok(None)].into_iter();
        let next = || chunks.next().unwrap().map(|chunk| chunk.map(Bytes::from));
        let mut text = String::new();
        Chunks { next, chunk: Bytes::new() }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        let mut broken = Chunks { next: || Err(io::Error::other("gone")), chunk: Bytes::new() };
        assert_eq!(broken.read(&mut [0; 4]).unwrap_err().to_string(), "gone");
    }
}
