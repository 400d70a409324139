//! Top-level keys as cloud-init has them: those that it shares with Kairos are in [`super::TOP`], with their blocks here.

use super::step::ENCODING;
use super::{Block, COMMANDS, COUNT, ID, NAMED, Shape, TEXTS, block, done, not_yet};
use Shape::{Any, Bool, Enum, List, OctalMode, OneOf, Path, Size, Text, Words};

/// Keys of cloud-init that Kairos does not read.
pub(crate) static CLOUD_INIT: Block = block(
    "a configuration",
    &[
        not_yet("bootcmd", COMMANDS, "Runs commands early in every boot.").example("bootcmd:\n- echo early\n"),
        not_yet("ca_certs", Shape::Block(&CA_CERTS), "Adds certificates that the machine trusts.")
            .example("ca_certs:\n  trusted: ['-----BEGIN CERTIFICATE-----']\n"),
        not_yet("chpasswd", Shape::Block(&CHPASSWD), "Sets passwords of users.")
            .example("chpasswd:\n  expire: false\n  users:\n  - {name: ada, password: secret, type: text}\n"),
        not_yet("disable_root", Bool, "Keeps root from logging in over the network."),
        not_yet("disable_root_opts", Text, "Sets options of root's keys."),
        not_yet("disk_setup", Shape::Map(&Shape::Block(&DISK_SETUP)), "Partitions disks, by device.")
            .example("disk_setup:\n  /dev/vdb: {table_type: gpt, layout: true, overwrite: false}\n"),
        not_yet("final_message", Text, "Is printed at the end of boot."),
        not_yet("fqdn", Text, "Names the machine with its domain.").example("fqdn: node.example.org\n"),
        not_yet("fs_setup", List(&Shape::Block(&FS_SETUP)), "Makes file systems.")
            .example("fs_setup:\n- {label: data, filesystem: ext4, device: /dev/vdb, partition: auto}\n"),
        not_yet("groups", Any, "Makes groups.").example("groups:\n- admins: [ada]\n- guests\n"),
        not_yet("growpart", Shape::Block(&GROWPART), "Makes partitions as large as their disks allow.")
            .example("growpart:\n  devices: [/]\n"),
        not_yet("keyboard", Shape::Block(&KEYBOARD), "Sets the layout of the keyboard.")
            .example("keyboard: {layout: de}\n"),
        not_yet("locale", OneOf(&[Text, Bool]), "Sets the language.").example("locale: de_DE.UTF-8\n"),
        not_yet("locale_configfile", Path, "Names the file that the language is written to."),
        not_yet("manage_etc_hosts", OneOf(&[Bool, Text]), "Writes /etc/hosts."),
        not_yet("manage_resolv_conf", Bool, "Writes /etc/resolv.conf."),
        not_yet("mount_default_fields", TEXTS, "Sets the fields that `mounts` leaves out."),
        not_yet("mounts", List(&TEXTS), "Mounts file systems, each as the fields of fstab(5).")
            .example("mounts:\n- [/dev/vdb, /data, ext4, 'defaults,nofail']\n"),
        not_yet("network", Any, "Describes the network."),
        not_yet("ntp", Shape::Block(&NTP), "Says where the time comes from.")
            .example("ntp:\n  servers: [ntp.example.org]\n"),
        not_yet("package_reboot_if_required", Bool, "Reboots when a package wants it."),
        not_yet("package_update", Bool, "Fetches the lists of packages."),
        not_yet("package_upgrade", Bool, "Upgrades all packages."),
        not_yet("packages", List(&OneOf(&[Text, TEXTS, NAMED])), "Installs packages.").example("packages: [curl]\n"),
        not_yet("password", Text, "Sets the password of the default user."),
        not_yet("power_state", Shape::Block(&POWER_STATE), "Powers the machine off, or reboots it, after boot.")
            .example("power_state:\n  mode: reboot\n  delay: now\n"),
        not_yet("prefer_fqdn_over_hostname", Bool, "Names the machine by `fqdn` rather than by `hostname`."),
        not_yet("preserve_hostname", Bool, "Leaves the machine's name alone."),
        not_yet("resize_rootfs", OneOf(&[Bool, Text]), "Makes the root file system as large as its partition."),
        not_yet("resolv_conf", NAMED, "Writes how names are resolved."),
        not_yet("ssh", NAMED, "Says what is printed of the machine's keys."),
        not_yet("ssh_deletekeys", Bool, "Makes new keys for the machine."),
        not_yet("ssh_fp_console_blacklist", TEXTS, "Leaves kinds of keys out of the console."),
        not_yet("ssh_genkeytypes", TEXTS, "Lists the kinds of keys that are made."),
        not_yet("ssh_import_id", TEXTS, "Fetches keys of the default user."),
        not_yet("ssh_keys", NAMED, "Sets the machine's own keys."),
        not_yet("ssh_publish_hostkeys", NAMED, "Sends the machine's keys to the platform."),
        not_yet("ssh_pwauth", OneOf(&[Bool, Enum(&["unchanged"])]), "Lets users in by password.")
            .example("ssh_pwauth: false\n"),
        not_yet("swap", Shape::Block(&SWAP), "Makes a swap file.")
            .example("swap:\n  filename: /swapfile\n  size: 2G\n"),
        not_yet("timezone", Text, "Sets the time zone.").example("timezone: Europe/Berlin\n"),
        not_yet("user", OneOf(&[Text, Shape::Block(&LISTED_USER)]), "Describes the default user."),
    ],
);

