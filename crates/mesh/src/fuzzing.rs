//! Doors for `fuzz/` to the readers of what strangers, members and programs send; there in its builds only.

use crate::discovery;
use crate::names::answer::{self, Query, Reply};
use crate::names::{Custom, Domain, Member, NameRecord, Zone};
use crate::paths::Candidates;
use crate::services::{self, Transport, datagrams};
use kairn_mesh_protocol::NodeId;
use mdns_sd::ServiceInfo;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A zone with a member of two addresses, and a record of as many as one may have.
pub fn zone() -> Zone {
    let id = NodeId::new([1; 32]);
    let inside = [IpAddr::from([10, 1, 0, 1]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])];
    let member = Member { id, name: "edge-1".to_owned(), addresses: inside.to_vec(), is_here: true };
    let many = (0..8).map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])).collect();
    let record = Custom { label: "many".to_owned(), author: id, addresses: many };
    let nets = ("fd00::/48".parse().ok(), "10.1.0.0/24".parse().ok());
    Zone::new(Domain::default(), nets, &[member], &[record])
}

/// What a message to the server for names is answered with; nothing where it is not, or asked elsewhere.
pub fn answer(zone: &Zone, is_stream: bool, may_forward: bool, bytes: &[u8]) -> Option<Vec<u8>> {
    match answer::answer(zone, Query { is_stream, may_forward }, bytes) {
        Reply::Send(bytes) => Some(bytes),
        Reply::Forward(_) | Reply::Malformed => None,
    }
}

/// The addresses of a record of a name.
pub fn name_record(bytes: &[u8]) -> Option<Vec<IpAddr>> {
    NameRecord::decode(bytes).map(|record| record.addresses)
}

/// How many addresses a member says that it has.
pub fn candidates(bytes: &[u8]) -> Option<usize> {
    let candidates: Candidates = postcard::from_bytes(bytes).ok()?;
    Some(candidates.addresses.len() + candidates.mapped.len())
}

/// Who is found where in an announcement with this text for a name.
pub fn found(id: &str, address: SocketAddr) -> Option<(NodeId, Vec<SocketAddr>)> {
    let properties = [("id", id)];
    let (kind, ip, port) = ("_kairn-mesh._udp.local.", address.ip(), address.port());
    let info = ServiceInfo::new(kind, "node", "node.local.", ip, port, &properties[..]).ok()?;
    discovery::read(&info.as_resolved_service()).map(|found| (found.id, found.addresses))
}

/// What an entry says that a service carries.
pub fn transport(bytes: &[u8]) -> Option<Transport> {
    postcard::from_bytes(bytes).ok()
}

/// The service that is wanted in a stream that begins so.
pub fn service(mut stream: &[u8]) -> Option<(Transport, String)> {
    let wanted = at_once(services::read_name(&mut stream))?.ok()?;
    let (transport, name) = Transport::read(&wanted);
    Some((transport, name.to_owned()))
}

/// Why a connection is not there, in a stream that begins so.
pub fn reason(mut stream: &[u8]) -> Option<String> {
    at_once(services::read_answer(&mut stream))?.ok()?
}

/// The datagrams in a stream, up to the first that is none.
pub fn datagrams(mut stream: &[u8]) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| at_once(datagrams::read(&mut stream))?.ok()?).collect()
}

/// What comes of reading bytes that are all there: nothing is waited for.
fn at_once<T>(reading: impl Future<Output = T>) -> Option<T> {
    match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => Some(read),
        Poll::Pending => None,
    }
}
