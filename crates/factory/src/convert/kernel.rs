//! The kernel of a tree: which one, and whether it can do what Kairn asks of it.

use crate::Error;
use crate::rootfs::Rootfs;
use kairn_layout::paths;
use kairn_lifecycle::RootFormat;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is known about the kernel that the image will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its release, e.g. `6.1.0-56-amd64`.
    pub(crate) release: String,
    /// Its image, relative to the root.
    pub(crate) image: PathBuf,
    /// Its configuration, where the distribution ships one: path and options.
    pub(crate) config: Option<(PathBuf, KernelConfig)>,
    /// Other releases with modules in the tree.
    pub(crate) others: Vec<String>,
}

/// `CONFIG_` options by name without prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelConfig(BTreeMap<String, String>);

impl KernelConfig {
    pub(crate) fn parse(text: &str) -> Self {
        let options = text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='));
        Self(options.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect())
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.0.get(option).is_some_and(|value| value == "y" || value == "m")
    }

    pub(crate) fn is_builtin(&self, option: &str) -> bool {
        self.0.get(option).is_some_and(|value| value == "y")
    }
}

/// An ability of the kernel: any of these options or modules gives it.
struct Need {
    options: &'static [&'static str],
    modules: &'static [&'static str],
    purpose: &'static str,
}

const fn need(options: &'static [&'static str], modules: &'static [&'static str], purpose: &'static str) -> Need {
    Need { options, modules, purpose }
}

/// Without these no release boots. The root's own file system is judged apart.
const ESSENTIAL: &[Need] = &[
    need(&["OVERLAY_FS"], &["overlay"], "writable /etc and /var"),
    need(&["DM_VERITY"], &["dm-verity"], "the sealed root"),
    need(&["BLK_DEV_LOOP"], &["loop"], "the root image in a file"),
    need(&["EXT4_FS"], &["ext4"], "STATE, OEM and PERSISTENT"),
    need(&["VFAT_FS"], &["vfat"], "the EFI system partition"),
    need(&["DEVTMPFS"], &[], "device nodes"),
    need(&["TMPFS"], &[], "overlays and /run"),
    need(&["BLK_DEV_INITRD"], &[], "the initramfs"),
    need(&["RD_ZSTD"], &[], "the initramfs, zstd-compressed"),
    need(&["EFI_STUB"], &[], "starting from UEFI"),
    need(&["EFI_PARTITION"], &[], "GPT"),
    need(&["EFIVAR_FS"], &["efivarfs"], "knowing which entry was booted"),
];

/// Without these something is weaker.
const USEFUL: &[Need] = &[
    need(&["ISO9660_FS"], &["isofs"], "booting live media"),
    need(&["WATCHDOG"], &["softdog"], "ending hangs"),
    need(&["PSTORE"], &[], "panics in the flight recorder"),
    need(&["NLS_CODEPAGE_437"], &["nls_cp437"], "names on the EFI system partition"),
    need(
        &["NLS_ASCII", "NLS_ISO8859_1", "NLS_UTF8"],
        &["nls_ascii", "nls_iso8859-1", "nls_utf8"],
        "names on the EFI system partition",
    ),
];

/// What a kernel's abilities lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What is missing and stops the conversion.
    pub(crate) missing: Vec<String>,
    /// What is missing and does not.
    pub(crate) warnings: Vec<String>,
    /// The root format, when there is one.
    pub(crate) root_format: Option<RootFormat>,
}

