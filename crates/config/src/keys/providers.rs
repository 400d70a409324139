//! Blocks that providers own: known, so that a slip in them is found, and not acted on here yet.

use super::{Block, COUNT, NAMED, NAMED_TEXTS, Shape, TEXTS, block, done};
use Shape::{Bool, Enum, OneOf, Text};

/// `k3s`.
pub(crate) static K3S: Block = block(
    "`k3s`",
    &[
        done("enabled", Bool, "Turns it on."),
        done("env", NAMED_TEXTS, "Sets variables of the service.").example("env: {K3S_TOKEN: secret}\n"),
        done("args", TEXTS, "Adds arguments to the program.").example("args: ['--disable=traefik']\n"),
        done("replace_env", Bool, "Leaves out the variables that the provider would set."),
        done("replace_args", Bool, "Leaves out the arguments that the provider would give."),
        done("embedded_registry", Bool, "Shares images among the machines of the cluster."),
    ],
);

/// `k3s-agent`.
pub(crate) static K3S_AGENT: Block = Block { what: "`k3s-agent`", ..K3S };

/// `k0s` and `k0s-worker`. Anything else in them goes to k0s.
pub(crate) static K0S: Block = block(
    "`k0s`",
    &[
        done("enabled", Bool, "Turns it on."),
        done("env", NAMED_TEXTS, "Sets variables of the service."),
        done("args", TEXTS, "Adds arguments to the program."),
        done("replace_env", Bool, "Leaves out the variables that the provider would set."),
        done("replace_args", Bool, "Leaves out the arguments that the provider would give."),
    ],
)
.open();

/// `p2p`.
pub(crate) static P2P: Block = block(
    "`p2p`",
    &[
        done("network_token", Text, "Is the secret that machines of one network share."),
        done("network_id", Text, "Tells networks with one token apart."),
        done("role", Text, "Fixes the machine's role instead of having it elected.").example("role: worker\n"),
        done("dns", Bool, "Resolves names of the network."),
        done("loglevel", Text, "Sets how much is logged.").example("loglevel: debug\n"),
        done("disable_dht", Bool, "Finds machines on the local network only."),
        done("minimum_nodes", COUNT, "Waits for so many machines before roles are elected."),
        done("dynamic_roles", Bool, "Elects roles anew when machines come and go."),
        done("vpn", Shape::Block(&P2P_VPN), "Says whether machines talk over a private network."),
        done("auto", Shape::Block(&P2P_AUTO), "Says whether roles are elected."),
    ],
);

static P2P_VPN: Block = block(
    "`p2p.vpn`",
    &[
        done("create", Bool, "Makes the private network."),
        done("use", Bool, "Runs the cluster over it."),
        done("env", NAMED_TEXTS, "Sets variables of its service."),
    ],
)
.former(&[("vpn", "create")]);

static P2P_AUTO: Block = block(
    "`p2p.auto`",
    &[
        done("enable", Bool, "Elects roles."),
        done("ha", Shape::Block(&P2P_HA), "Asks for several machines in the control plane."),
    ],
);

static P2P_HA: Block = block(
    "`p2p.auto.ha`",
    &[
        done("enable", Bool, "Turns it on."),
        done("master_nodes", COUNT, "Counts the further machines of the control plane."),
        done("external_db", Text, "Names a database to use instead of the embedded one."),
    ],
);

/// `kubevip`. Anything else in it goes to kube-vip.
pub(crate) static KUBEVIP: Block = block(
    "`kubevip`",
    &[
        done("enable", Bool, "Turns it on."),
        done("eip", Text, "Is the virtual address.").example("eip: 10.0.0.100\n"),
        done("interface", Text, "Names the network interface that has the address.").example("interface: eth0\n"),
        done("manifest_url", Text, "Says where the manifest is fetched from."),
        done("static_pod", Bool, "Runs it as a static pod."),
        done("version", Text, "Names its version."),
        done("image", Text, "Names its image."),
    ],
)
.open();

/// `cluster`.
pub(crate) static CLUSTER: Block = block(
    "`cluster`",
    &[
        done("cluster_token", Text, "Is the secret that machines of the cluster share."),
        done("control_plane_host", Text, "Is the address of the control plane."),
        done("role", Enum(&["init", "controlplane", "worker"]), "Says what the machine is in the cluster."),
        done("config", OneOf(&[Text, NAMED]), "Goes to the Kubernetes distribution as it stands."),
        done("providerConfig", NAMED_TEXTS, "Goes to the plugin as it stands."),
        done("env", NAMED_TEXTS, "Sets variables of the plugin."),
        done("ca_certs", Shape::Words, "Adds certificates that are trusted."),
        done("import_local_images", Bool, "Imports images that lie on the machine."),
        done("local_images_path", Shape::Path, "Says where these images lie."),
        done("cluster_config_path", Shape::Path, "Says where the plugin writes its configuration."),
    ],
);

/// `providers`.
pub(crate) static PROVIDERS: Block =
    block("`providers`", &[done("paths", TEXTS, "Lists directories of provider plugins.")]);

/// `kcrypt`.
pub(crate) static KCRYPT: Block = block(
    "`kcrypt`",
    &[
        done("challenger", Shape::Block(&KCRYPT_CHALLENGER), "Describes the server that holds the keys."),
        done("nv_index", Text, "Is the index of the TPM's memory where a local key is kept.")
            .example("nv_index: '0x1500000'\n"),
        done("c_index", Text, "Is the index of the certificate in the TPM."),
        done("tpm_device", Text, "Names the device of the TPM.").example("tpm_device: /dev/tpmrm0\n"),
    ],
);

static KCRYPT_CHALLENGER: Block = block(
    "`kcrypt.challenger`",
    &[
        done("challenger_server", Text, "Is the server's URL.").example("challenger_server: https://kms.example.org\n"),
        done("mdns", Bool, "Finds the server on the local network."),
        done("certificate", Text, "Is the certificate that the server must show."),
    ],
);

/// `phonehome`.
pub(crate) static PHONEHOME: Block = block(
    "`phonehome`",
    &[
        done("url", Text, "Is the URL of the fleet's server.").example("url: https://fleet.example.org\n"),
        done("registration_token", Text, "Is the secret that lets a machine register."),
        done("group", Text, "Names the group that the machine joins."),
        done("labels", NAMED_TEXTS, "Labels the machine."),
        done("heartbeat_interval", Text, "Says how often the machine reports.").example("heartbeat_interval: 30s\n"),
        done("reconnect_backoff", Text, "Says how long a lost connection rests before it is tried again."),
        done("artifact_download_retries", COUNT, "Says how often a failed download is tried again."),
        done(
            "artifact_download_retry_interval",
            Text,
            "Says how long a failed download rests before it is tried again.",
        ),
        done("allowed_commands", TEXTS, "Lists the commands that the server may send."),
    ],
);
