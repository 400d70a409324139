//! Blocks about installing, upgrading and resetting a machine.

use super::{Block, COUNT, MEBIBYTES, Shape, TEXTS, block, done, not_yet};
use Shape::{Bool, List, Text, Words};

/// `install`.
pub(crate) static INSTALL: Block = block(
    "`install`",
    &[
        done("auto", Bool, "Installs without being asked."),
        done("device", Text, "Names the disk: `auto`, or a path below /dev.").example("/dev/nvme0n1"),
        done("reboot", Bool, "Reboots afterwards."),
        done("poweroff", Bool, "Powers off afterwards."),
        done("nousers", Bool, "Accepts that nobody can log in."),
        done("force", Bool, "Overwrites an installation."),
        not_yet("no-format", Bool, "Leaves the partitions of the disk as they are."),
        not_yet("ssh_hardening", Bool, "Lets users in by key only."),
        not_yet("source", Text, "Names what is installed.").example("oci:registry.example.org/os:1.0"),
        not_yet("image", Text, "Names what is installed: an old name of `source`.")
            .example("oci:registry.example.org/os:1.0"),
        not_yet("grub_options", Shape::Block(&GRUB_OPTIONS), "Sets variables of the boot loader's environment.")
            .example("{extra_cmdline: 'console=ttyS0'}"),
        not_yet("grub-entry-name", Text, "Names the entry in the boot menu.").example("Kairn"),
        not_yet("bundles", List(&Shape::Block(&BUNDLE)), "Unpacks container images at installation."),
        not_yet("env", TEXTS, "Sets variables, each `NAME=value`, on the installed machine.").example("[A=b]"),
        not_yet("bind_mounts", TEXTS, "Adds directories that are kept across upgrades.").example("[/var/data]"),
        not_yet("ephemeral_mounts", TEXTS, "Adds directories that can be written to until the next boot.")
            .example("[/opt/scratch]"),
        not_yet("encrypted_partitions", TEXTS, "Lists labels of partitions that are encrypted.")
            .example("[COS_PERSISTENT]"),
        not_yet("skip_copy_kcrypt_plugin", Bool, "Leaves the encryption plugin out of the OEM partition."),
        not_yet("partitions", Shape::Block(&PARTITIONS), "Sets sizes and file systems of the system's partitions.")
            .example("\n  oem: {size: 128, fs: ext4}"),
        not_yet("extra-partitions", List(&Shape::Block(&PARTITION)), "Adds partitions.")
            .example("\n- {name: data, size: 1024, fs: ext4, label: DATA}"),
        not_yet("extra-dirs-rootfs", TEXTS, "Makes directories in the root of the installed system.")
            .example("[/data]"),
        not_yet("system", Shape::Block(&IMAGE), "Describes the image of the system."),
        not_yet("recovery-system", Shape::Block(&IMAGE), "Describes the image of the recovery system."),
        not_yet("passive", Shape::Block(&IMAGE), "Describes the image of the fallback system."),
        not_yet("iso", Text, "Names an ISO image to install from.").example("https://example.org/os.iso"),
        not_yet("firmware", Text, "Names the firmware to install for: `efi` or `bios`.").example("efi"),
        not_yet("part-table", Text, "Names the kind of the partition table.").example("gpt"),
        not_yet("tty", Text, "Names the console of the installed system.").example("ttyS0"),
        not_yet("cloud-init", Words, "Adds configuration files to the installed machine.").example("[/run/more.yaml]"),
        not_yet("allow-insecure-registries", Bool, "Lets images come over plain HTTP."),
        not_yet("skip-entries", TEXTS, "Leaves out boot entries.").example("[recovery]"),
    ],
)
.dotted();

/// `pairing`.
pub(crate) static PAIRING: Block = block(
    "`pairing`",
    &[done(
        "confirm",
        Bool,
        "Has a person at the machine compare a sender's digits first; it does unless this is `false`.",
    )
    .example("false")],
);

/// `upgrade`.
pub(crate) static UPGRADE: Block = block(
    "`upgrade`",
    &[
        done("entry", Text, "Names the boot entry that is upgraded.").example("active"),
        done("recovery", Bool, "Upgrades the recovery system."),
        done("system", Shape::Block(&IMAGE), "Describes the image of the system."),
        done("recovery-system", Shape::Block(&IMAGE), "Describes the image of the recovery system."),
        done("grub-entry-name", Text, "Names the entry in the boot menu.").example("Kairn"),
        done("reboot", Bool, "Reboots afterwards."),
        done("poweroff", Bool, "Powers off afterwards."),
        done("extra-dirs-rootfs", TEXTS, "Makes directories in the root of the upgraded system.").example("[/data]"),
        done("excluded-paths", TEXTS, "Leaves paths out of the new system.").example("[/var/cache]"),
        done("efi-partition", Shape::Block(&PARTITION), "Describes the EFI system partition."),
        done("allow-insecure-registries", Bool, "Lets images come over plain HTTP."),
    ],
)
.dotted();

