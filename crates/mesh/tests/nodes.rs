//! Whole nodes in one process, each with files, sockets and discovery of its own, talking over the loopback interface.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use kairn_mesh::{Change, Client, Settings, StateDir, Status, run};
use kairn_mesh_protocol::Token;
use std::net::SocketAddr;
use std::ops::ControlFlow;
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

/// Asks a node of this process.
async fn ask<T: Send + 'static>(node: &Running, question: impl FnOnce(&Client) -> T + Send + 'static) -> T {
    let client = Client::new(&node.dir);
    tokio::task::spawn_blocking(move || question(&client)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_go_to_all_belong_to_their_author_and_are_watched() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 4, &[]).await;
    let other = start(&dir.path().join("other"), 4, &[one.port]).await;
    one.until("the other", |status| alive(status) == 1).await;

    // What happens at the one is watched at the other, until that node ends.
    let (told, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::new(&other.dir);
    let watch = tokio::task::spawn_blocking(move || {
        client.watch("app/", |change| match told.send(change) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    let mut next = async || tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, Change::Ready);
    let written = ask(&one, |node| node.put("app/ä b", b"blue".to_vec(), None)).await.unwrap();
    assert_eq!((written.text.as_deref(), written.left, written.name.as_str()), (Some("blue"), None, "one"));
    let Change::Put(seen) = next().await else { panic!() };
    assert_eq!((seen.author, seen.text.as_deref()), (written.author.clone(), Some("blue")));
    ask(&one, |node| node.put("elsewhere", vec![0xff], None)).await.unwrap();
    ask(&one, |node| node.put("app/short", b"x".to_vec(), Some(1))).await.unwrap();
    assert!(matches!(next().await, Change::Put(value) if value.key == "app/short" && value.left.is_some()));
    assert!(matches!(next().await, Change::Expired(gone) if gone.key == "app/short"));

    // The other's value under the same key stands beside it, newest first, and neither deletes the other's.
    ask(&other, |node| node.put("app/ä b", b"green".to_vec(), None)).await.unwrap();
    assert!(matches!(next().await, Change::Put(value) if value.text.as_deref() == Some("green")));
    let both = ask(&other, |node| node.value("app/ä b", None)).await.unwrap();
    assert_eq!(both.iter().map(|value| value.name.as_str()).collect::<Vec<_>>(), ["other", "one"]);
    let ones = ask(&other, |node| node.value("app/ä b", Some("one"))).await.unwrap();
    assert_eq!(ones.iter().map(|value| value.text.as_deref()).collect::<Vec<_>>(), [Some("blue")]);
    assert_eq!(ask(&other, |node| node.values("")).await.unwrap().len(), 3);
    ask(&one, |node| node.delete("app/ä b")).await.unwrap();
    assert!(matches!(next().await, Change::Deleted(gone) if gone.author == written.author));

    // What cannot be is said precisely.
    for (answer, wanted) in [
        (ask(&one, |node| node.delete("app/ä b")).await.unwrap_err(), "this node wrote nothing under"),
        (
            ask(&one, |node| node.value("nothing", None)).await.map(drop).unwrap_err(),
            "there is no value under `nothing`",
        ),
        (
            ask(&one, |node| node.value("k", Some("nobody"))).await.map(drop).unwrap_err(),
            "no member is called `nobody`",
        ),
        (ask(&one, |node| node.put("a\nb", vec![1], None)).await.map(drop).unwrap_err(), "no control characters"),
        (
            ask(&one, |node| node.put("k", vec![0; 40_000], None)).await.map(drop).unwrap_err(),
            "longer than 32768 bytes",
        ),
    ] {
        assert!(answer.to_string().contains(wanted), "{answer}");
    }
    other.stop().await;
    watch.await.unwrap().unwrap();
    one.stop().await;
}
