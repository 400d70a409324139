//! IPv4 addresses of the mesh, given out by nobody: each node claims an index of the range, another member that saw the claim witnesses
//! it, and a fixed order says who stays where two claims meet. The claimant's clock has no part in it.
//!
//! A node without an address takes the k-th lowest free index, k being its rank by key among the live members without one, so
//! nodes that see the same do not collide. An index stays its claimant's until the claim is retired or expires.

mod book;
mod claim;
mod decide;
mod range;

#[cfg(test)]
mod tests;

pub use book::{Because, Book, Standing};
pub use claim::{Claim, Claimed, Lease, Witness};
pub use decide::{Advice, Facts, Patience, Proposal};
pub use range::{Prefix, Range, RangeFault};
