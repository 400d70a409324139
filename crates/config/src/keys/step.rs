//! A step of a stage, and the modules that it may have.

use super::cloud_init::USER;
use super::{Block, COMMANDS, MEBIBYTES, NAMED_TEXTS, Shape, TEXTS, block, done};
use Shape::{Bool, Enum, List, Map, Mode, OneOf, Path, Text, Words};

/// Keys of a step that decide whether it runs, in the order in which they are evaluated: what costs a process comes last.
pub(crate) static CONDITIONS: &[&str] =
    &["node", "only_os", "only_os_version", "only_arch", "only_service_manager", "if_files", "if"];

/// Keys of a step that say how it is run.
pub(crate) static STEP_SETTINGS: &[&str] = &["name", "after", "before", "frequency", "timeout", "parallel"];

/// The steps of a stage.
pub(crate) const STEPS: Shape = List(&Shape::Block(&STEP));

/// A step of a stage.
pub(crate) static STEP: Block = block(
    "a step",
    &[
        done("name", Text, "Names the step in messages.").example("greet"),
        done("if", Text, "Runs the step only if this line for the shell ends with zero.")
            .example("test -e /oem/grubenv"),
        done("node", Text, "Runs the step only if this regular expression matches the host name.").example("worker-.*"),
        done("only_os", Text, "Runs the step only if this regular expression matches the system's name.")
            .example("Ubuntu.*|Debian.*"),
        done("only_os_version", Text, "Runs the step only if this regular expression matches the system's version.")
            .example("24[.].*"),
        done("only_arch", Text, "Runs the step only if this regular expression matches the architecture.")
            .example("amd64"),
        done("only_service_manager", Text, "Runs the step only where this manages services: `systemd` or `openrc`.")
            .example("systemd"),
        done("if_files", Shape::Block(&IF_FILES), "Runs the step only if these files are there, or are not.")
            .example("\n  any: [/etc/a, /etc/b]"),
        done("after", REFERENCES, "Names steps that this one comes after.").example("\n- name: greet"),
        done("before", REFERENCES, "Names steps that this one comes before.").example("[greet]"),
        done("frequency", Enum(&["always", "once", "per-instance", "per-image"]), "Says how often the step runs.")
            .example("per-image"),
        done("timeout", Text, "Says how long each action of the step may take: seconds, or a time such as `5m`.")
            .example("5m"),
        done("parallel", Bool, "Lets the step run beside its neighbours that may too."),
        done("dns", Shape::Block(&DNS), "Writes how names are resolved.").example("\n  nameservers: [9.9.9.9]"),
        done("downloads", List(&Shape::Block(&DOWNLOAD)), "Fetches files.")
            .example("\n- url: https://example.org/tool\n  path: /usr/local/bin/tool\n  permissions: 0755"),
        done("git", Shape::Block(&GIT), "Clones a repository, or brings its clone up to date.")
            .example("\n  url: https://example.org/a.git\n  path: /usr/local/a"),
        done("ensure_entities", List(&Shape::Block(&ENTITY)), "Makes or changes lines of /etc/passwd and its kin.")
            .example("\n- entity: |\n    kind: group\n    group_name: wheel\n    gid: 800"),
        done("directories", List(&Shape::Block(&DIRECTORY)), "Makes directories.")
            .example("\n- path: /var/lib/thing\n  permissions: 0750"),
        done("files", List(&Shape::Block(&FILE)), "Writes files.")
            .example("\n- path: /etc/motd\n  content: Welcome.\n  permissions: 0644"),
        done("commands", COMMANDS, "Runs lines of the shell; a list among them is a program with its arguments.")
            .example("\n- echo hello\n- [ls, -l]"),
        done("delete_entities", List(&Shape::Block(&ENTITY)), "Removes lines of /etc/passwd and its kin."),
        done("hostname", Text, "Names the machine.").example("node-{{ trunc 4 .MachineID }}"),
        done("sysctl", NAMED_TEXTS, "Sets parameters of the kernel.").example("\n  vm.swappiness: 10"),
        done("users", Map(&Shape::Block(&USER)), "Makes users, by name.")
            .example("\n  ada:\n    groups: [admin]\n    shell: /bin/bash"),
        done("authorized_keys", Map(&Words), "Lets users in by these keys.").example("\n  ada: [ssh-ed25519 AAAA]"),
        done("modules", TEXTS, "Loads modules of the kernel.").example("[nbd]"),
        done("timesyncd", Shape::Block(&TIMESYNCD), "Says where the time comes from.").example("\n  NTP: pool.ntp.org"),
        done("systemctl", Shape::Block(&SYSTEMCTL), "Enables, disables, masks and starts units.")
            .example("\n  enable: [sshd]"),
        done("environment", NAMED_TEXTS, "Sets variables in a file of them.").example("\n  EDITOR: vi"),
        done("environment_file", Path, "Names that file; /etc/environment without it.").example("/etc/default/thing"),
        done("systemd_firstboot", Shape::Block(&FIRSTBOOT), "Sets what systemd-firstboot knows of.")
            .example("\n  keymap: de"),
        done("datasource", Shape::Block(&DATASOURCE), "Fetches configuration from the platform.")
            .example("\n  providers: [aws, cdrom]\n  path: /oem"),
        done("layout", Shape::Block(&LAYOUT), "Adds partitions to a disk, or makes its last one larger.")
            .example("\n  device: {label: COS_PERSISTENT}\n  expand_partition: {size: 0}"),
        done("package_pins", NAMED_TEXTS, "Keeps packages at a version.").example("\n  curl: 8.1.0"),
        done("packages", Shape::Block(&PACKAGES), "Installs and removes packages.").example("\n  install: [curl]"),
        done("unpack_images", List(&Shape::Block(&UNPACK_IMAGE)), "Unpacks container images.")
            .example("\n- source: registry.example.org/tool:1\n  target: /opt/tool"),
    ],
);