/// Tools that cloud-init starts, and settings of its own: known, so that they are no slips of other keys.
pub(crate) static CLOUD_INIT_TOOLS: Block = block(
    "a configuration",
    &[
        not_yet("ansible", Any, "Runs Ansible."),
        not_yet("apk_repos", Any, "Sets repositories of apk."),
        not_yet("apt", Any, "Sets repositories of apt."),
        not_yet("apt_pipelining", Any, "Sets how apt fetches."),
        not_yet("autoinstall", Any, "Configures another system's installer."),
        not_yet("byobu_by_default", Any, "Sets up byobu."),
        not_yet("chef", Any, "Runs Chef."),
        not_yet("cloud_config_modules", Any, "Chooses modules of cloud-init."),
        not_yet("cloud_final_modules", Any, "Chooses modules of cloud-init."),
        not_yet("cloud_init_modules", Any, "Chooses modules of cloud-init."),
        not_yet("datasource", Any, "Configures cloud-init's data sources."),
        not_yet("datasource_list", Any, "Chooses cloud-init's data sources."),
        not_yet("device_aliases", Any, "Names devices."),
        not_yet("disable_ec2_metadata", Any, "Cuts the machine off from the platform's metadata."),
        not_yet("drivers", Any, "Installs drivers."),
        not_yet("fan", Any, "Sets up a fan network."),
        not_yet("landscape", Any, "Registers with Landscape."),
        not_yet("lxd", Any, "Sets up LXD."),
        not_yet("mcollective", Any, "Runs MCollective."),
        not_yet("merge_how", Any, "Sets how cloud-init merges."),
        not_yet("output", Any, "Says where cloud-init logs."),
        not_yet("phone_home", Any, "Posts to a URL after boot."),
        not_yet("puppet", Any, "Runs Puppet."),
        not_yet("random_seed", Any, "Seeds the random numbers."),
        not_yet("reporting", Any, "Says where cloud-init reports."),
        not_yet("rh_subscription", Any, "Registers with Red Hat."),
        not_yet("rsyslog", Any, "Sets up rsyslog."),
        not_yet("salt_minion", Any, "Runs Salt."),
        not_yet("snap", Any, "Installs snaps."),
        not_yet("spacewalk", Any, "Registers with Spacewalk."),
        not_yet("syslog_fix_perms", Any, "Sets owners of logs."),
        not_yet("system_info", Any, "Describes the distribution to cloud-init."),
        not_yet("ubuntu_advantage", Any, "Registers with Ubuntu Pro."),
        not_yet("ubuntu_pro", Any, "Registers with Ubuntu Pro."),
        not_yet("updates", Any, "Says when cloud-init applies changes."),
        not_yet("vendor_data", Any, "Says what of the vendor's data counts."),
        not_yet("version", Any, "Numbers a network configuration."),
        not_yet("wireguard", Any, "Sets up WireGuard."),
        not_yet("yum_repos", Any, "Sets repositories of yum."),
        not_yet("zypper", Any, "Sets repositories of zypper."),
    ],
);

/// A file of `write_files`.
pub(crate) static WRITE_FILE: Block = block(
    "a file",
    &[
        done("path", Path, "Says where it is."),
        done("content", Text, "Is what it holds."),
        done("encoding", ENCODING, "Says how `content` is packed."),
        done("owner", Text, "Names owner and group.").example("owner: root:root\n"),
        done("permissions", OctalMode, "Sets its permissions, in octal; 0644 without it.")
            .example("permissions: '0600'\n"),
        not_yet("append", Bool, "Adds to the file instead of replacing it."),
        not_yet("defer", Bool, "Writes the file after users were made."),
        not_yet("source", Shape::Block(&WRITE_FILE_SOURCE), "Fetches what the file holds."),
    ],
);

static WRITE_FILE_SOURCE: Block = block(
    "`source`",
    &[
        done("uri", Text, "Says where it comes from.").example("uri: https://example.org/file\n"),
        done("headers", Shape::Map(&Text), "Adds headers to the request."),
    ],
);

