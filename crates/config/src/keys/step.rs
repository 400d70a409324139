//! A step of a stage, and the modules that it may have.

use super::{Block, COMMANDS, COUNT, ID, MEBIBYTES, NAMED_TEXTS, Shape, TEXTS, block, done, not_yet};
use Shape::{Bool, Enum, List, Map, Mode, OneOf, Path, Text, Words};

/// Keys of a step that decide whether it runs, in the order in which they are evaluated: what costs a process comes last.
pub(crate) static CONDITIONS: &[&str] =
    &["node", "only_os", "only_os_version", "only_arch", "only_service_manager", "if_files", "if"];

/// Keys of a step that say how it is run.
pub(crate) static STEP_SETTINGS: &[&str] = &["name", "after", "before", "frequency", "timeout", "parallel"];

/// A step of a stage.
pub(crate) static STEP: Block = block(
    "a step",
    &[
        done("name", Text, "Names the step in messages."),
        done("if", Text, "Runs the step only if this line for the shell ends with zero.")
            .example("if: test -e /oem/grubenv\n"),
        done("node", Text, "Runs the step only if this regular expression matches the host name."),
        done("only_os", Text, "Runs the step only if this regular expression matches the system's name.")
            .example("only_os: Ubuntu.*|Debian.*\n"),
        done("only_os_version", Text, "Runs the step only if this regular expression matches the system's version."),
        done("only_arch", Text, "Runs the step only if this regular expression matches the architecture.")
            .example("only_arch: amd64\n"),
        done("only_service_manager", Text, "Runs the step only where this manages services: `systemd` or `openrc`.")
            .example("only_service_manager: systemd\n"),
        done("if_files", Shape::Block(&IF_FILES), "Runs the step only if these files are there, or are not.")
            .example("if_files:\n  any: [/etc/a, /etc/b]\n"),
        done("after", REFERENCES, "Names steps that this one comes after.").example("after:\n- name: greet\n"),
        done("before", REFERENCES, "Names steps that this one comes before.").example("before: [greet]\n"),
        done("frequency", Enum(&["always", "once", "per-instance", "per-image"]), "Says how often the step runs.")
            .example("frequency: per-image\n"),
        done("timeout", Text, "Says how long each action of the step may take: seconds, or a time such as `5m`.")
            .example("timeout: 5m\n"),
        done("parallel", Bool, "Lets the step run beside its neighbours that may too.").example("parallel: true\n"),
        not_yet("dns", Shape::Block(&DNS), "Writes how names are resolved.")
            .example("dns:\n  nameservers: [9.9.9.9]\n"),
        not_yet("downloads", List(&Shape::Block(&DOWNLOAD)), "Fetches files.")
            .example("downloads:\n- url: https://example.org/tool\n  path: /usr/local/bin/tool\n  permissions: 0755\n"),
        not_yet("git", Shape::Block(&GIT), "Clones a repository, or brings its clone up to date.")
            .example("git:\n  url: https://example.org/a.git\n  path: /usr/local/a\n"),
        done("ensure_entities", List(&Shape::Block(&ENTITY)), "Makes or changes lines of /etc/passwd and its kin.")
            .example("ensure_entities:\n- entity: |\n    kind: group\n    group_name: wheel\n    gid: 800\n"),
        done("directories", List(&Shape::Block(&DIRECTORY)), "Makes directories.")
            .example("directories:\n- path: /var/lib/thing\n  permissions: 0750\n"),
        done("files", List(&Shape::Block(&FILE)), "Writes files.")
            .example("files:\n- path: /etc/motd\n  content: Welcome.\n  permissions: 0644\n"),
        done("commands", COMMANDS, "Runs lines of the shell; a list among them is a program with its arguments.")
            .example("commands:\n- echo hello\n- [ls, -l]\n"),
        not_yet("delete_entities", List(&Shape::Block(&ENTITY)), "Removes lines of /etc/passwd and its kin."),
        done("hostname", Text, "Names the machine.").example("hostname: node-{{ trunc 4 .MachineID }}\n"),
        not_yet("sysctl", NAMED_TEXTS, "Sets parameters of the kernel.").example("sysctl:\n  vm.swappiness: 10\n"),
        done("users", Map(&Shape::Block(&USER)), "Makes users, by name.")
            .example("users:\n  ada:\n    groups: [admin]\n    shell: /bin/bash\n"),
        done("authorized_keys", Map(&Words), "Lets users in by these keys.")
            .example("authorized_keys:\n  ada: [ssh-ed25519 AAAA]\n"),
        not_yet("modules", Words, "Loads modules of the kernel.").example("modules: [nbd]\n"),
        not_yet("timesyncd", Shape::Block(&TIMESYNCD), "Says where the time comes from.")
            .example("timesyncd:\n  NTP: pool.ntp.org\n"),
        done("systemctl", Shape::Block(&SYSTEMCTL), "Enables, disables, masks and starts units.")
            .example("systemctl:\n  enable: [sshd]\n"),
        done("environment", NAMED_TEXTS, "Sets variables in a file of them.").example("environment:\n  EDITOR: vi\n"),
        done("environment_file", Path, "Names that file; /etc/environment without it."),
        not_yet("systemd_firstboot", Shape::Block(&FIRSTBOOT), "Sets what systemd-firstboot knows of.")
            .example("systemd_firstboot:\n  keymap: de\n"),
        not_yet("datasource", Shape::Block(&DATASOURCE), "Fetches configuration from the platform.")
            .example("datasource:\n  providers: [aws, cdrom]\n  path: /oem\n"),
        not_yet("layout", Shape::Block(&LAYOUT), "Adds partitions to a disk, or makes its last one larger.")
            .example("layout:\n  device: {label: COS_PERSISTENT}\n  expand_partition: {size: 0}\n"),
        not_yet("package_pins", NAMED_TEXTS, "Keeps packages at a version.").example("package_pins:\n  curl: 8.1.0\n"),
        not_yet("packages", Shape::Block(&PACKAGES), "Installs and removes packages.")
            .example("packages:\n  install: [curl]\n"),
        not_yet("unpack_images", List(&Shape::Block(&UNPACK_IMAGE)), "Unpacks container images.")
            .example("unpack_images:\n- source: registry.example.org/tool:1\n  target: /opt/tool\n"),
    ],
);

