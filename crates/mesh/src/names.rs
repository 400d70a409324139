//! Names of the mesh: DNS (RFC 1035) for members and for records that they set, on this machine and on its addresses in the mesh.

pub(crate) mod answer;
mod forward;
mod resolver;
mod server;
mod zone;

pub use resolver::Resolver;
pub use server::{Server, View};
pub use zone::{
    Custom, DOMAIN, Domain, DomainFault, Kind, Member, NameRecord, NameRow, Offered, Zone, addresses, check_label,
};

/// How long an answer may be kept, in seconds: as long as a member may take to be found dead.
const TTL: u32 = 10;
