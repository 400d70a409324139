//! Meeting in a distributed hash table: BitTorrent's (BEP 5), as a client that serves nothing (BEP 43).
//!
//! Machines of one network that know no address of each other leave word on a [`Board`]: a mutable item of the table (BEP 44) whose
//! key follows from the network's secret and the day. Whoever stores it sees a public key that means nothing, 552 sealed bytes and
//! who writes and reads; what stands on it, and that it is a mesh, only those see who have the secret. Nothing that the table says is
//! believed: it names addresses to knock at, and admission decides who is there.

mod bencode;
mod board;
mod fence;
mod lookup;
mod message;
mod schedule;

pub use board::{Board, Day, LARGEST_BOARD, MOST_ADDRESSES, MOST_NOTICES, Notice, Rendezvous};
pub use fence::{Fence, Scope, holds};
pub use lookup::{Keeper, Lookup};
pub use message::{Answer, Id, Item, Node, Query, Reply, Target};
pub use schedule::{Schedule, Standing};

#[cfg(test)]
mod tests;
