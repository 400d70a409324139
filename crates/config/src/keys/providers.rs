//! Blocks that providers own: known, so that a slip in them is found. Of them only `p2p` is acted on here, in part.

use super::{Block, COUNT, NAMED, NAMED_TEXTS, Shape, TEXTS, block, done, not_yet};
use Shape::{Bool, Enum, OneOf, Text};

/// `k3s`.
pub(crate) static K3S: Block = block(
    "`k3s`",
    &[
        done("enabled", Bool, "Turns it on."),
        done("env", NAMED_TEXTS, "Sets variables of the service.").example("{K3S_TOKEN: secret}"),
        done("args", TEXTS, "Adds arguments to the program.").example("['--disable=traefik']"),
        done("replace_env", Bool, "Leaves out the variables that the provider would set."),
        done("replace_args", Bool, "Leaves out the arguments that the provider would give."),
        done("embedded_registry", Bool, "Shares images among the machines of the cluster."),
    ],
);

/// `k3s-agent`.
pub(crate) static K3S_AGENT: Block = Block { what: "`k3s-agent`", ..K3S };

/// `k0s`. Anything else in them goes to k0s.
pub(crate) static K0S: Block = block(
    "`k0s`",
    &[
        done("enabled", Bool, "Turns it on."),
        done("env", NAMED_TEXTS, "Sets variables of the service.").example("{A: b}"),
        done("args", TEXTS, "Adds arguments to the program.").example("['--disable-components=konnectivity-server']"),
        done("replace_env", Bool, "Leaves out the variables that the provider would set."),
        done("replace_args", Bool, "Leaves out the arguments that the provider would give."),
    ],
)
.open();

/// `k0s-worker`.
pub(crate) static K0S_WORKER: Block = Block { what: "`k0s-worker`", ..K0S };

/// `p2p`.
pub(crate) static P2P: Block = block(
    "`p2p`",
    &[
        done("network_token", Text, "Is the secret that machines of one network share.").example("secret"),
        done("peers", TEXTS, "Lists machines of the network that are known to be there, each `HOST:PORT`.")
            .example("['192.0.2.1:7946', gate.example.org:7946]"),
        done("admin_keys", TEXTS, "Lists public keys that may put machines out of the network and change its secret.")
            .example("[fx774t3qcwfvgf73vmoidcoqbmbtqklczd2tts5lvmnk7uebtbpa]"),
        done(
            "allowed_nodes",
            TEXTS,
            "Lists the nodes that may be members, whoever has the token; all may where it is empty.",
        )
        .example("[fx774t3qcwfvgf73vmoidcoqbmbtqklczd2tts5lvmnk7uebtbpa]"),
        done(
            "seal_identity",
            Bool,
            "Has the machine's TPM seal who the machine is in the network, so that a copied disk is not it.",
        )
        .example("true"),
        done("listen_port", Shape::Int(1, 65_535), "Is the UDP port of the network; WireGuard takes the one after it.")
            .example("7946"),
        done("exclude_interfaces", TEXTS, "Leaves out network interfaces, by the beginnings of their names.")
            .example("[wwan]"),
        done(
            "disable_dht",
            Bool,
            "Is `false` where the BitTorrent DHT is used to find machines; else nothing is sent there.",
        )
        .example("false"),
        done("dht_bootstrap", TEXTS, "Lists nodes of a DHT to begin at instead of the public ones, each `HOST:PORT`.")
            .example("[dht.example.org:6881]"),
        done("loglevel", Text, "Sets how much is logged: `error`, `warn`, `info`, `debug` or `trace`.")
            .example("debug"),
        done("network_id", Text, "Names the cluster of the network that the machine is in; `kairos` unless set.")
            .example("edge"),
        done(
            "role",
            Enum(&["", "master", "worker", "none"]),
            "Fixes the machine's role instead of having it assigned.",
        )
        .example("worker"),
        done("dns", Bool, "Answers for names of the network's machines, and has the machine ask for them.")
            .example("true"),
        done("dns_domain", Text, "Is the domain of these names, the same on all machines.").example("mesh.internal"),
        done(
            "minimum_nodes",
            Shape::Int(1, 512),
            "Says how many machines have to agree at least on the first of a cluster; 2 unless set, 512 at most.",
        )
        .example("3"),
        done(
            "expected_nodes",
            Shape::Int(1, 512),
            "Says how many machines there will be, the same on all; as many as `minimum_nodes` unless set.",
        )
        .example("5"),
        done(
            "shell",
            Enum(&["recovery", "always", "never"]),
            "Says when members may have a shell of root here: in recovery unless set; `always` is for an admin.",
        )
        .example("never"),
        not_yet("dynamic_roles", Bool, "Elects roles anew when machines come and go."),
        done("vpn", Shape::Block(&P2P_VPN), "Says whether machines talk over a private network.")
            .example("\n  create: true"),
        not_yet("auto", Shape::Block(&P2P_AUTO), "Says whether roles are elected."),
    ],
);