static IF_FILES: Block = block(
    "`if_files`",
    &[
        done("any", Words, "Wants at least one of these.").example("[/etc/a, /etc/b]"),
        done("all", Words, "Wants all of these.").example("[/etc/c]"),
        done("none", Words, "Wants none of these.").example("[/etc/d]"),
    ],
);

/// Names of steps, alone or as mappings with a `name`.
const REFERENCES: Shape = List(&OneOf(&[Text, Shape::Block(&REFERENCE)]));

static REFERENCE: Block = block("a reference to a step", &[done("name", Text, "Is the step's name.").example("greet")]);

static DNS: Block = block(
    "`dns`",
    &[
        done("nameservers", Words, "Lists addresses of servers.").example("[9.9.9.9]"),
        done("search", Words, "Lists domains in which a bare name is looked for.").example("[example.org]"),
        done("options", Words, "Lists options of resolv.conf(5).").example("['timeout:2']"),
        done("path", Path, "Names the file; /etc/resolv.conf without it.").example("/etc/resolv.conf"),
    ],
);

static DOWNLOAD: Block = block(
    "a download",
    &[
        done("path", Path, "Says where the file goes.").example("/usr/local/bin/tool"),
        done("url", Text, "Says where it comes from.").example("https://example.org/tool"),
        done("permissions", Mode, "Sets its permissions; 0644 without it."),
        done("owner", Text, "Names its owner, or is the owner's number.").example("root"),
        done("group", Text, "Names its group, or is the group's number.").example("root"),
        done("timeout", Text, "Bounds the seconds that fetching may take; 0 is the usual bound.").example("90"),
        done("sha256", Text, "Is the digest that the file must have, in 64 hex digits.")
            .example("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        done("ownerstring", Text, "Names owner and group at once.").example("root:root"),
    ],
)
.aliases(&[("owner_string", "ownerstring")]);

static GIT: Block = block(
    "`git`",
    &[
        done("url", Text, "Says where the repository is.").example("https://example.org/a.git"),
        done("path", Path, "Says where its clone goes.").example("/usr/local/a"),
        done("branch", Text, "Names the branch; `master` without it.").example("main"),
        done("branch_only", Bool, "Fetches that branch only."),
        done("auth", Shape::Block(&GIT_AUTH), "Says how to log in."),
    ],
);

static GIT_AUTH: Block = block(
    "`git.auth`",
    &[
        done("username", Text, "Is the user's name.").example("ada"),
        done("password", Text, "Is the user's password.").example("secret"),
        done("private_key", Text, "Is the key to log in with.").example("'-----BEGIN OPENSSH PRIVATE KEY-----'"),
        done("insecure", Bool, "Leaves the server unverified."),
        done("public_key", Text, "Is the key that the server must show.").example("ssh-ed25519 AAAA"),
    ],
);

static ENTITY: Block = block(
    "an entity",
    &[
        done("path", Path, "Names the file, where it is not the usual one.").example("/etc/group"),
        done("entity", Text, "Describes the line, as YAML of its own with a `kind`.")
            .example("\"{kind: group, group_name: wheel, gid: 800}\""),
    ],
);

static DIRECTORY: Block = block(
    "a directory",
    &[
        done("path", Path, "Says where it is.").example("/var/lib/thing"),
        done("permissions", Mode, "Sets its permissions; 0755 without it."),
        done("owner", Text, "Names its owner, or is the owner's number.").example("root"),
        done("group", Text, "Names its group, or is the group's number.").example("root"),
        done("ownerstring", Text, "Names owner and group at once.").example("root:root"),
    ],
)
.aliases(&[("owner_string", "ownerstring")]);

static FILE: Block = block(
    "a file",
    &[
        done("path", Path, "Says where it is.").example("/etc/motd"),
        done("content", Text, "Is what it holds.").example("Welcome."),
        done("encoding", ENCODING, "Says how `content` is packed."),
        done("permissions", Mode, "Sets its permissions; 0644 without it."),
        done("owner", Text, "Names its owner, or is the owner's number.").example("root"),
        done("group", Text, "Names its group, or is the group's number.").example("root"),
        done("ownerstring", Text, "Names owner and group at once.").example("root:root"),
    ],
)
.aliases(&[("owner_string", "ownerstring")]);

/// The names of encodings.
pub(super) const ENCODING: Shape = Enum(crate::decode::ENCODINGS);

static TIMESYNCD: Block = block(
    "`timesyncd`",
    &[
        done("NTP", Text, "Names servers, parted by blanks.").example("ntp.example.org"),
        done("FallbackNTP", Text, "Names servers for when no other is known.").example("pool.ntp.org"),
        done("RootDistanceMaxSec", Text, "Bounds how far the time may be off.").example("5"),
        done("PollIntervalMinSec", Text, "Is the shortest time between two questions.").example("32"),
        done("PollIntervalMaxSec", Text, "Is the longest time between two questions.").example("2048"),
        done("ConnectionRetrySec", Text, "Is the time before a server is tried again.").example("30"),
        done("SaveIntervalSec", Text, "Is the time between two savings of the clock.").example("60"),
    ],
)
.open();

static SYSTEMCTL: Block = block(
    "`systemctl`",
    &[
        done("enable", TEXTS, "Lists units that start at boot.").example("[sshd]"),
        done("disable", TEXTS, "Lists units that do not start at boot.").example("[bluetooth]"),
        done("mask", TEXTS, "Lists units that nothing may start.").example("[ctrl-alt-del.target]"),
        done("start", TEXTS, "Lists units that start now.").example("[sshd]"),
        done("overrides", List(&Shape::Block(&SYSTEMCTL_OVERRIDE)), "Writes drop-ins of units.")
            .example("\n- service: sshd.service\n  content: |\n    [Service]\n    Nice=5"),
    ],
);

static SYSTEMCTL_OVERRIDE: Block = block(
    "an override",
    &[
        done("service", Text, "Names the unit.").example("sshd.service"),
        done("name", Text, "Names the drop-in.").example("nice.conf"),
        done("content", Text, "Is what it holds.").example("\"[Service]\\nNice=5\\n\""),
    ],
);

static FIRSTBOOT: Block = block(
    "`systemd_firstboot`",
    &[
        done("locale", Text, "Sets the language.").example("de_DE.UTF-8"),
        done("locale-messages", Text, "Sets the language of messages.").example("en_US.UTF-8"),
        done("keymap", Text, "Sets the layout of the keyboard.").example("de"),
        done("timezone", Text, "Sets the time zone.").example("Europe/Berlin"),
        done("hostname", Text, "Names the machine.").example("node-1"),
        done("machine-id", Text, "Sets the machine's number.").example("0123456789abcdef0123456789abcdef"),
        done("root-password", Text, "Sets root's password.").example("secret"),
        done("root-password-hashed", Text, "Sets root's password, as a hash.").example("$6$salt$hash"),
        done("root-shell", Text, "Sets root's shell.").example("/bin/bash"),
        done("kernel-command-line", Text, "Sets the kernel's command line.").example("quiet"),
        done("force", Text, "Writes what is set already.").example("'true'"),
        done("setup-machine-id", Text, "Makes a number for the machine.").example("'true'"),
    ],
)
.open();

static DATASOURCE: Block = block(
    "`datasource`",
    &[
        done("providers", Words, "Lists the platforms that are asked.").example("[aws, cdrom]"),
        done("path", Path, "Says where what was found goes.").example("/oem"),
        done("userdata_name", Text, "Names the file that holds the user data; `userdata.yaml` without it.")
            .example("userdata.yaml"),
        done("scripts", Bool, "Runs programs that come as user data; without it they are kept and not run."),
    ],
);

static LAYOUT: Block = block(
    "`layout`",
    &[
        done("device", Shape::Block(&LAYOUT_DEVICE), "Says which disk."),
        done("expand_partition", Shape::Block(&LAYOUT_EXPAND), "Makes the last partition larger."),
        done("add_partitions", List(&Shape::Block(&LAYOUT_ADD)), "Adds partitions.")
            .example("\n- {fsLabel: DATA, pLabel: data, size: 1024, filesystem: ext4}"),
    ],
);

static LAYOUT_DEVICE: Block = block(
    "`layout.device`",
    &[
        done("path", Text, "Is the path of the disk; wins over `label`.").example("/dev/vdb"),
        done("label", Text, "Is the label of a file system on the disk.").example("COS_PERSISTENT"),
        done("init_disk", Bool, "Empties the disk first."),
        done("disk_name", Text, "Names the disk: its number derives from this.").example("data-disk"),
    ],
);

static LAYOUT_EXPAND: Block =
    block("`layout.expand_partition`", &[done("size", MEBIBYTES, "Is the size in MiB; 0 is all that is left.")]);

static LAYOUT_ADD: Block = block(
    "a partition",
    &[
        done("fsLabel", Text, "Is the label of its file system.").example("DATA"),
        done("pLabel", Text, "Is its name in the partition table; one that is there already is left alone.")
            .example("data"),
        done("size", MEBIBYTES, "Is its size in MiB; 0 is all that is left."),
        done("filesystem", Text, "Names its file system; `ext2` without it.").example("ext4"),
        done("bootable", Bool, "Marks it as one to boot from."),
    ],
);

static PACKAGES: Block = block(
    "`packages`",
    &[
        done("install", Words, "Lists packages to install.").example("[curl]"),
        done("remove", Words, "Lists packages to remove.").example("[nano]"),
        done("refresh", Bool, "Fetches the lists of packages first."),
        done("upgrade", Bool, "Upgrades all packages."),
    ],
);

static UNPACK_IMAGE: Block = block(
    "an image",
    &[
        done("source", Text, "Names the image.").example("registry.example.org/tool:1"),
        done("target", Path, "Says where its files go.").example("/opt/tool"),
        done("platform", Text, "Names its platform.").example("linux/arm64"),
    ],
);
