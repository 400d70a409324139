//! The initramfs: `kairn-init`, the modules that reach a root on any supported machine, and nothing else.

use super::readahead::Readahead;
use crate::Error;
use crate::rootfs::Rootfs;
use kairn_image::cpio;
use kairn_layout::paths;
use kairn_lifecycle::RootFormat;
use kairn_lifecycle::kmod::{Closure, IndexTexts, Load, ModuleIndex, WANTED, uncompressed, wanted_names};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// zstd level. Made once, read on every boot.
const LEVEL: i32 = 19;

/// The module index of a kernel in a tree.
pub(crate) struct Modules {
    dir: PathBuf,
    index: ModuleIndex,
}

/// Which modules are wanted and there.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) closure: Closure,
    /// Names that no boot can do without, with the reason.
    pub(crate) missing_essential: Vec<String>,
}

impl Selection {
    /// Says in one sentence which hardware and comforts this kernel has no modules for. The file system that the root does not have
    /// is no lack.
    pub(crate) fn lacks(&self, root: RootFormat) -> Option<String> {
        let other = match root {
            RootFormat::Erofs => RootFormat::Squashfs,
            RootFormat::Squashfs => RootFormat::Erofs,
        };
        let other = other.to_string();
        let groups = WANTED.iter().filter_map(|wanted| {
            let lacking =
                |name: &&&str| self.closure.missing.iter().any(|missing| missing == *name && *missing != other);
            let names: Vec<&str> = wanted.names.iter().filter(lacking).copied().collect();
            (!names.is_empty()).then(|| format!("{} ({})", names.join(", "), wanted.reason))
        });
        let groups: Vec<String> = groups.collect();
        (!groups.is_empty()).then(|| format!("the kernel has no module {}", groups.join("; ")))
    }
}

impl Modules {
    /// Reads what `depmod` left.
    pub(crate) fn read(tree: &Rootfs, release: &str) -> Result<Self, Error> {
        let dir = Path::new("usr/lib/modules").join(release);
        let dir = if tree.exists(&dir)? { dir } else { Path::new("lib/modules").join(release) };
        let text = |name: &str| tree.read_text(dir.join(name)).map(Option::unwrap_or_default);
        let texts =
            ["modules.dep", "modules.softdep", "modules.alias", "modules.builtin", "modules.builtin.modinfo"].map(text);
        let [dep, softdep, alias, builtin, builtin_modinfo] = texts;
        let (dep, softdep, alias, builtin, builtin_modinfo) = (dep?, softdep?, alias?, builtin?, builtin_modinfo?);
        if dep.is_empty() {
            return Err(Error::NotARoot {
                root: tree.root().to_owned(),
                why: format!("/{}/modules.dep is absent; run `depmod {release}` in the image", dir.display()),
            });
        }
        let index = ModuleIndex::parse(&IndexTexts {
            dep: &dep,
            softdep: &softdep,
            alias: &alias,
            builtin: &builtin,
            builtin_modinfo: &builtin_modinfo,
        });
        Ok(Self { dir, index })
    }

