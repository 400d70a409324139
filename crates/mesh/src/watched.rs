//! Descriptors that the runtime watches for one thing only. What it opens itself it watches for both: then each datagram that is sent
//! wakes the process once more, to say that there is room again.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is watched.
pub type Watched = AsyncFd<OwnedFd>;

/// Watches a descriptor that does not block.
///
/// # Errors
/// The kernel watches no more.
#[expect(deprecated, reason = "unsound with types whose descriptor may change or close; this one's does neither")]
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<Watched> {
    AsyncFd::with_interest(descriptor, interest)
}
