//! `kairn build`, `kairn convert` and `kairn seal`.

use crate::cli::{Build, Convert, Kernel, Seal};
use crate::output::{self, Format, Progress};
use kairn_factory::convert::{self, Options};
use kairn_factory::debian::Flavour;
use kairn_factory::{Request, Sealer};
use kairn_host::Runner;
use kairn_lifecycle::Source;
use kairn_report::{Kind, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Name of the initramfs program, as it lies beside `kairn` and inside images.
const INIT: &str = "kairn-init";
/// Where an image keeps it.
const INIT_IN_IMAGE: &str = "/usr/lib/kairn/kairn-init";

/// Finds this program and `kairn-init`: as given, beside it, or where an image keeps it.
pub fn programs(init: Option<&Path>) -> Result<(PathBuf, PathBuf), Report> {
    let kairn = std::env::current_exe()
        .map_err(|error| Report::new(Kind::Environment, format!("cannot find this program itself: {error}")))?;
    let beside = kairn.with_file_name(INIT);
    let candidates = match init {
        Some(given) => vec![given.to_owned()],
        None => vec![beside, INIT_IN_IMAGE.into()],
    };
    match candidates.iter().find(|path| path.is_file()) {
        Some(found) => Ok((kairn.clone(), found.clone())),
        None => {
            let tried: Vec<String> = candidates.iter().map(|path| format!("`{}`", path.display())).collect();
            Err(Report::new(Kind::User, format!("there is no {INIT} at {}", tried.join(" or ")))
                .hint("copy kairn-init beside kairn, or name it with --init"))
        }
    }
}

/// The bound of file times that the environment asks for (reproducible-builds.org, SOURCE_DATE_EPOCH).
pub fn source_date_epoch() -> Result<Option<u64>, Report> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|_| {
            Report::new(Kind::User, format!("SOURCE_DATE_EPOCH is `{text}`, not a number of seconds since 1970"))
        }),
    }
}

pub fn build(verb: &Build, progress: &mut Progress) -> Result<ExitCode, Report> {
    let (kairn, init) = programs(verb.init.as_deref())?;
    let config = match &verb.config {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            Report::new(Kind::User, format!("cannot read the configuration `{}`: {error}", path.display()))
        })?),
    };
    // A medium with it would stop at the machine, where nobody is.
    kairn_config::readable(&kairn_stages::load(verb.config.as_slice()))?;
    let push = match &verb.push {
        None => None,
        Some(Source::Oci(reference)) => Some(reference.clone()),
        Some(other) => {
            return Err(Report::new(Kind::User, format!("cannot push to `{other}`")).hint("--push takes oci:REF"));
        }
    };
    let request = Request {
        source: verb.source.clone(),
        output: verb.output.clone(),
        iso: verb.iso,
        raw: verb.raw,
        oci: verb.oci,
        push,
        sizes: std::collections::BTreeMap::new(),
        config,
        flavour: match verb.kernel {
            Kernel::Generic => Flavour::Generic,
            Kernel::Cloud => Flavour::Cloud,
        },
        packages: verb.package.clone(),
        convert: Options {
            kairn,
            init,
            version: verb.image_version.clone(),
            kernel: None,
            epoch: source_date_epoch()?,
            cmdline: verb.cmdline.clone(),
            compressor: verb.compressor.clone(),
        },
        registry: registry(&verb.allow_insecure_registry),
        sealer: Sealer::Image,
    };
    let manifest = kairn_factory::build(&request, &Runner::default(), progress)?;
    let mut text = format!(
        "release {} of {} with kernel {} in {}\n",
        manifest.release,
        manifest.title,
        manifest.kernel,
        verb.output.display()
    );
    for made in &manifest.outputs {
        text.push_str(&format!("  {:<24} {}\n", made.path, made.blob.size));
    }
    output::line(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Options of registries from the command line.
pub fn registry(insecure: &[String]) -> kairn_oci::Options {
    kairn_oci::Options { insecure: insecure.to_vec(), ..kairn_oci::Options::default() }
}

pub fn convert(verb: &Convert, progress: &mut Progress) -> Result<ExitCode, Report> {
    let (kairn, init) = programs(verb.init.as_deref())?;
    let options = Options {
        kairn,
        init,
        version: verb.image_version.clone(),
        kernel: verb.kernel_release.clone(),
        epoch: source_date_epoch()?,
        cmdline: verb.cmdline.clone(),
        compressor: verb.compressor.clone(),
    };
    if verb.planned.plan {
        let plan = convert::plan(&verb.root, &options, progress)?;
        match verb.planned.output {
            Format::Json => output::json(&plan)?,
            Format::Human => {
                for action in &plan.actions {
                    output::line(&action.to_string())?;
                }
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let converted = convert::convert(&verb.root, &options, progress)?;
    let facts = &converted.facts;
    output::line(&format!(
        "{} with kernel {}: {} changes, {} already there",
        facts.title, facts.kernel, converted.changed, converted.unchanged
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub fn seal(verb: &Seal, progress: &mut Progress) -> Result<ExitCode, Report> {
    let release = kairn_seal::seal(&verb.tree, &verb.output, &Runner::default(), progress)?;
    output::line(&format!("release {} in {} ({})", release.id, verb.output.display(), release.sealed_size()))?;
    Ok(ExitCode::SUCCESS)
}
