//! What this machine's node is to be: what the command line says, then `p2p` of the configuration, then what is usual.

use super::dht;
use super::seeds::{self, Name};
use super::shell;
use crate::cli::{MeshTier, MeshUp};
use crate::output;
use crate::verbs::config;
use kairn_config::{Code, Diagnostic, LogLevel, MeshRole, MeshSettings, Placed, Severity};
use kairn_host::files;
use kairn_mesh::{DEFAULT_MTU, DEFAULT_PORT, Domain, NameSettings, Range, Rules, Sealing, Settings, Tier, Vpn};
use kairn_mesh_protocol::ballot::DEFAULT_MINIMUM;
use kairn_mesh_protocol::{AdminKey, ClusterName, Error as ProtocolError, NodeId, Role, Token, TokenFault};
use kairn_report::{Kind, Report, Span};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use tracing_subscriber::filter::LevelFilter;

/// The variable that holds a token, where neither a file nor an argument does.
const VARIABLE: &str = "KAIRN_MESH_TOKEN";
/// The name of the interface, which existing arguments of k3s name.
const INTERFACE: &str = "edgevpn0";

/// Reads the machine's configuration and puts both together; what is wrong there is said, and left out. Returned beside it are nodes that
/// are known by a name.
///
/// # Errors
/// There is no token, or what the command line says is wrong.
pub fn of(verb: &MeshUp, name: String) -> Result<(Settings, Vec<Name>), Report> {
    let (said, faults) = of_machine();
    faults.iter().for_each(|fault| output::say(fault));
    if let Some(level) = said.log {
        output::log_unless_said(level_of(level));
    }
    let given: Vec<String> = match verb.peers.as_slice() {
        [] => said.peers.iter().map(|peer| peer.value.clone()).collect(),
        peers => peers.to_vec(),
    };
    let mut excluded = verb.exclude_interface.clone();
    if excluded.is_empty() {
        excluded.clone_from(&said.excluded);
    }
    let (peers, names) = peers(&given)?;
    let settings = Settings {
        token: token(verb, std::env::var_os(VARIABLE), &said)?,
        sealing: Sealing { wanted: verb.seal_identity || said.seal_identity, tpm: verb.tpm.clone() },
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        port: verb.port.or(said.port).unwrap_or(DEFAULT_PORT),
        peers,
        dht: dht::of(verb, &said)?,
        administrators: administrators(&said)?,
        allowed: allowed(&said)?,
        excluded,
        names: names_of(verb, &said)?,
        role: said.role.map(role_of),
        cluster: cluster_of(&said)?,
        rules: Rules::new(said.minimum_nodes.unwrap_or(DEFAULT_MINIMUM), said.expected_nodes)?,
        shell: shell::settings_of(verb, &said),
        vpn: vpn(verb, &said)?,
    };
    Ok((settings, names))
}

/// What `p2p` of this machine's configuration says, and what is wrong with it.
pub fn of_machine() -> (MeshSettings, Vec<String>) {
    let merged = kairn_config::merge(&config::of_machine(Path::new("/"))).merged;
    let (settings, faults) = MeshSettings::of(&merged);
    (settings, faults.iter().map(ToString::to_string).collect())
}

fn token(verb: &MeshUp, variable: Option<OsString>, said: &MeshSettings) -> Result<Token, Report> {
    let (text, from) = match (&verb.token_file, &verb.token, variable, &said.token) {
        (Some(path), ..) => (files::read_text(path)?, path.display().to_string()),
        (None, Some(token), ..) => (token.clone(), "--token".to_owned()),
        (None, None, Some(token), _) => (token.to_string_lossy().into_owned(), VARIABLE.to_owned()),
        (None, None, None, Some(Placed { value, span })) => {
            (value.reveal().clone(), format!("{span}: `p2p.network_token`"))
        }
        (None, None, None, None) => {
            return Err(Report::new(Kind::User, "there is no network token")
                .hint("name a file that holds it with --token-file, or set p2p.network_token in the configuration")
                .hint("`kairn mesh token` draws a new one"));
        }
    };
    text.parse::<Token>().map_err(|fault: TokenFault| Report::from(ProtocolError::Token(fault)).context(from))
}

/// A key that is none ends it: this machine would not heed the orders that the others do.
fn administrators(said: &MeshSettings) -> Result<Vec<AdminKey>, Report> {
    let wrong = |span: &Span, fault: String| {
        Report::new(Kind::Config, fault)
            .hint("it has 52 letters and digits, as `kairn mesh token --admin-key FILE` prints them")
            .context(format!("{span}: `p2p.admin_keys`"))
    };
    said.admin_keys.iter().map(|key| administrator(&key.value).map_err(|fault| wrong(&key.span, fault))).collect()
}

fn administrator(text: &str) -> Result<AdminKey, String> {
    let key = text.parse::<NodeId>().ok().and_then(|id| AdminKey::new(*id.as_bytes()).ok());
    key.ok_or_else(|| format!("`{text}` is no administrator's key"))
}