/// Judges a kernel by its configuration, or by the names of its modules where the distribution ships none.
pub(crate) fn judge(config: Option<&KernelConfig>, has_module: impl Fn(&str) -> bool) -> Verdict {
    let given = |need: &Need| match config {
        Some(config) => need.options.iter().any(|option| config.has(option)),
        // What is never a module cannot be told without the configuration.
        None => need.modules.is_empty() || need.modules.iter().any(|name| has_module(name)),
    };
    let lack = |need: &Need| {
        let options: Vec<String> = need.options.iter().map(|option| format!("CONFIG_{option}")).collect();
        format!("{} ({})", options.join(" or "), need.purpose)
    };
    let mut verdict = Verdict {
        missing: ESSENTIAL.iter().filter(|need| !given(need)).map(lack).collect(),
        warnings: USEFUL
            .iter()
            .filter(|need| !given(need))
            .map(lack)
            .map(|lack| format!("the kernel lacks {lack}"))
            .collect(),
        root_format: None,
    };
    verdict.root_format = root_format(config, &has_module);
    if verdict.root_format.is_none() {
        verdict.missing.push(
            "CONFIG_EROFS_FS with CONFIG_EROFS_FS_ZIP, or CONFIG_SQUASHFS with a compressor (the root image)"
                .to_owned(),
        );
    }
    let xattr = match verdict.root_format {
        Some(RootFormat::Squashfs) => "SQUASHFS_XATTR",
        _ => "EROFS_FS_XATTR",
    };
    if verdict.root_format.is_some() && config.is_some_and(|config| !config.has(xattr)) {
        verdict
            .warnings
            .push(format!("the kernel lacks CONFIG_{xattr} (capabilities and labels of files in the root)"));
    }
    if config.is_none() {
        verdict
            .warnings
            .push("the image has no configuration of its kernel, so only what is a module could be checked".to_owned());
    }
    verdict
}

/// Decides on the file system of the root: EROFS, and squashfs for kernels without it (EROFS is in Linux since 5.4, and off in many
/// configurations).
fn root_format(config: Option<&KernelConfig>, has_module: impl Fn(&str) -> bool) -> Option<RootFormat> {
    let (erofs, squashfs) = match config {
        Some(config) => (
            config.has("EROFS_FS") && config.has("EROFS_FS_ZIP"),
            config.has("SQUASHFS") && SQUASHFS_COMPRESSORS.iter().any(|(_, option, _)| config.has(option)),
        ),
        None => (has_module("erofs"), has_module("squashfs")),
    };
    if erofs { Some(RootFormat::Erofs) } else { squashfs.then_some(RootFormat::Squashfs) }
}

/// Compressors of squashfs, the best first: name, the kernel's option, and what conversion chooses. Sealing happens on nodes too, so
/// no level is chosen that takes minutes.
const SQUASHFS_COMPRESSORS: [(&str, &str, &str); 5] = [
    ("zstd", "SQUASHFS_ZSTD", "zstd,3"),
    ("lz4", "SQUASHFS_LZ4", "lz4"),
    ("gzip", "SQUASHFS_ZLIB", "gzip"),
    ("lzo", "SQUASHFS_LZO", "lzo"),
    ("xz", "SQUASHFS_XZ", "xz"),
];

/// Chooses a compressor that the kernel reads, when none was asked for.
pub(crate) fn default_compressor(kernel: &Kernel, format: RootFormat) -> String {
    let reads = |option: &str| match &kernel.config {
        Some((_, config)) => config.has(option),
        // The oldest, on unless it was switched off.
        None => option == "SQUASHFS_ZLIB",
    };
    let squashfs = || SQUASHFS_COMPRESSORS.iter().find(|(_, option, _)| reads(option)).map(|(.., choice)| *choice);
    match format {
        RootFormat::Erofs => "lz4",
        RootFormat::Squashfs => squashfs().unwrap_or("gzip"),
    }
    .to_owned()
}

