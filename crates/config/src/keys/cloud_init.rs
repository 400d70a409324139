//! Top-level keys as cloud-init has them: those that it shares with Kairos are in [`super::TOP`], with their blocks here.

use super::step::ENCODING;
use super::{Block, COMMANDS, COUNT, ID, NAMED, Shape, TEXTS, block, done, not_yet};
use Shape::{Any, Bool, Enum, List, OctalMode, OneOf, Path, Size, Text, Words};

static RESOLV_CONF: Block = block(
    "`resolv_conf`",
    &[
        done("nameservers", OneOf(&[Text, TEXTS]), "Lists addresses of servers.").example("[9.9.9.9]"),
        done("searchdomains", OneOf(&[Text, TEXTS]), "Lists domains in which a bare name is looked for.")
            .example("[example.org]"),
        done("domain", Text, "Names the local domain.").example("example.org"),
        done("sortlist", OneOf(&[Text, TEXTS]), "Lists networks by which addresses are sorted.")
            .example("[10.0.0.0/8]"),
        done("options", Shape::Map(&Text), "Sets options; `true` for those without a value.").example("{rotate: true}"),
    ],
);

/// Keys of cloud-init that Kairos does not read.
pub(crate) static CLOUD_INIT: Block = block(
    "a configuration",
    &[
        done("bootcmd", COMMANDS, "Runs commands early in every boot, in `fs`.").example("\n- echo early"),
        done("ca_certs", Shape::Block(&CA_CERTS), "Adds certificates that the machine trusts.")
            .example("\n  trusted:\n  - |\n    -----BEGIN CERTIFICATE-----\n    MAA=\n    -----END CERTIFICATE-----"),
        done("chpasswd", Shape::Block(&CHPASSWD), "Sets passwords of users.")
            .example("\n  expire: false\n  users:\n  - {name: ada, password: secret, type: text}"),
        done("device_aliases", Shape::Map(&Text), "Names devices for `disk_setup`, `fs_setup` and `mounts`.")
            .example("{data: /dev/vdb}"),
        done("disable_root", Bool, "Keeps root from logging in by ssh."),
        not_yet("disable_root_opts", Text, "Sets options of root's keys.").example("no-port-forwarding"),
        done("disk_setup", Shape::Map(&Shape::Block(&DISK_SETUP)), "Partitions disks, by device, in `fs`.")
            .example("\n  /dev/vdb: {table_type: gpt, layout: true, overwrite: false}"),
        done("final_message", Text, "Is shown on the console at the end of boot.").example("The machine is up."),
        done("fqdn", Text, "Names the machine with its domain.").example("node.example.org"),
        done("fs_setup", List(&Shape::Block(&FS_SETUP)), "Makes file systems, in `fs`.")
            .example("\n- {label: data, filesystem: ext4, device: /dev/vdb, partition: auto}"),
        done(
            "groups",
            OneOf(&[Text, List(&OneOf(&[Text, Shape::Map(&Words)])), Shape::Map(&Words)]),
            "Makes groups, with members.",
        )
        .example("\n- admins: [ada]\n- guests"),
        done("growpart", Shape::Block(&GROWPART), "Makes partitions as large as their disks allow.")
            .example("\n  devices: [/]"),
        done("keyboard", Shape::Block(&KEYBOARD), "Sets the layout of the keyboard.").example("{layout: de}"),
        done("locale", OneOf(&[Text, Bool]), "Sets the language.").example("de_DE.UTF-8"),
        done("locale_configfile", Path, "Names the file that the language is written to.").example("/etc/locale.conf"),
        done(
            "manage_etc_hosts",
            OneOf(&[Bool, Enum(&["localhost", "template"])]),
            "Writes /etc/hosts: whole, or the line of the machine's own name with `localhost`.",
        )
        .example("localhost"),
        done("manage_resolv_conf", Bool, "Has `resolv_conf` count."),
        done("mount_default_fields", TEXTS, "Sets the fields that `mounts` leaves out.")
            .example("[~, ~, auto, 'defaults,nofail', '0', '2']"),
        done("mounts", List(&TEXTS), "Mounts file systems, each as the fields of fstab(5), in `fs`.")
            .example("\n- [/dev/vdb, /mnt/data, ext4, 'defaults,nofail']"),
        done(
            "network",
            Shape::Network,
            "Describes the network, in `initramfs`: our own block, or cloud-init's version 1 or 2.",
        )
        .example("\n  interfaces:\n  - name: eth0\n    dhcp: true"),
        done("ntp", Shape::Block(&NTP), "Says where the time comes from.").example("\n  servers: [ntp.example.org]"),
        done(
            "package_reboot_if_required",
            Bool,
            "Tells at the end of `packages` when one wants a reboot, which is not done.",
        ),
        done("package_update", Bool, "Fetches the lists of packages, in `network`."),
        done("package_upgrade", Bool, "Upgrades all packages, in `network`."),
        done(
            "packages",
            List(&OneOf(&[Text, TEXTS, Shape::Map(&List(&OneOf(&[Text, TEXTS])))])),
            "Installs packages, in `network`: names, `[name, version]`, or lists of these by package manager.",
        )
        .example("\n- curl\n- [jq, '1.7.1-3']\n- apt: [iproute2]"),
        done("password", Text, "Sets the password of the default user.").example("secret"),
        done(
            "phone_home",
            Shape::Block(&PHONE_HOME),
            "Posts to an address, at the end of `network`, once for each instance.",
        )
        .example("\n  url: https://example.org/up/$INSTANCE_ID\n  post: [instance_id, hostname]"),
        done(
            "power_state",
            Shape::Block(&POWER_STATE),
            "Powers the machine off, or reboots it, at the end of boot, once for each instance.",
        )
        .example("\n  mode: reboot\n  delay: now"),
        done("prefer_fqdn_over_hostname", Bool, "Names the machine by `fqdn` rather than by `hostname`."),
        done("preserve_hostname", Bool, "Leaves the machine's name alone."),
        done("resize_rootfs", OneOf(&[Bool, Text]), "Has no effect: the root is sealed, and as large as its content.")
            .example("false"),
        done(
            "resolv_conf",
            Shape::Block(&RESOLV_CONF),
            "Says how names are resolved; counts beside `manage_resolv_conf: true`.",
        )
        .example("\n  nameservers: [9.9.9.9]"),
        not_yet("ssh", NAMED, "Says what is printed of the machine's keys.").example("{emit_keys_to_console: false}"),
        not_yet("ssh_deletekeys", Bool, "Makes new keys for the machine."),
        not_yet("ssh_fp_console_blacklist", TEXTS, "Leaves kinds of keys out of the console.").example("[ssh-rsa]"),
        not_yet("ssh_genkeytypes", TEXTS, "Lists the kinds of keys that are made.").example("[ed25519]"),
        done("ssh_import_id", Words, "Fetches keys of the default user.").example("['gh:ada']"),
        done("ssh_keys", Shape::Block(&SSH_KEYS), "Sets the machine's own keys.")
            .example("{ed25519_public: ssh-ed25519 AAAA}"),
        not_yet("ssh_publish_hostkeys", NAMED, "Sends the machine's keys to the platform.").example("{enabled: false}"),
        done("ssh_pwauth", OneOf(&[Bool, Enum(&["unchanged"])]), "Lets users in by password.").example("false"),
        done("swap", Shape::Block(&SWAP), "Makes a swap file, in `fs`.").example("\n  filename: /swapfile\n  size: 2G"),
        done("timezone", Text, "Sets the time zone.").example("Europe/Berlin"),
        done("user", OneOf(&[Text, Shape::Block(&USER)]), "Describes the default user.").example("ada"),
    ],
)
.former(&[("ca-certs", "ca_certs")]);

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
        not_yet("disable_ec2_metadata", Any, "Cuts the machine off from the platform's metadata."),
        not_yet("drivers", Any, "Installs drivers."),
        not_yet("fan", Any, "Sets up a fan network."),
        not_yet("landscape", Any, "Registers with Landscape."),
        not_yet("lxd", Any, "Sets up LXD."),
        not_yet("mcollective", Any, "Runs MCollective."),
        not_yet("merge_how", Any, "Sets how cloud-init merges."),
        not_yet("output", Any, "Says where cloud-init logs."),
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
        done("path", Path, "Says where it is.").example("/etc/motd"),
        done("content", Text, "Is what it holds.").example("Welcome."),
        done("encoding", ENCODING, "Says how `content` is packed."),
        done("owner", Text, "Names owner and group.").example("root:root"),
        done("permissions", OctalMode, "Sets its permissions, in octal; 0644 without it.").example("'0600'"),
        done("append", Bool, "Adds to the file what it does not hold, instead of replacing it."),
        done("defer", Bool, "Writes the file after users were made."),
        done(
            "source",
            Shape::Block(&WRITE_FILE_SOURCE),
            "Fetches what the file holds, in `network`; `content` counts where that fails.",
        ),
    ],
);

