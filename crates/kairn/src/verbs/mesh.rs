//! `kairn mesh`: tokens, this machine's node, and what it says.

mod dht;
mod dns;
mod herald;
mod kv;
mod orders;
mod recall;
mod secret;
mod seeds;
pub mod service;
mod services;
mod settings;
mod shell;
mod table;

use crate::cli::{Mesh, MeshReading, MeshUp};
use crate::output::{self, Format};
use herald::Herald;
use kairn_host::{files, raise_open_files};
use kairn_mesh::{Client, Gravity, StateDir, diagnose, random, run_for};
use kairn_mesh_protocol::Token;
use kairn_report::{Kind, Report};
use serde_json::json;
pub use settings::faults;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use table::{Findings, Node, Peers};
use tokio::signal::unix::{SignalKind, signal};

pub fn run(verb: Mesh) -> Result<ExitCode, Report> {
    match verb {
        Mesh::Token { admin_key, qr } => token(admin_key.as_deref(), qr),
        Mesh::Rotate(order) => orders::run(&[], &order),
        Mesh::Revoke { nodes, order } => orders::run(&nodes, &order),
        Mesh::Up(verb) => up(&verb),
        Mesh::Status(verb) => status(&verb),
        Mesh::Peers(verb) => peers(&verb),
        Mesh::Doctor(verb) => doctor(&verb),
        Mesh::Ip(verb) => ip(&verb),
        Mesh::Dns(verb) => dns::run(&verb),
        Mesh::Expose { name, address, udp, asking } => services::expose(&name, &address, udp, &asking),
        Mesh::Connect { name, listen, node, udp, asking } => {
            services::connect(&name, &listen, node.as_deref(), udp, &asking)
        }
        Mesh::Services(asking) => services::list(&asking),
        Mesh::Kv(verb) => kv::run(&verb),
        Mesh::Shell(verb) => shell::run(&verb),
        Mesh::Attend { trusting } => shell::serve(trusting),
        Mesh::Recall { state_dir } => recall::run(&state_dir),
        Mesh::Secret(verb) => secret::run(&verb),
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
    let herald = Herald::new()?;
    let (settings, names) = settings::of(verb, machine_name()?)?;
    let state = StateDir::open(&verb.state_dir)?;
    // What it carries for others takes more than the 1,024 that a process begins with.
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the node goes on with the open files that it has");
    }
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
        run_for(state, settings, end, seeds::look_up(names), &mut { herald }).await.map_err(Report::from)
    })?;
    // A name that is being looked up is waited for by nobody.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
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

fn doctor(verb: &MeshReading) -> Result<ExitCode, Report> {
    let found = diagnose(&Client::new(&verb.state_dir).status()?);
    match verb.reading.output {
        Format::Json => output::json(&found)?,
        Format::Human => output::raw(&Findings(&found).to_string())?,
    }
    let is_well = found.iter().all(|finding| finding.gravity == Gravity::Note);
    Ok(if is_well { ExitCode::SUCCESS } else { Kind::Environment.exit_code().into() })
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
