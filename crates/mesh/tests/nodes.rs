//! Whole nodes in one process, each with files, sockets and discovery of its own, talking over the loopback interface.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use kairn_mesh::{Client, Settings, StateDir, Status, run};
use kairn_mesh_protocol::Token;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a machine with other work may take for what takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    dir: PathBuf,
    port: u16,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), kairn_mesh::Error>>,
}

async fn start(dir: &Path, token: u8, peers: &[u16]) -> Running {
    let settings = Settings {
        token: Token::new([token; 32], None),
        name: dir.file_name().unwrap().to_str().unwrap().to_owned(),
        version: "0.1.0".to_owned(),
        port: 0,
        administrators: Vec::new(),
        peers: peers.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect(),
        excluded: Vec::new(),
        vpn: None,
    };
    let (end, ended) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let state = StateDir::open(dir).unwrap();
    let task = tokio::spawn(run(state, settings, async { ended.await.unwrap_or_default() }, |status: &Status| {
        ready.send(status.port).unwrap()
    }));
    Running { dir: dir.to_owned(), port: is_ready.await.unwrap(), end, task }
}

impl Running {
    async fn status(&self) -> Status {
        let client = Client::new(&self.dir);
        tokio::task::spawn_blocking(move || client.status()).await.unwrap().unwrap()
    }

    /// Waits until the state is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) {
        self.end.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn alive(status: &Status) -> usize {
    status.peers.iter().filter(|peer| peer.state == "alive" && peer.address.is_some()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_were_told_of_one_another_know_all_and_notice_who_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(&dir.path().join("first"), 1, &[]).await;
    let second = start(&dir.path().join("second"), 1, &[first.port]).await;
    let third = start(&dir.path().join("third"), 1, &[second.port]).await;
    for node in [&first, &second, &third] {
        let status = node.until("two others", |status| alive(status) == 2).await;
        assert!(status.peers.iter().all(|peer| ["first", "second", "third"].contains(&peer.name.as_str())));
    }
    let id = third.status().await.id;
    third.stop().await;
    first
        .until("the third has left", |status| status.peers.iter().any(|peer| peer.id == id && peer.state == "left"))
        .await;
    // It comes back as the same node, and finds the others by what it kept.
    let third = start(&dir.path().join("third"), 1, &[]).await;
    assert_eq!(third.status().await.id, id);
    for node in [&first, &third] {
        node.until("it is back", |status| alive(status) == 2).await;
    }
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_token_reaches_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 1, &[]).await;
    let stranger = start(&dir.path().join("stranger"), 2, &[one.port]).await;
    let friend = start(&dir.path().join("friend"), 1, &[one.port]).await;
    one.until("the friend", |status| alive(status) == 1).await;
    for node in [&one, &stranger, &friend] {
        let status = node.status().await;
        assert!(status.peers.iter().all(|peer| peer.name != "stranger"), "{status:#?}");
    }
    assert_eq!(stranger.status().await.peers, []);
    for node in [one, stranger, friend] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_find_each_other_without_being_told() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 3, &[]).await;
    let other = start(&dir.path().join("other"), 3, &[]).await;
    for node in [&one, &other] {
        node.until("the other", |status| alive(status) == 1).await;
    }
    // They hold one state: two records and two lists of addresses.
    for node in [&one, &other] {
        node.until("four entries", |status| status.entries == 4).await;
    }
    for node in [one, other] {
        node.stop().await;
    }
}
