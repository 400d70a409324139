//! Where an upgrade gets its release from: an image to unpack and seal, or a release that is sealed already.

use crate::Error;
use crate::facts::{LAYERS, LAYERS_OF, fetched, holds_layers_of, tree_size};
use kairn_host::{Content, Effect, Invocation, Machine, Sandbox, copy_of_tree, files, sandbox};
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::upgrade::ImageFacts;
use kairn_lifecycle::{Architecture, Digest, Source};
use kairn_oci::{Image, Layout, Options, Registry, Resolved};
use kairn_report::Sink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the unpacked tree in staging.
pub(crate) const TREE: &str = "tree";
/// Name of the sealed release in staging.
pub(crate) const OUT: &str = "out";
/// Largest description of a conversion that is read, in bytes; they have some kilobytes.
const FACTS_LIMIT: u64 = 1 << 20;
/// How long sealing may take: a slow board with a large image.
const SEAL_DEADLINE: Duration = Duration::from_secs(3 * 3600);

/// Gives an upgrade its tree, or its release.
pub trait ImageSource {
    /// Finds out what can be known before anything is written. `state` is the root of STATE, to see what an earlier run left.
    ///
    /// # Errors
    /// The image cannot be found or is not for this machine.
    fn facts(&mut self, wanted: Architecture, state: &Path) -> Result<ImageFacts, Error>;

    /// Says whether everything was fetched.
    ///
    /// # Errors
    /// Staging cannot be read.
    fn is_fetched(&mut self, staging: &Path) -> Result<bool, Error>;

    /// Fetches the image into staging; goes on where an earlier run stopped.
    ///
    /// # Errors
    /// The image cannot be fetched, or is not what its digest says.
    fn fetch(&mut self, staging: &Path, machine: &mut dyn Machine, sink: &mut dyn Sink) -> Result<(), Error>;

    /// Finds the image whose layers lie in staging, when the source is made of such.
    ///
    /// # Errors
    /// It is not whole, or not for this machine.
    fn layers(&mut self, _staging: &Path) -> Result<Option<(Layout, Image)>, Error> {
        Ok(None)
    }

    /// Makes the tree at `tree`, or says that there is none to make since staging holds a release already.
    ///
    /// # Errors
    /// The image is corrupt, or the file system refuses.
    fn unpack(
        &mut self,
        staging: &Path,
        tree: &Path,
        _machine: &mut dyn Machine,
        sink: &mut dyn Sink,
    ) -> Result<Unpacked, Error> {
        let Some((layout, image)) = self.layers(staging)? else { return Ok(Unpacked::Release) };
        image.unpack(&layout, tree, sink)?;
        Ok(Unpacked::Tree)
    }
}

/// What unpacking made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// A tree to be sealed.
    Tree,
    /// Nothing: staging holds a release.
    Release,
}

/// Seals a tree.
pub trait Sealer {
    /// Seals `tree` into the existing, empty directory `out` by the tree's own program.
    ///
    /// # Errors
    /// The tree has no such program, or it failed.
    fn seal(&mut self, tree: &Path, out: &Path) -> Result<(), Error>;
}

/// Runs the tree's own `kairn seal` in a sandbox: own namespaces, no network.
#[derive(Clone, Copy, Debug, Default)]
pub struct SandboxSealer;

impl Sealer for SandboxSealer {
    fn seal(&mut self, tree: &Path, out: &Path) -> Result<(), Error> {
        let program = Invocation::new(format!("/{}", paths::KAIRN))
            .args(["seal", sandbox::SEAL_TREE, "--output", sandbox::SEAL_OUTPUT])
            .deadline(SEAL_DEADLINE);
        Sandbox::for_sealing(tree, out).run(&program)?;
        Ok(())
    }
}

/// Makes the source that a name means.
///
/// # Errors
/// [`Error::Source`] for sources that a node does not take, or the registry client cannot be made.
pub fn open(source: &Source, insecure_registries: &[String]) -> Result<Box<dyn ImageSource>, Error> {
    Ok(match source {
        Source::Oci(reference) => {
            let registry = Registry::new(&Options { insecure: insecure_registries.to_vec(), ..Options::default() })?;
            Box::new(RegistrySource { registry, reference: reference.clone(), resolved: None })
        }
        Source::OciFile(archive) => Box::new(ArchiveSource { archive: archive.clone(), wanted: None }),
        Source::Dir(tree) => Box::new(TreeSource { tree: tree.clone() }),
        Source::Release(dir) => Box::new(ReleaseSource { dir: dir.clone() }),
        Source::Tar(_) | Source::Debian(_) => return Err(Error::Source(source.to_string())),
    })
}

/// An image in a registry.
struct RegistrySource {
    registry: Registry,
    reference: String,
    resolved: Option<(Resolved, ImageFacts)>,
}

