//! Who is told how the loop of a node stands: the service manager, or the person who started it.

use crate::status::Status;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Who is told. The loop itself calls, so that one that hangs is mute.
pub trait Herald {
    /// The node listens.
    fn ready(&mut self, status: &Status);

    /// How often [`Self::alive`] is wanted; not at all where nobody waits for it.
    fn period(&self) -> Option<Duration>;

    /// The loop still turns.
    fn alive(&mut self, pulse: &Pulse);

    /// The node was told to end, and says farewell.
    fn ending(&mut self);
}

/// How a node stands, as far as that costs nothing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The interface of the private network, and what carries it.
    pub interface: Option<(String, String)>,
    /// How many other members are alive.
    pub alive: usize,
    /// How many are known.
    pub known: usize,
}

impl From<&Status> for Pulse {
    fn from(status: &Status) -> Self {
        Self {
            ipv4: status.ipv4,
            interface: status.interface.clone().zip(status.tier.clone()),
            alive: status.peers.iter().filter(|peer| peer.state == "alive").count(),
            known: status.peers.len(),
        }
    }
}

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} others alive", self.alive, self.known)?;
        if let Some((name, tier)) = &self.interface {
            match self.ipv4 {
                Some(address) => write!(f, ", {address} on {name} ({tier})")?,
                None => write!(f, ", no IPv4 address yet on {name} ({tier})")?,
            }
        }
        Ok(())
    }
}

/// A herald who only waits for the node to listen.
pub(crate) struct Once<F>(Option<F>);

impl<F: FnOnce(&Status)> Once<F> {
    pub(crate) const fn new(ready: F) -> Self {
        Self(Some(ready))
    }
}

impl<F: FnOnce(&Status)> Herald for Once<F> {
    fn ready(&mut self, status: &Status) {
        if let Some(ready) = self.0.take() {
            ready(status);
        }
    }

    fn period(&self) -> Option<Duration> {
        None
    }

    fn alive(&mut self, _pulse: &Pulse) {}

    fn ending(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_a_line_for_people() {
        let mut pulse = Pulse { ipv4: None, interface: None, alive: 1, known: 2 };
        assert_eq!(pulse.to_string(), "1 of 2 others alive");
        pulse.interface = Some(("edgevpn0".into(), "kernel".into()));
        assert_eq!(pulse.to_string(), "1 of 2 others alive, no IPv4 address yet on edgevpn0 (kernel)");
        pulse.ipv4 = Some(Ipv4Addr::new(10, 1, 0, 2));
        assert_eq!(pulse.to_string(), "1 of 2 others alive, 10.1.0.2 on edgevpn0 (kernel)");
    }
}
