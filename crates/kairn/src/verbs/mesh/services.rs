//! `kairn mesh expose`, `connect` and `services`.

use super::addresses;
use crate::cli::MeshReading;
use crate::output::{self, Format};
use kairn_mesh::{Client, Service, ServiceEvent};
use kairn_report::{Kind, Report};
use std::fmt;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::process::ExitCode;

pub fn expose(name: &str, address: &str, asking: &MeshReading) -> Result<ExitCode, Report> {
    let to = here(address)?;
    Client::new(&asking.state_dir).expose(name, to, |event| said(asking.reading.output, &event))?;
    ended()
}

pub fn connect(name: &str, listen: &str, node: Option<&str>, asking: &MeshReading) -> Result<ExitCode, Report> {
    let listen = here(listen)?;
    Client::new(&asking.state_dir).connect(name, listen, node, |event| said(asking.reading.output, &event))?;
    ended()
}

pub fn list(asking: &MeshReading) -> Result<ExitCode, Report> {
    let services = Client::new(&asking.state_dir).services()?;
    match asking.reading.output {
        Format::Json => output::json(&services)?,
        Format::Human => output::raw(&Services(&services).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An address with a port; a port alone is one of this machine.
fn here(text: &str) -> Result<SocketAddr, Report> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let found = addresses(&[text.to_owned()])?;
    found.first().copied().ok_or_else(|| Report::new(Kind::User, format!("`{text}` has no address")))
}

/// These verbs are for as long as the node runs; whoever supervises them should start them again.
fn ended() -> Result<ExitCode, Report> {
    Err(Report::new(Kind::Environment, "the node has ended").hint("start it again, and then this"))
}

fn said(format: Format, event: &ServiceEvent) -> ControlFlow<()> {
    let printed = match (format, event) {
        (Format::Json, event) => output::line(&serde_json::to_string(event).unwrap_or_default()),
        (Format::Human, ServiceEvent::Listening { address }) => output::line(&address.to_string()),
        (Format::Human, ServiceEvent::Exposed { name, to }) => output::line(&format!("{name} is {to} on this machine")),
        (Format::Human, ServiceEvent::Refused { why }) => {
            output::say(&format!("refused: {why}"));
            Ok(())
        }
    };
    if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

struct Services<'a>(&'a [Service]);

impl fmt::Display for Services<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "no member exposes a service");
        }
        let wide = self.0.iter().map(|service| service.name.chars().count()).max().unwrap_or(0).max(7);
        writeln!(f, "{:wide$}  {:10}  MACHINE", "SERVICE", "NODE")?;
        for service in self.0 {
            let node: String = service.node.chars().take(10).collect();
            writeln!(f, "{:wide$}  {node:10}  {}", service.name, service.machine)?;
        }
        Ok(())
    }
}
