//! Where something goes that the tunnel hands out: a channel of whoever uses it. It never blocks the tunnel: what finds no room
//! is dropped, and counted by the tunnel.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// The sending end of a bounded channel; clones are the same end.
pub struct Outlet<T> {
    take: Arc<dyn Fn(T) -> bool + Send + Sync>,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { take: self.take.clone() }
    }
}

impl<T> Outlet<T> {
    /// Hands everything to a function that says whether it had room. It is called by the tunnel's own threads: it must neither block
    /// nor call the tunnel.
    pub fn new(take: impl Fn(T) -> bool + Send + Sync + 'static) -> Self {
        Self { take: Arc::new(take) }
    }

    /// A channel that holds at most this many.
    pub fn bounded(capacity: usize) -> (Self, Receiver<T>)
    where
        T: Send + 'static,
    {
        let (sender, receiver) = sync_channel(capacity);
        (Self::new(move |value| sender.try_send(value).is_ok()), receiver)
    }

    /// An outlet without room.
    pub fn closed() -> Self {
        Self::new(|_| false)
    }

    /// Offers a value; whether there was room for it.
    pub(crate) fn offer(&self, value: T) -> bool {
        (self.take)(value)
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlet_refuses_what_finds_no_room_instead_of_waiting() {
        let (outlet, receiver) = Outlet::bounded(2);
        assert_eq!([1, 2, 3].map(|value| outlet.offer(value)), [true, true, false]);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
        drop(receiver);
        assert!(!outlet.offer(4));
        assert!(!Outlet::closed().offer(5));
    }
}
