//! Names in the shared state.

use super::Runner;
use crate::fault::Fault;
use crate::names::{Custom, Member, NameRecord, Offered, View, Zone, addresses, check_label};
use ipnet::{Ipv4Net, Ipv6Net};
use kairn_mesh_protocol::entry::Bucket;
use kairn_mesh_protocol::{NodeId, swim};
use std::net::IpAddr;

impl Runner {
    /// The names that there are now, and where this machine answers for them.
    pub(crate) fn names(&self) -> View {
        let (store, swim, own) = (self.node.store(), self.node.swim(), self.node.id());
        let members: Vec<Member> = store
            .members()
            .map(|(id, record)| {
                let ipv4 = if id == own { self.node.address() } else { self.node.address_of(&id) };
                let addresses = addresses(ipv4, self.network.ula.address(&id));
                let is_here = id == own || swim.state(&id).is_some_and(swim::State::is_live);
                Member { id, name: record.name, addresses, is_here }
            })
            .collect();
        let records = store.bucket(Bucket::Dns, self.now().0).filter_map(|content| {
            let addresses = NameRecord::decode(content.value.as_deref()?)?.addresses;
            Some(Custom { label: content.key.clone(), author: content.author, addresses })
        });
        let records: Vec<Custom> = records.collect();
        let ula = Ipv6Net::new(self.network.ula.network(), 48).ok();
        let range = self.node.prefix().and_then(|prefix| Ipv4Net::new(prefix.network(), prefix.length()).ok());
        let interface = self.plane.as_ref().map(|plane| plane.tunnel().name().to_owned());
        let own =
            interface.iter().flat_map(|_| addresses(self.node.address(), self.network.ula.address(&own))).collect();
        let is_here = |id: &NodeId| *id == self.node.id() || swim.state(id).is_some_and(swim::State::is_live);
        let offers = store.bucket(Bucket::Services, self.now().0).filter(|content| is_here(&content.author));
        let offers = offers.map(|content| Offered { service: content.key.clone(), node: content.author });
        let offered: Vec<Offered> = offers.collect();
        let zone = Zone::new(self.settings.names.domain.clone(), (ula, range), &members, &records);
        let zone = zone.with_services(&offered);
        View { zone, own, interface }
    }

    /// Sets a record of this node.
    ///
    /// # Errors
    /// Name or addresses are none, or there is no room.
    pub(crate) fn set_name(&mut self, name: &str, addresses: Vec<IpAddr>) -> Result<(), Fault> {
        let label = self.label(name)?;
        let record = NameRecord { addresses };
        let value = postcard::to_stdvec(&record).map_err(|error| Fault::wrong(error.to_string()))?;
        if NameRecord::decode(&value).is_none() {
            return Err(Fault::wrong("a record has one to eight addresses"));
        }
        self.node.write(self.now(), (Bucket::Dns, label), Some(value), 0)?;
        self.keep_own();
        Ok(())
    }

    /// Deletes a record of this node.
    ///
    /// # Errors
    /// It has no such record.
    pub(crate) fn delete_name(&mut self, name: &str) -> Result<(), Fault> {
        let label = self.label(name)?;
        self.delete(Bucket::Dns, &label)
    }

    /// The label of a record, which people may write with the domain.
    fn label(&self, name: &str) -> Result<String, Fault> {
        let suffix = format!(".{}", self.settings.names.domain);
        let label = name.trim_end_matches('.').to_ascii_lowercase();
        check_label(label.strip_suffix(&suffix).unwrap_or(&label)).ok_or_else(|| {
            Fault::wrong(format!("`{}` is no name for a record", name.escape_debug()))
                .hint(format!("a name is one label of letters, digits and hyphens, such as `www` for www{suffix}"))
        })
    }
}
