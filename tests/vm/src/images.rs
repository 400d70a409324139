//! What machines boot from: a Debian base, media and disks of it, and releases that differ from it in a few files. All of it is
//! cached by what it was made from.

use crate::fault::Fault;
use crate::registry::Registry;
use crate::world::World;
use kairn_host::Invocation;
use kairn_lab::Key;
use kairn_lifecycle::Architecture;
use kairn_oci::Layout;
use kairn_report::Silent;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The user of all machines.
pub const USER: &str = "kairos";
/// Stages of an installation and of the first boot after it; the last step of the new root is refused, since that is sealed.
pub const STAGES_OF_INSTALLATION: &str = "\
stages:
  before-install:
  - name: before
    commands: [\"echo before > /run/kairn/before-install\"]
  after-install-chroot:
  - name: inside
    commands: [\"echo inside > /oem/inside\", \"test -e /etc/kairn-release && echo release > /usr/local/inside\"]
  - name: sealed
    files: [{path: /usr/share/sealed, content: x}]
  after-install:
  - name: after
    if: grep -q before /run/kairn/before-install
    commands: [\"echo after > /run/kairn/install/oem/after\"]
  first-boot:
  - name: first
    commands: [\"echo first >> /usr/local/first-boot\"]
";
/// Copying a tree or making a file system of a release.
const COPY: Duration = Duration::from_secs(900);
/// What a file system needs besides the files on it.
const SLACK: u64 = 32 << 20;

/// One change of a tree; paths are from its root.
#[derive(Debug)]
pub enum Change {
    /// Writes a file with a mode, replacing what is there.
    Write(&'static str, u32, &'static str),
    /// Makes a symbolic link: where, and to what.
    Link(&'static str, &'static str),
}

impl World {
    /// Builds the base: a converted Debian image and its release.
    pub fn base(&self) -> Result<PathBuf, Fault> {
        self.base_of("bookworm")
    }

    /// Builds the base of another suite of Debian.
    pub fn base_of(&self, suite: &str) -> Result<PathBuf, Fault> {
        self.build(suite, &format!("debian:{suite}"), &["--oci"], &[])
    }

    /// Makes the disk image of a machine that was installed with the base.
    pub fn disk_image(&self) -> Result<PathBuf, Fault> {
        self.disk_image_of("disk", &self.base()?)
    }

    /// The same of another release.
    pub fn disk_image_of(&self, name: &str, out: &Path) -> Result<PathBuf, Fault> {
        self.medium(name, out, "--raw", "disk.raw", "")
    }

    /// The same with more in its configuration.
    pub fn disk_image_with(&self, name: &str, out: &Path, more: &str) -> Result<PathBuf, Fault> {
        self.medium(name, out, "--raw", "disk.raw", more)
    }

    /// Makes the medium that installs by itself.
    pub fn install_medium(&self) -> Result<PathBuf, Fault> {
        self.install_medium_of(&self.base()?)
    }

    /// The same of another release.
    pub fn install_medium_of(&self, out: &Path) -> Result<PathBuf, Fault> {
        let more = format!("install:\n  auto: true\n  reboot: true\n{STAGES_OF_INSTALLATION}");
        self.medium("unattended", out, "--iso", "install.iso", &more)
    }

    /// Makes the medium that waits for a person.
    pub fn live_medium(&self) -> Result<PathBuf, Fault> {
        self.medium("live", &self.base()?, "--iso", "install.iso", "")
    }

    /// Makes a medium of the base that carries a configuration, in a directory: it belongs to one scenario.
    pub fn configured_medium(&self, dir: &Path, text: &str) -> Result<PathBuf, Fault> {
        let config = dir.join("site.yaml");
        fs::write(&config, text).map_err(Fault::io(format!("write {}", config.display())))?;
        let (source, out) = (format!("release:{}", self.base()?.join("release").display()), dir.join("medium"));
        self.build_into(&out, &source, &["--iso", "--config", &config.to_string_lossy()])?;
        Ok(out.join("install.iso"))
    }

    /// The configuration of a machine that lets us in, with more in it.
    pub fn configuration(&self, more: &str) -> Result<String, Fault> {
        Ok(format!(
            "#cloud-config\nhostname: kairn-test\nusers:\n  - name: {USER}\n    groups: [admin]\n    shell: /bin/bash\n    \
             ssh_authorized_keys:\n      - {}\n{more}",
            self.key.public()?
        ))
    }

    fn medium(&self, name: &str, out: &Path, kind: &str, file: &str, more: &str) -> Result<PathBuf, Fault> {
        let config = self.work.join(format!("{name}.yaml"));
        let text = self.configuration(more)?;
        // Two scenarios may write it at a time; a rename gives each the same whole file.
        let partial = config.with_extension(format!("{:?}", std::thread::current().id()));
        fs::write(&partial, text).map_err(Fault::io(format!("write {}", partial.display())))?;
        fs::rename(&partial, &config).map_err(Fault::io(format!("write {}", config.display())))?;
        let source = format!("release:{}", out.join("release").display());
        let options = [kind, "--config", &config.to_string_lossy()];
        Ok(self.build(name, &source, &options, &[&config])?.join(file))
    }

    /// Unpacks the base's image: what a node that upgrades to it seals.
    pub fn base_tree(&self) -> Result<PathBuf, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Err(Fault::Cannot("only root can unpack a release with its owners".into()));
        }
        self.tree(&self.base()?)
    }

    /// Builds a release that differs from the base in some files; the directory holds `oci`, `release` and a disk `release.img`
    /// with the release on it.
    pub fn variant(&self, name: &str, changes: &[Change]) -> Result<PathBuf, Fault> {
        self.variant_of(&self.base()?, name, changes)
    }

    /// The same of another base.
    pub fn variant_of(&self, base: &Path, name: &str, changes: &[Change]) -> Result<PathBuf, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Err(Fault::Cannot("only root can unpack a release with its owners and change it".into()));
        }
        let tree = self.tree(base)?;
        let key = Key::new(name).text("changes", &format!("{changes:?}")).text("base", &base.to_string_lossy());
        let entry = self.cache.get_or_build(&key, |dir| {
            let copy = dir.join("tree");
            let args = ["-a", "--reflink=auto"].map(str::to_owned);
            let paths = [&tree, &copy].map(|path| path.to_string_lossy().into_owned());
            self.runner.run(&Invocation::new("cp").args(args).args(paths).deadline(COPY))?;
            for change in changes {
                change.apply(&copy)?;
            }
            let out = dir.join("out");
            self.build_into(&out, &format!("dir:{}", copy.display()), &["--oci"])?;
            fs::remove_dir_all(&copy).map_err(Fault::io("remove the changed tree"))?;
            self.release_disk(&out)
        })?;
        Ok(entry.join("out"))
    }

    /// Unpacks the image of a build.
    pub fn tree(&self, base: &Path) -> Result<PathBuf, Fault> {
        let key = Key::new("tree").text("base", &base.to_string_lossy());
        let entry = self.cache.get_or_build(&key, |dir| {
            let layout = Layout::open(&base.join("oci"))?;
            let tree = dir.join("tree");
            fs::create_dir(&tree).map_err(Fault::io("make a directory for the tree"))?;
            layout.image(architecture()?)?.unpack(&layout, &tree, &mut Silent)?;
            Ok::<(), Fault>(())
        })?;
        Ok(entry.join("tree"))
    }

    /// Puts a release on a disk that a machine can mount.
    fn release_disk(&self, out: &Path) -> Result<(), Fault> {
        let release = out.join("release");
        let mut size = SLACK;
        for file in fs::read_dir(&release).map_err(Fault::io("list the release"))? {
            size += file.and_then(|file| file.metadata()).map_err(Fault::io("read the release"))?.len();
        }
        let make = Invocation::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0", "-d"]);
        let make = make.arg(release.to_string_lossy()).arg(out.join("release.img").to_string_lossy());
        self.runner.run(&make.arg(format!("{}k", size / 1024)).deadline(COPY))?;
        Ok(())
    }

    /// Pushes an image to a registry under `os:TAG`; returns how machines name it.
    pub fn push(&self, registry: &Registry, out: &Path, tag: &str) -> Result<String, Fault> {
        let layout = Layout::open(&out.join("oci"))?;
        let options = kairn_oci::Options { insecure: vec![registry.here()], ..kairn_oci::Options::default() };
        let client = kairn_oci::Registry::new(&options)?;
        let reference = format!("{}/os:{tag}", registry.here());
        client.push(&layout, &layout.image(architecture()?)?, &reference, &mut Silent)?;
        Ok(format!("oci:{}/os:{tag}", registry.for_machines()))
    }
}

fn architecture() -> Result<Architecture, Fault> {
    Architecture::of_this_program().ok_or_else(|| Fault::Failed("this machine's architecture is none of ours".into()))
}

impl Change {
    fn apply(&self, tree: &Path) -> Result<(), Fault> {
        let (Self::Write(path, ..) | Self::Link(path, _)) = self;
        let at = tree.join(path);
        let failed = || Fault::io(format!("change /{path} of the tree"));
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).map_err(failed())?;
        }
        // What is there may be a link, which must not be written through.
        match fs::remove_file(&at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        match self {
            Self::Write(_, mode, content) => fs::write(&at, content)
                .and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(*mode)))
                .map_err(failed()),
            Self::Link(_, target) => symlink(target, &at).map_err(failed()),
        }
    }
}
