//! What programs need to make a cluster of nodes: who leads, who is what, secrets for them, and waiting for each other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

use kairn_mesh::{BarrierEvent, Client, LeaseHold, LeaseStatus, Rules, Settings, StateDir, Status, run};
use kairn_mesh_protocol::{AdminKey, ClusterName, Identity, Role, Token};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a machine with other work may take for what takes a second.
const PATIENCE: Duration = Duration::from_secs(120);

struct Running {
    dir: PathBuf,
    port: u16,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), kairn_mesh::Error>>,
}

fn administrator() -> Identity {
    Identity::from_seed(&[0xad; 32])
}

/// Each test has a mesh of its own, named by its directory: the nodes of two would find each other.
fn secret_of(dir: &Path) -> [u8; 32] {
    let mut secret = [21; 32];
    let name = dir.parent().and_then(Path::file_name).unwrap().as_encoded_bytes();
    secret.iter_mut().zip(name).for_each(|(byte, from)| *byte = *from);
    secret
}

async fn start(dir: &Path, role: Option<Role>, peers: &[u16]) -> Running {
    start_in(ClusterName::default(), dir, role, peers).await
}

async fn start_in(cluster: ClusterName, dir: &Path, role: Option<Role>, peers: &[u16]) -> Running {
    let admin = AdminKey::new(*administrator().id().as_bytes()).unwrap();
    let settings = Settings {
        peers: peers.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect(),
        role,
        cluster,
        rules: Rules::new(2, Some(3)).unwrap(),
        ..Settings::new(Token::new(secret_of(dir), Some(admin)), dir.file_name().unwrap().to_str().unwrap())
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
    /// Asks the node.
    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Client) -> T + Send + 'static) -> T {
        let client = Client::new(&self.dir);
        tokio::task::spawn_blocking(move || question(&client)).await.unwrap()
    }

    /// Asks until the answer is as wanted.
    async fn until<T: std::fmt::Debug + Send + 'static>(
        &self,
        what: &str,
        question: impl Fn(&Client) -> T + Clone + Send + 'static,
        wanted: impl Fn(&T) -> bool,
    ) -> T {
        let start = Instant::now();
        loop {
            let answer = self.ask(question.clone()).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A program that asks for the lease `cluster` until it is dropped.
    async fn hold(&self) -> Program {
        let mut stream = UnixStream::connect(self.dir.join("api.sock")).await.unwrap();
        stream.write_all(b"POST /v1/leases/cluster?seconds=6 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        Program(BufReader::new(stream).lines())
    }

    async fn stop(self) {
        self.end.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// A connection to the node's socket.
struct Program(Lines<BufReader<UnixStream>>);

impl Program {
    /// Waits until the node leads.
    async fn leads(&mut self) -> LeaseStatus {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.0.next_line()).await.unwrap().unwrap().unwrap();
            // Between head and chunks stand lines of HTTP.
            let Ok(status) = serde_json::from_str::<LeaseStatus>(&line) else { continue };
            if status.is_own && status.hold == LeaseHold::Exclusive {
                return status;
            }
        }
    }
}

fn told(result: Result<impl std::fmt::Debug, kairn_mesh::Error>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_lead_one_after_another_assign_roles_and_share_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(&dir.path().join("first"), None, &[]).await;
    let second = start(&dir.path().join("second"), None, &[first.port]).await;
    let third = start(&dir.path().join("third"), None, &[first.port]).await;
    let nodes = [&first, &second, &third];
    // They wait for each other.
    let mut waiting = Vec::new();
    for node in nodes {
        let (client, mut events) = (Client::new(&node.dir), Vec::new());
        waiting.push(tokio::task::spawn_blocking(move || {
            let waited = client.wait_at("ready", None, |event| {
                events.push(event);
                ControlFlow::Continue(())
            });
            (waited, events)
        }));
    }
    for waiting in waiting {
        let (waited, events) = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        waited.unwrap();
        assert_eq!(events.last(), Some(&BarrierEvent::Open));
    }
    let too_many = first.ask(|node| node.wait_at("ready", Some(4), |_| ControlFlow::Break(()))).await;
    assert!(told(too_many).contains("4 nodes cannot come where 3 are expected"));

    // Nobody leads before it is decided who votes.
    let early = first.ask(|node| node.hold_lease("cluster", 6, |_| ControlFlow::Break(()))).await;
    assert!(told(early).contains("no decision of the ballot `cluster`"));
    let alone = first.ask(|node| node.assign("first", Some(Role::Master))).await;
    assert!(told(alone).contains("does not hold the lease `cluster` exclusively"));
    for node in nodes {
        node.ask(|node| node.stand("cluster")).await.unwrap();
    }
    for node in nodes {
        node.until(
            "a decision",
            |node| node.ballot("cluster"),
            |ballot| ballot.as_ref().is_ok_and(|ballot| ballot.winner.is_some()),
        )
        .await
        .unwrap();
    }
    let mut lease = first.hold().await;
    let leading = lease.leads().await;
    assert_eq!((leading.voters, leading.quorum, leading.is_wanted), (3, 2, true));
    let twice = first.ask(|node| node.hold_lease("cluster", 6, |_| ControlFlow::Break(()))).await;
    assert!(told(twice).contains("already asks for the lease"));
    let id = first.ask(|node| node.status().unwrap().id).await;
    for node in nodes {
        node.until(
            "the leader",
            |node| node.lease("cluster"),
            |lease| lease.as_ref().is_ok_and(|lease| lease.holder.as_ref().is_some_and(|holder| holder.id == id)),
        )
        .await
        .unwrap();
    }

    // Roles, and secrets for them.
    for (name, role) in [("first", Role::Master), ("second", Role::Worker)] {
        first.until("a role", move |node| node.assign(name, Some(role)), Result::is_ok).await.unwrap();
    }
    second
        .until(
            "its role",
            |node| node.status().unwrap(),
            |status| status.role == Some(Role::Worker) && !status.role_fixed,
        )
        .await;
    let put = first.ask(|node| node.put_secret("join/k3s", "role:worker", b"K10".to_vec(), None)).await.unwrap();
    assert_eq!((put.to.as_str(), put.receivers, put.is_open), ("role:worker", 2, true));
    assert!(put.left.is_some_and(|left| left > 3_500));
    let value = second.until("the secret", |node| node.secret("join/k3s", None), Result::is_ok).await.unwrap();
    assert_eq!((value.text.as_deref(), value.name.as_str()), (Some("K10"), "first"));
    assert!(!format!("{value:?}").contains("K10"));
    let seen = third.until("the list", Client::secrets, |list| list.as_ref().is_ok_and(|list| !list.is_empty())).await;
    assert!(!seen.unwrap()[0].is_open);
    assert!(told(third.ask(|node| node.secret("join/k3s", None)).await).contains("no secret under this key"));
    let refused = third.ask(|node| node.put_secret("x", "role:worker", b"y".to_vec(), None)).await;
    assert!(told(refused).contains("not assigned the role `master`"));
    // A machine that gets the role later opens it too.
    first.ask(|node| node.assign("third", Some(Role::Worker))).await.unwrap();
    third.until("its copy", |node| node.secret("join/k3s", None), Result::is_ok).await.unwrap();

    // For administrators: with their key on any member, and by no node.
    first.ask(|node| node.put_secret("kubeconfig", "administrators", b"apiVersion".to_vec(), None)).await.unwrap();
    let sealed =
        third.until("the sealed one", |node| node.sealed_secret("kubeconfig", None), Result::is_ok).await.unwrap();
    assert!(told(first.ask(|node| node.secret("kubeconfig", None)).await).contains("no secret under this key"));
    let network = third.ask(|node| node.status().unwrap().network).await;
    let opened = sealed[0].open(&network, &administrator()).unwrap().unwrap();
    assert_eq!(opened.bytes().unwrap(), b"apiVersion");
    assert_eq!(sealed[0].open(&network, &Identity::from_seed(&[1; 32])).unwrap(), None);
    // They are not among the values.
    assert_eq!(first.ask(|node| node.values("")).await.unwrap(), []);

    // The program goes, and another leads under a higher term; what was assigned stays.
    drop(lease);
    let mut next = third.hold().await;
    let following = next.leads().await;
    assert!(following.term > leading.term);
    let late = first.ask(|node| node.assign("second", None)).await;
    assert!(told(late).contains("does not hold the lease"));
    let roles = third.ask(Client::roles).await.unwrap();
    assert_eq!(roles.iter().filter(|role| role.assigned == Some(Role::Worker)).count(), 2);
    first.ask(|node| node.delete_secret("join/k3s")).await.unwrap();
    second.until("the deletion", |node| node.secret("join/k3s", None), Result::is_err).await.unwrap_err();
    drop(next);
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_master_leads_alone_and_its_role_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(&dir.path().join("first"), Some(Role::Master), &[]).await;
    let second = start(&dir.path().join("second"), Some(Role::Worker), &[first.port]).await;
    first.ask(|node| node.stand("cluster")).await.unwrap();
    let ballot =
        first.until("the declaration", |node| node.ballot("cluster").unwrap(), |ballot| ballot.winner.is_some());
    assert!(ballot.await.is_own);
    let mut lease = first.hold().await;
    assert_eq!(lease.leads().await.voters, 1);
    let seen = second
        .until(
            "the other",
            |node| node.status().unwrap(),
            |status| status.peers.iter().any(|peer| peer.role == Some(Role::Master) && peer.role_fixed),
        )
        .await;
    assert_eq!(seen.role, Some(Role::Worker));
    let other = first.until(
        "the worker",
        |node| node.assign("second", Some(Role::Master)),
        |said| match said {
            Err(error) => error.to_string().contains("fixes its role as `worker`"),
            Ok(_) => false,
        },
    );
    other.await.unwrap_err();
    drop(lease);
    for node in [first, second] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_of_one_mesh_decide_lead_and_wait_each_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let edge: ClusterName = "edge".parse().unwrap();
    let mut nodes = Vec::new();
    for name in ["a-1", "a-2", "a-3", "b-1", "b-2", "b-3"] {
        let cluster = if name.starts_with('a') { ClusterName::default() } else { edge.clone() };
        let peers: Vec<u16> = nodes.first().map(|node: &Running| node.port).into_iter().collect();
        nodes.push(start_in(cluster, &dir.path().join(name), None, &peers).await);
    }
    for (at, node) in nodes.iter().enumerate() {
        let status = node.until("all peers", |node| node.status().unwrap(), |status| status.peers.len() == 5).await;
        let own = if at < 3 { "kairos" } else { "edge" };
        assert_eq!(status.cluster, own);
        assert_eq!(status.peers.iter().filter(|peer| peer.cluster == own).count(), 2);
        node.ask(|node| node.stand("cluster")).await.unwrap();
    }
    // Three of the one cluster alone do not open the other's barrier, of which three are expected too.
    let waiting = |node: &Running| {
        let client = Client::new(&node.dir);
        tokio::task::spawn_blocking(move || client.wait_at("ready", None, |_| ControlFlow::Continue(())))
    };
    let (mut first, mut leases) = (nodes[..3].iter().map(waiting).collect::<Vec<_>>(), Vec::new());
    for waiting in &mut first {
        tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    }
    let early = nodes[3].ask(|node| {
        let mut last = None;
        let waited = node.wait_at("ready", None, |event| {
            last = Some(event);
            ControlFlow::Break(())
        });
        waited.map(|()| last)
    });
    assert!(matches!(early.await.unwrap(), Some(BarrierEvent::Waiting { here: 1, wanted: 3, .. })));
    for (at, ids) in [(0, ["a-1", "a-2", "a-3"]), (3, ["b-1", "b-2", "b-3"])] {
        let decided = nodes[at].until(
            "a decision",
            |node| node.ballot("cluster"),
            |ballot| ballot.as_ref().is_ok_and(|ballot| ballot.winner.is_some()),
        );
        let ballot = decided.await.unwrap();
        assert_eq!(ballot.voters, 3);
        assert!(ids.contains(&ballot.winner.unwrap().name.as_str()));
        let mut lease = nodes[at].hold().await;
        assert_eq!(lease.leads().await.voters, 3);
        leases.push(lease);
    }
    nodes[0].until("a role", |node| node.assign("a-2", Some(Role::Worker)), Result::is_ok).await.unwrap();
    let refused = told(nodes[0].ask(|node| node.assign("b-2", Some(Role::Worker))).await);
    assert!(refused.contains("is of the cluster `edge`"), "{refused}");
    let roles = nodes[3].ask(Client::roles).await.unwrap();
    assert_eq!(roles.iter().map(|role| role.name.as_str()).filter(|name| name.starts_with('a')).count(), 0);
    drop(leases);
    for node in nodes {
        node.stop().await;
    }
}
