//! Debian root file systems, bootstrapped from the machine's own mirror.

mod mirror;
mod release_date;
mod stand_in;

use crate::Error;
use crate::embedded;
use kairn_host::{Invocation, Runner};
use kairn_lifecycle::Digest;
use kairn_report::{Event, Sink};
use mirror::{Archive, Mirrors};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// Which kernel of Debian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Drivers for all hardware.
    #[default]
    Generic,
    /// Drivers for virtual machines only.
    Cloud,
}

/// Which Debian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Suite, e.g. `bookworm`.
    pub suite: String,
    /// Kernel.
    pub flavour: Flavour,
    /// Packages in addition.
    pub packages: Vec<String>,
}

/// Where a root file system came from, for the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Suite.
    pub suite: String,
    /// The signed indices, in the order of the sources.
    pub indices: Vec<Index>,
    /// `name version architecture`, sorted.
    pub packages: Vec<String>,
    /// Date of the newest index in seconds since 1970: the epoch of the image.
    pub epoch: u64,
}

/// One signed index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its URI.
    pub uri: String,
    /// Digest of the file with its signature.
    pub sha256: Digest,
}

/// What every image has, besides what Debian calls required. `usr-is-merged` keeps the program that would merge /usr, with its
/// Perl, out.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "openssh-server",
    "sudo",
    "systemd",
    "systemd-boot-efi",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "usr-is-merged",
    stand_in::NAME,
];

/// Files that a running root never reads and that make up a tenth of it.
const UNREAD: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];

/// Timers that change or tidy package files, which nothing can on a read-only root.
const DISABLED: &[&str] = &[
    "etc/systemd/system/timers.target.wants/apt-daily.timer",
    "etc/systemd/system/timers.target.wants/apt-daily-upgrade.timer",
    "etc/systemd/system/timers.target.wants/dpkg-db-backup.timer",
    "etc/systemd/system/timers.target.wants/e2scrub_all.timer",
    "etc/systemd/system/multi-user.target.wants/e2scrub_reap.service",
];

/// Files that say when or where a bootstrap ran.
const TRACES: &[&str] = &[
    "etc/.pwd.lock",
    "etc/.resolv.conf.systemd-resolved.bak",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
    "var/lib/ucf/hashfile.0",
    "var/lib/ucf/registry.0",
    "var/log/alternatives.log",
    "var/log/apt/eipp.log.xz",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MERGED_USR_HOOKS: &str = "/usr/share/mmdebstrap/hooks/merged-usr";

/// Bootstraps a root file system into `tree`, which must be absent; `work` is scratch space beside it.
///
/// # Errors
/// apt names no Debian mirror, a tool or keyring is missing, or mmdebstrap fails.
pub fn bootstrap(
    recipe: &Recipe,
    tree: &Path,
    work: &Path,
    runner: &Runner,
    sink: &mut dyn Sink,
) -> Result<Origin, Error> {
    let step = "bootstrap";
    sink.event(Event::start(step, format!("bootstrapping Debian {}", recipe.suite)));
    let made = run(recipe, tree, work, runner);
    sink.event(match &made {
        Ok(_) => Event::done(step),
        Err(error) => Event::failed(step, error.to_string()),
    });
    made
}

fn run(recipe: &Recipe, tree: &Path, work: &Path, runner: &Runner) -> Result<Origin, Error> {
    let keyring = Path::new(KEYRING);
    if !keyring.is_file() {
        return Err(Error::NoKeyring(keyring.to_owned()));
    }
    let archives = Mirrors::of_this_machine(runner)?.archives(&recipe.suite);
    let (indices, epoch) = read_indices(&archives, work, runner)?;
    let repository = work.join("repository");
    stand_in::write_repository(&repository)?;
    let kernel = match recipe.flavour {
        Flavour::Generic => format!("linux-image-{}", architecture()),
        Flavour::Cloud => format!("linux-image-cloud-{}", architecture()),
    };
    let mut packages: Vec<&str> = PACKAGES.to_vec();
    packages.push(&kernel);
    packages.extend(recipe.packages.iter().map(String::as_str));
    runner.run(&Invocation::new("mmdebstrap").arg("--version")).map_err(Error::needs("mmdebstrap"))?;
    // In a mount namespace of its own: without root only there mounts are allowed, and what a killed run leaves mounted is
    // gone with it.
    let mut invocation = Invocation::new("unshare")
        .args(["--mount", "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"])
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg(format!("--include={}", packages.join(",")))
        .args(UNREAD.iter().map(|option| format!("--dpkgopt={option}")))
        .args(proxies(runner)?.iter().map(|option| format!("--aptopt={option}")));
    if Path::new(MERGED_USR_HOOKS).is_dir() {
        invocation = invocation.arg(format!("--hook-dir={MERGED_USR_HOOKS}"));
    }
    invocation = invocation.arg(&recipe.suite).arg(tree.to_string_lossy()).args(source_lines(&archives));
    invocation = invocation
        .arg(format!("deb [trusted=yes] copy:{} ./", repository.display()))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .deadline(Duration::from_secs(3600));
    runner.run(&invocation).map_err(|error| reason(&recipe.suite, error))?;
    let packages = installed(tree)?;
    settle(tree, &archives, &packages)?;
    Ok(Origin { suite: recipe.suite.clone(), indices, packages, epoch })
}

/// Picks what apt and dpkg call an error out of what the bootstrap said. A full disk is the reason whatever else failed after it; dpkg
/// says so in a line of its own, and apt then only quotes its whole command.
fn reason(suite: &str, error: kairn_host::Error) -> Error {
    let said = match &error {
        kairn_host::Error::Program { stderr, .. } => {
            let full = stderr.lines().find(|line| line.contains("No space left on device"));
            let errors = stderr.lines().filter_map(|line| line.strip_prefix("E: "));
            let errors = errors.filter(|line| !line.starts_with("mmdebstrap failed"));
            full.map_or_else(|| errors.collect::<Vec<_>>().join("; "), |line| line.trim().to_owned())
        }
        _ => String::new(),
    };
    if said.is_empty() { Error::needs("util-linux")(error) } else { Error::Bootstrap { suite: suite.to_owned(), said } }
}

/// Fetches the signed indices through apt's own methods, so that its proxies and certificates hold here too.
fn read_indices(archives: &[Archive], work: &Path, runner: &Runner) -> Result<(Vec<Index>, u64), Error> {
    let mut indices = Vec::new();
    let mut epoch = 0;
    for (number, archive) in archives.iter().enumerate() {
        let uri = archive.in_release();
        let file = work.join(format!("InRelease-{number}"));
        let fetch = Invocation::new("/usr/lib/apt/apt-helper")
            .args(["download-file", &uri, &file.to_string_lossy()])
            .deadline(Duration::from_secs(120));
        runner.run(&fetch).map_err(Error::needs("apt"))?;
        let bytes = fs::read(&file).map_err(Error::path("read", &file))?;
        epoch = epoch.max(release_date::date_of(&String::from_utf8_lossy(&bytes)).unwrap_or(0));
        indices.push(Index { uri, sha256: Digest::of(&bytes) });
    }
    Ok((indices, epoch))
}

fn source_lines(archives: &[Archive]) -> Vec<String> {
    archives.iter().map(|archive| format!("deb [signed-by={KEYRING}] {} {} main", archive.uri, archive.suite)).collect()
}

/// mmdebstrap's apt does not read this machine's configuration, so proxies are handed on.
fn proxies(runner: &Runner) -> Result<Vec<String>, Error> {
    let text = runner.run(&Invocation::new("apt-config").arg("dump")).map_err(Error::needs("apt"))?.text();
    let lines = text.lines().filter(|line| line.starts_with("Acquire::") && line.contains("::Proxy"));
    Ok(lines.map(|line| line.trim_end_matches(';').to_owned()).filter(|line| !line.ends_with("\"\"")).collect())
}

/// Debian's name of the architecture that this program runs on, which is what mmdebstrap makes.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Reads dpkg's database.
fn installed(tree: &Path) -> Result<Vec<String>, Error> {
    let path = tree.join("var/lib/dpkg/status");
    let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
    let mut packages = Vec::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let (Some(package), Some(version), Some(architecture)) =
            (field("Package"), field("Version"), field("Architecture"))
        {
            packages.push(format!("{package} {version} {architecture}"));
        }
    }
    packages.sort();
    Ok(packages)
}

