//! Joins the segments of a TCP flow that came in a row into one packet, which the kernel takes in the time of one.
//!
//! The packet says how it is to be cut again (struct virtio_net_hdr of linux/virtio_net.h), so that what leaves the machine later is
//! what came in. The checksum inside is not looked at, as the kernel's WireGuard does not: what was sealed was not changed on its
//! way. Only what differs in nothing but its sequence number, length and push flag is joined, as in the kernel's `tcp_gro_receive`.

use tun_rs::VIRTIO_NET_HDR_LEN;

const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;
const TCP: u8 = 6;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// What the length of an IPv4 packet can say.
const LARGEST: usize = 65_535;

/// virtio_net.h: the kernel fills in the checksum; the packet is to be cut as TCP over IPv4, over IPv6.
const NEEDS_CHECKSUM: u8 = 1;
const CUT_TCP4: u8 = 1;
const CUT_TCP6: u8 = 4;
/// Where the checksum is in a TCP header (RFC 9293).
const CHECKSUM: usize = 16;

/// The row that is being joined.
struct Open {
    /// Lengths of the IP header, and of it with TCP's.
    ip: usize,
    headers: usize,
    next: u32,
    segment: usize,
    count: usize,
    complete: bool,
}

/// A packet in the making.
pub(crate) struct Joiner {
    /// With the header for the device in front.
    bytes: Vec<u8>,
    open: Option<Open>,
}

/// What matters of a TCP packet.
struct Segment {
    ip: usize,
    headers: usize,
    sequence: u32,
    payload: usize,
    /// It has data, and no flags but those that every segment of a stream has.
    plain: bool,
    push: bool,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

/// Reads a TCP packet without IP options or fragments, whose lengths fit; anything else is none.
fn segment(packet: &[u8]) -> Option<Segment> {
    let (ip, length, protocol) = match packet.first()? {
        // Not a fragment: neither more to come nor an offset.
        0x45 if word(packet, 6)? & 0x3fff == 0 => (IPV4, usize::from(word(packet, 2)?), *packet.get(9)?),
        first if first >> 4 == 6 => (IPV6, IPV6 + usize::from(word(packet, 4)?), *packet.get(6)?),
        _ => return None,
    };
    let tcp = packet.get(ip..)?;
    let headers = ip + usize::from(*tcp.get(12)? >> 4) * 4;
    if protocol != TCP || length != packet.len() || headers < ip + 20 || headers > length {
        return None;
    }
    let flags = *tcp.get(13)?;
    let sequence = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    let payload = length - headers;
    let plain = payload > 0 && flags & !PUSH == ACK && packet.get(12 + ip)? & 0x0f == 0;
    Some(Segment { ip, headers, sequence, payload, plain, push: flags & PUSH != 0 })
}

/// Whether two packets have the same headers but for what may differ within a row.
fn alike(one: &[u8], other: &[u8], ip: usize, headers: usize) -> bool {
    let same = |from: usize, to: usize| one.get(from..to) == other.get(from..to);
    let ip_alike = match ip {
        IPV4 => same(0, 2) && same(6, 10) && same(12, IPV4),
        _ => same(0, 4) && same(6, IPV6),
    };
    // Ports; acknowledgement and offset; window; urgent pointer and options.
    ip_alike && same(ip, ip + 4) && same(ip + 8, ip + 13) && same(ip + 14, ip + CHECKSUM) && same(ip + 18, headers)
}

impl Joiner {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), open: None }
    }

    /// Takes a TCP packet; `false` where it is something else. What is ready is given to `write`, with the header for the device.
    pub fn take(&mut self, packet: &[u8], write: &mut dyn FnMut(&[u8])) -> bool {
        let Some(segment) = segment(packet) else { return false };
        if self.join(&segment, packet) {
            return true;
        }
        self.flush(write);
        self.bytes.clear();
        self.bytes.reserve(VIRTIO_NET_HDR_LEN + LARGEST);
        self.bytes.extend_from_slice(&[0; VIRTIO_NET_HDR_LEN]);
        self.bytes.extend_from_slice(packet);
        self.open = Some(Open {
            ip: segment.ip,
            headers: segment.headers,
            next: after(&segment),
            segment: segment.payload,
            count: 1,
            complete: !segment.plain || segment.push,
        });
        true
    }

    fn join(&mut self, segment: &Segment, packet: &[u8]) -> bool {
        let first = self.bytes.get(VIRTIO_NET_HDR_LEN..).unwrap_or_default();
        let Some(open) = &mut self.open else { return false };
        let follows = !open.complete
            && segment.plain
            && segment.sequence == open.next
            && (segment.ip, segment.headers) == (open.ip, open.headers)
            && segment.payload <= open.segment
            && first.len() + segment.payload <= LARGEST
            && alike(first, packet, open.ip, open.headers);
        if !follows {
            return false;
        }
        self.bytes.extend_from_slice(packet.get(open.headers..).unwrap_or_default());
        if segment.push
            && let Some(flags) = self.bytes.get_mut(VIRTIO_NET_HDR_LEN + open.ip + 13)
        {
            *flags |= PUSH;
        }
        (open.next, open.count) = (after(segment), open.count + 1);
        open.complete = segment.push || segment.payload < open.segment;
        true
    }

    /// Gives what there is to `write`.
    pub fn flush(&mut self, write: &mut dyn FnMut(&[u8])) {
        let Some(open) = self.open.take() else { return };
        if open.count > 1 {
            self.complete(&open);
        }
        write(&self.bytes);
    }

    /// Writes the headers of a packet that was joined: lengths, checksums, and how it is to be cut.
    fn complete(&mut self, open: &Open) {
        let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        let Some((head, packet)) = self.bytes.split_at_mut_checked(VIRTIO_NET_HDR_LEN) else { return };
        let length = packet.len();
        let kind = if open.ip == IPV4 { CUT_TCP4 } else { CUT_TCP6 };
        let fields = [open.headers, open.segment, open.ip, CHECKSUM].map(|field| short(field).to_ne_bytes());
        let header = [NEEDS_CHECKSUM, kind].into_iter().chain(fields.into_iter().flatten());
        for (place, byte) in head.iter_mut().zip(header) {
            *place = byte;
        }
        let addresses = if open.ip == IPV4 {
            put(packet, 2, short(length));
            put(packet, 10, 0);
            let sum = fold(sum(packet.get(..IPV4).unwrap_or_default()));
            put(packet, 10, !sum);
            packet.get(12..IPV4)
        } else {
            put(packet, 4, short(length - IPV6));
            packet.get(8..IPV6)
        };
        // Of the pseudo header only, and not inverted: the kernel adds the rest.
        let pseudo = sum(addresses.unwrap_or_default()) + u64::from(TCP) + (length - open.ip) as u64;
        put(packet, open.ip + CHECKSUM, fold(pseudo));
    }
}

