//! Facts of a tree, and the plan that they lead to.

use super::action::Action;
use super::distribution::{self, Distribution, Needed};
use super::initramfs::Modules;
use super::kernel::{self, Kernel};
use super::readahead::Readahead;
use super::{CMDLINE, Options, mounts, openrc, shadow, units};
use crate::Error;
use crate::embedded;
use crate::rootfs::Rootfs;
use kairn_firmware::{LoaderVersion, SUPPORTED_LOADERS};
use kairn_host::Content;
use kairn_layout::{Bytes, paths};
use kairn_lifecycle::{Architecture, Blob, BootFacts, Digest, RootFormat};
use kairn_report::{Event, Sink};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A conversion as values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What sealing will read.
    pub facts: BootFacts,
    /// The actions, in order; `boot.json`, which makes a tree converted, is the last.
    pub actions: Vec<Action>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Reads the tree and plans its conversion; writes nothing.
///
/// # Errors
/// As [`super::convert`].
pub fn plan(root: &Path, options: &Options, sink: &mut dyn Sink) -> Result<Plan, Error> {
    sink.event(Event::start("examine", format!("examining `{}`", root.display())));
    match make(root, options, sink) {
        Ok(plan) => {
            sink.event(Event::done("examine"));
            for warning in &plan.warnings {
                sink.event(Event::warning(warning));
            }
            Ok(plan)
        }
        Err(error) => {
            sink.event(Event::failed("examine", error.to_string()));
            Err(error)
        }
    }
}

/// What goes into `/usr/lib/kairn/boot` beside `boot.json`.
struct BootFiles {
    files: BTreeMap<&'static str, Vec<u8>>,
    loader_version: String,
}

fn make(root: &Path, options: &Options, sink: &mut dyn Sink) -> Result<Plan, Error> {
    let tree = Rootfs::new(root);
    let distribution = Distribution::read(&tree)?;
    let architecture = distribution::architecture(&tree)?;
    let kernel = kernel::find(&tree, options.kernel.as_deref())?;
    let modules = Modules::read(&tree, &kernel.release)?;
    let mut warnings = Vec::new();

    let config = kernel.config.as_ref().map(|(_, config)| config);
    let mut verdict = kernel::judge(config, |name| modules.has(name));
    let selection = modules.select();
    verdict.missing.extend(selection.missing_essential.iter().cloned());
    let Some(root_format) = verdict.root_format.filter(|_| verdict.missing.is_empty()) else {
        return Err(Error::KernelLacks { kernel: kernel.release, missing: verdict.missing });
    };
    warnings.append(&mut verdict.warnings);
    let compressor = options.compressor.clone().unwrap_or_else(|| kernel::default_compressor(&kernel, root_format));
    kernel::check_compressor(&kernel, root_format, &compressor)?;
    if !kernel.others.is_empty() {
        warnings.push(format!("modules of other kernels lie unused in the image: {}", kernel.others.join(", ")));
    }

    let (stub, loader) = find_boot_files(&tree, &distribution, architecture, root_format)?;
    let epoch = epoch(&tree, &kernel, options)?;
    let init = program(&options.init, root, architecture)?;
    let kairn = program(&options.kairn, root, architecture)?;
    let readahead = Readahead::of(&tree);
    let boot = boot_files(&tree, &kernel, options, stub, loader, |kernel_release| {
        sink.event(Event::start("initramfs", format!("making the initramfs for {kernel_release}")));
        let made = modules.build(&tree, kernel_release, &selection, &readahead, &init, epoch);
        sink.event(match &made {
            Ok(_) => Event::done("initramfs"),
            Err(error) => Event::failed("initramfs", error.to_string()),
        });
        made
    })?;
    warnings.extend(selection.lacks(root_format));
    if !readahead.missing.is_empty() {
        let names = readahead.missing.join(", ");
        warnings
            .push(format!("not found where ld.so looks by itself, though the boot's first programs name it: {names}"));
    }
    if !LoaderVersion::parse(&boot.loader_version).is_some_and(|version| version.is_supported()) {
        let known: Vec<String> = SUPPORTED_LOADERS.iter().map(ToString::to_string).collect();
        warnings.push(format!(
            "systemd-boot {} was not proven to count boots as Kairn needs it (proven: {}); it will not replace a proven one",
            boot.loader_version,
            known.join(", ")
        ));
    }
    warnings.append(&mut shadow::warnings(&tree)?);

    let facts = BootFacts {
        format: 1,
        version: options.version.clone(),
        title: distribution.title(),
        architecture,
        kernel: kernel.release.clone(),
        root_format,
        compressor,
        loader_version: boot.loader_version.clone(),
        missing_modules: selection.closure.missing,
        files: boot
            .files
            .iter()
            .map(|(name, bytes)| {
                ((*name).to_owned(), Blob { size: Bytes(bytes.len() as u64), sha256: Digest::of(bytes) })
            })
            .collect(),
        epoch,
    };
    let actions = actions(&tree, &distribution, &kernel, [kairn, init], boot, &facts)?;
    Ok(Plan { facts, actions, warnings })
}

