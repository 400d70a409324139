//! Events of the kernel's device model, without udev: the netlink socket `NETLINK_KOBJECT_UEVENT`.
//!
//! To wait for a device without a race: open the socket, look whether it is there, then wait. [`Signal::Overrun`] says that
//! events were lost and that the caller must look again.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink, recv};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// The multicast group on which the kernel speaks (udev's own is 2).
const KERNEL_GROUP: u32 = 1;
/// Events come in bursts during coldplug.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel's own limit is 2048 bytes of variables and a path.
const LONGEST: usize = 8192;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind`, `move`, ...
    pub action: String,
    /// Path below `/sys`, with its leading slash.
    pub devpath: String,
    /// All variables, `ACTION` and `DEVPATH` included.
    pub variables: Vec<(String, String)>,
}

impl Uevent {
    /// Parses a message: `action@devpath`, then `KEY=value`, each ended by a zero byte. `None` for udev's and broken ones.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut fields = message.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let (action, devpath) = {
            let head = fields.next()?;
            let (action, devpath) = head.split_once('@')?;
            (action.to_owned(), devpath.to_owned())
        };
        let variables = fields
            .filter_map(|field| field.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
            .collect();
        Some(Self { action, devpath, variables })
    }

    /// Returns a variable.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.variables.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// What ended a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An event.
    Event(Uevent),
    /// Events were lost; look at everything again.
    Overrun,
    /// Nothing came in time.
    Deadline,
}

/// The socket.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel offers no such socket.
    pub fn listen() -> Result<Self, Error> {
        let failed = |errno| Error::errno("listen to", "the kernel's device events")(errno);
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )
        .map_err(failed)?;
        if let Err(errno) = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER) {
            tracing::debug!(%errno, "a small buffer for device events will do");
        }
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP)).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Waits for the next event until `deadline`.
    ///
    /// # Errors
    /// The socket fails for another reason than lost events.
    pub fn wait(&self, deadline: Instant) -> Result<Signal, Error> {
        let failed = |errno| Error::errno("wait on", "the kernel's device events")(errno);
        let mut buffer = [0_u8; LONGEST];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    if let Some(event) = buffer.get(..length).and_then(Uevent::parse) {
                        return Ok(Signal::Event(event));
                    }
                    continue;
                }
                Err(Errno::NOBUFS) => return Ok(Signal::Overrun),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Signal::Deadline);
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_kernel_message_is_parsed_and_udevs_is_not() {
        let event = Uevent::parse(b"add@/devices/x/vda1\0ACTION=add\0DEVNAME=vda1\0PARTNAME=a=b\0").unwrap();
        assert_eq!((event.action.as_str(), event.devpath.as_str()), ("add", "/devices/x/vda1"));
        assert_eq!(event.get("PARTNAME"), Some("a=b"));
        assert_eq!(event.get("ABSENT"), None);
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let events = match Uevents::listen() {
            Ok(events) => events,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let end = Instant::now() + Duration::from_millis(20);
        loop {
            match events.wait(end).unwrap() {
                Signal::Deadline => break,
                Signal::Event(_) | Signal::Overrun => {}
            }
        }
        assert!(Instant::now() >= end);
    }
}