static IF_FILES: Block = block(
    "`if_files`",
    &[
        done("any", Words, "Wants at least one of these."),
        done("all", Words, "Wants all of these."),
        done("none", Words, "Wants none of these."),
    ],
);

/// Names of steps, alone or as mappings with a `name`.
const REFERENCES: Shape = List(&OneOf(&[Text, Shape::Block(&REFERENCE)]));

static REFERENCE: Block = block("a reference to a step", &[done("name", Text, "Is the step's name.")]);

static DNS: Block = block(
    "`dns`",
    &[
        done("nameservers", Words, "Lists addresses of servers."),
        done("search", Words, "Lists domains in which a bare name is looked for."),
        done("options", Words, "Lists options of resolv.conf(5)."),
        done("path", Path, "Names the file; /etc/resolv.conf without it."),
    ],
);

static DOWNLOAD: Block = block(
    "a download",
    &[
        done("path", Path, "Says where the file goes."),
        done("url", Text, "Says where it comes from."),
        done("permissions", Mode, "Sets its permissions; 0644 without it."),
        done("owner", Text, "Names its owner, or is the owner's number."),
        done("group", Text, "Names its group, or is the group's number."),
        done("timeout", COUNT, "Bounds the seconds that fetching may take; 0 is no bound."),
        done("ownerstring", Text, "Names owner and group at once.").example("ownerstring: root:root\n"),
    ],
)
.aliases(&[("owner_string", "ownerstring")]);

