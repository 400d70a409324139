//! What comes to the tunnel's port and out of it: datagrams told apart, probes beside the kernel's WireGuard, headers of packets, and
//! rows of them that are joined for the device.
#![no_main]

use kairn_tunnel::{MAX_PROBE, PROBE, fuzzing};
use libfuzzer_sys::fuzz_target;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The bytes before a packet for the device (struct virtio_net_hdr of linux/virtio_net.h).
const HEADER: usize = 10;

fuzz_target!(|bytes: &[u8]| {
    let is_probe = bytes.first() == Some(&PROBE);
    assert!(!is_probe || !fuzzing::is_wireguard(bytes));
    let (source, destination) = fuzzing::ends(bytes);
    assert_eq!(source.is_some(), destination.is_some());
    for from in [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()] {
        if let Some(probe) = fuzzing::probe(from, 0x1f0b, bytes) {
            assert!(probe.bytes.first() == Some(&PROBE) && probe.bytes.len() <= MAX_PROBE);
            assert_eq!(probe.from.ip(), from.ip());
        }
    }
    // Packets behind their lengths, as the joiner is given them.
    let mut rest = bytes;
    let packets: Vec<&[u8]> = std::iter::from_fn(|| {
        let (length, more) = rest.split_first_chunk()?;
        let (packet, more) = more.split_at(more.len().min(usize::from(u16::from_be_bytes(*length) % 2_048)));
        rest = more;
        Some(packet)
    })
    .collect();
    let (written, taken) = fuzzing::join(packets.iter().copied());
    assert!(written.len() <= taken && written.is_empty() == (taken == 0));
    assert!(written.iter().all(|packet| packet.len() > HEADER));
});
