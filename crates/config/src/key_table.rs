//! Every key of the configuration language, by block, and which of them do something yet. Pure data, in this one place.

use crate::keys::{Block, Key, Shape, Standing};
use Shape::{Free, List, Named, Stages};

const fn done(name: &'static str) -> Key {
    Key { name, standing: Standing::Done, shape: Free }
}

const fn not_yet(name: &'static str) -> Key {
    Key { name, standing: Standing::NotYet, shape: Free }
}

const fn shaped(mut key: Key, shape: Shape) -> Key {
    key.shape = shape;
    key
}

const fn block(what: &'static str, keys: &'static [Key]) -> Block {
    Block { what, keys, aliases: &[], dotted: false }
}

const fn dotted(what: &'static str, keys: &'static [Key]) -> Block {
    Block { what, keys, aliases: &[], dotted: true }
}

/// Top-level keys.
pub(crate) static TOP: Block = block(
    "a configuration",
    &[
        done("name"),
        shaped(done("users"), List(&LISTED_USER)),
        done("ssh_authorized_keys"),
        done("hostname"),
        shaped(done("write_files"), List(&WRITE_FILE)),
        done("runcmd"),
        shaped(done("stages"), Stages(&STEP)),
        shaped(done("install"), Shape::Block(&INSTALL)),
        done("strict"),
        done("template"),
        shaped(not_yet("upgrade"), Shape::Block(&UPGRADE)),
        shaped(not_yet("reset"), Shape::Block(&RESET)),
        shaped(not_yet("bundles"), List(&BUNDLE)),
        shaped(not_yet("growpart"), Shape::Block(&GROWPART)),
        shaped(not_yet("milpa_files"), List(&WRITE_FILE)),
        shaped(not_yet("logs"), Shape::Block(&LOGS)),
        not_yet("config_url"),
        not_yet("options"),
        not_yet("fail_on_bundles_errors"),
        not_yet("grub_options"),
        not_yet("env"),
        not_yet("debug"),
        not_yet("cloud-init-paths"),
        not_yet("eject-cd"),
        not_yet("cosign"),
        not_yet("verify"),
        not_yet("cosign-key"),
        not_yet("arch"),
        not_yet("squash-compression"),
        not_yet("squash-no-compression"),
        not_yet("uki-max-entries"),
        not_yet("bind-pcrs"),
        not_yet("bind-public-pcrs"),
        not_yet("coreos_ssh_import_github"),
        not_yet("coreos_ssh_import_github_users"),
        not_yet("coreos_ssh_import_url"),
        // Owned by providers, which judge what is below.
        not_yet("k3s"),
        not_yet("k3s-agent"),
        not_yet("k0s"),
        not_yet("k0s-worker"),
        not_yet("p2p"),
        not_yet("kairos"),
        not_yet("kubevip"),
        not_yet("cluster"),
        not_yet("providers"),
        not_yet("kcrypt"),
        not_yet("phonehome"),
    ],
);

/// Top-level keys of cloud-init itself that neither Kairos nor Kairn acts on; named so that `user` is no slip of `users`.
pub(crate) static CLOUD_INIT: &[&str] = &[
    "apk_repos",
    "apt",
    "apt_pipelining",
    "ansible",
    "autoinstall",
    "bootcmd",
    "byobu_by_default",
    "ca_certs",
    "ca-certs",
    "chef",
    "chpasswd",
    "cloud_config_modules",
    "cloud_final_modules",
    "cloud_init_modules",
    "datasource",
    "datasource_list",
    "device_aliases",
    "disable_ec2_metadata",
    "disable_root",
    "disk_setup",
    "drivers",
    "fan",
    "final_message",
    "fqdn",
    "fs_setup",
    "groups",
    "keyboard",
    "landscape",
    "locale",
    "lxd",
    "manage_etc_hosts",
    "manage_resolv_conf",
    "mcollective",
    "merge_how",
    "mount_default_fields",
    "mounts",
    "network",
    "ntp",
    "output",
    "package_reboot_if_required",
    "package_update",
    "package_upgrade",
    "packages",
    "password",
    "phone_home",
    "power_state",
    "prefer_fqdn_over_hostname",
    "preserve_hostname",
    "puppet",
    "random_seed",
    "reporting",
    "resize_rootfs",
    "resolv_conf",
    "rh_subscription",
    "rsyslog",
    "salt_minion",
    "snap",
    "spacewalk",
    "ssh",
    "ssh_deletekeys",
    "ssh_fp_console_blacklist",
    "ssh_genkeytypes",
    "ssh_import_id",
    "ssh_keys",
    "ssh_publish_hostkeys",
    "ssh_pwauth",
    "swap",
    "syslog_fix_perms",
    "system_info",
    "timezone",
    "ubuntu_advantage",
    "ubuntu_pro",
    "updates",
    "user",
    "vendor_data",
    "version",
    "wireguard",
    "yum_repos",
    "zypper",
];