fn after(segment: &Segment) -> u32 {
    segment.sequence.wrapping_add(u32::try_from(segment.payload).unwrap_or(0))
}

/// The sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(2).filter_map(|word| word.first_chunk()).map(|word| u64::from(u16::from_be_bytes(*word))).sum()
}

fn fold(sum: u64) -> u16 {
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet of a stream whose bytes are their own place.
    #[derive(Clone, Debug, PartialEq)]
    struct Made {
        v6: bool,
        port: u8,
        sequence: u32,
        payload: usize,
        flags: u8,
        acknowledged: u8,
    }

    fn checksums(mut packet: Vec<u8>, ip: usize) -> Vec<u8> {
        if ip == IPV4 {
            put(&mut packet, 10, 0);
            let all = fold(sum(&packet[..IPV4]));
            put(&mut packet, 10, !all);
        }
        put(&mut packet, ip + CHECKSUM, 0);
        let addresses = if ip == IPV4 { 12..IPV4 } else { 8..IPV6 };
        let mut padded = packet[ip..].to_vec();
        padded.resize(padded.len().next_multiple_of(2), 0);
        let all = sum(&packet[addresses]) + 6 + (packet.len() - ip) as u64 + sum(&padded);
        put(&mut packet, ip + CHECKSUM, !fold(all));
        packet
    }

    fn make(made: &Made) -> Vec<u8> {
        let mut packet = if made.v6 { vec![0; IPV6] } else { vec![0; IPV4] };
        let ip = packet.len();
        packet.extend([0, made.port, 0, 80]);
        packet.extend(made.sequence.to_be_bytes());
        packet.extend([0, 0, 0, made.acknowledged, 0x80, made.flags, 1, 0, 0, 0, 0, 0]);
        // Timestamps, as Linux puts them.
        packet.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend((0..made.payload).map(|place| (made.sequence as usize + place) as u8));
        let length = u16::try_from(packet.len()).unwrap();
        if made.v6 {
            (packet[0], packet[6], packet[7], packet[39]) = (0x60, TCP, 64, 9);
            put(&mut packet, 4, length - 40);
        } else {
            (packet[0], packet[6], packet[8], packet[9], packet[19]) = (0x45, 0x40, 64, TCP, 9);
            put(&mut packet, 2, length);
        }
        checksums(packet, ip)
    }

    /// What the kernel does with what it is given: cuts it as the header says, and fills in checksums.
    fn cut(written: &[u8]) -> Vec<Vec<u8>> {
        let (head, packet) = written.split_at(VIRTIO_NET_HDR_LEN);
        if head.iter().all(|byte| *byte == 0) {
            return vec![packet.to_vec()];
        }
        let field = |at: usize| usize::from(u16::from_ne_bytes([head[at], head[at + 1]]));
        let (headers, size, ip) = (field(2), field(4), field(6));
        let v6 = packet[0] >> 4 == 6;
        assert_eq!((head[0], head[1], field(8)), (1, if v6 { 4 } else { 1 }, 16));
        // The partial sum is that of the pseudo header.
        let addresses = if v6 { 8..IPV6 } else { 12..IPV4 };
        let pseudo = fold(sum(&packet[addresses]) + 6 + (packet.len() - ip) as u64);
        assert_eq!(word(packet, ip + CHECKSUM), Some(pseudo));
        if v6 {
            assert_eq!(usize::from(word(packet, 4).unwrap()) + IPV6, packet.len());
        } else {
            assert_eq!((usize::from(word(packet, 2).unwrap()), fold(sum(&packet[..IPV4]))), (packet.len(), 0xffff));
        }
        let parts: Vec<&[u8]> = packet[headers..].chunks(size).collect();
        let last = parts.len() - 1;
        let cut = |(number, part): (usize, &&[u8])| {
            let mut one = [&packet[..headers], part].concat();
            let sequence = u32::from_be_bytes(*packet[ip + 4..].first_chunk().unwrap()) + (number * size) as u32;
            one[ip + 4..ip + 8].copy_from_slice(&sequence.to_be_bytes());
            if number < last {
                one[ip + 13] &= !PUSH;
            }
            let length = u16::try_from(one.len()).unwrap();
            if v6 {
                put(&mut one, 4, length - 40)
            } else {
                put(&mut one, 2, length)
            };
            checksums(one, ip)
        };
        parts.iter().enumerate().map(cut).collect()
    }

    fn joined(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut joiner, mut written) = (Joiner::new(), Vec::new());
        for packet in packets {
            assert!(joiner.take(packet, &mut |bytes| written.push(bytes.to_vec())));
        }
        joiner.flush(&mut |bytes| written.push(bytes.to_vec()));
        written
    }

    fn stream(v6: bool, payloads: &[usize]) -> Vec<Made> {
        let mut sequence = 0xffff_f000_u32 & 0x7fff_ffff;
        payloads
            .iter()
            .map(|payload| {
                let made = Made { v6, port: 1, sequence, payload: *payload, flags: ACK, acknowledged: 0 };
                sequence += *payload as u32;
                made
            })
            .collect()
    }

    #[test]
    fn a_row_becomes_one_packet_until_a_shorter_one_a_push_or_the_largest_length_ends_it() {
        for v6 in [false, true] {
            let count = |payloads: &[usize]| joined(&stream(v6, payloads).iter().map(make).collect::<Vec<_>>()).len();
            assert_eq!(count(&[1000; 40]), 1);
            assert_eq!(count(&[1000, 1000, 900, 1000]), 2);
            assert_eq!(count(&[900, 1000]), 2);
            assert_eq!(count(&[1368; 48]), 2);
            let mut pushed = stream(v6, &[1000; 4]);
            pushed[1].flags |= PUSH;
            assert_eq!(joined(&pushed.iter().map(make).collect::<Vec<_>>()).len(), 2);
        }
    }

    #[test]
    fn what_is_no_whole_tcp_packet_is_left_alone() {
        let whole = make(&stream(false, &[100])[0]);
        let changed = |at: usize, to: u8| {
            let mut packet = whole.clone();
            packet[at] = to;
            packet
        };
        let mut written = 0;
        for packet in [
            vec![],
            whole[..whole.len() - 1].to_vec(),
            changed(0, 0x46),
            changed(6, 0x20),
            changed(9, 17),
            changed(32, 0xf0),
            changed(32, 0x40),
        ] {
            let taken = Joiner::new().take(&packet, &mut |_| written += 1);
            // An offset of 60 bytes still fits into a packet of 152.
            assert_eq!(taken, packet.get(32) == Some(&0xf0), "{packet:?}");
        }
        assert_eq!(written, 0);
    }

    proptest! {
        #[test]
        fn what_was_joined_is_cut_into_what_came(
            changes in proptest::collection::vec(
                (prop_oneof![Just(1000_usize), Just(1000), Just(1000), 0_usize..1400], 0_u8..40, any::<bool>()), 1..60),
        ) {
            let payloads: Vec<usize> = changes.iter().map(|(payload, ..)| *payload).collect();
            let mut all = stream(changes[0].2, &payloads);
            for (made, (_, change, _)) in all.iter_mut().zip(&changes) {
                match change {
                    0 => made.port = 2,
                    1 => made.acknowledged = 7,
                    2 => made.flags = ACK | PUSH,
                    3 => made.flags = ACK | 1,
                    4 => made.sequence += 5,
                    5 => made.v6 = !made.v6,
                    _ => {}
                }
            }
            let packets: Vec<Vec<u8>> = all.iter().map(make).collect();
            let back: Vec<Vec<u8>> = joined(&packets).iter().flat_map(|written| cut(written)).collect();
            prop_assert_eq!(back, packets);
        }

        #[test]
        fn no_bytes_whatever_upset_it(packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..120), any::<bool>()), 0..10)) {
            let mut joiner = Joiner::new();
            for (mut packet, v6) in packets {
                if let Some(first) = packet.first_mut() {
                    *first = if v6 { 0x60 } else { 0x45 };
                }
                joiner.take(&packet, &mut |_| {});
            }
            joiner.flush(&mut |_| {});
        }
    }
}