static P2P_VPN: Block = block(
    "`p2p.vpn`",
    &[
        done("create", Bool, "Makes the private network; it does unless this is `false`.").example("false"),
        done("interface", Text, "Names its interface; where it is taken, the number at its end counts on.")
            .example("edgevpn0"),
        done("range", Text, "Is the range of its IPv4 addresses, the same on all machines.").example("10.1.0.0/24"),
        done("mtu", Shape::Int(1_280, 9_000), "Is the size of its largest packet in bytes.").example("1420"),
        done("env", NAMED_TEXTS, "Sets what variables of the program before this one did.")
            .example("{IFACE: edgevpn0, ADDRESS: 10.1.0.1/24, EDGEVPNLOGLEVEL: debug}"),
        not_yet("use", Bool, "Runs the cluster over it."),
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
        done("external_db", Text, "Names a database to use instead of the embedded one.")
            .example("postgres://db.example.org/k3s"),
    ],
);

/// `kubevip`. Anything else in it goes to kube-vip.
pub(crate) static KUBEVIP: Block = block(
    "`kubevip`",
    &[
        done("enable", Bool, "Turns it on."),
        done("eip", Text, "Is the virtual address.").example("10.0.0.100"),
        done("interface", Text, "Names the network interface that has the address.").example("eth0"),
        done("manifest_url", Text, "Says where the manifest is fetched from.")
            .example("https://kube-vip.io/manifests/rbac.yaml"),
        done("static_pod", Bool, "Runs it as a static pod."),
        done("version", Text, "Names its version.").example("v1.0.0"),
        done("image", Text, "Names its image.").example("ghcr.io/kube-vip/kube-vip"),
    ],
)
.open();

/// `cluster`.
pub(crate) static CLUSTER: Block = block(
    "`cluster`",
    &[
        done("cluster_token", Text, "Is the secret that machines of the cluster share.").example("secret"),
        done("control_plane_host", Text, "Is the address of the control plane.").example("10.0.0.1"),
        done("role", Enum(&["init", "controlplane", "worker"]), "Says what the machine is in the cluster."),
        done("config", OneOf(&[Text, NAMED]), "Goes to the Kubernetes distribution as it stands.")
            .example("{cluster-cidr: 10.42.0.0/16}"),
        done("providerConfig", NAMED_TEXTS, "Goes to the plugin as it stands.").example("{key: value}"),
        done("env", NAMED_TEXTS, "Sets variables of the plugin.").example("{A: b}"),
        done("ca_certs", Shape::Words, "Adds certificates that are trusted.")
            .example("['-----BEGIN CERTIFICATE-----']"),
        done("import_local_images", Bool, "Imports images that lie on the machine."),
        done("local_images_path", Shape::Path, "Says where these images lie.").example("/opt/images"),
        done("cluster_config_path", Shape::Path, "Says where the plugin writes its configuration.")
            .example("/usr/local/cloud-config/cluster.kairos.yaml"),
    ],
);

/// `providers`.
pub(crate) static PROVIDERS: Block = block(
    "`providers`",
    &[done(
        "paths",
        TEXTS,
        "Lists directories of provider plugins, absolute; the last wins where two have one of the same name.",
    )
    .example("[/usr/local/providers]")],
);

/// `kcrypt`.
pub(crate) static KCRYPT: Block = block(
    "`kcrypt`",
    &[
        done("challenger", Shape::Block(&KCRYPT_CHALLENGER), "Describes the server that holds the keys."),
        done("nv_index", Text, "Is the index of the TPM's memory where a local key is kept.").example("'0x1500000'"),
        done("c_index", Text, "Is the index of the certificate in the TPM.").example("'0x1500001'"),
        done("tpm_device", Text, "Names the device of the TPM.").example("/dev/tpmrm0"),
    ],
);

static KCRYPT_CHALLENGER: Block = block(
    "`kcrypt.challenger`",
    &[
        done("challenger_server", Text, "Is the server's URL.").example("https://kms.example.org"),
        done("mdns", Bool, "Finds the server on the local network."),
        done("certificate", Text, "Is the certificate that the server must show.")
            .example("'-----BEGIN CERTIFICATE-----'"),
    ],
);

/// `phonehome`.
pub(crate) static PHONEHOME: Block = block(
    "`phonehome`",
    &[
        done("url", Text, "Is the URL of the fleet's server.").example("https://fleet.example.org"),
        done("registration_token", Text, "Is the secret that lets a machine register.").example("secret"),
        done("group", Text, "Names the group that the machine joins.").example("edge"),
        done("labels", NAMED_TEXTS, "Labels the machine.").example("{site: berlin}"),
        done("heartbeat_interval", Text, "Says how often the machine reports.").example("30s"),
        done("reconnect_backoff", Text, "Says how long a lost connection rests before it is tried again.")
            .example("5s"),
        done("artifact_download_retries", COUNT, "Says how often a failed download is tried again."),
        done(
            "artifact_download_retry_interval",
            Text,
            "Says how long a failed download rests before it is tried again.",
        )
        .example("5s"),
        done("allowed_commands", TEXTS, "Lists the commands that the server may send.").example("[upgrade, reboot]"),
    ],
);