/// Makes the bootstrapped tree an image's: no traces of the bootstrap, network by networkd, a record of its packages.
fn settle(tree: &Path, archives: &[Archive], packages: &[String]) -> Result<(), Error> {
    for path in TRACES.iter().chain(DISABLED) {
        remove_if_any(&tree.join(path))?;
    }
    for path in ["dev", "run", "tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt/archives"] {
        empty_dir(&tree.join(path))?;
    }
    for path in ["var/log/btmp", "var/log/wtmp", "var/log/lastlog", "var/log/faillog"] {
        let path = tree.join(path);
        if path.is_file() {
            File::create(&path).map_err(Error::path("empty", &path))?;
        }
    }
    write(&tree.join("etc/apt/sources.list"), (source_lines(archives).join("\n") + "\n").as_bytes())?;
    write(&tree.join("usr/share/kairn/packages"), (packages.join("\n") + "\n").as_bytes())?;
    for (path, content) in embedded::DEBIAN {
        write(&tree.join(path), content)?;
    }
    for (link, target) in [
        (
            "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
            "/lib/systemd/system/systemd-networkd.service",
        ),
        (
            "etc/systemd/system/sockets.target.wants/systemd-networkd.socket",
            "/lib/systemd/system/systemd-networkd.socket",
        ),
        ("etc/systemd/system/dbus-org.freedesktop.network1.service", "/lib/systemd/system/systemd-networkd.service"),
        ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ] {
        let link = tree.join(link);
        make_parent(&link)?;
        remove_if_any(&link)?;
        symlink(target, &link).map_err(Error::path("link", &link))?;
    }
    Ok(())
}

fn make_parent(path: &Path) -> Result<(), Error> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(Error::path("create", parent)))
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    make_parent(path)?;
    fs::write(path, content).map_err(Error::path("write", path))
}

fn remove_if_any(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::path("remove", path)(error)),
        _ => Ok(()),
    }
}

fn empty_dir(dir: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::path("list", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::path("list", dir))?;
        let kind = entry.file_type().map_err(Error::path("examine", entry.path()))?;
        let removed = if kind.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed.map_err(Error::path("remove", entry.path()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bootstrap_says_what_apt_said() {
        for (stderr, said) in [
            ("I: x\nE: Release file is expired\nE: mmdebstrap failed to run\n", "Release file is expired"),
            (
                "dpkg: error processing archive x.deb (--install):\n cannot copy extracted data for './usr/x' to \
                 '/usr/x.dpkg-new': failed to write (No space left on device)\nE: setup failed: E: env chroot dpkg failed\n",
                "cannot copy extracted data for './usr/x' to '/usr/x.dpkg-new': failed to write (No space left on device)",
            ),
        ] {
            let error = kairn_host::Error::Program {
                command: "mmdebstrap".to_owned(),
                status: "exit code 1".to_owned(),
                stderr: stderr.to_owned(),
            };
            assert_eq!(reason("sid", error).to_string(), format!("Debian sid cannot be bootstrapped: {said}"));
        }
    }
}