/// `reset`.
pub(crate) static RESET: Block = block(
    "`reset`",
    &[
        done("reset-persistent", Bool, "Formats the persistent partition; it does unless this is `false`.")
            .example("false"),
        done("reset-oem", Bool, "Formats the OEM partition, which holds the configuration."),
        not_yet("system", Shape::Block(&IMAGE), "Describes the image of the system."),
        not_yet("grub-entry-name", Text, "Names the entry in the boot menu.").example("Kairn"),
        not_yet("tty", Text, "Names the console of the system.").example("ttyS0"),
        done("reboot", Bool, "Reboots afterwards."),
        done("poweroff", Bool, "Powers off afterwards."),
        not_yet("extra-dirs-rootfs", TEXTS, "Makes directories in the root of the system.").example("[/data]"),
    ],
)
.dotted();

static PARTITIONS: Block = block(
    "`install.partitions`",
    &[
        done("oem", Shape::Block(&PARTITION), "Describes COS_OEM, which holds the configuration."),
        done("recovery", Shape::Block(&PARTITION), "Describes COS_RECOVERY."),
        done("state", Shape::Block(&PARTITION), "Describes COS_STATE, which holds the system."),
        done("persistent", Shape::Block(&PARTITION), "Describes COS_PERSISTENT, which holds what is kept."),
        done("efi", Shape::Block(&PARTITION), "Describes the EFI system partition."),
    ],
);

static PARTITION: Block = block(
    "a partition",
    &[
        done("size", MEBIBYTES, "Is its size in MiB; 0 is all that is left."),
        done("fs", Text, "Names its file system.").example("ext4"),
        done("label", Text, "Is the label of its file system.").example("DATA"),
        done("name", Text, "Is its name in the partition table.").example("data"),
        done("flags", TEXTS, "Lists its flags.").example("[boot]"),
    ],
);

static IMAGE: Block = block(
    "an image",
    &[
        done("size", MEBIBYTES, "Is its size in MiB."),
        done("source", Text, "Names what it is made from.").example("oci:registry.example.org/os:1.0"),
        done("label", Text, "Is the label of its file system.").example("COS_ACTIVE"),
        done("fs", Text, "Names its file system.").example("ext4"),
    ],
)
.former(&[("uri", "source")]);

/// A bundle: a container image whose files are unpacked over the system.
pub(crate) static BUNDLE: Block = block(
    "a bundle",
    &[
        done("repository", Text, "Names the repository of packages.").example("docker://registry.example.org/packages"),
        done("rootfs_path", Text, "Says where files are unpacked.").example("/usr/local/bundle"),
        done("db_path", Text, "Says where the state of packages is kept.").example("/usr/local/bundle/db"),
        done("local_file", Bool, "Reads targets from the machine itself."),
        done("targets", TEXTS, "Lists what is unpacked.").example("['container://registry.example.org/tool:1']"),
    ],
);

/// `grub_options`: variables of the boot loader's environment; there may be others.
pub(crate) static GRUB_OPTIONS: Block = block(
    "`grub_options`",
    &[
        done("extra_cmdline", Text, "Adds to the kernel's command line.").example("console=ttyS0"),
        done("extra_active_cmdline", Text, "Adds to the kernel's command line of the active system.").example("quiet"),
        done("extra_passive_cmdline", Text, "Adds to the kernel's command line of the fallback system.")
            .example("debug"),
        done("extra_recovery_cmdline", Text, "Adds to the kernel's command line of the recovery system.")
            .example("debug"),
        done("default_menu_entry", Text, "Names the entry in the boot menu.").example("Kairn"),
        done("saved_entry", Text, "Names the entry that boots from now on.").example("cos"),
        done("next_entry", Text, "Names the entry that boots once.").example("recovery"),
        done("timeout", COUNT, "Is how many seconds the menu waits."),
    ],
)
.open();

/// `logs`.
pub(crate) static LOGS: Block = block(
    "`logs`",
    &[
        done("journal", TEXTS, "Lists units whose messages are collected.").example("[sshd]"),
        done("files", TEXTS, "Lists files that are collected; `*` stands for any letters.")
            .example("['/var/log/*.log']"),
    ],
);
