//! Services in the shared state, and what this node exposes.

use super::Runner;
use crate::fault::Fault;
use crate::names::check_label;
use crate::services::{LIFETIME, Place, Service, Services, Transport};
use hyper::StatusCode;
use kairn_mesh_protocol::entry::{Bucket, Content};
use kairn_mesh_protocol::{NodeId, swim};
use std::net::SocketAddr;
use std::sync::Arc;

impl Runner {
    /// The services that members expose, by name.
    pub(crate) fn services(&self) -> Vec<Service> {
        let valid = self.node.store().valid(Bucket::Services, self.now().0);
        let known = valid.filter_map(|valid| {
            check_label(&valid.content.key)?;
            Some(Service {
                name: valid.content.key.clone(),
                kind: transport(valid.content)?,
                node: valid.content.author.to_string(),
                machine: self.name_of(&valid.content.author),
                left: valid.left.map(|left| left.as_secs()),
            })
        });
        known.collect()
    }

    /// What a service carries that is exposed, by one member if it is named.
    pub(crate) fn kind_of(&self, name: &str, node: Option<&str>) -> Option<Transport> {
        let node = node.and_then(|node| self.member_called(node).ok());
        let mut all = self.node.store().bucket(Bucket::Services, self.now().0).filter(|content| content.key == name);
        let found = all.find(|content| node.is_none_or(|node| node == content.author))?;
        transport(found)
    }

    /// What carries connections.
    pub(crate) fn carrier(&self) -> Arc<Services> {
        Arc::clone(&self.services)
    }

    /// Exposes a service of this machine.
    ///
    /// # Errors
    /// The name is none, or taken on this node, or there is no room.
    pub(crate) fn expose(&mut self, name: &str, kind: Transport, to: SocketAddr) -> Result<String, Fault> {
        let name = check_label(name).ok_or_else(|| {
            Fault::wrong(format!("`{}` is no name for a service", name.escape_debug()))
                .hint("a name is 1 to 63 letters, digits and hyphens")
        })?;
        if let Some((_, other)) = self.exposed.get(&name) {
            return Err(Fault::new(
                StatusCode::CONFLICT,
                format!("this node already exposes `{name}`, which is {other}"),
            ));
        }
        self.say_service(&name, kind)?;
        self.exposed.insert(name.clone(), (kind, to));
        Ok(name)
    }

    /// Says again that a service is exposed.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn say_service(&mut self, name: &str, kind: Transport) -> Result<(), Fault> {
        let value = postcard::to_stdvec(&kind)
            .map_err(|error| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        self.node.write(self.now(), (Bucket::Services, name.to_owned()), Some(value), LIFETIME)?;
        Ok(())
    }

    /// Exposes a service no more.
    pub(crate) fn hide(&mut self, name: &str) {
        self.exposed.remove(name);
        if let Err(fault) = self.delete(Bucket::Services, name) {
            tracing::debug!(name, why = fault.said.error, "the service was not known any more");
        }
    }

    /// Exposes nothing any more: the node ends.
    pub(crate) fn hide_all(&mut self) {
        let names: Vec<String> = self.exposed.keys().cloned().collect();
        names.iter().for_each(|name| self.hide(name));
    }

    /// Whether a node is a member.
    pub(crate) fn is_member(&self, node: &NodeId) -> bool {
        self.node.store().member(node).is_some() && !self.node.store().revoked().contains(node)
    }

    /// Where a member is let to by the name of a service.
    ///
    /// # Errors
    /// What the member is told.
    pub(crate) fn target(&self, peer: &NodeId, name: &str, kind: Transport) -> Result<SocketAddr, String> {
        if !self.is_member(peer) {
            return Err("the caller is no member".to_owned());
        }
        match self.exposed.get(name) {
            Some((is, to)) if *is == kind => Ok(*to),
            Some((is, _)) => Err(format!("it exposes this service by {is}")),
            None => Err("it does not expose this service".to_owned()),
        }
    }

    /// Where a service is, of one member if it is named.
    ///
    /// # Errors
    /// Nobody exposes it, or several do.
    pub(crate) fn place_of(&self, name: &str, node: Option<&str>, kind: Transport) -> Result<Place, Fault> {
        let node = node.map(|node| self.member_called(node)).transpose()?;
        let own = self.node.id();
        let valid = self.node.store().bucket(Bucket::Services, self.now().0).filter(|content| content.key == name);
        let (all, others): (Vec<_>, Vec<_>) = valid
            .filter(|content| node.is_none_or(|node| node == content.author))
            .map(|content| (content.author, transport(content)))
            .partition(|(_, is)| *is == Some(kind));
        let all: Vec<NodeId> = all.into_iter().map(|(author, _)| author).collect();
        // One that is dead says nothing any more, and is known for a while.
        let is_here = |id: &NodeId| *id == own || self.node.swim().state(id).is_some_and(swim::State::is_live);
        let here: Vec<NodeId> = all.iter().copied().filter(is_here).collect();
        match here.as_slice() {
            [id] if *id == own => {
                let missing = || Fault::missing("this node does not expose the service any more");
                self.exposed.get(name).map(|(_, to)| Place::Here(*to)).ok_or_else(missing)
            }
            [id] => Ok(Place::There(*id, self.ways_to(id))),
            [] if all.is_empty() && !others.is_empty() => {
                let other = if kind == Transport::Tcp { Transport::Udp } else { Transport::Tcp };
                Err(Fault::missing(format!("`{}` is exposed by {other}, not by {kind}", name.escape_debug())))
            }
            [] if all.is_empty() => {
                let by = node.map_or_else(
                    || "no member exposes".to_owned(),
                    |id| format!("node {} does not expose", id.short()),
                );
                Err(Fault::missing(format!("{by} `{}`", name.escape_debug())))
            }
            [] => Err(Fault::missing(format!("the member that exposes `{}` is not there", name.escape_debug()))),
            several => {
                let names: Vec<String> =
                    several.iter().map(|id| format!("{} ({})", id.short(), self.name_of(id))).collect();
                let why = format!("several members expose `{}`: {}", name.escape_debug(), names.join(", "));
                Err(Fault::wrong(why).hint("say whose is meant with --node"))
            }
        }
    }
}

/// What a service carries; nothing where this release does not know it.
fn transport(content: &Content) -> Option<Transport> {
    postcard::from_bytes(content.value.as_deref()?).ok()
}