static WRITE_FILE_SOURCE: Block = block(
    "`source`",
    &[
        done("uri", Text, "Says where it comes from.").example("https://example.org/file"),
        done("headers", Shape::Map(&Text), "Adds headers to the request.").example("{Accept: text/plain}"),
        done("sha256", Text, "Is the digest that what is fetched must have, in 64 hex digits.")
            .example("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
);

/// A user: in the top-level list, where its name is a value, and in a step, where its name is the key.
pub(crate) static USER: Block = block(
    "a user",
    &[
        done("name", Text, "Is the user's name.").example("ada"),
        done("passwd", Text, "Is the password, as a hash of crypt(5) or in clear.").example("$6$salt$hash"),
        done("ssh_authorized_keys", Words, "Lets the user in by these keys.").example("[ssh-ed25519 AAAA]"),
        done("gecos", Text, "Is the user's full name.").example("Ada Lovelace"),
        done("homedir", Path, "Is the user's home; below /home without it.").example("/home/ada"),
        done("no_create_home", Bool, "Makes no home."),
        done("primary_group", Text, "Names the user's first group; a group of the user's name without it.")
            .example("ada"),
        done("groups", Words, "Lists further groups; one text may name several, parted by commas.")
            .example("[admin, video]"),
        done("shell", Text, "Is the user's shell.").example("/bin/bash"),
        done("lock_passwd", Bool, "Lets nobody in by password."),
        done("uid", ID, "Is the user's number."),
        done("system", Bool, "Makes a user for a service, with a low number."),
        done("no_user_group", Bool, "Puts the user into the group that new users share instead of one of its own."),
        done("no_log_init", Bool, "Is so anyway: nothing is written to lastlog for a user that is made."),
        done("sudo", OneOf(&[Bool, Words]), "Lets the user run commands as others.").example("ALL=(ALL) NOPASSWD:ALL"),
        not_yet("doas", Words, "Lets the user run commands as others, by doas.").example("[permit nopass ada]"),
        done("plain_text_passwd", Text, "Is the password in clear.").example("secret"),
        done("hashed_passwd", Text, "Is the password as a hash.").example("$6$salt$hash"),
        done("ssh_import_id", Words, "Fetches keys of the user: `gh:` is GitHub, `lp:` Launchpad.")
            .example("['gh:ada']"),
        not_yet("ssh_redirect_user", Bool, "Tells who logs in to use the default user instead."),
        done("create_groups", Bool, "Makes groups that are missing; without it they are warned of."),
        done("expiredate", Text, "Is the day from which the user is locked out.").example("'2032-09-01'"),
        done("inactive", OneOf(&[Bool, Shape::Int(-1, 99_999)]), "Is how many days an expired password still counts.")
            .example("'5'"),
        not_yet("selinux_user", Text, "Is the user's SELinux name.").example("staff_u"),
        not_yet("snapuser", Text, "Is the user's address in the snap store.").example("ada@example.org"),
        not_yet("coreos_ssh_import_github", Text, "Fetches the keys of a GitHub user.").example("ada"),
        not_yet("coreos_ssh_import_github_users", TEXTS, "Fetches the keys of GitHub users.").example("[ada]"),
        not_yet("coreos_ssh_import_url", Text, "Fetches keys from a URL.").example("https://example.org/ada.keys"),
    ],
)
.aliases(&[("lockPasswd", "lock_passwd")]);

static GROWPART: Block = block(
    "`growpart`",
    &[
        done("devices", TEXTS, "Lists mount points or devices.").example("[/]"),
        done("mode", OneOf(&[Bool, Text]), "Turns it off when `off`; the tools that cloud-init has need not be there.")
            .example("auto"),
        done("ignore_growroot_disabled", Bool, "Does it even where /etc/growroot-disabled is."),
    ],
);

static CA_CERTS: Block = block(
    "`ca_certs`",
    &[
        done("remove_defaults", Bool, "Distrusts the certificates that the system came with."),
        done("trusted", TEXTS, "Lists certificates in PEM.").example("['-----BEGIN CERTIFICATE-----']"),
    ],
);

static CHPASSWD: Block = block(
    "`chpasswd`",
    &[
        done("expire", Bool, "Has users set a new password when they log in; not without it."),
        done("users", List(&Shape::Block(&CHPASSWD_USER)), "Lists users and their passwords."),
        done("list", Words, "Lists `name:password`, one on each line.").example("['ada:secret']"),
    ],
);

static SSH_KEYS: Block = block(
    "`ssh_keys`",
    &[
        done("rsa_private", Text, "Is the private RSA key.").example("'-----BEGIN OPENSSH PRIVATE KEY-----'"),
        done("rsa_public", Text, "Is the public RSA key.").example("ssh-rsa AAAA"),
        done("rsa_certificate", Text, "Is the certificate of the RSA key.")
            .example("ssh-rsa-cert-v01@openssh.com AAAA"),
        done("ecdsa_private", Text, "Is the private ECDSA key.").example("'-----BEGIN OPENSSH PRIVATE KEY-----'"),
        done("ecdsa_public", Text, "Is the public ECDSA key.").example("ecdsa-sha2-nistp256 AAAA"),
        done("ecdsa_certificate", Text, "Is the certificate of the ECDSA key.")
            .example("ecdsa-sha2-nistp256-cert-v01@openssh.com AAAA"),
        done("ed25519_private", Text, "Is the private Ed25519 key.").example("'-----BEGIN OPENSSH PRIVATE KEY-----'"),
        done("ed25519_public", Text, "Is the public Ed25519 key.").example("ssh-ed25519 AAAA"),
        done("ed25519_certificate", Text, "Is the certificate of the Ed25519 key.")
            .example("ssh-ed25519-cert-v01@openssh.com AAAA"),
    ],
);

static CHPASSWD_USER: Block = block(
    "a password",
    &[
        done("name", Text, "Is the user's name.").example("ada"),
        done("password", Text, "Is the password.").example("secret"),
        done("type", Enum(&["hash", "text", "RANDOM"]), "Says what `password` is; a hash without it."),
    ],
);

static DISK_SETUP: Block = block(
    "a disk",
    &[
        done("table_type", Text, "Names the kind of the partition table: `mbr` or `gpt`; `mbr` without it.")
            .example("gpt"),
        done("layout", Any, "Is `true` for one partition, a list of percentages, or `remove`.")
            .example("[66, [33, 82]]"),
        done("overwrite", Bool, "Does it even where a partition table is."),
    ],
);

static FS_SETUP: Block = block(
    "a file system",
    &[
        done("label", Text, "Is its label.").example("data"),
        done("filesystem", Text, "Names its kind.").example("ext4"),
        done("device", Text, "Names the disk.").example("/dev/vdb"),
        done("partition", Text, "Is the partition's number, or `auto`, `any` or `none`; `any` without it.")
            .example("auto"),
        done("overwrite", Bool, "Makes it even where one is."),
        done("replace_fs", Text, "Names the kind that may be overwritten.").example("ntfs"),
        done("extra_opts", Words, "Adds arguments to the program that makes it.").example("['-m', '0']"),
        done("cmd", Words, "Is the command that makes it.").example("mkfs -t %(filesystem)s -L %(label)s %(device)s"),
    ],
);

static KEYBOARD: Block = block(
    "`keyboard`",
    &[
        done("layout", Text, "Names the layout.").example("de"),
        done("model", Text, "Names the model.").example("pc105"),
        done("variant", Text, "Names the variant.").example("nodeadkeys"),
        done("options", Text, "Lists options.").example("ctrl:nocaps"),
    ],
);

static NTP: Block = block(
    "`ntp`",
    &[
        done("enabled", Bool, "Turns it off when false."),
        done("servers", TEXTS, "Lists servers.").example("[ntp.example.org]"),
        done("pools", TEXTS, "Lists pools of servers.").example("[pool.ntp.org]"),
        done("peers", TEXTS, "Lists peers.").example("[10.0.0.2]"),
        done("allow", TEXTS, "Lists networks that may ask this machine.").example("[10.0.0.0/8]"),
        done("ntp_client", Text, "Names the program that does it.").example("chrony"),
        done("config", NAMED, "Configures that program.").example("{confpath: /etc/chrony.conf}"),
    ],
);

static PHONE_HOME: Block = block(
    "`phone_home`",
    &[
        done("url", Text, "Is the address; `$INSTANCE_ID` in it stands for the instance.")
            .example("https://example.org/up"),
        done(
            "post",
            OneOf(&[
                Enum(&["all"]),
                List(&Enum(&["pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn"])),
            ]),
            "Lists what is posted, `N/A` for what the machine does not have; all without it.",
        )
        .example("[instance_id, hostname]"),
        done("tries", Shape::Int(1, u32::MAX as i64), "Is how often it is tried; 10 without it.").example("10"),
    ],
);

static POWER_STATE: Block = block(
    "`power_state`",
    &[
        done("mode", Enum(&["poweroff", "reboot", "halt"]), "Says what happens."),
        done("delay", Text, "Is `now`, or `+` and minutes.").example("'+5'"),
        done("message", Text, "Is told to those who are logged in.").example("The machine reboots."),
        done("timeout", COUNT, "Is how many seconds boot may still take."),
        done("condition", OneOf(&[Bool, Text, TEXTS]), "Is a command that must end with zero for it to happen.")
            .example("test -e /run/reboot"),
    ],
);

static SWAP: Block = block(
    "`swap`",
    &[
        done("filename", Path, "Says where the file is.").example("/swapfile"),
        done("size", OneOf(&[Enum(&["auto"]), Size]), "Is its size.").example("2G"),
        done("maxsize", Size, "Bounds what `auto` makes of it."),
    ],
);
