//! The largest packet of the interface: what all ways carry with WireGuard's around it. What is longer would be lost in the userspace tier,
//! and go in pieces in the kernel's.

use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::path::{Route, View};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The smallest packet that IPv6 permits a link to carry (RFC 8200, section 5).
pub const LEAST: u16 = 1_280;
/// What WireGuard puts around a packet, in bytes: 20 of IPv4 or 40 of IPv6, 8 of UDP, 32 of its own.
const AROUND_V4: u16 = 60;
const AROUND_V6: u16 = 80;

/// What the ways to members carried when that was found last.
#[derive(Debug, Default)]
pub struct Fit(BTreeMap<NodeId, u16>);

impl Fit {
    /// The largest packet for these members with their ways, given the most that is wanted. What was found stays until something else is:
    /// a way that is looked for anew carries no more than before.
    pub fn follow<'a>(&mut self, most: u16, members: impl Iterator<Item = (&'a NodeId, Option<View>)>) -> u16 {
        let mut before = std::mem::take(&mut self.0);
        for (id, view) in members {
            let found = view.and_then(|view| inside(&view)).or_else(|| before.remove(id));
            self.0.extend(found.map(|found| (*id, found)));
        }
        self.0.values().copied().min().unwrap_or(most).max(LEAST).min(most)
    }
}

/// What WireGuard puts around a packet that goes to an address.
pub const fn around(address: &SocketAddr) -> u16 {
    match address {
        SocketAddr::V4(_) => AROUND_V4,
        SocketAddr::V6(_) => AROUND_V6,
    }
}

/// The largest packet that a way carries through the tunnel, where that is known; a relay carries it in pieces.
fn inside(view: &View) -> Option<u16> {
    let Route::Direct(address) = &view.route else { return None };
    view.mtu.map(|mtu| mtu.saturating_sub(around(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_carries_what_the_narrowest_way_does_and_no_less_than_ipv6_needs() {
        let ids = [1, 2, 3].map(|seed| NodeId::new([seed; 32]));
        let way = |address: &str, mtu| Some(View { route: Route::Direct(address.parse().unwrap()), rtt: None, mtu });
        let [v4, v6] = ["192.0.2.1:7", "[2001:db8::1]:7"];
        let relayed = Some(View { route: Route::Relay(ids[2]), rtt: None, mtu: Some(576) });
        let mut fit = Fit::default();
        for (views, wanted) in [
            ([None, None, relayed], 1_420),
            ([way(v4, Some(1_500)), way(v6, Some(1_500)), None], 1_420),
            ([way(v4, Some(1_460)), way(v6, Some(1_500)), None], 1_400),
            // It is looked for anew, and goes by a member meanwhile.
            ([way(v4, None), None, relayed], 1_400),
            ([relayed, None, None], 1_400),
            ([way(v4, Some(1_480)), way(v6, Some(1_480)), None], 1_400),
            ([way(v4, Some(1_500)), way(v6, Some(1_280)), None], 1_280),
            ([way(v4, Some(1_500)), way(v6, Some(1_500)), None], 1_420),
        ] {
            assert_eq!(fit.follow(1_420, ids.iter().zip(views)), wanted, "{views:?}");
        }
        // Who is gone narrows nothing, and what the configuration wants is never exceeded.
        fit.follow(1_420, ids.iter().zip([way(v4, Some(1_400)), None, None]));
        assert_eq!(fit.follow(1_420, ids[1..].iter().zip([None, None])), 1_420);
        assert_eq!(fit.follow(1_000, ids.iter().zip([way(v4, Some(1_400)), None, None])), 1_000);
    }
}