static GIT: Block = block(
    "`git`",
    &[
        done("url", Text, "Says where the repository is."),
        done("path", Path, "Says where its clone goes."),
        done("branch", Text, "Names the branch; `master` without it."),
        done("branch_only", Bool, "Fetches that branch only."),
        done("auth", Shape::Block(&GIT_AUTH), "Says how to log in."),
    ],
);

static GIT_AUTH: Block = block(
    "`git.auth`",
    &[
        done("username", Text, "Is the user's name."),
        done("password", Text, "Is the user's password."),
        done("private_key", Text, "Is the key to log in with."),
        done("insecure", Bool, "Leaves the server unverified."),
        done("public_key", Text, "Is the key that the server must show."),
    ],
);

static ENTITY: Block = block(
    "an entity",
    &[
        done("path", Path, "Names the file, where it is not the usual one."),
        done("entity", Text, "Describes the line, as YAML of its own with a `kind`."),
    ],
);

static DIRECTORY: Block = block(
    "a directory",
    &[
        done("path", Path, "Says where it is."),
        done("permissions", Mode, "Sets its permissions; 0755 without it."),
        done("owner", Text, "Names its owner, or is the owner's number."),
        done("group", Text, "Names its group, or is the group's number."),
        done("ownerstring", Text, "Names owner and group at once.").example("ownerstring: root:root\n"),
    ],
)
.aliases(&[("owner_string", "ownerstring")]);

static FILE: Block = block(
    "a file",
    &[
        done("path", Path, "Says where it is."),
        done("content", Text, "Is what it holds."),
        done("encoding", ENCODING, "Says how `content` is packed."),
        done("permissions", Mode, "Sets its permissions; 0644 without it."),
        done("owner", Text, "Names its owner, or is the owner's number."),
        done("group", Text, "Names its group, or is the group's number."),
        done("ownerstring", Text, "Names owner and group at once.").example("ownerstring: root:root\n"),
    ],
)
.aliases(&[("owner_string", "ownerstring")]);

/// The names of encodings.
pub(super) const ENCODING: Shape =
    Enum(&["", "text/plain", "b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"]);

/// A user below `stages.*.users`, where its name is the key.
static USER: Block = block(
    "a user",
    &[
        done("name", Text, "Repeats the user's name."),
        done("passwd", Text, "Is the password, as a hash of crypt(5) or in clear."),
        done("ssh_authorized_keys", Words, "Lets the user in by these keys."),
        done("gecos", Text, "Is the user's full name."),
        done("homedir", Path, "Is the user's home; below /home without it."),
        done("no_create_home", Bool, "Makes no home."),
        done("primary_group", Text, "Names the user's first group; a group of the user's name without it."),
        done("groups", Words, "Lists further groups; one text may name several, parted by commas."),
        done("shell", Text, "Is the user's shell."),
        done("lock_passwd", Bool, "Lets nobody in by password."),
        done("uid", ID, "Is the user's number."),
        done("system", Bool, "Makes a user for a service, with a low number."),
        not_yet("no_user_group", Bool, "Makes no group of the user's name."),
        not_yet("no_log_init", Bool, "Leaves the user out of lastlog."),
    ],
)
.aliases(&[("lockPasswd", "lock_passwd")]);

static TIMESYNCD: Block = block(
    "`timesyncd`",
    &[
        done("NTP", Text, "Names servers, parted by blanks."),
        done("FallbackNTP", Text, "Names servers for when no other is known."),
        done("RootDistanceMaxSec", Text, "Bounds how far the time may be off."),
        done("PollIntervalMinSec", Text, "Is the shortest time between two questions."),
        done("PollIntervalMaxSec", Text, "Is the longest time between two questions."),
        done("ConnectionRetrySec", Text, "Is the time before a server is tried again."),
        done("SaveIntervalSec", Text, "Is the time between two savings of the clock."),
    ],
)
.open();

