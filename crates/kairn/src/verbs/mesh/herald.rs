//! Tells the service manager, and whoever reads stderr, how this machine's node stands.

use crate::output;
use kairn_host::Supervisor;
use kairn_mesh::{Pulse, Status};
use kairn_report::Report;
use std::io;
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;

/// The service manager, and what it was told last.
#[derive(Debug)]
pub struct Herald {
    manager: Supervisor,
    told: String,
}

impl Herald {
    /// The one of this process. As a service the node says who comes and goes: nobody else does.
    ///
    /// # Errors
    /// There is a service manager, and it cannot be reached.
    pub fn new() -> Result<Self, Report> {
        let manager = Supervisor::of_this_process()?;
        if manager.listens() {
            output::log_unless_said(LevelFilter::INFO);
        }
        Ok(Self { manager, told: String::new() })
    }
}

impl kairn_mesh::Herald for Herald {
    fn ready(&mut self, status: &Status) {
        let id: String = status.id.chars().take(10).collect();
        let interface = status.interface.as_deref().map_or_else(String::new, |name| format!(" on {name}"));
        output::say(&format!(
            "node {id} of network {}: UDP port {}, address {}{interface}",
            status.network, status.port, status.ula
        ));
        self.told = Pulse::from(status).to_string();
        say_if_not_taken(self.manager.ready(&self.told));
    }

    fn period(&self) -> Option<Duration> {
        self.manager.period()
    }

    fn alive(&mut self, pulse: &Pulse) {
        let line = pulse.to_string();
        let is_news = line != self.told;
        say_if_not_taken(self.manager.alive(is_news.then_some(line.as_str())));
        self.told = line;
    }

    fn ending(&mut self) {
        say_if_not_taken(self.manager.stopping());
    }
}

/// It restarts who is mute for too long; until then the next sign may reach it.
fn say_if_not_taken(said: io::Result<()>) {
    if let Err(error) = said {
        tracing::warn!(%error, "the service manager does not hear this node");
    }
}