/// Reads a program that goes into the image; one for other machines would only be found out by a machine that does not boot.
fn program(path: &Path, root: &Path, wanted: Architecture) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(path).map_err(Error::path("read", path))?;
    match distribution::architecture_of(&bytes) {
        Some(found) if found != wanted => {
            Err(Error::ForeignProgram { program: path.to_owned(), found, root: root.to_owned(), wanted })
        }
        _ => Ok(bytes),
    }
}

/// Finds stub and loader, and all programs; reports everything that is missing at once.
fn find_boot_files(
    tree: &Rootfs,
    distribution: &Distribution,
    architecture: Architecture,
    root_format: RootFormat,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let family = distribution.family();
    let mut missing = Vec::new();
    let mut packages = Vec::new();
    // What is started by OpenRC needs nothing of systemd.
    let of_systemd: &[Needed] = if openrc::is_in(tree)? { &[] } else { distribution::SYSTEMD };
    for needed in distribution::PROGRAMS.iter().chain(of_systemd).chain([distribution::sealer(root_format)]) {
        if tree.program(needed.program)?.is_none() {
            missing.push(format!("`{}` (for {})", needed.program, needed.purpose));
            packages.push(needed.package(family).to_owned());
        }
    }
    let suffix = match architecture {
        Architecture::Amd64 => "x64",
        Architecture::Arm64 => "aa64",
    };
    let dir = "usr/lib/systemd/boot/efi";
    let earlier = |name| Path::new(paths::BOOT_DIR).join(name);
    let stub = format!("linux{suffix}.efi.stub");
    let loader = format!("systemd-boot{suffix}.efi");
    let mut found = Vec::new();
    for (name, kept) in [(stub, paths::boot::STUB), (loader, paths::boot::LOADER)] {
        // An image may drop the package after its conversion to save space.
        match (tree.read(Path::new(dir).join(&name))?, tree.read(earlier(kept))?) {
            (Some(bytes), _) | (None, Some(bytes)) => found.push(bytes),
            (None, None) => {
                missing.push(format!("`/{dir}/{name}` (for {})", distribution::BOOT_FILES.purpose));
                packages.push(distribution::BOOT_FILES.package(family).to_owned());
            }
        }
    }
    packages.sort();
    packages.dedup();
    match <[Vec<u8>; 2]>::try_from(found) {
        Ok([stub, loader]) if missing.is_empty() => Ok((stub, loader)),
        _ => Err(Error::ImageLacks {
            missing,
            packages,
            install: family.map(|family| family.install_command().to_owned()),
        }),
    }
}

/// Gathers the content of `/usr/lib/kairn/boot`.
fn boot_files(
    tree: &Rootfs,
    kernel: &Kernel,
    options: &Options,
    stub: Vec<u8>,
    loader: Vec<u8>,
    initramfs: impl FnOnce(&str) -> Result<Vec<u8>, Error>,
) -> Result<BootFiles, Error> {
    let image = tree.read(&kernel.image)?.ok_or_else(|| Error::NoKernel {
        root: tree.root().to_owned(),
        why: format!("/{} leads nowhere", kernel.image.display()),
    })?;
    let loader_version = LoaderVersion::of_binary(&loader)
        .ok_or_else(|| Error::NotARoot {
            root: tree.root().to_owned(),
            why: "its systemd-boot does not state a version".to_owned(),
        })?
        .text;
    let mut cmdline = CMDLINE.to_owned();
    for word in &options.cmdline {
        cmdline.push(' ');
        cmdline.push_str(word);
    }
    cmdline.push('\n');
    let files = BTreeMap::from([
        (paths::boot::KERNEL, image),
        (paths::boot::INITRAMFS, initramfs(&kernel.release)?),
        (paths::boot::STUB, stub),
        (paths::boot::LOADER, loader),
        (paths::boot::CMDLINE, cmdline.into_bytes()),
    ]);
    Ok(BootFiles { files, loader_version })
}

