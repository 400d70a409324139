//! What passes a namespace: every frame on all its interfaces.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// All protocols (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;

/// Puts the calling thread into a namespace.
pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Runs a function in a thread that is in a namespace.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A running capture.
pub struct Capture {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Begins; what passes from here on is kept.
    pub fn of(namespace: &str) -> Self {
        let (namespace, is_over) = (namespace.to_owned(), Arc::new(AtomicBool::new(false)));
        let (end, (ready, is_ready)) = (is_over.clone(), channel());
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            ready.send(()).unwrap();
            let (mut frames, mut room) = (Vec::new(), vec![0; 1 << 16]);
            while !end.load(Ordering::Relaxed) {
                if let Ok(length) = socket.read(&mut room) {
                    frames.push(room[..length].to_vec());
                }
            }
            frames
        });
        is_ready.recv().unwrap();
        Self { is_over, thread }
    }

    /// Ends; every frame that passed.
    pub fn end(self) -> Vec<Vec<u8>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// How many frames contain these bytes.
pub fn count(frames: &[Vec<u8>], bytes: &[u8]) -> usize {
    frames.iter().filter(|frame| frame.windows(bytes.len()).any(|part| part == bytes)).count()
}

/// The payloads of UDP datagrams over IPv4 to a port.
pub fn payloads(frames: &[Vec<u8>], port: u16) -> Vec<&[u8]> {
    let udp = |frame: &'_ [u8]| frame.len() > 42 && frame[12..14] == [8, 0] && frame[23] == 17 && frame[14] == 0x45;
    let to = |frame: &'_ [u8]| u16::from_be_bytes([frame[36], frame[37]]) == port;
    frames.iter().map(Vec::as_slice).filter(|frame| udp(frame) && to(frame)).map(|frame| &frame[42..]).collect()
}