/// A user in the top-level list, where its name is a value.
pub(crate) static LISTED_USER: Block = block(
    "a user",
    &[
        done("name", Text, "Is the user's name."),
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
        not_yet("sudo", OneOf(&[Bool, Words]), "Lets the user run commands as others.")
            .example("sudo: ALL=(ALL) NOPASSWD:ALL\n"),
        not_yet("doas", Words, "Lets the user run commands as others, by doas."),
        not_yet("plain_text_passwd", Text, "Is the password in clear."),
        not_yet("hashed_passwd", Text, "Is the password as a hash."),
        not_yet("ssh_import_id", TEXTS, "Fetches keys of the user.").example("ssh_import_id: ['gh:ada']\n"),
        not_yet("ssh_redirect_user", Bool, "Tells who logs in to use the default user instead."),
        not_yet("create_groups", Bool, "Makes groups that are missing."),
        not_yet("expiredate", Text, "Is the day from which the user is locked out.")
            .example("expiredate: '2032-09-01'\n"),
        not_yet("inactive", Text, "Is how many days an expired password still counts."),
        not_yet("selinux_user", Text, "Is the user's SELinux name."),
        not_yet("snapuser", Text, "Is the user's address in the snap store."),
        not_yet("coreos_ssh_import_github", Text, "Fetches the keys of a GitHub user."),
        not_yet("coreos_ssh_import_github_users", TEXTS, "Fetches the keys of GitHub users."),
        not_yet("coreos_ssh_import_url", Text, "Fetches keys from a URL."),
    ],
)
.aliases(&[("lockPasswd", "lock_passwd")]);

static GROWPART: Block = block(
    "`growpart`",
    &[
        done("devices", TEXTS, "Lists mount points or devices."),
        done("mode", OneOf(&[Bool, Text]), "Names the tool that does it; `off` does nothing."),
        done("ignore_growroot_disabled", Bool, "Does it even where /etc/growroot-disabled is."),
    ],
);

static CA_CERTS: Block = block(
    "`ca_certs`",
    &[
        done("remove_defaults", Bool, "Distrusts the certificates that the system came with."),
        done("trusted", TEXTS, "Lists certificates in PEM."),
    ],
);

static CHPASSWD: Block = block(
    "`chpasswd`",
    &[
        done("expire", Bool, "Has users set a new password when they log in."),
        done("users", List(&Shape::Block(&CHPASSWD_USER)), "Lists users and their passwords."),
        done("list", Words, "Lists `name:password`, one on each line."),
    ],
);

static CHPASSWD_USER: Block = block(
    "a password",
    &[
        done("name", Text, "Is the user's name."),
        done("password", Text, "Is the password."),
        done("type", Enum(&["hash", "text", "RANDOM"]), "Says what `password` is; a hash without it."),
    ],
);

static DISK_SETUP: Block = block(
    "a disk",
    &[
        done("table_type", Text, "Names the kind of the partition table: `mbr` or `gpt`."),
        done("layout", Any, "Is `true` for one partition, or a list of percentages."),
        done("overwrite", Bool, "Does it even where a partition table is."),
    ],
);

static FS_SETUP: Block = block(
    "a file system",
    &[
        done("label", Text, "Is its label."),
        done("filesystem", Text, "Names its kind."),
        done("device", Text, "Names the disk."),
        done("partition", Text, "Is the partition's number, or `auto`, `any` or `none`."),
        done("overwrite", Bool, "Makes it even where one is."),
        done("replace_fs", Text, "Names the kind that may be overwritten."),
        done("extra_opts", Words, "Adds arguments to the program that makes it."),
        done("cmd", Words, "Is the command that makes it."),
    ],
);

static KEYBOARD: Block = block(
    "`keyboard`",
    &[
        done("layout", Text, "Names the layout."),
        done("model", Text, "Names the model."),
        done("variant", Text, "Names the variant."),
        done("options", Text, "Lists options."),
    ],
);

static NTP: Block = block(
    "`ntp`",
    &[
        done("enabled", Bool, "Turns it off when false."),
        done("servers", TEXTS, "Lists servers."),
        done("pools", TEXTS, "Lists pools of servers."),
        done("peers", TEXTS, "Lists peers."),
        done("allow", TEXTS, "Lists networks that may ask this machine."),
        done("ntp_client", Text, "Names the program that does it."),
        done("config", NAMED, "Configures that program."),
    ],
);

static POWER_STATE: Block = block(
    "`power_state`",
    &[
        done("mode", Enum(&["poweroff", "reboot", "halt"]), "Says what happens."),
        done("delay", Text, "Is `now`, or `+` and minutes."),
        done("message", Text, "Is told to those who are logged in."),
        done("timeout", COUNT, "Is how many seconds boot may still take."),
        done("condition", OneOf(&[Bool, Text, TEXTS]), "Is a command that must end with zero for it to happen."),
    ],
);

static SWAP: Block = block(
    "`swap`",
    &[
        done("filename", Path, "Says where the file is."),
        done("size", OneOf(&[Enum(&["auto"]), Size]), "Is its size.").example("size: 2G\n"),
        done("maxsize", Size, "Bounds what `auto` makes of it."),
    ],
);
