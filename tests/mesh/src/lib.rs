//! Networks of simulated nodes in virtual time, for the mesh: many nodes in one thread, links with delay, loss, duplication and
//! reordering, partitions, crashes, pauses and clocks that are wrong. Everything that happens follows from one seed, so a run that
//! went wrong is run again.
//!
//! [`world`] knows nothing of the mesh: it drives whatever implements [`world::Node`]. [`member`] is membership alone in that form,
//! [`scenarios`] what it is put through; the program of this package runs them and prints what was measured.
#![forbid(unsafe_code)]

pub mod blackout;
pub mod clusters;
pub mod day;
pub mod lease;
pub mod liar;
pub mod member;
pub mod multicast;
pub mod report;
pub mod rotation;
pub mod scenarios;
pub mod state;
pub mod storm;
pub mod ways;
pub mod whole;
pub mod world;
