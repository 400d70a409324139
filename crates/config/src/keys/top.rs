//! The top level of a document.

use super::lifecycle::{BUNDLE, GRUB_OPTIONS, INSTALL, LOGS, PAIRING, RESET, UPGRADE};
use super::providers::{CLUSTER, K0S, K0S_WORKER, K3S, K3S_AGENT, KCRYPT, KUBEVIP, P2P, PHONEHOME, PROVIDERS};
use super::step::STEP;
use super::{Block, COMMANDS, COUNT, NAMED, Shape, TEXTS, block, done, not_yet};
use crate::keys::cloud_init::{USER, WRITE_FILE};
use Shape::{Bool, Enum, List, OneOf, Text, Words};

/// Top-level keys.
pub(crate) static TOP: Block = block(
    "a configuration",
    &[
        done("name", Text, "Names the file; nothing depends on it.").example("first configuration"),
        done(
            "users",
            OneOf(&[Text, List(&OneOf(&[Text, Shape::Block(&USER)]))]),
            "Lists the users of the machine, made in `boot`; `default` is `kairos` in group `admin`.",
        )
        .example("\n- name: ada\n  groups: [admin]\n  ssh_authorized_keys: [ssh-ed25519 AAAA]"),
        done("ssh_authorized_keys", Words, "Gives these keys to every listed user, or to root when none is listed.")
            .example("\n- ssh-ed25519 AAAA ada"),
        done("hostname", Text, "Names the machine, in `initramfs`.").example("node-{{ trunc 4 .MachineID }}"),
        done("write_files", List(&Shape::Block(&WRITE_FILE)), "Writes files, in `boot`.")
            .example("\n- path: /etc/motd\n  content: |\n    Welcome.\n  permissions: '0644'"),
        done("runcmd", COMMANDS, "Runs commands, in `boot`.").example("\n- echo hello\n- [ls, -l]"),
        done("stages", Shape::Stages(&STEP), "Lists what runs when: steps by the stage that runs them.")
            .example("\n  boot:\n  - name: greet\n    commands: [echo hello]"),
        done("install", Shape::Block(&INSTALL), "Says how the machine is installed.")
            .example("\n  auto: true\n  device: auto\n  reboot: true"),
        done("pairing", Shape::Block(&PAIRING), "Says how a medium takes a configuration from `kairn register`.")
            .example("{confirm: false}"),
        done("strict", OneOf(&[Bool, Enum(&["all"])]), "Refuses a configuration with errors instead of warning.")
            .example("true"),
        done("template", Bool, "Says whether texts of this file are templates where the language has them.")
            .example("false"),
        not_yet("upgrade", Shape::Block(&UPGRADE), "Says how the machine is upgraded."),
        done("reset", Shape::Block(&RESET), "Says how the machine is reset.")
            .example("{reset-oem: true, reboot: true}"),
        not_yet("bundles", List(&Shape::Block(&BUNDLE)), "Unpacks container images at boot."),
        done("milpa_files", List(&Shape::Block(&WRITE_FILE)), "Writes files: an old name of `write_files`."),
        not_yet("logs", Shape::Block(&LOGS), "Names what `logs` collects beyond the usual."),
        done("config_url", Text, "Fetches another document, which wins over all files; `#sha256=` pins it.")
            .example("https://example.org/{{ .Values.ProtectedID }}.yaml"),
        not_yet("options", NAMED, "Passes options on to the installer.").example("{key: value}"),
        not_yet("fail_on_bundles_errors", Bool, "Fails when a bundle cannot be unpacked."),
        not_yet("grub_options", Shape::Block(&GRUB_OPTIONS), "Sets variables of the boot loader's environment."),
        not_yet("env", TEXTS, "Sets variables, each `NAME=value`, for what the agent runs.").example("[A=b]"),
        not_yet("debug", Bool, "Logs more."),
        done("cloud-init-paths", TEXTS, "Adds directories to read configuration from.").example("[/usr/local/more]"),
        not_yet("eject-cd", Bool, "Ejects the medium before the first reboot."),
        not_yet("cosign", Bool, "Verifies images by their signature."),
        not_yet("verify", Bool, "Verifies images by their checksum."),
        not_yet("cosign-key", Text, "Names the key that signatures are verified with.").example("/etc/cosign.pub"),
        not_yet("arch", Text, "Names the architecture of images.").example("amd64"),
        not_yet("squash-compression", TEXTS, "Sets how a squashed image is compressed.").example("['-comp', xz]"),
        not_yet("squash-no-compression", Bool, "Leaves a squashed image uncompressed."),
        not_yet("uki-max-entries", COUNT, "Bounds how many boot entries are kept."),
        not_yet("bind-pcrs", TEXTS, "Names the registers of the TPM that encryption is bound to.").example("['7']"),
        not_yet(
            "bind-public-pcrs",
            TEXTS,
            "Names the registers of the TPM that encryption is bound to by signed policy.",
        )
        .example("['11']"),
        not_yet("coreos_ssh_import_github", Text, "Fetches the keys of a GitHub user.").example("ada"),
        not_yet("coreos_ssh_import_github_users", TEXTS, "Fetches the keys of GitHub users.").example("[ada]"),
        not_yet("coreos_ssh_import_url", Text, "Fetches keys from a URL.").example("https://example.org/ada.keys"),
        not_yet("k3s", Shape::Block(&K3S), "Runs a k3s server on this machine.")
            .example("\n  enabled: true\n  args: ['--disable=traefik,servicelb']"),
        not_yet("k3s-agent", Shape::Block(&K3S_AGENT), "Runs a k3s agent on this machine.")
            .example("\n  enabled: true\n  env:\n    K3S_URL: https://10.0.0.1:6443\n    K3S_TOKEN: secret"),
        not_yet("k0s", Shape::Block(&K0S), "Runs a k0s controller on this machine."),
        not_yet("k0s-worker", Shape::Block(&K0S_WORKER), "Runs a k0s worker on this machine."),
        done("p2p", Shape::Block(&P2P), "Joins machines into a network by a shared token.")
            .example("\n  network_token: secret\n  peers: ['192.0.2.1:7946']"),
        not_yet("kubevip", Shape::Block(&KUBEVIP), "Gives the control plane a virtual address.")
            .example("\n  enable: true\n  eip: 10.0.0.100"),
        not_yet("cluster", Shape::Block(&CLUSTER), "Describes the cluster to a cluster plugin."),
        done(
            "providers",
            Shape::Block(&PROVIDERS),
            "Says where provider plugins are, in the place of the usual directories.",
        ),
        not_yet("kcrypt", Shape::Block(&KCRYPT), "Says who holds the keys of encrypted partitions."),
        not_yet("phonehome", Shape::Block(&PHONEHOME), "Registers the machine with a fleet."),
    ],
)
.former(&[("kairos", "p2p")]);
