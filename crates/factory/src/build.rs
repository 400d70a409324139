//! `kairn build`: one unpacking of a source, and every output that was asked for from it.
//!
//! Invariant: the output directory holds `manifest.json` only when everything in it is whole; a build that fails leaves it as
//! it was.

use crate::convert::{self, convert};
use crate::debian::{self, Flavour, Origin, Recipe};
use crate::manifest::{Manifest, Output};
use crate::media::{self, DiskImage, ReleaseDir};
use crate::rootfs::Rootfs;
use crate::{Error, unpack};
use kairn_host::sandbox::{SEAL_OUTPUT, SEAL_TREE};
use kairn_host::{Invocation, Runner, Sandbox};
use kairn_layout::{Bytes, PartLabel, paths};
use kairn_lifecycle::{BootFacts, Digest, Source};
use kairn_oci::{Layout, PackOptions, Registry};
use kairn_report::{Event, Sink};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Names in the output directory.
pub mod names {
    /// The release directory.
    pub const RELEASE: &str = "release";
    /// The disk image.
    pub const RAW: &str = "disk.raw";
    /// The install medium.
    pub const ISO: &str = "install.iso";
    /// The converted image as an OCI layout.
    pub const OCI: &str = "oci";
    /// The manifest.
    pub const MANIFEST: &str = "manifest.json";
}

/// Whose tools seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sealer {
    /// The image's own, run by the image's own `kairn` in a sandbox: what nodes and CI do, so the release is the same there.
    #[default]
    Image,
    /// This program and the machine's `mkfs.erofs` or `mksquashfs`, for images whose programs cannot run here. Another version of the
    /// tool may give another root hash than the image's own.
    Machine,
}

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Request {
    /// From what.
    pub source: Source,
    /// Where the results go; absent or empty.
    pub output: PathBuf,
    /// Makes an install medium.
    pub iso: bool,
    /// Makes a disk image of an installed machine.
    pub raw: bool,
    /// Makes the converted image as an OCI layout.
    pub oci: bool,
    /// Pushes the converted image to this reference.
    pub push: Option<String>,
    /// Sizes of the disk image's partitions that differ from the default.
    pub sizes: BTreeMap<PartLabel, Bytes>,
    /// Configuration for the media.
    pub config: Option<Vec<u8>>,
    /// Kernel of a Debian source.
    pub flavour: Flavour,
    /// More packages for a Debian source.
    pub packages: Vec<String>,
    /// What conversion is told. Its epoch, when `None`, is that of the Debian archive for such a source.
    pub convert: convert::Options,
    /// How registries are talked to.
    pub registry: kairn_oci::Options,
    /// Which tool seals.
    pub sealer: Sealer,
}

/// Builds everything that the request names.
///
/// # Errors
/// Whatever stops a phase; the output directory is then as it was.
pub fn build(request: &Request, runner: &Runner, sink: &mut dyn Sink) -> Result<Manifest, Error> {
    check(request)?;
    let (claimed, made, _lock) = claim(&request.output)?;
    let finished = Build { request, runner, work: claimed.path().to_owned() }.run(sink);
    let cleaned = claimed.close().map_err(Error::path("remove the scratch space in", &request.output));
    match (finished, cleaned) {
        (Ok(manifest), Ok(())) => Ok(manifest),
        (Ok(_), Err(error)) => Err(error),
        (Err(error), _) => {
            // The first error is what the user has to know; a directory that stays behind is seen on the next try.
            if made && let Err(error) = fs::remove_dir(&request.output) {
                sink.event(Event::warning(format!("`{}` stays behind: {error}", request.output.display())));
            }
            Err(error)
        }
    }
}

/// Refuses combinations that cannot be before anything is written.
fn check(request: &Request) -> Result<(), Error> {
    let image_wanted = request.oci || request.push.is_some();
    if image_wanted && matches!(request.source, Source::Release(_)) {
        return Err(Error::Source { what: "a container image", source_text: request.source.to_string() });
    }
    Ok(())
}

/// Beginning of the scratch space's name.
const SCRATCH: &str = ".work-";

