//! Paths that several programs agree on. Relative ones are below the root of a partition, an image or a tree.

/// In an image: what `convert` prepares for sealing (see [`boot`]).
pub const BOOT_DIR: &str = "usr/lib/kairn/boot";

/// Files below [`BOOT_DIR`].
pub mod boot {
    /// The kernel as the distribution ships it.
    pub const KERNEL: &str = "vmlinuz";
    /// The initramfs with `kairn-init` and its modules, zstd-compressed cpio.
    pub const INITRAMFS: &str = "initramfs.cpio.zst";
    /// systemd's UEFI stub, of which a UKI is made.
    pub const STUB: &str = "stub.efi";
    /// systemd-boot.
    pub const LOADER: &str = "loader.efi";
    /// Command-line template: one line, to which sealing appends the `kairn.*` tokens of the root.
    pub const CMDLINE: &str = "cmdline";
    /// Facts that `convert` found and sealing needs (`kairn_lifecycle::BootFacts` as JSON).
    pub const FACTS: &str = "boot.json";
}

/// Files of the initramfs that tell `kairn-init` what to do.
pub mod initramfs {
    /// Names of the modules that are loaded always, one a line.
    pub const MODULES: &str = "etc/kairn/modules.names";
    /// Files of the root that its boot reads first, in order of need: one absolute path a line.
    pub const READAHEAD: &str = "etc/kairn/readahead";
}

/// The node's program inside an image.
pub const KAIRN: &str = "usr/bin/kairn";
/// The release file inside an image.
pub const RELEASE_FILE: &str = "etc/kairn-release";

/// Below STATE, RECOVERY and a live medium: one directory per release, named by its id.
pub const RELEASES: &str = "kairn/releases";

/// Files of a release directory.
pub mod release {
    /// The root file system image. The name is the same for every format of it, since it is what a release is looked for by;
    /// `release.json` and the kernel command line say which one it is.
    pub const ROOT: &str = "root.erofs";
    /// The dm-verity hash tree of the root image, without superblock.
    pub const VERITY: &str = "root.verity";
    /// The unified kernel image. Only in build output and on media; an installed machine has it on the ESP.
    pub const UKI: &str = "kernel.efi";
    /// systemd-boot as the release ships it. Only in build output and on media.
    pub const LOADER: &str = "loader.efi";
    /// The description of the release (`kairn_lifecycle::Release`).
    pub const DESCRIPTION: &str = "release.json";
    /// All of them, the description last: a directory that has it is whole.
    pub const ALL: [&str; 5] = [ROOT, VERITY, UKI, LOADER, DESCRIPTION];
}

/// Below STATE: journals of operations, one file each.
pub const JOURNAL: &str = "kairn/journal";
/// Below STATE: attempt records of boots, one file each.
pub const BOOTS: &str = "kairn/boots";
/// Below STATE: scratch space of an upgrade; anything in it may be removed when no operation runs.
pub const STAGING: &str = "kairn/staging";
/// Below STATE: history of deployments (`kairn_lifecycle::Deployment` as JSON, one file each). The ESP decides their state.
pub const DEPLOYMENTS: &str = "kairn/deployments";

/// Below STATE of a written disk image: there until its first boot has fitted it to its disk and given it identities of its own.
pub const FIRST_BOOT: &str = "kairn/first-boot";

/// Below the ESP.
pub mod esp {
    /// UKIs of deployments and recovery: `<id>-<8 hex of the UKI's sha256>.efi`.
    pub const UKIS: &str = "EFI/kairn";
    /// Loader entries.
    pub const ENTRIES: &str = "loader/entries";
    /// Configuration of the loader.
    pub const LOADER_CONF: &str = "loader/loader.conf";
    /// The loader where its boot options point.
    pub const LOADER: &str = "EFI/systemd/systemd-bootx64.efi";
    /// The removable-media path, which firmware tries when it has no boot option.
    pub const REMOVABLE: &str = "EFI/BOOT/BOOTX64.EFI";
    /// Failures seen by init when STATE was out of reach; one file per boot, 8 kept.
    pub const RECORDER: &str = "EFI/kairn/recorder";
}

/// On the running system, absolute.
pub mod run {
    /// What `kairn-init` found and did (`kairn_lifecycle::BootReport` as JSON).
    pub const BOOT_REPORT: &str = "/run/kairn/boot.json";
    /// Directory of stage results.
    pub const STAGES: &str = "/run/kairn/stages";
    /// Lock held by every command that changes the machine.
    pub const LOCK: &str = "/run/kairn/lock";
    /// Where init leaves STATE (or RECOVERY, or the live medium) mounted, read-only.
    pub const STATE: &str = "/run/initramfs/cos-state";
    /// Where init leaves a live medium mounted.
    pub const LIVE: &str = "/run/initramfs/live";
    /// Sentinels of the kind of boot, as existing configurations test them.
    pub const SENTINELS: &str = "/run/cos";
}