/// Decides the epoch as [`Options::epoch`] says.
fn epoch(tree: &Rootfs, kernel: &Kernel, options: &Options) -> Result<u64, Error> {
    if let Some(epoch) = options.epoch {
        return Ok(epoch);
    }
    let path = Path::new(paths::BOOT_DIR).join(paths::boot::FACTS);
    if let Some(text) = tree.read(&path)? {
        let facts: BootFacts = serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })?;
        if facts.kernel == kernel.release {
            return Ok(facts.epoch);
        }
    }
    let mut latest = 0;
    for path in [kernel.image.as_path(), Path::new("etc/os-release"), Path::new("usr/lib/os-release")] {
        if let Ok(metadata) = fs::metadata(tree.follow(path)?) {
            latest = latest.max(u64::try_from(metadata.mtime()).unwrap_or(0));
        }
    }
    Ok(latest)
}

/// Orders everything that has to happen to the tree.
fn actions(
    tree: &Rootfs,
    distribution: &Distribution,
    kernel: &Kernel,
    [kairn, init]: [Vec<u8>; 2],
    boot: BootFiles,
    facts: &BootFacts,
) -> Result<Vec<Action>, Error> {
    let mut actions = Vec::new();
    let write =
        |path: &Path, content: Vec<u8>, mode| Action::Write { path: path.to_owned(), content: Content(content), mode };
    for (path, mode) in mounts::MOUNT_POINTS.iter().chain(mounts::PERSISTENT) {
        actions.push(Action::MakeDir { path: PathBuf::from(path), mode: *mode });
    }
    for (name, bytes) in boot.files {
        actions.push(write(&Path::new(paths::BOOT_DIR).join(name), bytes, 0o644));
    }
    actions.push(write(Path::new(paths::KAIRN), kairn, 0o755));
    actions.push(Action::Link { path: "usr/bin/kairos-agent".into(), target: "kairn".to_owned() });
    actions.push(write(Path::new("usr/lib/kairn/kairn-init"), init, 0o755));
    for (name, content) in embedded::SYSTEM_OEM {
        actions.push(write(&Path::new("system/oem").join(name), content.to_vec(), 0o644));
    }
    if tree.program("systemctl")?.is_some() {
        units::plan(&mut actions);
    }
    units::plan_files(&mut actions);
    if openrc::is_in(tree)? {
        openrc::plan(&mut actions);
    }
    identity(tree, &mut actions)?;
    actions.push(write(Path::new(paths::RELEASE_FILE), kairn_release(facts, distribution).into_bytes(), 0o644));
    actions.push(write(Path::new("etc/kairos-release"), kairos_release(facts, distribution).into_bytes(), 0o644));
    for path in ["etc/.updated", "var/.updated"] {
        actions.push(write(Path::new(path), updated(facts.epoch).into_bytes(), 0o644));
    }
    empty_boot(tree, kernel, &mut actions)?;
    let mut text = serde_json::to_vec_pretty(facts)
        .map_err(|source| Error::Json { path: Path::new(paths::BOOT_DIR).join(paths::boot::FACTS), source })?;
    text.push(b'\n');
    actions.push(write(&Path::new(paths::BOOT_DIR).join(paths::boot::FACTS), text, 0o644));
    Ok(actions)
}

/// What must differ between machines leaves the image.
fn identity(tree: &Rootfs, actions: &mut Vec<Action>) -> Result<(), Error> {
    // Present and empty: kairn-init puts the machine's own over it before systemd starts.
    actions.push(Action::Empty { path: "etc/machine-id".into() });
    actions.push(Action::Empty { path: "etc/hostname".into() });
    for path in ["var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"] {
        actions.push(Action::Remove { path: path.into() });
    }
    for name in tree.list("etc/ssh")? {
        if name.starts_with("ssh_host_") {
            actions.push(Action::Remove { path: Path::new("etc/ssh").join(name) });
        }
    }
    Ok(())
}

