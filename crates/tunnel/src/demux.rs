//! One port carries WireGuard and the mesh's own probes; the first bytes of a datagram say which it is.
//!
//! WireGuard's types are 1 to 4, followed by three zero bytes (WireGuard paper, section 5.4); a probe begins with [`PROBE`], which
//! WireGuard does not know: the kernel's implementation ignores it.

/// The first byte of a probe.
pub const PROBE: u8 = 0x20;
/// The longest probe that is taken or sent: as long as the largest datagram of WireGuard here, so that a path can be tried for it.
pub const MAX_PROBE: usize = crate::MAX_MTU as usize + 32;

/// What a datagram is, with the index of the session it names where it does (its upper 24 bits name the one who was given it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A handshake's first message: its sender is known once it is decrypted.
    Initiation,
    /// A handshake's second message, or the reply to one under load.
    Answer(u32),
    /// A packet.
    Data(u32),
    /// A probe.
    Probe,
    /// WireGuard's by its first bytes, but of no length that it has.
    Malformed,
    /// Anything else.
    Foreign,
}

/// Tells by type and length.
pub(crate) fn classify(datagram: &[u8]) -> Kind {
    let index = || datagram.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let receiver = || datagram.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (datagram, datagram.len()) {
        ([PROBE, ..], 1..=MAX_PROBE) => Kind::Probe,
        ([1, 0, 0, 0, ..], 148) => Kind::Initiation,
        ([2, 0, 0, 0, ..], 92) => index().map_or(Kind::Malformed, Kind::Answer),
        ([3, 0, 0, 0, ..], 64) => receiver().map_or(Kind::Malformed, Kind::Answer),
        ([4, 0, 0, 0, ..], 32..) => receiver().map_or(Kind::Malformed, Kind::Data),
        ([1..=4 | PROBE, ..], _) => Kind::Malformed,
        _ => Kind::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn a_datagram_is_told_by_its_type_and_length() {
        for (kind, length, is) in [
            (1, 148, Kind::Initiation),
            (1, 147, Kind::Malformed),
            (2, 92, Kind::Answer(0x0807_0605)),
            (2, 93, Kind::Malformed),
            (3, 64, Kind::Answer(0x0403_0201)),
            (4, 32, Kind::Data(0x0403_0201)),
            (4, 31, Kind::Malformed),
            (4, 1452, Kind::Data(0x0403_0201)),
            (PROBE, 1, Kind::Probe),
            (PROBE, MAX_PROBE, Kind::Probe),
            (PROBE, MAX_PROBE + 1, Kind::Malformed),
            (0, 40, Kind::Foreign),
            (5, 40, Kind::Foreign),
            (4, 0, Kind::Foreign),
        ] {
            assert_eq!(classify(&datagram(kind, length)), is, "type {kind}, {length} bytes");
        }
        assert_eq!(classify(&[4, 0, 1, 0, 0, 0]), Kind::Malformed);
    }

    proptest! {
        #[test]
        fn what_passes_for_wireguard_is_what_the_protocol_reads(
            kind in prop_oneof![0_u8..6, Just(PROBE), any::<u8>()],
            reserved in prop_oneof![Just([0_u8; 3]), any::<[u8; 3]>()],
            length in prop_oneof![0_usize..200, Just(148), Just(92), Just(64)],
            fill in any::<u8>(),
        ) {
            let mut bytes = vec![fill; length];
            for (place, byte) in bytes.iter_mut().zip([kind, reserved[0], reserved[1], reserved[2]]) {
                *place = byte;
            }
            use boringtun::noise::{Packet, Tunn};
            let read = Tunn::parse_incoming_packet(&bytes);
            match classify(&bytes) {
                Kind::Initiation => prop_assert!(matches!(read, Ok(Packet::HandshakeInit(_)))),
                Kind::Answer(index) => match read {
                    Ok(Packet::HandshakeResponse(packet)) => prop_assert_eq!(packet.receiver_idx, index),
                    Ok(Packet::PacketCookieReply(packet)) => prop_assert_eq!(packet.receiver_idx, index),
                    other => prop_assert!(false, "{other:?}"),
                },
                Kind::Data(index) => match read {
                    Ok(Packet::PacketData(packet)) => prop_assert_eq!(packet.receiver_idx, index),
                    other => prop_assert!(false, "{other:?}"),
                },
                Kind::Probe | Kind::Malformed | Kind::Foreign => prop_assert!(read.is_err()),
            }
        }
    }
}