/// A name that is none ends it: the machine would take part in what another cluster decides.
fn cluster_of(said: &MeshSettings) -> Result<ClusterName, Report> {
    let Some(Placed { value, span }) = &said.network_id else { return Ok(ClusterName::default()) };
    value.parse().map_err(|fault: ProtocolError| {
        Report::new(Kind::Config, fault.to_string()).context(format!("{span}: `p2p.network_id`"))
    })
}

/// A name that is none ends it too: somebody is kept out who should not be.
fn allowed(said: &MeshSettings) -> Result<Option<BTreeSet<NodeId>>, Report> {
    let read = |Placed { value, span }: &Placed<String>| {
        value.parse::<NodeId>().map_err(|fault| {
            Report::new(Kind::Config, fault.to_string()).context(format!("{span}: `p2p.allowed_nodes`"))
        })
    };
    let allowed: BTreeSet<NodeId> = said.allowed.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Some(allowed).filter(|allowed| !allowed.is_empty()))
}

/// What is wrong with a token, keys and names, which only a node itself can tell.
pub fn faults(said: &MeshSettings) -> Vec<Diagnostic> {
    let bad = |span: &Span, what: String| Diagnostic::new(Severity::Error, Code::BadValue, span.clone(), what);
    let token = said.token.iter().filter_map(|token| {
        let fault = token.value.reveal().parse::<Token>().err()?;
        Some(bad(&token.span, format!("`network_token` {fault}")))
    });
    let keys = said.admin_keys.iter().filter_map(|key| Some(bad(&key.span, administrator(&key.value).err()?)));
    let nodes = said.allowed.iter();
    let nodes = nodes.filter_map(|node| Some(bad(&node.span, node.value.parse::<NodeId>().err()?.to_string())));
    let cluster = said.network_id.iter();
    let cluster = cluster
        .filter_map(|id| Some(bad(&id.span, format!("`network_id`: {}", id.value.parse::<ClusterName>().err()?))));
    token.chain(keys).chain(nodes).chain(cluster).collect()
}

/// How the members are named, and whether the machine asks this node.
fn names_of(verb: &MeshUp, said: &MeshSettings) -> Result<NameSettings, Report> {
    let domain = match (&verb.dns_domain, &said.dns_domain) {
        (Some(domain), _) => domain.clone(),
        (None, Some(Placed { value, span })) => value.parse().map_err(|fault| {
            Report::new(Kind::Config, format!("{fault}")).context(format!("{span}: `p2p.dns_domain`"))
        })?,
        (None, None) => Domain::default(),
    };
    Ok(NameSettings { domain, is_server: verb.dns || said.dns })
}

/// The private network; the command line asks for one with any of its options, whatever the configuration says.
fn vpn(verb: &MeshUp, said: &MeshSettings) -> Result<Option<Vpn>, Report> {
    let is_asked_for = verb.interface.is_some() || verb.range.is_some() || verb.mtu.is_some();
    if verb.no_vpn || (!said.vpn && !is_asked_for) {
        return Ok(None);
    }
    let tier = match verb.tier {
        MeshTier::Auto => Tier::Auto,
        MeshTier::Kernel => Tier::Kernel,
        MeshTier::Userspace => Tier::Userspace,
    };
    let range = match (verb.range, &said.range) {
        (Some(range), _) => range,
        (None, Some(Placed { value, span })) => value.parse().map_err(|fault| {
            Report::new(Kind::Config, format!("{fault}")).context(format!("{span}: `p2p.vpn.range`"))
        })?,
        (None, None) => Range::default(),
    };
    let interface = verb.interface.as_ref().or(said.interface.as_ref());
    Ok(Some(Vpn {
        interface: interface.map_or(INTERFACE, String::as_str).to_owned(),
        mtu: verb.mtu.or(said.mtu).unwrap_or(DEFAULT_MTU),
        tier,
        range,
    }))
}

const fn role_of(role: MeshRole) -> Role {
    match role {
        MeshRole::Master => Role::Master,
        MeshRole::Worker => Role::Worker,
        MeshRole::None => Role::None,
    }
}

