//! Questions to the kernel over netlink, one after the other: rtnetlink(7) for links and addresses, and generic netlink.
//!
//! The kernel answers a request while it is sent, so nothing here waits for anybody. A socket belongs to the network namespace of
//! the thread that opened it.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::sync::{Mutex, PoisonError};

/// Larger than any datagram of the kernel: it fills what it is given, 32 KiB at most (`NLMSG_GOODSIZE`, `netlink_dump`).
const ANSWER: usize = 1 << 16;

/// A netlink socket that is connected to the kernel.
pub(crate) struct Netlink {
    socket: Mutex<(Socket, u32)>,
}

impl Netlink {
    /// Opens one for a protocol of `netlink_sys::protocols`.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket: Mutex::new((socket, 0)) })
    }

    /// Sends a request and returns what the kernel answered to it, which is nothing where it only agreed.
    pub fn ask<M>(&self, message: M, flags: u16) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
        NetlinkPayload<M>: From<M>,
    {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, sequence) = &mut *socket;
        *sequence = sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = *sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        socket.send(&bytes, 0)?;
        answers(socket, *sequence)
    }
}

fn answers<M: NetlinkDeserializable>(socket: &Socket, sequence: u32) -> io::Result<Vec<M>> {
    let mut found = Vec::new();
    loop {
        let mut datagram = Vec::with_capacity(ANSWER);
        socket.recv(&mut datagram, 0)?;
        if read(&datagram, sequence, &mut found)? {
            return Ok(found);
        }
    }
}

/// Reads the messages of one datagram; whether the answer is complete with it.
fn read<M: NetlinkDeserializable>(datagram: &[u8], sequence: u32, found: &mut Vec<M>) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
        // What was left of an earlier request that failed half-way is not ours.
        if message.header.sequence_number == sequence {
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => found.push(inner),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
        rest = rest.get(length.max(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::LinkMessage;

    /// struct nlmsghdr and struct nlmsgerr, as netlink(7) lays them out.
    fn error(sequence: u32, code: i32) -> Vec<u8> {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend(2_u16.to_ne_bytes());
        bytes.extend(0_u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn an_answer_ends_with_the_kernels_consent_or_refusal_of_this_request() {
        let mut found: Vec<RouteNetlinkMessage> = Vec::new();
        assert!(read(&error(7, 0), 7, &mut found).unwrap());
        assert!(!read(&error(6, 0), 7, &mut found).unwrap());
        assert_eq!(read(&error(7, -17), 7, &mut found).unwrap_err().raw_os_error(), Some(17));
        let two = [error(6, -1), error(7, 0)].concat();
        assert!(read(&two, 7, &mut found).unwrap());
        assert!(found.is_empty());
    }

    #[test]
    fn the_kernel_names_its_links() {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = netlink.ask(all, netlink_packet_core::NLM_F_DUMP).unwrap();
        assert!(!links.is_empty());
    }
}