/// Checks that a kernel reads what this compressor writes. LZ4 is part of `EROFS_FS_ZIP`; the others came later as options of
/// their own: LZMA in 5.16, DEFLATE in 6.6, Zstandard in 6.10. Every compressor of squashfs is an option of its own.
pub(crate) fn check_compressor(kernel: &Kernel, format: RootFormat, compressor: &str) -> Result<(), Error> {
    let refused =
        |why: String| Error::Compressor { kernel: kernel.release.clone(), compressor: compressor.to_owned(), why };
    let (algorithm, _level) = compressor.split_once(',').unwrap_or((compressor, ""));
    let option = match (format, algorithm) {
        (RootFormat::Erofs, "lz4" | "lz4hc") => return Ok(()),
        (RootFormat::Erofs, "lzma") => "EROFS_FS_ZIP_LZMA",
        (RootFormat::Erofs, "deflate" | "libdeflate") => "EROFS_FS_ZIP_DEFLATE",
        (RootFormat::Erofs, "zstd") => "EROFS_FS_ZIP_ZSTD",
        (RootFormat::Erofs, _) => return Err(refused("EROFS knows lz4, lz4hc, lzma, deflate and zstd".to_owned())),
        (RootFormat::Squashfs, _) => {
            let plain = if algorithm == "lz4hc" { "lz4" } else { algorithm };
            let known = SQUASHFS_COMPRESSORS.iter().find(|(name, ..)| *name == plain);
            let (_, option, _) =
                known.ok_or_else(|| refused("squashfs knows zstd, lz4, lz4hc, gzip, lzo and xz".to_owned()))?;
            option
        }
    };
    match &kernel.config {
        Some((_, config)) if config.is_builtin(option) => Ok(()),
        None if option == "SQUASHFS_ZLIB" => Ok(()),
        Some(_) => Err(refused(format!("CONFIG_{option} is not set"))),
        None => Err(refused(format!("the image has no configuration of its kernel that says CONFIG_{option}"))),
    }
}

/// Finds the kernel: the one asked for, else the newest in `/lib/modules` that has an image.
pub(crate) fn find(tree: &Rootfs, asked: Option<&str>) -> Result<Kernel, Error> {
    let modules = Path::new("usr/lib/modules");
    let dir = if tree.exists(modules)? { modules } else { Path::new("lib/modules") };
    let mut releases = tree.list(dir)?;
    releases.sort_by(|a, b| compare_versions(b, a));
    let none = |why: String| Error::NoKernel { root: tree.root().to_owned(), why };
    if releases.is_empty() {
        return Err(none("/lib/modules is empty".to_owned()));
    }
    if let Some(asked) = asked {
        if !releases.iter().any(|release| release == asked) {
            return Err(none(format!("/lib/modules holds {}, not {asked}", releases.join(", "))));
        }
        let image = image_of(tree, asked)?.ok_or_else(|| none(format!("there is no image of {asked} in /boot")))?;
        return describe(tree, dir, asked.to_owned(), image, releases);
    }
    for release in &releases {
        if let Some(image) = image_of(tree, release)? {
            return describe(tree, dir, release.clone(), image, releases.clone());
        }
    }
    Err(none(format!("/lib/modules holds {}, but there is no image of any of them in /boot", releases.join(", "))))
}

fn describe(
    tree: &Rootfs,
    dir: &Path,
    release: String,
    image: PathBuf,
    mut others: Vec<String>,
) -> Result<Kernel, Error> {
    others.retain(|other| *other != release);
    let mut config = None;
    for path in [dir.join(&release).join("config"), PathBuf::from(format!("boot/config-{release}"))] {
        if let Some(text) = tree.read_text(&path)? {
            config = Some((path, KernelConfig::parse(&text)));
            break;
        }
    }
    Ok(Kernel { release, image, config, others })
}

/// Where distributions leave the image, and where an earlier conversion has moved it.
fn image_of(tree: &Rootfs, release: &str) -> Result<Option<PathBuf>, Error> {
    let mut places: Vec<PathBuf> =
        ["vmlinuz", "Image", "vmlinux"].iter().map(|name| format!("boot/{name}-{release}").into()).collect();
    places.push(format!("usr/lib/modules/{release}/vmlinuz").into());
    if converted_release(tree)?.as_deref() == Some(release) {
        places.push(Path::new(paths::BOOT_DIR).join(paths::boot::KERNEL));
    }
    for place in places {
        if tree.exists(&place)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The kernel release of an earlier conversion.
fn converted_release(tree: &Rootfs) -> Result<Option<String>, Error> {
    let path = Path::new(paths::BOOT_DIR).join(paths::boot::FACTS);
    let Some(text) = tree.read(&path)? else { return Ok(None) };
    let facts: kairn_lifecycle::BootFacts =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })?;
    Ok(Some(facts.kernel))
}

