//! Tools whose packages ship daemons: downloaded by apt, which verifies them, and unpacked below the project's cache, so that
//! nothing of them ever starts by itself.

use crate::packages::Distribution;
use crate::run::{Failure, Run, cache, say};
use crate::setup;
use std::fs;
use std::path::{Path, PathBuf};

const REGISTRY: &str = "docker-registry";

/// Where the unpacked tools are.
pub struct Tools {
    /// The registry's program; absent on distributions that we cannot take it from.
    pub registry: Option<PathBuf>,
}

/// Unpacks what is not there yet.
pub fn unpack(distribution: &Distribution) -> Result<Tools, Failure> {
    let dir = cache().join("tools");
    let registry = dir.join(REGISTRY).join("usr/bin").join(REGISTRY);
    if !registry.is_file() {
        match distribution {
            Distribution::Debian => fetch(REGISTRY, &dir)?,
            Distribution::Other(_) => {
                say(&format!("setup: {REGISTRY} is unpacked from Debian's package only; what needs it is skipped"));
                return Ok(Tools { registry: None });
            }
        }
    }
    if !registry.is_file() {
        return Err(Failure::environment(format!("the package {REGISTRY} holds no `{}`", registry.display())));
    }
    Ok(Tools { registry: Some(registry) })
}

/// Downloads a package and unpacks it into a directory of its name, by way of another name: what is there is whole.
fn fetch(package: &str, dir: &Path) -> Result<(), Failure> {
    let partial = dir.join(format!("{package}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(Failure::io(format!("remove {}", partial.display())))?;
    }
    let tree = partial.join("tree");
    fs::create_dir_all(&tree).map_err(Failure::io(format!("create {}", tree.display())))?;
    say(&format!("setup: downloading {package} into {} (it is not installed)", dir.display()));
    // `APT::Sandbox::User`: as root, apt would otherwise warn that its own user cannot write here.
    let download =
        || Run::new("apt-get").args(["-q", "-o", "APT::Sandbox::User=root", "download", package]).dir(&partial);
    if download().output()?.is_err() {
        // The lists may be old or, in a container, absent.
        setup::apt(&["update", "-q"])?;
        download().check()?;
    }
    let entries = fs::read_dir(&partial).map_err(Failure::io(format!("list {}", partial.display())))?;
    let archive = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let Some(archive) = archive else {
        return Err(Failure::environment(format!("apt-get downloaded no package {package}")));
    };
    Run::new("dpkg").args(["-x", &archive.to_string_lossy(), &tree.to_string_lossy()]).check()?;
    let done = dir.join(package);
    if done.exists() {
        fs::remove_dir_all(&done).map_err(Failure::io(format!("remove {}", done.display())))?;
    }
    fs::rename(&tree, &done).map_err(Failure::io(format!("rename {}", tree.display())))?;
    fs::remove_dir_all(&partial).map_err(Failure::io(format!("remove {}", partial.display())))
}