impl RegistrySource {
    fn resolved(&self) -> Result<&Resolved, Error> {
        let resolved = self.resolved.as_ref().map(|(resolved, _)| resolved);
        resolved.ok_or_else(|| Error::Source(format!("oci:{}, which was not looked up", self.reference)))
    }
}

impl ImageSource for RegistrySource {
    fn facts(&mut self, wanted: Architecture, state: &Path) -> Result<ImageFacts, Error> {
        // Asked twice in one upgrade; a tag that moves in between is the same image then all the same.
        if let Some((resolved, facts)) = &self.resolved {
            let fetched = fetched(state, Some(&resolved.image.digest))?;
            return Ok(ImageFacts { fetched, ..facts.clone() });
        }
        let resolved = self.registry.resolve(&self.reference, wanted)?;
        let digest = resolved.image.digest;
        // A plain image is refused before anything of it is stored. One that states its conversion is taken at its word until its tree
        // is there; so is one of which the layers are here already.
        let fetched = fetched(state, Some(&digest))?;
        let (converted, kernel) = if fetched > Bytes(0) || resolved.states_conversion() {
            (None, None)
        } else {
            let path = Path::new(paths::BOOT_DIR).join(paths::boot::FACTS);
            match self.registry.peek(&resolved, &path)? {
                None => (Some(false), None),
                Some(facts) => {
                    let facts: Option<kairn_lifecycle::BootFacts> = serde_json::from_slice(&facts).ok();
                    (None, facts.map(|facts| facts.kernel))
                }
            }
        };
        let (source, stored) = (Source::Oci(self.reference.clone()), Bytes(resolved.image.stored_size()));
        let (digest, architecture) = (Some(digest), Some(wanted));
        let facts = ImageFacts { digest, architecture, converted, kernel, fetched, ..ImageFacts::of(source, stored) };
        self.resolved = Some((resolved, facts.clone()));
        Ok(facts)
    }

    fn is_fetched(&mut self, staging: &Path) -> Result<bool, Error> {
        is_whole(staging, &self.resolved()?.image)
    }

    fn fetch(&mut self, staging: &Path, machine: &mut dyn Machine, sink: &mut dyn Sink) -> Result<(), Error> {
        let resolved = self.resolved()?;
        let layers = claim_layers(staging, &resolved.image.digest, machine, "the registry client")?;
        self.registry.pull(resolved, &Layout::create(&layers)?, sink)?;
        Ok(machine.apply(&Effect::SyncTree { path: layers })?)
    }

    fn layers(&mut self, staging: &Path) -> Result<Option<(Layout, Image)>, Error> {
        Ok(Some((Layout::open(&staging.join(LAYERS))?, self.resolved()?.image.clone())))
    }
}

/// A tar of an OCI layout, or what `docker save` writes.
struct ArchiveSource {
    archive: PathBuf,
    /// Asked for with the facts.
    wanted: Option<Architecture>,
}

impl ImageSource for ArchiveSource {
    fn facts(&mut self, wanted: Architecture, _: &Path) -> Result<ImageFacts, Error> {
        self.wanted = Some(wanted);
        Ok(ImageFacts::of(Source::OciFile(self.archive.clone()), crate::facts::size_of(&self.archive)?))
    }

    fn is_fetched(&mut self, _: &Path) -> Result<bool, Error> {
        // Its digest is known only from its content, so what lies in staging cannot be told to be this archive's.
        Ok(false)
    }

    fn fetch(&mut self, staging: &Path, machine: &mut dyn Machine, _: &mut dyn Sink) -> Result<(), Error> {
        let layers = staging.join(LAYERS);
        machine.apply(&Effect::RemoveTree { path: layers.clone() })?;
        machine.apply(&Effect::MakeDir { path: layers.clone(), mode: 0o700 })?;
        machine.apply(&Effect::Fill { object: layers.clone(), by: format!("import of {}", self.archive.display()) })?;
        Layout::import(&self.archive, &layers)?;
        Ok(machine.apply(&Effect::SyncTree { path: layers })?)
    }

    fn layers(&mut self, staging: &Path) -> Result<Option<(Layout, Image)>, Error> {
        let layout = Layout::open(&staging.join(LAYERS))?;
        let wanted = self.wanted.ok_or_else(|| Error::Source(format!("ocifile:{}", self.archive.display())))?;
        let image = layout.image(wanted)?;
        Ok(Some((layout, image)))
    }
}

/// A converted tree on this machine. It is copied, since sealing sets file times.
struct TreeSource {
    tree: PathBuf,
}

impl ImageSource for TreeSource {
    fn facts(&mut self, _: Architecture, _: &Path) -> Result<ImageFacts, Error> {
        let facts = boot_facts(&self.tree)?;
        Ok(ImageFacts {
            architecture: facts.as_ref().map(|facts| facts.architecture),
            converted: Some(facts.is_some()),
            kernel: facts.map(|facts| facts.kernel),
            unpacked: Some(tree_size(&self.tree)?),
            ..ImageFacts::of(Source::Dir(self.tree.clone()), Bytes(0))
        })
    }