/// Stages that something runs.
pub(crate) static STAGES_DONE: &[&str] = &["rootfs", "initramfs", "fs", "boot", "network"];

/// Stages that Kairos runs and Kairn does not yet.
pub(crate) static STAGES_NOT_YET: &[&str] = &[
    "reconcile",
    "first-boot",
    "kairos-agent.bootstrap",
    "provider-kairos.bootstrap",
    "kairos-install.pre",
    "kairos-install",
    "before-install",
    "after-install-chroot",
    "after-install",
    "before-upgrade",
    "after-upgrade-chroot",
    "after-upgrade",
    "before-reset",
    "after-reset-chroot",
    "after-reset",
    "kairos-uki-install.pre",
    "kairos-uki-install",
    "kairos-uki-upgrade.pre",
    "kairos-uki-upgrade",
    "kairos-uki-reset.pre",
    "kairos-uki-reset",
];

/// Keys of a step that decide whether it runs. One of them that is not done yet keeps the step from running.
/// The order is that of evaluation: what costs a process comes last.
pub(crate) static CONDITIONS: &[&str] =
    &["node", "only_os", "only_os_version", "only_arch", "only_service_manager", "if_files", "if"];

/// Keys of a step that say how it is run.
pub(crate) static STEP_SETTINGS: &[&str] = &["name", "after", "before", "frequency", "timeout", "parallel"];

/// A step of a stage.
pub(crate) static STEP: Block = block(
    "a step",
    &[
        done("name"),
        done("if"),
        done("node"),
        done("only_os"),
        done("only_os_version"),
        done("only_arch"),
        done("only_service_manager"),
        shaped(done("if_files"), Shape::Block(&IF_FILES)),
        done("after"),
        done("before"),
        done("frequency"),
        done("timeout"),
        done("parallel"),
        shaped(not_yet("dns"), Shape::Block(&DNS)),
        shaped(not_yet("downloads"), List(&DOWNLOAD)),
        shaped(not_yet("git"), Shape::Block(&GIT)),
        shaped(done("ensure_entities"), List(&ENTITY)),
        shaped(done("directories"), List(&DIRECTORY)),
        shaped(done("files"), List(&FILE)),
        done("commands"),
        shaped(not_yet("delete_entities"), List(&ENTITY)),
        done("hostname"),
        not_yet("sysctl"),
        shaped(done("users"), Named(&USER)),
        done("authorized_keys"),
        not_yet("modules"),
        not_yet("timesyncd"),
        shaped(done("systemctl"), Shape::Block(&SYSTEMCTL)),
        done("environment"),
        done("environment_file"),
        not_yet("systemd_firstboot"),
        shaped(not_yet("datasource"), Shape::Block(&DATASOURCE)),
        shaped(not_yet("layout"), Shape::Block(&LAYOUT)),
        not_yet("package_pins"),
        shaped(not_yet("packages"), Shape::Block(&PACKAGES)),
        shaped(not_yet("unpack_images"), List(&UNPACK_IMAGE)),
    ],
);

