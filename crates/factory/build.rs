//! Lists the files below `files/` so that they are embedded whole, whoever adds one.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on its standard output")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("files");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut code = String::new();
    for (constant, dir) in [
        ("IMAGE", "image"),
        ("SYSTEMD", "systemd"),
        ("OPENRC", "openrc"),
        ("SYSTEM_OEM", "system-oem"),
        ("DEBIAN", "debian"),
    ] {
        let mut files = Vec::new();
        collect(&root.join(dir), &mut files)?;
        files.sort();
        writeln!(
            code,
            "/// Files below `files/{dir}`: path and content.\npub(crate) const {constant}: &[(&str, &[u8])] = &["
        )?;
        for file in files {
            let name = file.strip_prefix(root.join(dir))?;
            writeln!(
                code,
                "    ({:?}, include_bytes!({:?})),",
                name.display().to_string(),
                file.display().to_string()
            )?;
        }
        code.push_str("];\n");
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("embedded.rs"), code)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if !dir.is_dir() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed={}", dir.display());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')) {
            files.push(path);
        }
    }
    Ok(())
}