static SYSTEMCTL: Block = block(
    "`systemctl`",
    &[
        done("enable", TEXTS, "Lists units that start at boot."),
        done("disable", TEXTS, "Lists units that do not start at boot."),
        done("mask", TEXTS, "Lists units that nothing may start."),
        done("start", TEXTS, "Lists units that start now."),
        not_yet("overrides", List(&Shape::Block(&SYSTEMCTL_OVERRIDE)), "Writes drop-ins of units.")
            .example("overrides:\n- service: sshd.service\n  content: |\n    [Service]\n    Nice=5\n"),
    ],
);

static SYSTEMCTL_OVERRIDE: Block = block(
    "an override",
    &[
        done("service", Text, "Names the unit."),
        done("name", Text, "Names the drop-in."),
        done("content", Text, "Is what it holds."),
    ],
);

static FIRSTBOOT: Block = block(
    "`systemd_firstboot`",
    &[
        done("locale", Text, "Sets the language."),
        done("locale-messages", Text, "Sets the language of messages."),
        done("keymap", Text, "Sets the layout of the keyboard."),
        done("timezone", Text, "Sets the time zone."),
        done("hostname", Text, "Names the machine."),
        done("machine-id", Text, "Sets the machine's number."),
        done("root-password", Text, "Sets root's password."),
        done("root-password-hashed", Text, "Sets root's password, as a hash."),
        done("root-shell", Text, "Sets root's shell."),
        done("kernel-command-line", Text, "Sets the kernel's command line."),
        done("force", Text, "Writes what is set already."),
        done("setup-machine-id", Text, "Makes a number for the machine."),
    ],
)
.open();

static DATASOURCE: Block = block(
    "`datasource`",
    &[
        done("providers", Words, "Lists the platforms that are asked."),
        done("path", Path, "Says where what was found goes."),
        done("userdata_name", Text, "Names the file that holds the user data; `userdata.yaml` without it."),
    ],
);

static LAYOUT: Block = block(
    "`layout`",
    &[
        done("device", Shape::Block(&LAYOUT_DEVICE), "Says which disk."),
        done("expand_partition", Shape::Block(&LAYOUT_EXPAND), "Makes the last partition larger."),
        done("add_partitions", List(&Shape::Block(&LAYOUT_ADD)), "Adds partitions.")
            .example("add_partitions:\n- {fsLabel: DATA, pLabel: data, size: 1024, filesystem: ext4}\n"),
    ],
);

static LAYOUT_DEVICE: Block = block(
    "`layout.device`",
    &[
        done("path", Text, "Is the path of the disk; wins over `label`."),
        done("label", Text, "Is the label of a file system on the disk."),
        done("init_disk", Bool, "Empties the disk first."),
        done("disk_name", Text, "Names the disk: its number derives from this."),
    ],
);

static LAYOUT_EXPAND: Block =
    block("`layout.expand_partition`", &[done("size", MEBIBYTES, "Is the size in MiB; 0 is all that is left.")]);

static LAYOUT_ADD: Block = block(
    "a partition",
    &[
        done("fsLabel", Text, "Is the label of its file system."),
        done("pLabel", Text, "Is its name in the partition table; one that is there already is left alone."),
        done("size", MEBIBYTES, "Is its size in MiB; 0 is all that is left."),
        done("filesystem", Text, "Names its file system; `ext2` without it."),
        done("bootable", Bool, "Marks it as one to boot from."),
    ],
);

static PACKAGES: Block = block(
    "`packages`",
    &[
        done("install", Words, "Lists packages to install."),
        done("remove", Words, "Lists packages to remove."),
        done("refresh", Bool, "Fetches the lists of packages first."),
        done("upgrade", Bool, "Upgrades all packages."),
    ],
);

static UNPACK_IMAGE: Block = block(
    "an image",
    &[
        done("source", Text, "Names the image."),
        done("target", Path, "Says where its files go."),
        done("platform", Text, "Names its platform.").example("platform: linux/arm64\n"),
    ],
);