const fn level_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Parts peers that are addresses from those that are names.
fn peers(given: &[String]) -> Result<(Vec<SocketAddr>, Vec<Name>), Report> {
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for peer in given {
        if let Ok(address) = peer.parse() {
            addresses.push(address);
            continue;
        }
        names.push(seeds::name(peer)?);
    }
    Ok((addresses, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Mesh, Verb};
    use clap::Parser as _;
    use kairn_config::{Document, merge};

    fn verb(line: &str) -> MeshUp {
        match Cli::parse_from(format!("kairn mesh up {line}").split_whitespace()).verb {
            Verb::Mesh(Mesh::Up(verb)) => verb,
            other => panic!("{other:?}"),
        }
    }

    fn said(block: &str) -> MeshSettings {
        merge(&[Document::parse("/oem/a", &format!("#cloud-config\np2p: {block}\n"))]).mesh
    }

    #[test]
    fn the_command_line_beats_the_configuration_and_that_what_is_usual() {
        let block = "{vpn: {interface: conf0, range: 10.2.0.1/24, mtu: 1300}}";
        for (line, block, expected) in [
            ("", "{}", Some(("edgevpn0", 1420, "10.1.0.0/24"))),
            ("", block, Some(("conf0", 1300, "10.2.0.0/24"))),
            ("--interface flag0 --mtu 1400", block, Some(("flag0", 1400, "10.2.0.0/24"))),
            ("--range 10.3.0.0/16", block, Some(("conf0", 1300, "10.3.0.0/16"))),
            ("--no-vpn", block, None),
            ("", "{vpn: {create: false}}", None),
            ("--range 10.3.0.0/16", "{vpn: {create: false}}", Some(("edgevpn0", 1420, "10.3.0.0/16"))),
        ] {
            let vpn = vpn(&verb(line), &said(block)).unwrap();
            let found = vpn.map(|vpn| (vpn.interface, vpn.mtu, vpn.range.to_string()));
            let expected = expected.map(|(name, mtu, range)| (name.to_owned(), mtu, range.to_owned()));
            assert_eq!(found, expected, "{line} {block}");
        }
    }

    #[test]
    fn names_are_answered_where_either_asks_for_it() {
        for (line, block, expected) in [
            ("", "{}", (false, "mesh.internal")),
            ("", "{dns: true, dns_domain: Edge.example}", (true, "edge.example")),
            ("--dns --dns-domain a.example", "{dns_domain: b.example}", (true, "a.example")),
        ] {
            let names = names_of(&verb(line), &said(block)).unwrap();
            assert_eq!((names.is_server, names.domain.to_string().as_str()), expected, "{line} {block}");
        }
        let wrong = names_of(&verb(""), &said("{dns_domain: a..b}")).err().unwrap().to_string();
        assert!(wrong.contains("/oem/a:2:19: `p2p.dns_domain`"), "{wrong}");
    }

    #[test]
    fn a_wrong_token_of_the_configuration_is_an_error_with_its_place_and_without_the_token() {
        let wrong = "kairn1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
        let report = token(&verb(""), None, &said(&format!("{{network_token: {wrong}}}"))).err().unwrap();
        let text = report.to_string();
        assert!(text.contains("/oem/a:2:22: `p2p.network_token`") && !text.contains(wrong), "{text}");
        let none = token(&verb(""), None, &said("{}")).err().unwrap();
        assert!(none.to_string().contains("there is no network token"), "{none}");
    }

    #[test]
    fn keys_of_administrators_are_read_and_a_wrong_one_is_an_error_with_its_place() {
        let key = kairn_mesh_protocol::Identity::from_seed(&[7; 32]).id().to_string();
        assert_eq!(administrators(&said(&format!("{{admin_keys: [{key}]}}"))).unwrap().len(), 1);
        let report = administrators(&said("{admin_keys: [nonsense]}")).unwrap_err();
        assert!(report.to_string().contains("/oem/a:2:20: `p2p.admin_keys`"), "{report}");
        let text = format!("{{admin_keys: [{key}, nonsense], network_token: kairn1qqqq}}");
        let places: Vec<_> = faults(&said(&text)).iter().map(|fault| fault.span.place.column).collect();
        assert_eq!(places, [100, 74]);
    }

    #[test]
    fn a_list_of_nodes_is_read_and_an_empty_one_is_none() {
        let node = kairn_mesh_protocol::Identity::from_seed(&[7; 32]).id();
        assert_eq!(allowed(&said(&format!("{{allowed_nodes: [{node}]}}"))).unwrap(), Some(BTreeSet::from([node])));
        assert_eq!(allowed(&said("{allowed_nodes: []}")).unwrap(), None);
        let report = allowed(&said("{allowed_nodes: [edge-7]}")).unwrap_err();
        assert!(report.to_string().contains("/oem/a:2:23: `p2p.allowed_nodes`"), "{report}");
    }

    #[test]
    fn the_cluster_is_read_and_a_name_that_is_none_is_an_error_with_its_place() {
        assert_eq!(cluster_of(&said("{}")).unwrap().as_str(), "kairos");
        assert_eq!(cluster_of(&said("{network_id: edge}")).unwrap().as_str(), "edge");
        for wrong in ["a/b".to_owned(), "x".repeat(65)] {
            let said = said(&format!("{{network_id: {wrong}}}"));
            let report = cluster_of(&said).unwrap_err().to_string();
            assert!(report.contains("/oem/a:2:19: `p2p.network_id`") && report.contains("1 to 64 bytes"), "{report}");
            let places: Vec<_> = faults(&said).iter().map(|fault| fault.span.place.column).collect();
            assert_eq!(places, [19]);
        }
    }

    #[test]
    fn peers_are_addresses_or_names_that_are_looked_up_later() {
        let given = ["192.0.2.1:7946", "[2001:db8::1]:1", "gate.example.org:7946"].map(str::to_owned);
        let (addresses, names) = peers(&given).unwrap();
        assert_eq!(addresses, ["192.0.2.1:7946".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()]);
        assert_eq!(names, [("gate.example.org".to_owned(), 7_946)]);
        for wrong in ["192.0.2.1", "gate.example.org", "gate.example.org:port"] {
            assert!(peers(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
