//! The mesh as a service of this machine: whether it does what the configuration asks for.

use super::settings;
use kairn_host::{Invocation, Runner};
use kairn_mesh::{Client, DEFAULT_DIR};
use kairn_report::in_one_line;
use std::path::Path;
use std::time::Duration;

/// The service.
const UNIT: &str = "kairn-mesh.service";
/// How long the service manager may take to say how it stands.
const PATIENCE: Duration = Duration::from_secs(5);
/// The mark of the systems that the service is not for.
const MEDIUM: &str = "/run/cos/live_mode";

/// Says what is wrong where the configuration has a token and no node answers.
pub fn fault() -> Option<String> {
    if Path::new(MEDIUM).exists() {
        return None;
    }
    settings::of_machine().0.token?;
    let error = Client::new(Path::new(DEFAULT_DIR)).status().err()?;
    let state = unit_state().map_or_else(String::new, |state| format!("; {UNIT} is {state}"));
    Some(format!("p2p.network_token is configured, and the mesh does not work: {}{state}", in_one_line(&error)))
}

/// How systemd says that the unit stands, where there is systemd: `failed (exit-code)`.
fn unit_state() -> Option<String> {
    let properties = ["show", "--property=ActiveState", "--property=Result", UNIT];
    let shown = Runner::default().run(&Invocation::new("systemctl").args(properties).deadline(PATIENCE));
    let text = shown.map_err(|error| tracing::debug!(%error, "no systemd tells of the unit")).ok()?.text();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let result = value("Result").filter(|result| !matches!(*result, "" | "success"));
    let state = value("ActiveState").filter(|state| !state.is_empty())?;
    Some(result.map_or_else(|| state.to_owned(), |result| format!("{state} ({result})")))
}