/// Orders kernel releases: runs of digits by value, a release candidate before its release, the rest by bytes.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (pieces(a), pieces(b));
    let mut pairs = a.iter().zip(&b);
    pairs.find_map(|(a, b)| Some(a.cmp(b)).filter(|order| order.is_ne())).unwrap_or_else(|| {
        let rest = a.get(b.len()..).or_else(|| b.get(a.len()..)).and_then(<[Piece<'_>]>::first);
        let longer_is_older = matches!(rest, Some(Piece::Candidate));
        if longer_is_older { b.len().cmp(&a.len()) } else { a.len().cmp(&b.len()) }
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Candidate,
    Text(&'a str),
    Number(u64),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        pieces.push(match run.parse() {
            Ok(number) if digits => Piece::Number(number),
            _ if run == "-rc" || run == "~rc" || run == ".rc" => Piece::Candidate,
            _ => Piece::Text(run),
        });
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_kernel_is_newest_by_number() {
        let mut releases = vec!["6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.9", "6.12.10", "6.12.10-rc2", "5.99.1"];
        releases.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(releases, ["5.99.1", "6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.9", "6.12.10-rc2", "6.12.10"]);
    }

    proptest! {
        #[test]
        fn comparing_is_antisymmetric_and_transitive(a in "[0-9.rc-]{0,9}", b in "[0-9.rc-]{0,9}", c in "[0-9.rc-]{0,9}") {
            prop_assert_eq!(compare_versions(&a, &b), compare_versions(&b, &a).reverse());
            if compare_versions(&a, &b).is_lt() && compare_versions(&b, &c).is_lt() {
                prop_assert!(compare_versions(&a, &c).is_lt());
            }
        }
    }

    #[test]
    fn a_kernel_is_judged_by_its_configuration() {
        let full = "CONFIG_OVERLAY_FS=m\nCONFIG_DM_VERITY=m\nCONFIG_BLK_DEV_LOOP=m\nCONFIG_EXT4_FS=m\nCONFIG_VFAT_FS=m\n\
            CONFIG_DEVTMPFS=y\nCONFIG_TMPFS=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_ZSTD=y\nCONFIG_EFI_STUB=y\n\
            CONFIG_EFI_PARTITION=y\nCONFIG_EFIVAR_FS=m\nCONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n# CONFIG_ISO9660_FS is not set\n";
        let verdict = judge(Some(&KernelConfig::parse(full)), |_| false);
        assert_eq!((verdict.missing, verdict.root_format), (vec![], Some(RootFormat::Erofs)));
        assert!(verdict.warnings.iter().any(|text| text.contains("CONFIG_ISO9660_FS (booting live media)")));
        let verdict = judge(Some(&KernelConfig::parse(&full.replace("CONFIG_DM_VERITY=m", ""))), |_| true);
        assert_eq!(verdict.missing, ["CONFIG_DM_VERITY (the sealed root)"]);
    }

    #[test]
    fn without_configuration_modules_tell() {
        let verdict = judge(None, |name| !["loop", "erofs"].contains(&name));
        assert_eq!(verdict.root_format, Some(RootFormat::Squashfs));
        let verdict = judge(None, |name| !["loop", "erofs", "squashfs"].contains(&name));
        assert_eq!(
            verdict.missing,
            [
                "CONFIG_BLK_DEV_LOOP (the root image in a file)",
                "CONFIG_EROFS_FS with CONFIG_EROFS_FS_ZIP, or CONFIG_SQUASHFS with a compressor (the root image)"
            ]
        );
    }
}