static IF_FILES: Block = block("`if_files`", &[done("any"), done("all"), done("none")]);

static DNS: Block = block("`dns`", &[done("nameservers"), done("search"), done("options"), done("path")]);

static DOWNLOAD: Block = Block {
    what: "a download",
    keys: &[
        done("path"),
        done("url"),
        done("permissions"),
        done("owner"),
        done("group"),
        done("timeout"),
        done("ownerstring"),
    ],
    aliases: &[("owner_string", "ownerstring")],
    dotted: false,
};

static GIT: Block = block(
    "`git`",
    &[done("url"), done("path"), done("branch"), done("branch_only"), shaped(done("auth"), Shape::Block(&GIT_AUTH))],
);

static GIT_AUTH: Block = block(
    "`git.auth`",
    &[done("username"), done("password"), done("private_key"), done("insecure"), done("public_key")],
);

static ENTITY: Block = block("an entity", &[done("path"), done("entity")]);

static DIRECTORY: Block = Block {
    what: "a directory",
    keys: &[done("path"), done("permissions"), done("owner"), done("group"), done("ownerstring")],
    aliases: &[("owner_string", "ownerstring")],
    dotted: false,
};

static FILE: Block = Block {
    what: "a file",
    keys: &[
        done("path"),
        done("content"),
        done("encoding"),
        done("permissions"),
        done("owner"),
        done("group"),
        done("ownerstring"),
    ],
    aliases: &[("owner_string", "ownerstring")],
    dotted: false,
};

static WRITE_FILE: Block = block(
    "a file",
    &[
        done("path"),
        done("content"),
        done("encoding"),
        done("owner"),
        done("permissions"),
        not_yet("append"),
        not_yet("defer"),
        not_yet("source"),
    ],
);

/// A user below `stages.*.users`, where its name is the key.
static USER: Block = block(
    "a user",
    &[
        done("name"),
        done("passwd"),
        done("ssh_authorized_keys"),
        done("gecos"),
        done("homedir"),
        done("no_create_home"),
        done("primary_group"),
        done("groups"),
        done("shell"),
        done("lock_passwd"),
        done("uid"),
        done("system"),
        not_yet("no_user_group"),
        not_yet("no_log_init"),
    ],
);

/// A user in the top-level list, where its name is a value.
static LISTED_USER: Block = block(
    "a user",
    &[
        done("name"),
        done("passwd"),
        done("ssh_authorized_keys"),
        done("gecos"),
        done("homedir"),
        done("no_create_home"),
        done("primary_group"),
        done("groups"),
        done("shell"),
        done("lock_passwd"),
        done("uid"),
        done("system"),
        not_yet("no_user_group"),
        not_yet("no_log_init"),
        // cloud-init's own.
        not_yet("sudo"),
        not_yet("doas"),
        not_yet("plain_text_passwd"),
        not_yet("hashed_passwd"),
        not_yet("ssh_import_id"),
        not_yet("ssh_redirect_user"),
        not_yet("create_groups"),
        not_yet("expiredate"),
        not_yet("inactive"),
        not_yet("selinux_user"),
        not_yet("snapuser"),
        not_yet("coreos_ssh_import_github"),
        not_yet("coreos_ssh_import_github_users"),
        not_yet("coreos_ssh_import_url"),
    ],
);

static SYSTEMCTL: Block = block(
    "`systemctl`",
    &[
        done("enable"),
        done("disable"),
        done("mask"),
        done("start"),
        shaped(not_yet("overrides"), List(&SYSTEMCTL_OVERRIDE)),
    ],
);

static SYSTEMCTL_OVERRIDE: Block = block("an override", &[done("service"), done("name"), done("content")]);

static DATASOURCE: Block = block("`datasource`", &[done("providers"), done("path"), done("userdata_name")]);

static LAYOUT: Block = block(
    "`layout`",
    &[
        shaped(done("device"), Shape::Block(&LAYOUT_DEVICE)),
        shaped(done("expand_partition"), Shape::Block(&LAYOUT_EXPAND)),
        shaped(done("add_partitions"), List(&LAYOUT_ADD)),
    ],
);

