//! Everything that `kairn build` can build from: the same image gives the same release, whichever way it came.

use crate::fault::{Fault, ensure};
use crate::node::wrong;
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_host::Invocation;
use kairn_layout::paths;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Packing a tree.
const PACK: Duration = Duration::from_secs(900);

/// Builds the base anew from a directory, a tar, an image layout and a registry, the last by its digest.
pub fn agree(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let Some(registry) = stage.registry()? else {
        return Ok(Verdict::Skipped("there is no program of a registry".into()));
    };
    let (base, tree) = (stage.world.base()?, stage.world.base_tree()?);
    let expected = release(&base)?;
    stage.world.push(&registry, &base, "base")?;
    let digest = image_digest(&base)?;
    let tar = stage.dir.join("tree.tar");
    let pack = Invocation::new("tar").args(["--create", "--numeric-owner", "--xattrs", "--xattrs-include=*"]);
    let pack = pack.arg(format!("--file={}", tar.display())).arg(format!("--directory={}", tree.display()));
    stage.world.runner.run(&pack.arg(".").deadline(PACK))?;
    let plain_http = ["--allow-insecure-registry", &registry.here()];
    let sources: [(String, &[&str]); 4] = [
        (format!("dir:{}", tree.display()), &[]),
        (format!("tar:{}", tar.display()), &[]),
        (format!("ocifile:{}", base.join("oci").display()), &[]),
        (format!("oci:{}/os:base@{digest}", registry.here()), &plain_http),
    ];
    for (source, options) in sources {
        let output = stage.dir.join("out");
        stage.world.build_into(&output, &source, options)?;
        let made = release(&output)?;
        ensure(made == expected, || format!("{source} gives {made} instead of {expected}"))?;
        stage.note(&format!("the same from {source}"));
        fs::remove_dir_all(&output).map_err(Fault::io("remove a build"))?;
    }
    let wrong_digest = format!("oci:{}/os:base@sha256:{}", registry.here(), "0".repeat(64));
    let refused = stage.world.build_into(&stage.dir.join("out"), &wrong_digest, &plain_http);
    ensure(refused.is_err() && !stage.dir.join("out").exists(), || {
        "a digest that the registry does not have was built from".into()
    })?;
    Ok(Verdict::Passed)
}

/// Reads the description of a build's release, which names the digest of every file.
fn release(built: &Path) -> Result<Value, Fault> {
    json(&built.join("release").join(paths::release::DESCRIPTION))
}

/// Reads the digest of a build's image.
fn image_digest(built: &Path) -> Result<String, Fault> {
    let manifest = json(&built.join("manifest.json"))?;
    let digest = manifest.get("image").and_then(Value::as_str);
    digest.map(|hex| format!("sha256:{hex}")).ok_or_else(|| Fault::Failed(format!("no image is in {manifest}")))
}

fn json(path: &Path) -> Result<Value, Fault> {
    let text = fs::read(path).map_err(Fault::io(format!("read {}", path.display())))?;
    serde_json::from_slice(&text).map_err(wrong)
}