/// Takes an empty or absent directory and makes scratch space in it, so that results can be renamed into place. What a build left that was
/// killed is taken away; one that runs holds the lock.
fn claim(output: &Path) -> Result<(TempDir, bool, fs::File), Error> {
    let made = !output.exists();
    fs::create_dir_all(output).map_err(Error::path("create", output))?;
    let lock = fs::File::open(output).map_err(Error::path("open", output))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(Error::OutputBusy(output.to_owned())),
        locked => locked.map_err(|errno| Error::path("lock", output)(errno.into()))?,
    }
    let names = kairn_host::files::names(output)?;
    if names.iter().any(|name| !name.to_string_lossy().starts_with(SCRATCH)) {
        return Err(Error::OutputInUse(output.to_owned()));
    }
    for name in names {
        kairn_host::files::remove_tree(&output.join(name))?;
    }
    // Sandboxed programs resolve their binds from the root.
    let output = fs::canonicalize(output).map_err(Error::path("find", output))?;
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&output);
    Ok((scratch.map_err(Error::path("create scratch space in", &output))?, made, lock))
}

struct Build<'a> {
    request: &'a Request,
    runner: &'a Runner,
    work: PathBuf,
}

impl Build<'_> {
    fn run(&self, sink: &mut dyn Sink) -> Result<Manifest, Error> {
        let results = self.subdir("results")?;
        let release_dir = results.join(names::RELEASE);
        let mut origin = None;
        let mut image = None;
        if let Source::Release(path) = &self.request.source {
            ReleaseDir::open(path)?;
            unpack::copy_release(path, &release_dir)?;
        } else {
            let tree = self.work.join("tree");
            origin = self.unpack(&tree, sink)?;
            let facts = self.convert(&tree, origin.as_ref(), sink)?;
            self.seal(&tree, &release_dir, sink)?;
            if self.request.oci || self.request.push.is_some() {
                image = Some(self.image(&tree, &results, &facts, sink)?);
            }
        }
        let source = ReleaseDir::open(&release_dir)?;
        let epoch = source.epoch()?;
        let config = self.request.config.as_deref();
        if self.request.iso {
            let work = self.subdir("iso")?;
            media::write_iso(&results.join(names::ISO), &source, config, epoch, &work, sink)?;
        }
        if self.request.raw {
            let work = self.subdir("raw")?;
            let disk = DiskImage { source: &source, config, sizes: &self.request.sizes, epoch };
            disk.write(&results.join(names::RAW), &work, self.runner, sink)?;
        }
        let manifest = self.describe(&results, &source, origin, image)?;
        manifest.write(&results.join(names::MANIFEST))?;
        self.publish(&results)?;
        Ok(manifest)
    }

    fn subdir(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.work.join(name);
        fs::create_dir(&dir).map_err(Error::path("create", &dir))?;
        Ok(dir)
    }

    /// Brings the source's root file system into `tree`.
    fn unpack(&self, tree: &Path, sink: &mut dyn Sink) -> Result<Option<Origin>, Error> {
        match &self.request.source {
            Source::Debian(suite) => {
                let recipe = Recipe {
                    suite: suite.clone(),
                    flavour: self.request.flavour,
                    packages: self.request.packages.clone(),
                };
                let work = self.subdir("debian")?;
                return debian::bootstrap(&recipe, tree, &work, self.runner, sink).map(Some);
            }
            Source::Dir(path) => unpack::copy_tree(path, tree, self.runner, sink)?,
            Source::Tar(path) => unpack::extract(path, tree, self.runner, sink)?,
            Source::Oci(reference) => {
                let wanted = unpack::architecture_here()?;
                let layout = Layout::create(&self.subdir("pulled")?)?;
                let registry = Registry::new(&self.request.registry)?;
                let resolved = registry.resolve(reference, wanted)?;
                registry.pull(&resolved, &layout, sink)?;
                unpack::layers(&resolved.image, &layout, tree, sink)?;
            }
            Source::OciFile(path) => {
                let layout = unpack::layout_of(path, &self.work.join("pulled"))?;
                let image = layout.image(unpack::architecture_here()?)?;
                unpack::layers(&image, &layout, tree, sink)?;
            }
            // Handled by the caller.
            Source::Release(_) => {}
        }
        Ok(None)
    }

    /// Converts the tree, unless it was converted before: a release is a function of the image, whoever seals it.
    fn convert(&self, tree: &Path, origin: Option<&Origin>, sink: &mut dyn Sink) -> Result<BootFacts, Error> {
        let path = Path::new(paths::BOOT_DIR).join(paths::boot::FACTS);
        if let Some(text) = Rootfs::new(tree).read(&path)? {
            sink.event(Event::start("convert", "converting the source"));
            sink.event(Event::skipped("convert", "the source is converted already"));
            return serde_json::from_slice(&text).map_err(|source| Error::Json { path, source });
        }
        let mut options = self.request.convert.clone();
        options.epoch = options.epoch.or(origin.map(|origin| origin.epoch));
        Ok(convert(tree, &options, sink)?.facts)
    }

    fn seal(&self, tree: &Path, release_dir: &Path, sink: &mut dyn Sink) -> Result<(), Error> {
        if self.request.sealer == Sealer::Machine {
            kairn_seal::seal(tree, release_dir, self.runner, sink)?;
            return Ok(());
        }
        fs::create_dir(release_dir).map_err(Error::path("create", release_dir))?;
        sink.event(Event::start("seal", "sealing with the image's own programs"));
        let program = Invocation::new(format!("/{}", paths::KAIRN))
            .args(["seal", SEAL_TREE, "--output", SEAL_OUTPUT])
            .deadline(Duration::from_secs(3600));
        let sealed = Sandbox::for_sealing(tree, release_dir).run(&program);
        sink.event(match &sealed {
            Ok(_) => Event::done("seal"),
            Err(error) => Event::failed("seal", error.to_string()),
        });
        sealed?;
        Ok(())
    }

    /// Packs the converted tree as an image, and pushes it where asked.
    fn image(&self, tree: &Path, results: &Path, facts: &BootFacts, sink: &mut dyn Sink) -> Result<Digest, Error> {
        let dir = if self.request.oci { results.join(names::OCI) } else { self.subdir("image")? };
        let layout = Layout::create(&dir)?;
        let labels = BTreeMap::from([
            ("org.opencontainers.image.title".to_owned(), facts.title.clone()),
            ("org.opencontainers.image.version".to_owned(), facts.version.clone()),
            (kairn_oci::CONVERTED_LABEL.to_owned(), facts.kernel.clone()),
        ]);
        let options = PackOptions {
            architecture: facts.architecture,
            epoch: facts.epoch,
            labels,
            name: Some(facts.version.clone()),
        };
        let image = kairn_oci::pack(tree, &layout, &options, sink)?;
        if let Some(reference) = &self.request.push {
            Registry::new(&self.request.registry)?.push(&layout, &image, reference, sink)?;
        }
        Ok(image.digest)
    }

    fn describe(
        &self,
        results: &Path,
        source: &ReleaseDir,
        origin: Option<Origin>,
        image: Option<Digest>,
    ) -> Result<Manifest, Error> {
        let mut outputs = Vec::new();
        for name in paths::release::ALL {
            outputs.push(Output::of(results, &format!("{}/{name}", names::RELEASE))?);
        }
        for name in [names::ISO, names::RAW] {
            if results.join(name).exists() {
                outputs.push(Output::of(results, name)?);
            }
        }
        let release = &source.release;
        Ok(Manifest {
            format: 1,
            source: self.request.source.to_string(),
            release: release.id,
            version: release.version.clone(),
            title: release.title.clone(),
            architecture: release.architecture,
            kernel: release.kernel.clone(),
            image,
            origin,
            outputs,
        })
    }

    /// Moves the results into the output directory, the manifest last.
    fn publish(&self, results: &Path) -> Result<(), Error> {
        let output = &self.request.output;
        for name in [names::RELEASE, names::ISO, names::RAW, names::OCI, names::MANIFEST] {
            let from = results.join(name);
            if from.exists() {
                fs::rename(&from, output.join(name)).map_err(Error::path("move", from))?;
            }
        }
        Ok(())
    }
}