static LAYOUT_DEVICE: Block =
    block("`layout.device`", &[done("path"), done("label"), done("init_disk"), done("disk_name")]);

static LAYOUT_EXPAND: Block = block("`layout.expand_partition`", &[done("size")]);

static LAYOUT_ADD: Block =
    block("a partition", &[done("fsLabel"), done("pLabel"), done("size"), done("filesystem"), done("bootable")]);

static PACKAGES: Block = block("`packages`", &[done("install"), done("remove"), done("refresh"), done("upgrade")]);

static UNPACK_IMAGE: Block = block("an image", &[done("source"), done("target"), done("platform")]);

static GROWPART: Block = block("`growpart`", &[done("devices"), done("mode"), done("ignore_growroot_disabled")]);

static LOGS: Block = block("`logs`", &[done("journal"), done("files")]);

static BUNDLE: Block =
    block("a bundle", &[done("repository"), done("rootfs_path"), done("db_path"), done("local_file"), done("targets")]);

/// `install`.
pub(crate) static INSTALL: Block = dotted(
    "`install`",
    &[
        done("auto"),
        done("device"),
        done("reboot"),
        done("poweroff"),
        done("nousers"),
        done("force"),
        not_yet("no-format"),
        not_yet("ssh_hardening"),
        not_yet("source"),
        not_yet("image"),
        not_yet("grub_options"),
        not_yet("grub-entry-name"),
        shaped(not_yet("bundles"), List(&BUNDLE)),
        not_yet("env"),
        not_yet("bind_mounts"),
        not_yet("ephemeral_mounts"),
        not_yet("encrypted_partitions"),
        not_yet("skip_copy_kcrypt_plugin"),
        shaped(not_yet("partitions"), Shape::Block(&PARTITIONS)),
        shaped(not_yet("extra-partitions"), List(&PARTITION)),
        not_yet("extra-dirs-rootfs"),
        shaped(not_yet("system"), Shape::Block(&IMAGE)),
        shaped(not_yet("recovery-system"), Shape::Block(&IMAGE)),
        shaped(not_yet("passive"), Shape::Block(&IMAGE)),
        not_yet("iso"),
        not_yet("firmware"),
        not_yet("part-table"),
        not_yet("tty"),
        not_yet("cloud-init"),
        not_yet("allow-insecure-registries"),
        not_yet("skip-entries"),
    ],
);

static PARTITIONS: Block = block(
    "`install.partitions`",
    &[
        shaped(done("oem"), Shape::Block(&PARTITION)),
        shaped(done("recovery"), Shape::Block(&PARTITION)),
        shaped(done("state"), Shape::Block(&PARTITION)),
        shaped(done("persistent"), Shape::Block(&PARTITION)),
        shaped(done("efi"), Shape::Block(&PARTITION)),
    ],
);

static PARTITION: Block = block("a partition", &[done("size"), done("fs"), done("label"), done("name"), done("flags")]);

static IMAGE: Block = block("an image", &[done("size"), done("source"), done("uri"), done("label"), done("fs")]);

static UPGRADE: Block = dotted(
    "`upgrade`",
    &[
        done("entry"),
        done("recovery"),
        shaped(done("system"), Shape::Block(&IMAGE)),
        shaped(done("recovery-system"), Shape::Block(&IMAGE)),
        done("grub-entry-name"),
        done("reboot"),
        done("poweroff"),
        done("extra-dirs-rootfs"),
        done("excluded-paths"),
        done("efi-partition"),
        done("allow-insecure-registries"),
    ],
);

static RESET: Block = dotted(
    "`reset`",
    &[
        done("reset-persistent"),
        done("reset-oem"),
        shaped(done("system"), Shape::Block(&IMAGE)),
        done("grub-entry-name"),
        done("tty"),
        done("reboot"),
        done("poweroff"),
        done("extra-dirs-rootfs"),
    ],
);
