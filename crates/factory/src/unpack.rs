//! Sources that already hold a root file system, brought into a directory of our own: the source itself is never changed.

use crate::Error;
use kairn_host::{Invocation, Runner, copy_of_tree};
use kairn_layout::paths;
use kairn_lifecycle::Architecture;
use kairn_oci::{Image, Layout};
use kairn_report::{Event, Sink};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long copying or unpacking a root file system may take.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Copies a directory with owners, times, links and extended attributes.
pub(crate) fn copy_tree(from: &Path, tree: &Path, runner: &Runner, sink: &mut dyn Sink) -> Result<(), Error> {
    fs::create_dir(tree).map_err(Error::path("create", tree))?;
    let from = fs::canonicalize(from).map_err(Error::path("find", from))?;
    let copy = copy_of_tree(&from, tree, DEADLINE);
    reported("copy", format!("copying `{}`", from.display()), sink, || {
        runner.run(&copy).map_err(Error::needs("coreutils"))
    })
}

/// Unpacks a tar, compressed or not, with owners by number and extended attributes.
pub(crate) fn extract(from: &Path, tree: &Path, runner: &Runner, sink: &mut dyn Sink) -> Result<(), Error> {
    fs::create_dir(tree).map_err(Error::path("create", tree))?;
    let from = fs::canonicalize(from).map_err(Error::path("find", from))?;
    let extract = Invocation::new("tar")
        .args(["--extract", "--preserve-permissions", "--numeric-owner", "--same-owner", "--xattrs"])
        .args(["--xattrs-include=*", "--delay-directory-restore"])
        .arg(format!("--directory={}", tree.display()))
        .arg(format!("--file={}", from.display()))
        .deadline(DEADLINE);
    reported("unpack", format!("unpacking `{}`", from.display()), sink, || {
        runner.run(&extract).map_err(Error::needs("tar"))
    })
}

/// Unpacks an image's layers.
pub(crate) fn layers(image: &Image, layout: &Layout, tree: &Path, sink: &mut dyn Sink) -> Result<(), Error> {
    fs::create_dir(tree).map_err(Error::path("create", tree))?;
    image.unpack(layout, tree, sink)?;
    Ok(())
}

/// Opens an image layout, or turns an archive into one.
pub(crate) fn layout_of(path: &Path, scratch: &Path) -> Result<Layout, Error> {
    if path.is_dir() { Ok(Layout::open(path)?) } else { Ok(Layout::import(path, scratch)?) }
}

/// The architecture whose images can be sealed here.
pub(crate) fn architecture_here() -> Result<Architecture, Error> {
    Architecture::of_this_program().ok_or(Error::Architecture)
}

/// Copies the files of a release.
pub(crate) fn copy_release(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(Error::path("create", to))?;
    for name in paths::release::ALL {
        let file = from.join(name);
        fs::copy(&file, to.join(name)).map_err(Error::path("copy", file))?;
    }
    Ok(())
}

fn reported<T>(
    step: &str,
    text: String,
    sink: &mut dyn Sink,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(), Error> {
    sink.event(Event::start(step, text));
    let done = work().map(drop);
    sink.event(match &done {
        Ok(()) => Event::done(step),
        Err(error) => Event::failed(step, error.to_string()),
    });
    done
}
