//! `kairn mesh expose`, `connect` and `services`.

use crate::cli::MeshReading;
use crate::output::{self, Format};
use kairn_datasource::Names;
use kairn_mesh::{Client, Service, ServiceEvent};
use kairn_report::{Kind, Report, in_one_line};
use std::fmt;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

/// How long a name may take to be found.
const NAME: Duration = Duration::from_secs(10);

pub fn expose(name: &str, address: &str, udp: bool, asking: &MeshReading) -> Result<ExitCode, Report> {
    let (to, client) = (here(address)?, Client::new(&asking.state_dir));
    let each = |event| said(asking.reading.output, &event);
    if udp { client.expose_datagrams(name, to, each) } else { client.expose(name, to, each) }?;
    ended()
}

pub fn connect(
    name: &str,
    listen: &str,
    node: Option<&str>,
    udp: bool,
    asking: &MeshReading,
) -> Result<ExitCode, Report> {
    let (listen, client) = (here(listen)?, Client::new(&asking.state_dir));
    let each = |event| said(asking.reading.output, &event);
    if udp { client.connect_datagrams(name, listen, node, each) } else { client.connect(name, listen, node, each) }?;
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

/// An address with a port; a port alone is one of this machine. A name is looked up once.
fn here(text: &str) -> Result<SocketAddr, Report> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || {
        Report::new(Kind::User, format!("`{text}` is no address with a port"))
            .hint("an address is such as 8080, 192.0.2.1:80, [2001:db8::1]:80 or web.example.org:80")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let found = Names::new("/").addresses(host, NAME);
    let found = found
        .map_err(|error| Report::new(Kind::Environment, format!("`{host}` is not found: {}", in_one_line(&error))))?;
    found.first().map(|ip| SocketAddr::new(*ip, port)).ok_or_else(wrong)
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
        writeln!(f, "{:wide$}  KIND  {:10}  MACHINE", "SERVICE", "NODE")?;
        for service in self.0 {
            let node: String = service.node.chars().take(10).collect();
            let kind = service.kind.to_string();
            writeln!(f, "{:wide$}  {kind:4}  {node:10}  {}", service.name, service.machine)?;
        }
        Ok(())
    }
}
