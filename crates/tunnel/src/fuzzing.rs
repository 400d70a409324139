//! Doors for `fuzz/` to the readers of what strangers and peers send; there in its builds only.

use crate::demux::{self, Kind};
use crate::kernel::raw;
use crate::routes;
use crate::settings::Probe;
use crate::userspace::join::Joiner;
use std::net::{IpAddr, SocketAddr};

/// Whether a datagram at the port is taken for one of WireGuard.
pub fn is_wireguard(datagram: &[u8]) -> bool {
    matches!(demux::classify(datagram), Kind::Initiation | Kind::Answer(_) | Kind::Data(_))
}

/// The source and the destination of an IP packet.
pub fn ends(packet: &[u8]) -> (Option<IpAddr>, Option<IpAddr>) {
    (routes::source(packet), routes::destination(packet))
}

/// The probe in what a raw socket hands over: over IPv4 with the IP header, over IPv6 without.
pub fn probe(from: SocketAddr, port: u16, packet: &[u8]) -> Option<Probe> {
    let datagram = if from.is_ipv6() { Some(packet) } else { raw::behind_header(packet) };
    datagram.and_then(|datagram| raw::read(from, port, datagram))
}

/// What the device is given of a row of packets, and how many of them are of TCP.
pub fn join<'a>(packets: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, usize) {
    let (mut joiner, mut written) = (Joiner::new(), Vec::new());
    let taken = packets.filter(|packet| joiner.take(packet, &mut |bytes| written.push(bytes.to_vec()))).count();
    joiner.flush(&mut |bytes| written.push(bytes.to_vec()));
    (written, taken)
}
