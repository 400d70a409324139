//! Seals a converted tree into a release: root image, hash tree, unified kernel image, loader, `release.json`.
//!
//! Invariant: a release is a function of the tree's content alone. No clock, no randomness, no name of the machine or of a
//! directory enters it, so that node, workstation and CI get the same root hash from the same image.
#![forbid(unsafe_code)]

mod error;
mod root;
mod tree;
mod uki;

pub use error::Error;
pub use tree::blob;

use kairn_host::Runner;
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::{Blob, BootFacts, Digest, Loader, Release, ReleaseId, RootFormat, RootImage};
use kairn_report::{Event, Sink};
use sha2::Digest as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Seals a tree into an empty or absent output directory; `release.json` is written last, so a directory that holds one is
/// whole. Programs are looked up where the call runs: inside the image's own sandbox that is the image.
///
/// File times of the tree are cut to whole seconds and to the epoch that conversion recorded; nothing else in it changes.
///
/// # Errors
/// The tree is not converted or was changed since, a program of the image is missing, or the file system refuses.
pub fn seal(tree: &Path, output: &Path, runner: &Runner, sink: &mut dyn Sink) -> Result<Release, Error> {
    let facts = step(sink, "check-tree", format!("checking `{}`", tree.display()), |_| {
        let facts = tree::read_facts(tree)?;
        tree::check_mount_points(tree)?;
        Ok(facts)
    })?;
    let made = claim(output)?;
    let release = fill(tree, &facts, output, runner, sink);
    if release.is_err() {
        clear(output, made, sink);
    }
    release
}

/// Makes the release in an empty directory.
fn fill(tree: &Path, facts: &BootFacts, output: &Path, runner: &Runner, sink: &mut dyn Sink) -> Result<Release, Error> {
    let unpacked =
        step(sink, "clamp-times", "setting file times".to_owned(), |_| tree::clamp_times(tree, facts.epoch))?;
    let root = step(sink, "root-image", format!("making the root image of {unpacked}"), |_| {
        root::make(tree, &output.join(paths::release::ROOT), facts, runner)
    })?;
    let root = step(sink, "hash-tree", format!("hashing the root image ({})", root.size), |_| {
        hash_tree(output, facts.root_format, root)
    })?;
    let cmdline = cmdline(tree, &root)?;
    let uki = step(sink, "kernel-image", "assembling the kernel image".to_owned(), |_| {
        uki::assemble(tree, facts, &cmdline, &root, &output.join(paths::release::UKI))
    })?;
    let loader = write(&output.join(paths::release::LOADER), &tree::boot_file(tree, paths::boot::LOADER)?)?;
    let release = describe(facts, unpacked, root, uki, loader, cmdline);
    write_last(output, &release)?;
    Ok(release)
}

/// Takes away what a failed sealing left, so that the same command can be run again. What went wrong here is one more thing to know and
/// not the error.
fn clear(output: &Path, made: bool, sink: &mut dyn Sink) {
    let files = || -> std::io::Result<()> {
        for entry in fs::read_dir(output)? {
            fs::remove_file(entry?.path())?;
        }
        if made { fs::remove_dir(output) } else { Ok(()) }
    };
    if let Err(error) = files() {
        sink.event(Event::warning(format!("`{}` keeps files of the failed sealing: {error}", output.display())));
    }
}

/// Reports the beginning and the end of a step.
fn step<T>(
    sink: &mut dyn Sink,
    name: &str,
    text: String,
    work: impl FnOnce(&mut dyn Sink) -> Result<T, Error>,
) -> Result<T, Error> {
    sink.event(Event::start(name, text));
    match work(sink) {
        Ok(value) => {
            sink.event(Event::done(name));
            Ok(value)
        }
        Err(error) => {
            sink.event(Event::failed(name, error.to_string()));
            Err(error)
        }
    }
}

/// Makes the output directory, or takes an empty one.
fn claim(output: &Path) -> Result<bool, Error> {
    let made = !output.exists();
    fs::create_dir_all(output).map_err(Error::path("create", output))?;
    match fs::read_dir(output).map_err(Error::path("list", output))?.next() {
        None => Ok(made),
        Some(_) => Err(Error::OutputInUse(output.to_owned())),
    }
}

/// Writes `root.verity`. The salt is derived from the image: an attacker gains nothing from knowing it, and two sealings of
/// one image must agree.
fn hash_tree(output: &Path, format: RootFormat, image: Blob) -> Result<RootImage, Error> {
    let salt: [u8; 32] =
        sha2::Sha256::new_with_prefix(b"kairn verity salt 1\n").chain_update(image.sha256.0).finalize().into();
    let image_path = output.join(paths::release::ROOT);
    let tree_path = output.join(paths::release::VERITY);
    let data = File::open(&image_path).map_err(Error::path("open", &image_path))?;
    let built = kairn_image::verity::build(data, &salt)?;
    Ok(RootImage {
        format,
        image,
        verity: write(&tree_path, &built.bytes)?,
        root_hash: Digest(built.root_hash),
        salt: hex::encode(salt),
        data_blocks: built.data_blocks,
    })
}

/// Appends the tokens of the root to the image's template.
fn cmdline(tree: &Path, root: &RootImage) -> Result<String, Error> {
    let bytes = tree::boot_file(tree, paths::boot::CMDLINE)?;
    let path = tree.join(paths::BOOT_DIR).join(paths::boot::CMDLINE);
    let template = String::from_utf8(bytes).map_err(|error| Error::path("read", path)(std::io::Error::other(error)))?;
    let words: Vec<&str> = template.split_whitespace().collect();
    Ok(format!(
        "{} kairn.root={} kairn.blocks={} kairn.salt={} kairn.format={}",
        words.join(" "),
        root.root_hash,
        root.data_blocks,
        root.salt,
        root.format
    ))
}

/// Writes a file of the release.
fn write(path: &Path, content: &[u8]) -> Result<Blob, Error> {
    let mut file = File::create(path).map_err(Error::path("create", path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(Error::path("write", path))?;
    Ok(Blob { size: Bytes(content.len() as u64), sha256: Digest::of(content) })
}

fn describe(facts: &BootFacts, unpacked: Bytes, root: RootImage, uki: Blob, loader: Blob, cmdline: String) -> Release {
    Release {
        format: 1,
        id: ReleaseId::of_root_hash(&root.root_hash),
        version: facts.version.clone(),
        title: facts.title.clone(),
        architecture: facts.architecture,
        kernel: facts.kernel.clone(),
        unpacked,
        root,
        uki,
        loader: Loader { file: loader, version: facts.loader_version.clone() },
        cmdline,
    }
}

fn write_last(output: &Path, release: &Release) -> Result<(), Error> {
    let path = output.join(paths::release::DESCRIPTION);
    let mut text = serde_json::to_vec_pretty(release).map_err(|error| Error::path("describe", &path)(error.into()))?;
    text.push(b'\n');
    Ok(kairn_host::files::write_whole(&path, &text, 0o644)?)
}
