//! The systems that are measured: the sealed image, and the same tree on plain ext4 with an initramfs of Debian's generators. All boot
//! by the same loader, from the same kind of disk, with the same kernel and the same words on its command line.

use crate::fault::Fault;
use crate::images::Change;
use crate::world::World;
use kairn_host::Invocation;
use kairn_lab::Key;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tells how the boot went; in all systems.
const REPORTING: &[Change] = &[
    Change::Write("usr/lib/bench/report", 0o755, include_str!("report.sh")),
    Change::Write(
        "usr/lib/systemd/system/bench-report.service",
        0o644,
        "[Unit]\nDescription=Tell how the boot went\nAfter=multi-user.target\n[Service]\nExecStart=/usr/lib/bench/report\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    Change::Link(
        "etc/systemd/system/multi-user.target.wants/bench-report.service",
        "/usr/lib/systemd/system/bench-report.service",
    ),
];
const SCRIPT: &str = include_str!("peer.sh");
/// Size of all disks.
pub const DISK: u64 = 8 << 30;
/// Installing packages, copying a tree, making a file system.
const LONG: Duration = Duration::from_secs(1800);

/// The ESP begins at the first MiB.
const ESP_AT: u64 = 1 << 20;
const ESP: u64 = 512 << 20;
const ESP_ID: &str = "B007E5D0";
const ROOT_UUID: &str = "b007b007-0000-4000-8000-b007b007b007";

/// How a system is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Sealed, by kairn-init.
    Kairn,
    /// ext4, by initramfs-tools.
    InitramfsTools,
    /// ext4, by dracut.
    Dracut,
}

impl System {
    /// All, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Kairn, Self::InitramfsTools, Self::Dracut];

    /// Its name; of a generator, that of Debian's package.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kairn => "kairn",
            Self::InitramfsTools => "initramfs-tools",
            Self::Dracut => "dracut",
        }
    }

    /// Makes its disk, as it is before its first boot.
    pub fn disk(self, world: &World) -> Result<PathBuf, Fault> {
        let image = world.variant("bench", REPORTING)?;
        if self == Self::Kairn {
            return world.disk_image_of("bench-kairn", &image);
        }
        let key = Key::new(self.name()).text("image", &image.to_string_lossy()).text("script", SCRIPT);
        let tree = world.tree(&image)?;
        let entry = world.cache.get_or_build(&key, |dir| {
            let copy = dir.join("tree");
            let paths = [&tree, &copy].map(|path| path.to_string_lossy().into_owned());
            world.runner.run(&Invocation::new("cp").args(["-a", "--reflink=auto"]).args(paths).deadline(LONG))?;
            let words = cmdline(&tree)?;
            furnish(world, self, &copy)?;
            make_disk(world, &tree, &copy, &dir.join("disk.raw"), &words)?;
            fs::remove_dir_all(&copy).map_err(Fault::io("remove the tree of a peer"))
        })?;
        Ok(entry.join("disk.raw"))
    }
}

/// Reads what the image puts on the kernel's command line.
fn cmdline(tree: &Path) -> Result<String, Fault> {
    let path = tree.join("usr/lib/kairn/boot/cmdline");
    fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(Fault::io(format!("read {}", path.display())))
}

/// Makes a plain system of the tree, with packages from the mirror that apt on this machine uses.
fn furnish(world: &World, system: System, tree: &Path) -> Result<(), Fault> {
    // The loader reads volume ids of FAT as fsck and mount do: in two halves.
    let (high, low) = ESP_ID.split_at(4);
    let settings = world.runner.run(&Invocation::new("apt-config").arg("dump"))?.text();
    let proxies = settings.lines().filter(|line| line.starts_with("Acquire::") && line.contains("::Proxy"));
    let proxies = proxies.map(|line| line.trim_end_matches(';')).filter(|line| !line.ends_with("\"\""));
    let command = Invocation::new("unshare").args(["--mount", "sh", "-c", SCRIPT, "peer.sh"]);
    let command = command.arg(tree.to_string_lossy()).args([system.name(), ROOT_UUID, &format!("{high}-{low}")]);
    let command = command.args(proxies.flat_map(|proxy| ["-o".to_owned(), proxy.to_owned()]));
    world.runner.run(&command.deadline(LONG)).map(drop).map_err(Fault::from)
}

/// Puts the tree on a disk with the loader.
fn make_disk(world: &World, image: &Path, tree: &Path, disk: &Path, words: &str) -> Result<(), Fault> {
    let run = |command: Invocation| world.runner.run(&command.deadline(LONG)).map(drop).map_err(Fault::from);
    let name = disk.to_string_lossy().into_owned();
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(Fault::io(format!("write {}", path.display())));
    fs::File::create(disk).and_then(|file| file.set_len(DISK)).map_err(Fault::io("make a disk"))?;
    let esp = format!("--new=1:{}:+{}M", ESP_AT / 512, ESP >> 20);
    run(Invocation::new("sgdisk").args([&esp, "--typecode=1:ef00", "--new=2:0:0", "--typecode=2:8300", &name]))?;

    let at = (ESP_AT / 512).to_string();
    let make = Invocation::new("mkfs.vfat").args(["-F", "32", "-i", ESP_ID, "-n", "ESP", "--offset", &at, &name]);
    run(make.arg((ESP / 1024).to_string()))?;
    let work = disk.with_extension("esp");
    fs::create_dir(&work).map_err(Fault::io("make a directory for the ESP"))?;
    write(&work.join("loader.conf"), "timeout 0\neditor no\n")?;
    let entry = format!("title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions root=UUID={ROOT_UUID} ro {words}\n");
    write(&work.join("debian.conf"), &entry)?;
    let esp = format!("{name}@@{ESP_AT}");
    run(Invocation::new("mmd").args(["-i", &esp, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"]))?;
    for (from, to) in [
        (image.join("usr/lib/kairn/boot/loader.efi"), "::/EFI/BOOT/BOOTX64.EFI"),
        (work.join("loader.conf"), "::/loader/loader.conf"),
        (work.join("debian.conf"), "::/loader/entries/debian.conf"),
        (tree.join("boot/vmlinuz"), "::/vmlinuz"),
        (tree.join("boot/initrd.img"), "::/initrd.img"),
    ] {
        run(Invocation::new("mcopy").args(["-i", &esp]).arg(from.to_string_lossy()).arg(to))?;
    }
    fs::remove_dir_all(&work).map_err(Fault::io("remove the directory of the ESP"))?;

    let begin = ESP_AT + ESP;
    // The table's copy lies behind the last partition.
    let size = (DISK - begin - (1 << 20)) / 1024;
    let make = Invocation::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", "root", "-U", ROOT_UUID]);
    let make = make.args(["-E", &format!("offset={begin}"), "-d"]).arg(tree.to_string_lossy());
    run(make.args([name, format!("{size}k")]))
}
