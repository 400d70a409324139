//! `kairn mesh`: tokens, this machine's node, and what it says.

mod dns;
mod kv;
mod orders;
mod services;
mod table;

use crate::cli::{Mesh, MeshReading, MeshTier, MeshUp};
use crate::output::{self, Format};
use crate::verbs::config;
use kairn_datasource::Names;
use kairn_host::files;
use kairn_mesh::{Client, NameSettings, Settings, StateDir, Status, Tier, Vpn, random, run as run_node};
use kairn_mesh_protocol::{Error as ProtocolError, Token, TokenFault};
use kairn_report::{Kind, Report, in_one_line};
use serde_json::json;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use table::{Node, Peers};
use tokio::signal::unix::{SignalKind, signal};

/// How long the name of a peer may take to be found.
const NAME: Duration = Duration::from_secs(10);

pub fn run(verb: Mesh) -> Result<ExitCode, Report> {
    match verb {
        Mesh::Token { admin_key, qr } => token(admin_key.as_deref(), qr),
        Mesh::Rotate(order) => orders::run(&[], &order),
        Mesh::Revoke { nodes, order } => orders::run(&nodes, &order),
        Mesh::Up(verb) => up(&verb),
        Mesh::Status(verb) => status(&verb),
        Mesh::Peers(verb) => peers(&verb),
        Mesh::Ip(verb) => ip(&verb),
        Mesh::Dns(verb) => dns::run(&verb),
        Mesh::Expose { name, address, asking } => services::expose(&name, &address, &asking),
        Mesh::Connect { name, listen, node, asking } => services::connect(&name, &listen, node.as_deref(), &asking),
        Mesh::Services(asking) => services::list(&asking),
        Mesh::Kv(verb) => kv::run(&verb),
    }
}

fn token(admin_key: Option<&Path>, qr: bool) -> Result<ExitCode, Report> {
    let admin = admin_key.map(orders::administrator).transpose()?;
    let secret = random()
        .map_err(|error| Report::new(Kind::Environment, format!("the kernel gives no random bytes: {error}")))?;
    let text = Token::new(secret, admin).reveal();
    output::line(&text)?;
    if qr || std::io::stdout().is_terminal() {
        output::line(&table::qr(&text)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn up(verb: &MeshUp) -> Result<ExitCode, Report> {
    let token = wanted_token(verb)?;
    let peers = addresses(&verb.peers)?;
    let state = StateDir::open(&verb.state_dir)?;
    let settings = Settings {
        token,
        name: machine_name()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        port: verb.port,
        peers,
        administrators: Vec::new(),
        excluded: verb.exclude_interface.clone(),
        names: NameSettings { domain: verb.dns_domain.clone(), is_server: verb.dns },
        vpn: (!verb.no_vpn).then(|| vpn(verb)),
    };
    let failed = |error: std::io::Error| Report::new(Kind::Environment, format!("cannot start the node: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let (mut terminated, mut interrupted) =
            (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
        let end = async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        };
        run_node(state, settings, end, ready).await.map_err(Report::from)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn vpn(verb: &MeshUp) -> Vpn {
    let tier = match verb.tier {
        MeshTier::Auto => Tier::Auto,
        MeshTier::Kernel => Tier::Kernel,
        MeshTier::Userspace => Tier::Userspace,
    };
    Vpn { interface: verb.interface.clone(), mtu: verb.mtu, tier, range: verb.range }
}

/// Says on stderr that the node listens: its results are elsewhere.
fn ready(status: &Status) {
    let id: String = status.id.chars().take(10).collect();
    let interface = status.interface.as_deref().map_or_else(String::new, |name| format!(" on {name}"));
    output::say(&format!(
        "node {id} of network {}: UDP port {}, address {}{interface}",
        status.network, status.port, status.ula
    ));
}

fn wanted_token(verb: &MeshUp) -> Result<Token, Report> {
    let (text, from) = match (&verb.token_file, &verb.token) {
        (Some(path), _) => (files::read_text(path)?, path.display().to_string()),
        (None, Some(token)) => (token.clone(), "the token that was given".to_owned()),
        (None, None) => {
            let merged = kairn_config::merge(&config::of_machine(Path::new("/"))).merged.to_json();
            let token = merged.pointer("/p2p/network_token").and_then(serde_json::Value::as_str).map(str::to_owned);
            let none = || {
                Report::new(Kind::User, "there is no network token")
                    .hint("name a file that holds it with --token-file, or set p2p.network_token in the configuration")
                    .hint("`kairn mesh token` draws a new one")
            };
            (token.ok_or_else(none)?, "p2p.network_token".to_owned())
        }
    };
    text.parse::<Token>().map_err(|fault: TokenFault| Report::from(ProtocolError::Token(fault)).context(from))
}

fn addresses(peers: &[String]) -> Result<Vec<SocketAddr>, Report> {
    let mut found = Vec::new();
    for peer in peers {
        if let Ok(address) = peer.parse() {
            found.push(address);
            continue;
        }
        let wrong = || {
            Report::new(Kind::User, format!("`{peer}` does not say where a node is"))
                .hint("a peer is HOST:PORT, such as 192.0.2.1:7946, [2001:db8::1]:7946 or gate.example.org:7946")
        };
        let (host, port) = peer.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        match Names::new("/").addresses(host, NAME) {
            Ok(ips) => found.extend(ips.into_iter().map(|ip| SocketAddr::new(ip, port))),
            // The others may do, and whoever has this one's address will call us.
            Err(error) => output::say(&format!("warning: peer `{peer}`: {}", in_one_line(&error))),
        }
    }
    Ok(found)
}

fn machine_name() -> Result<String, Report> {
    Ok(files::read_text(Path::new("/proc/sys/kernel/hostname"))?.trim().to_owned())
}

fn status(verb: &MeshReading) -> Result<ExitCode, Report> {
    let status = Client::new(&verb.state_dir).status()?;
    match verb.reading.output {
        Format::Json => output::json(&status)?,
        Format::Human => output::raw(&Node(&status).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn peers(verb: &MeshReading) -> Result<ExitCode, Report> {
    let status = Client::new(&verb.state_dir).status()?;
    match verb.reading.output {
        Format::Json => output::json(&status.peers)?,
        Format::Human => output::raw(&Peers(&status.peers).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ip(verb: &MeshReading) -> Result<ExitCode, Report> {
    let status = Client::new(&verb.state_dir).status()?;
    match verb.reading.output {
        Format::Json => output::json(&json!({ "ula": status.ula, "ipv4": status.ipv4 }))?,
        Format::Human => {
            if let Some(address) = status.ipv4 {
                output::line(&address.to_string())?;
            }
            output::line(&status.ula.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