    fn is_fetched(&mut self, _: &Path) -> Result<bool, Error> {
        Ok(true)
    }

    fn fetch(&mut self, _: &Path, _: &mut dyn Machine, _: &mut dyn Sink) -> Result<(), Error> {
        Ok(())
    }

    fn unpack(
        &mut self,
        _: &Path,
        tree: &Path,
        machine: &mut dyn Machine,
        _: &mut dyn Sink,
    ) -> Result<Unpacked, Error> {
        let from = self.tree.canonicalize().map_err(kairn_host::Error::path("find", &self.tree))?;
        let program = copy_of_tree(&from, tree, SEAL_DEADLINE);
        machine.apply(&Effect::Run { object: tree.to_owned(), program })?;
        Ok(Unpacked::Tree)
    }
}

/// A release that was sealed elsewhere.
struct ReleaseSource {
    dir: PathBuf,
}

impl ImageSource for ReleaseSource {
    fn facts(&mut self, _: Architecture, _: &Path) -> Result<ImageFacts, Error> {
        let release = crate::facts::release(&self.dir)?;
        let stored = release.sealed_size() + release.loader.file.size;
        Ok(ImageFacts {
            architecture: Some(release.architecture),
            converted: Some(true),
            kernel: Some(release.kernel),
            unpacked: Some(Bytes(0)),
            ..ImageFacts::of(Source::Release(self.dir.clone()), stored)
        })
    }

    fn is_fetched(&mut self, staging: &Path) -> Result<bool, Error> {
        Ok(staging.join(OUT).join(paths::release::DESCRIPTION).exists())
    }

    fn fetch(&mut self, staging: &Path, machine: &mut dyn Machine, _: &mut dyn Sink) -> Result<(), Error> {
        let out = staging.join(OUT);
        machine.apply(&Effect::MakeDir { path: out.clone(), mode: 0o755 })?;
        // Plainly: nothing refers to it before all of it was verified as it lies on the disk, which finds a damaged source as well.
        let files = [paths::release::ROOT, paths::release::VERITY, paths::release::UKI, paths::release::LOADER];
        let files = files.map(|name| self.dir.join(name).to_string_lossy().into_owned());
        let copy = Invocation::new("install").args(["--mode=0644", "--target-directory"]).arg(out.to_string_lossy());
        let program = copy.arg("--").args(files).deadline(SEAL_DEADLINE);
        machine.apply(&Effect::Run { object: out.clone(), program })?;
        machine.apply(&Effect::SyncTree { path: out.clone() })?;
        // Last: a directory that holds a description is whole.
        let description = files::read(&self.dir.join(paths::release::DESCRIPTION))?;
        let path = out.join(paths::release::DESCRIPTION);
        Ok(machine.apply(&Effect::WriteFile { path, content: Content(description), mode: 0o644 })?)
    }
}

/// Reads what `kairn convert` left in a tree; `None` when it did not run there.
///
/// # Errors
/// The file is there and cannot be understood.
pub(crate) fn boot_facts(tree: &Path) -> Result<Option<kairn_lifecycle::BootFacts>, Error> {
    let path = Path::new(paths::BOOT_DIR).join(paths::boot::FACTS);
    let Some(bytes) = files::read_in_tree(tree, &path, FACTS_LIMIT)? else { return Ok(None) };
    let damaged = |error: serde_json::Error| Error::Damaged { path: tree.join(&path), why: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Makes the layers' directory in staging this image's, emptying it when it was another's, and announces its writer.
fn claim_layers(staging: &Path, image: &Digest, machine: &mut dyn Machine, by: &str) -> Result<PathBuf, Error> {
    let layers = staging.join(LAYERS);
    if !holds_layers_of(staging, Some(image))? {
        machine.apply(&Effect::RemoveTree { path: layers.clone() })?;
        let marker = Content(format!("{image}\n").into_bytes());
        machine.apply(&Effect::WriteFile { path: staging.join(LAYERS_OF), content: marker, mode: 0o644 })?;
    }
    machine.apply(&Effect::MakeDir { path: layers.clone(), mode: 0o700 })?;
    machine.apply(&Effect::Fill { object: layers.clone(), by: by.to_owned() })?;
    Ok(layers)
}

/// Says whether staging holds all layers of an image. Their digests were checked when they were admitted.
fn is_whole(staging: &Path, image: &Image) -> Result<bool, Error> {
    if !holds_layers_of(staging, Some(&image.digest))? {
        return Ok(false);
    }
    let dir = staging.join(LAYERS);
    if !dir.join("index.json").exists() {
        return Ok(false);
    }
    let layout = Layout::open(&dir)?;
    Ok(image.layers.iter().all(|layer| layout.has(&layer.digest, layer.size)))
}
