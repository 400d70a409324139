//! Finding nodes of the same network in the local one, by multicast DNS (RFC 6762) and DNS-SD (RFC 6763).
//!
//! The service is `_kairn-LABEL._udp` with the label that is derived from the token, so nodes of other networks do not even see
//! each other. The name of the node stands in the TXT record `id`. What expires there says nothing about who is alive.

#[cfg(test)]
mod price;

use crate::error::Error;
use crate::interfaces::Choice;
use kairn_mesh_protocol::look::{Look, Looking};
use kairn_mesh_protocol::{Moment, NodeId};
use mdns_sd::{IfKind, IfPredicate, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use tokio::sync::mpsc;

/// The key of the TXT record that names the node.
const ID: &str = "id";
/// How many findings wait for the node.
const WAITING: usize = 256;

/// A node of the network that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it says it is.
    pub id: NodeId,
    /// Where it says it is.
    pub addresses: Vec<SocketAddr>,
}

/// How often the machine's addresses are looked at, in seconds: while a node looks for others, and while it does not.
const LOOKING: u32 = 5;
const RESTING: u32 = 20;

/// Speaks multicast DNS until it is dropped.
pub struct Discovery {
    daemon: ServiceDaemon,
    service: String,
}

impl Discovery {
    /// Announces a machine that is looked for, and looks for none itself.
    ///
    /// # Errors
    /// The multicast sockets cannot be opened.
    pub fn announce(label: &str, id: NodeId, port: u16, choice: &Choice) -> Result<Self, Error> {
        let started = Self::open(label, choice)?;
        let properties = [(ID, id.to_string())];
        let name = id.short();
        let info = ServiceInfo::new(&started.service, &name, &format!("{name}.local."), "", port, &properties[..]);
        started.daemon.register(info.map_err(failed)?.enable_addr_auto()).map_err(failed)?;
        Ok(started)
    }

    /// Looks for machines and announces none.
    ///
    /// # Errors
    /// The multicast sockets cannot be opened.
    pub fn look(label: &str, choice: &Choice) -> Result<(Self, mpsc::Receiver<Found>), Error> {
        let started = Self::open(label, choice)?;
        let (found, findings) = mpsc::channel(WAITING);
        started.browse(None, found)?;
        Ok((started, findings))
    }

    /// Starts on every interface that may carry the mesh; whatever comes up later is joined.
    fn open(label: &str, choice: &Choice) -> Result<Self, Error> {
        let daemon = ServiceDaemon::new().map_err(failed)?;
        let passed_over = choice.clone();
        let is_excluded = move |interface: &if_addrs::Interface| !passed_over.takes(&interface.name);
        daemon.disable_interface(IfKind::Predicate(IfPredicate::new(is_excluded))).map_err(failed)?;
        // A machine that has nothing but itself still finds its second node.
        daemon.enable_interface(IfKind::LoopbackV4).map_err(failed)?;
        Ok(Self { daemon, service: format!("_kairn-{label}._udp.local.") })
    }

    fn browse(&self, own: Option<NodeId>, found: mpsc::Sender<Found>) -> Result<(), Error> {
        let events = self.daemon.browse(&self.service).map_err(failed)?;
        tokio::spawn(async move {
            // Closed when it looks no more.
            while let Ok(event) = events.recv_async().await {
                let ServiceEvent::ServiceResolved(service) = event else { continue };
                match read(&service) {
                    Some(one) if Some(one.id) != own => {
                        if found.send(one).await.is_err() {
                            break;
                        }
                    }
                    Some(_) => {}
                    None => tracing::debug!(service = service.fullname, "an announcement without a node's name"),
                }
            }
        });
        Ok(())
    }
}

/// Announces a node, and looks for others when it is time to, until it is dropped.
pub struct Lookout {
    discovery: Discovery,
    own: NodeId,
    found: mpsc::Sender<Found>,
    looking: Looking,
}

impl Lookout {
    /// Starts, and looks at once.
    ///
    /// # Errors
    /// The multicast sockets cannot be opened.
    pub fn start(
        label: &str,
        own: NodeId,
        port: u16,
        choice: &Choice,
        now: Moment,
    ) -> Result<(Self, mpsc::Receiver<Found>), Error> {
        let discovery = Discovery::announce(label, own, port, choice)?;
        let (found, findings) = mpsc::channel(WAITING);
        discovery.browse(Some(own), found.clone())?;
        Ok((Self { discovery, own, found, looking: Looking::since(now) }, findings))
    }

    /// When [`Lookout::tend`] may have something to do, for a node that knows so many live members beside itself.
    pub fn due(&self, others: usize) -> Option<Moment> {
        self.looking.due(others)
    }

    /// Looks, or looks no more, as is right for a node that knows so many live members beside itself.
    ///
    /// # Errors
    /// The thread that speaks multicast DNS does not take it.
    pub fn tend(&mut self, now: Moment, others: usize) -> Result<(), Error> {
        let Discovery { daemon, service } = &self.discovery;
        match self.looking.step(now, others, fastrand::f64()) {
            Some(Look::Begin) => {
                daemon.set_ip_check_interval(LOOKING).map_err(failed)?;
                self.discovery.browse(Some(self.own), self.found.clone())
            }
            Some(Look::End) => {
                daemon.set_ip_check_interval(RESTING).map_err(failed)?;
                daemon.stop_browse(service).map_err(failed)
            }
            None => Ok(()),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn failed(error: mdns_sd::Error) -> Error {
    Error::Discovery(error.to_string())
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.shutdown() {
            tracing::warn!(%error, "cannot end the discovery in the local network");
        }
    }
}

pub(crate) fn read(service: &ResolvedService) -> Option<Found> {
    let id = service.txt_properties.get_property_val_str(ID)?.parse().ok()?;
    let addresses: BTreeSet<SocketAddr> = service.addresses.iter().filter_map(|ip| address(ip, service.port)).collect();
    Some(Found { id, addresses: addresses.into_iter().collect() })
}

fn address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V4(v4) => Some(SocketAddrV4::new(*v4.addr(), port).into()),
        ScopedIp::V6(v6) => {
            let scope = if v6.addr().is_unicast_link_local() { v6.scope_id().index } else { 0 };
            Some(SocketAddrV6::new(*v6.addr(), port, 0, scope).into())
        }
        _ => None,
    }
}
