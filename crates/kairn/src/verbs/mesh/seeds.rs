//! Nodes that are known by a name: it is looked up again and again, since a machine that starts may have no name server yet, and names move.

use crate::output;
use kairn_datasource::Names;
use kairn_report::{Kind, Report, in_one_line};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How long a name may take to be found.
const NAME: Duration = Duration::from_secs(10);
/// From one look to the next. Who has other nodes does not call these.
const AGAIN: Duration = Duration::from_secs(30);
/// How many addresses wait for the node.
const WAITING: usize = 16;

/// A host's name and the UDP port of its node.
pub type Name = (String, u16);

/// Parts HOST:PORT.
///
/// # Errors
/// It is none.
pub fn name(text: &str) -> Result<Name, Report> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| {
        Report::new(Kind::User, format!("`{text}` does not say where a node is"))
            .hint("a peer is HOST:PORT, such as 192.0.2.1:7946, [2001:db8::1]:7946 or gate.example.org:7946")
    })
}

/// Looks names up for as long as the node listens, within a runtime. What is not found is said once.
pub fn look_up(names: Vec<Name>) -> mpsc::Receiver<SocketAddr> {
    let (sender, addresses) = mpsc::channel(WAITING);
    if !names.is_empty() {
        tokio::spawn(async move {
            let mut missed = BTreeSet::new();
            loop {
                for (host, port) in &names {
                    for ip in addresses_of(host, &mut missed).await {
                        if sender.send(SocketAddr::new(ip, *port)).await.is_err() {
                            return;
                        }
                    }
                }
                sleep(AGAIN).await;
            }
        });
    }
    addresses
}

async fn addresses_of(host: &str, missed: &mut BTreeSet<String>) -> Vec<IpAddr> {
    let name = host.to_owned();
    let why = match spawn_blocking(move || Names::new("/").addresses(&name, NAME)).await {
        Ok(Ok(found)) => {
            missed.remove(host);
            return found;
        }
        Ok(Err(error)) => in_one_line(&error),
        Err(error) => error.to_string(),
    };
    if missed.insert(host.to_owned()) {
        output::say(&format!("warning: peer `{host}` is not found yet: {why}"));
    }
    Vec::new()
}