/// The kernel and its configuration lie elsewhere now; nothing else in `/boot` is of use, and links to it lead nowhere.
fn empty_boot(tree: &Rootfs, kernel: &Kernel, actions: &mut Vec<Action>) -> Result<(), Error> {
    if let Some((path, _)) = &kernel.config
        && path.starts_with("boot")
        && let Some(text) = tree.read(path)?
    {
        let path = Path::new("usr/lib/modules").join(&kernel.release).join("config");
        actions.push(Action::Write { path, content: Content(text), mode: 0o644 });
    }
    for name in tree.list("boot")? {
        actions.push(Action::Remove { path: Path::new("boot").join(name) });
    }
    let in_modules = Path::new("usr/lib/modules").join(&kernel.release).join("vmlinuz");
    if tree.exists(&in_modules)? {
        actions.push(Action::Remove { path: in_modules });
    }
    for name in ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
        actions.push(Action::Remove { path: name.into() });
    }
    Ok(())
}

/// Tells systemd that /etc and /var fit to /usr (systemd-update-done.service(8)). Both start afresh on every boot, so without
/// it every boot would rebuild all caches.
fn updated(epoch: u64) -> String {
    format!("# Written by kairn convert; see systemd-update-done.service(8).\nTIMESTAMP_NSEC={epoch}000000000\n")
}

fn kairn_release(facts: &BootFacts, distribution: &Distribution) -> String {
    render(&[
        ("KAIRN_ID", "kairn"),
        ("KAIRN_VERSION", &facts.version),
        ("KAIRN_TITLE", &facts.title),
        ("KAIRN_ARCHITECTURE", &facts.architecture.to_string()),
        ("KAIRN_KERNEL", &facts.kernel),
        ("KAIRN_BASE_ID", distribution.get("ID")),
        ("KAIRN_BASE_VERSION", distribution.get("VERSION_ID")),
        ("KAIRN_CONVERTED_BY", env!("CARGO_PKG_VERSION")),
    ])
}

/// The keys by which existing tools recognise an image.
fn kairos_release(facts: &BootFacts, distribution: &Distribution) -> String {
    let id = distribution.get("ID");
    let version_id = Some(distribution.get("VERSION_ID")).filter(|text| !text.is_empty()).unwrap_or("rolling");
    let name = format!("kairos-core-{id}-{version_id}");
    let version = if facts.version.starts_with('v') { facts.version.clone() } else { format!("v{}", facts.version) };
    let architecture = facts.architecture.to_string();
    // Some distributions name a part of their flavour in the ID.
    let (flavor, release) = match id.split_once('-') {
        Some((flavor, rest)) if flavor == "opensuse" => (flavor, format!("{rest}-{version_id}")),
        _ => (id, version_id.to_owned()),
    };
    let url = |key| Some(distribution.get(key)).filter(|text| !text.is_empty()).unwrap_or("unknown");
    render(&[
        ("KAIROS_ID", "kairos"),
        ("KAIROS_ID_LIKE", &name),
        ("KAIROS_NAME", &name),
        ("KAIROS_VERSION", &version),
        ("KAIROS_RELEASE", &version),
        ("KAIROS_ARCH", &architecture),
        ("KAIROS_TARGETARCH", &architecture),
        ("KAIROS_FLAVOR", flavor),
        ("KAIROS_FLAVOR_RELEASE", &release),
        ("KAIROS_FAMILY", distribution.family().map_or(id, |family| family.name())),
        ("KAIROS_MODEL", "generic"),
        ("KAIROS_VARIANT", "core"),
        ("KAIROS_BUG_REPORT_URL", url("BUG_REPORT_URL")),
        ("KAIROS_HOME_URL", url("HOME_URL")),
        ("KAIROS_FIPS", "false"),
        ("KAIROS_TRUSTED_BOOT", "false"),
        ("KAIROS_INIT_VERSION", env!("CARGO_PKG_VERSION")),
    ])
}

fn render(fields: &[(&str, &str)]) -> String {
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
    fields.iter().map(|(name, value)| format!("{name}=\"{}\"\n", escaped(value))).collect()
}