    /// Says whether this kernel has a module, as a file or built in.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.index.file(name).is_some() || self.index.is_builtin(name)
    }

    /// Selects what the initramfs holds.
    pub(crate) fn select(&self) -> Selection {
        let closure = self.index.closure(wanted_names(None));
        let essential = WANTED.iter().filter(|wanted| wanted.essential);
        let missing_essential = essential
            .flat_map(|wanted| wanted.names.iter().map(|name| (*name, wanted.reason)))
            .filter(|(name, _)| closure.missing.iter().any(|missing| missing == name))
            .map(|(name, reason)| format!("the module {name} ({reason})"))
            .collect();
        Selection { closure, missing_essential }
    }

    /// Makes the archive: the same bytes for the same tree and init.
    pub(crate) fn build(
        &self,
        tree: &Rootfs,
        release: &str,
        selection: &Selection,
        readahead: &Readahead,
        init: &[u8],
        epoch: u64,
    ) -> Result<Vec<u8>, Error> {
        let compressor = zstd::Encoder::new(Vec::new(), LEVEL).map_err(Error::path("compress", "the initramfs"))?;
        let mut archive = Archive {
            writer: cpio::Writer::new(compressor, u32::try_from(epoch).unwrap_or(u32::MAX)),
            made: BTreeSet::new(),
        };
        for (dir, mode) in
            [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("sysroot", 0o755), ("tmp", 0o1777)]
        {
            archive.writer.dir(dir, mode)?;
            archive.made.insert(dir.to_owned());
        }
        archive.file("init", 0o755, init)?;
        let always: Vec<String> =
            wanted_names(Some(Load::Always)).filter(|name| self.has(name)).map(str::to_owned).collect();
        archive.file(paths::initramfs::MODULES, 0o644, (always.join("\n") + "\n").as_bytes())?;
        archive.file(paths::initramfs::READAHEAD, 0o644, readahead.render().as_bytes())?;
        let base = format!("lib/modules/{release}");
        let rendered = self.index.render(&selection.closure.files, wanted_names(None));
        for (name, text) in [
            ("modules.dep", &rendered.dep),
            ("modules.softdep", &rendered.softdep),
            ("modules.alias", &rendered.alias),
            ("modules.builtin", &rendered.builtin),
        ] {
            archive.file(&format!("{base}/{name}"), 0o644, text.as_bytes())?;
        }
        let mut files = selection.closure.files.clone();
        files.sort();
        for file in files {
            let path = self.dir.join(&file);
            let packed = tree.read(&path)?.ok_or_else(|| Error::Module {
                path: path.clone(),
                why: "modules.dep names it, but it is not there".to_owned(),
            })?;
            let plain = decompress(&path, packed)?;
            archive.file(&format!("{base}/{}", uncompressed(&file)), 0o644, &plain)?;
        }
        let compressor = archive.writer.finish()?;
        compressor.finish().map_err(Error::path("compress", "the initramfs"))
    }
}

/// Writes files with their parent directories.
struct Archive<W> {
    writer: cpio::Writer<W>,
    made: BTreeSet<String>,
}

impl<W: std::io::Write> Archive<W> {
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), Error> {
        for (end, _) in path.match_indices('/') {
            let dir = path.get(..end).unwrap_or(path);
            if self.made.insert(dir.to_owned()) {
                self.writer.dir(dir, 0o755)?;
            }
        }
        Ok(self.writer.file(path, mode, content)?)
    }
}

/// Unpacks a module as its suffix says; signatures are part of the plain file and survive.
fn decompress(path: &Path, packed: Vec<u8>) -> Result<Vec<u8>, Error> {
    let broken = |why: String| Error::Module { path: path.to_owned(), why };
    let mut plain = Vec::new();
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("xz") => {
            lzma_rs::xz_decompress(&mut packed.as_slice(), &mut plain).map_err(|error| broken(error.to_string()))?;
        }
        Some("zst") => {
            plain = zstd::decode_all(packed.as_slice()).map_err(|error| broken(error.to_string()))?;
        }
        Some("gz") => {
            let mut decoder = flate2::read::MultiGzDecoder::new(packed.as_slice());
            decoder.read_to_end(&mut plain).map_err(|error| broken(error.to_string()))?;
        }
        _ => return Ok(packed),
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn modules_are_unpacked_as_their_suffix_says() {
        let text = b"a module".to_vec();
        let zst = zstd::encode_all(text.as_slice(), 3).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        let mut xz = Vec::new();
        lzma_rs::xz_compress(&mut text.as_slice(), &mut xz).unwrap();
        for (name, packed) in
            [("m.ko", text.clone()), ("m.ko.zst", zst), ("m.ko.gz", gz.finish().unwrap()), ("m.ko.xz", xz)]
        {
            assert_eq!(decompress(Path::new(name), packed).unwrap(), text, "{name}");
        }
        let error = decompress(Path::new("m.ko.xz"), b"not xz".to_vec()).unwrap_err().to_string();
        assert!(error.contains("m.ko.xz"), "{error}");
    }
}
