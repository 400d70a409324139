//! Datagrams of UDP services, in streams of sessions for services.
//!
//! A client of the listener is a flow, and a flow is a stream; each datagram stands in it behind its length in two bytes (big-endian). What a
//! stream does not take at once waits in a short queue, and what finds that full is dropped and counted, as a network does. A flow that
//! carried nothing for a minute ends.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// What stands behind the name of a service whose datagrams are wanted. No name has it.
pub const SUFFIX: &str = "/udp";
/// The largest datagram: what UDP over IPv4 carries (RFC 768, RFC 791).
pub const LARGEST: usize = 65_507;
/// For how long a flow may carry nothing.
pub const IDLE: Duration = Duration::from_secs(60);
/// Datagrams of a flow that wait, and their bytes.
const WAITING: (usize, usize) = (64, 256 * 1024);

/// Where datagrams of a flow are put.
#[derive(Clone)]
pub struct Inlet {
    sender: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// Where they are taken.
pub struct Queue {
    receiver: mpsc::Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// Both ends of a flow's queue.
pub fn queue() -> (Inlet, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING.0);
    let bytes = Arc::<AtomicUsize>::default();
    (Inlet { sender, bytes: Arc::clone(&bytes) }, Queue { receiver, bytes })
}

impl Inlet {
    /// Puts a datagram in, or drops and counts it. Says whether the flow is still there.
    pub fn put(&self, datagram: &[u8], dropped: &AtomicU64) -> bool {
        let fits = self.bytes.load(Ordering::Relaxed).saturating_add(datagram.len()) <= WAITING.1;
        let place = if fits { self.sender.try_reserve() } else { Err(mpsc::error::TrySendError::Full(())) };
        match place {
            Ok(place) => {
                self.bytes.fetch_add(datagram.len(), Ordering::Relaxed);
                place.send(datagram.to_vec());
                true
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(())) => false,
        }
    }
}

impl Queue {
    async fn take(&mut self) -> Option<Vec<u8>> {
        let datagram = self.receiver.recv().await?;
        self.bytes.fetch_sub(datagram.len(), Ordering::Relaxed);
        Some(datagram)
    }
}

/// Carries a flow until it is idle or either end goes: what is in the queue to the stream, and what the stream brings to `deliver`.
///
/// # Errors
/// The stream breaks off.
pub async fn carry<F: Future<Output = ()>>(
    queue: &mut Queue,
    send: &mut (impl AsyncWrite + Unpin),
    receive: &mut (impl AsyncRead + Unpin),
    deliver: impl Fn(Vec<u8>) -> F,
    patience: Duration,
) -> io::Result<()> {
    let last = Mutex::new(Instant::now());
    let touch = || *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    let away = async {
        while let Some(datagram) = queue.take().await {
            write(send, &datagram).await?;
            touch();
        }
        Ok(())
    };
    let back = async {
        while let Some(datagram) = read(receive).await? {
            deliver(datagram).await;
            touch();
        }
        Ok(())
    };
    let idle = async {
        loop {
            let end = *last.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end.into()).await;
        }
    };
    tokio::select! {
        ended = away => ended,
        ended = back => ended,
        () = idle => Ok(()),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), datagram].concat()).await
}

/// The next datagram; nothing at the end.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    let (first, second) = length.split_at_mut(1);
    if stream.read(first).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(second).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > LARGEST {
        return Err(io::Error::other("a datagram that is too long"));
    }
    let mut datagram = vec![0; length];
    stream.read_exact(&mut datagram).await?;
    Ok(Some(datagram))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{duplex, split};

    #[tokio::test]
    async fn datagrams_come_whole_in_both_directions_the_empty_one_too() {
        let (one, other) = duplex(1_000);
        let ((mut read_one, mut write_one), (mut read_other, mut write_other)) = (split(one), split(other));
        let (inlet, mut queue) = queue();
        let dropped = AtomicU64::new(0);
        let (come, mut came) = mpsc::unbounded_channel();
        let carried = carry(
            &mut queue,
            &mut write_one,
            &mut read_one,
            |datagram| {
                let come = come.clone();
                async move { come.send(datagram).unwrap() }
            },
            IDLE,
        );
        let talk = async {
            for datagram in [vec![7; 5_000], Vec::new(), b"x".to_vec()] {
                assert!(inlet.put(&datagram, &dropped));
                assert_eq!(read(&mut read_other).await.unwrap(), Some(datagram.clone()));
                write(&mut write_other, &datagram).await.unwrap();
                assert_eq!(came.recv().await, Some(datagram));
            }
            write_other.shutdown().await.unwrap();
        };
        let (carried, ()) = tokio::join!(carried, talk);
        carried.unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_does_not_fit_the_queue_is_dropped_and_counted() {
        let dropped = AtomicU64::new(0);
        let (inlet, mut many) = queue();
        for _ in 0..WAITING.0 + 5 {
            assert!(inlet.put(b"x", &dropped));
        }
        assert_eq!(dropped.swap(0, Ordering::Relaxed), 5);
        assert_eq!(many.take().await, Some(b"x".to_vec()));
        let (inlet, large) = queue();
        for _ in 0..10 {
            assert!(inlet.put(&[0; LARGEST], &dropped));
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 6);
        drop(large);
        assert!(!inlet.put(b"x", &dropped));
    }

    #[tokio::test]
    async fn a_flow_that_carries_nothing_ends() {
        let (one, _other) = duplex(100);
        let (mut receive, mut send) = split(one);
        let (_inlet, mut queue) = queue();
        carry(&mut queue, &mut send, &mut receive, |_| async {}, Duration::from_millis(20)).await.unwrap();
    }

    #[tokio::test]
    async fn a_length_that_no_datagram_has_is_an_error() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0];
        assert!(read(&mut bytes).await.is_err());
        let mut cut: &[u8] = &[0, 5, 1];
        assert!(read(&mut cut).await.is_err());
        let mut none: &[u8] = &[];
        assert_eq!(read(&mut none).await.unwrap(), None);
    }
}
