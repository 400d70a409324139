//! Whole nodes in one process, each with files, sockets and discovery of its own, talking over the loopback interface.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use kairn_mesh::{BallotState, Change, Client, Rules, ServiceEvent, Settings, StateDir, Status, Transport, run};
use kairn_mesh_protocol::Token;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
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
        peers: peers.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect(),
        rules: Rules::new(2, Some(3)).unwrap(),
        ..Settings::new(Token::new([token; 32], None), dir.file_name().unwrap().to_str().unwrap())
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
    one.until("the stranger is counted", |status| status.counters.get("sessions_unproven") > Some(&0)).await;
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

/// A verb that goes on at a node, until it is dropped.
struct Going {
    events: tokio::sync::mpsc::UnboundedReceiver<ServiceEvent>,
    /// Ends it.
    client: JoinHandle<Result<(), kairn_mesh::Error>>,
}

impl Going {
    /// Runs it in a process of its own, as far as the node can tell.
    fn start(
        node: &Running,
        verb: impl FnOnce(&Client, &mut dyn FnMut(ServiceEvent) -> ControlFlow<()>) -> Result<(), kairn_mesh::Error>
        + Send
        + 'static,
    ) -> Self {
        let (told, events) = tokio::sync::mpsc::unbounded_channel();
        let client = Client::new(&node.dir);
        let client = tokio::task::spawn_blocking(move || {
            verb(&client, &mut |event| {
                if told.send(event).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        });
        Self { events, client }
    }

    async fn next(&mut self) -> ServiceEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    /// Where connections are taken.
    async fn listening(&mut self) -> SocketAddr {
        let event = self.next().await;
        let address = if let ServiceEvent::Listening { address } = event { Some(address) } else { None };
        address.unwrap()
    }
}

/// A service that sends back what it gets, and a farewell once it gets no more.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.write_all(b"bye").await.unwrap();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_carried_to_what_a_member_exposes_and_each_direction_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 5, &[]).await;
    let other = start(&dir.path().join("other"), 5, &[one.port]).await;
    for node in [&one, &other] {
        node.until("the other", |status| alive(status) == 1).await;
    }
    let to = echo().await;
    let mut exposed = Going::start(&one, move |node, each| node.expose("Echo", to, each));
    assert_eq!(exposed.next().await, ServiceEvent::Exposed { name: "echo".to_owned(), to });
    until_services(&other, &["echo"]).await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    // From the other node, and from the one that exposes it itself.
    for node in [&other, &one] {
        let mut taken = Going::start(node, move |node, each| node.connect("echo", any, None, each));
        let address = taken.listening().await;
        let connections = (0..8_usize).map(|number| {
            tokio::spawn(async move {
                let sent: Vec<u8> = (0..1_000_000).map(|at: usize| (at * 31 + number) as u8).collect();
                let mut stream = TcpStream::connect(address).await.unwrap();
                let (mut read, mut write) = stream.split();
                let write = async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                let (_, read) = tokio::join!(write, read.read_to_end(&mut got));
                assert_eq!((read.unwrap(), &got[sent.len()..]), (sent.len() + 3, &b"bye"[..]));
                assert!(got[..sent.len()] == sent);
            })
        });
        for connection in connections.collect::<Vec<_>>() {
            tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap();
        }
    }
    let status = other.status().await;
    assert_eq!((status.counters["connections_called"], status.counters["connections_refused"]), (8, 0));
    assert_eq!(one.status().await.counters["connections_served"], 8);

    // A service that is not there, one that nobody exposes, and one whose name is taken.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut broken = Going::start(&one, move |node, each| node.expose("broken", closed, each));
    broken.next().await;
    until_services(&other, &["broken", "echo"]).await;
    for (name, wanted) in [("broken", "does not answer there"), ("nothing", "no member exposes `nothing`")] {
        let mut taken = Going::start(&other, move |node, each| node.connect(name, any, None, each));
        let address = taken.listening().await;
        // It may be reset before the caller has looked.
        let ended = async { TcpStream::connect(address).await?.read(&mut [0; 8]).await };
        let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap();
        assert!(ended.is_err(), "{name}: {ended:?}");
        let ServiceEvent::Refused { why } = taken.next().await else { panic!() };
        assert!(why.contains(wanted), "{why}");
    }
    let twice = ask(&one, move |node| node.expose("echo", to, |_| ControlFlow::Break(()))).await.unwrap_err();
    assert!(twice.to_string().contains("already exposes `echo`"), "{twice}");

    // What a node exposes goes with it.
    one.stop().await;
    until_services(&other, &[]).await;
    exposed.client.await.unwrap().unwrap();
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_are_carried_to_what_a_member_exposes_and_each_client_gets_its_own_answers() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 11, &[]).await;
    let other = start(&dir.path().join("other"), 11, &[one.port]).await;
    for node in [&one, &other] {
        node.until("the other", |status| alive(status) == 1).await;
    }
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let service = UdpSocket::bind(any).await.unwrap();
    let (to, tcp) = (service.local_addr().unwrap(), echo().await);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = service.recv_from(&mut buffer).await.unwrap();
            service.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let mut exposed = Going::start(&one, move |node, each| node.expose_datagrams("time", to, each));
    assert_eq!(exposed.next().await, ServiceEvent::Exposed { name: "time".to_owned(), to });
    let mut stream = Going::start(&one, move |node, each| node.expose("web", tcp, each));
    stream.next().await;
    until_services(&other, &["time", "web"]).await;
    let kinds: Vec<Transport> =
        ask(&other, Client::services).await.unwrap().iter().map(|service| service.kind).collect();
    assert_eq!(kinds, [Transport::Udp, Transport::Tcp]);
    // From the other node, and from the one that exposes it itself.
    for node in [&other, &one] {
        let mut taken = Going::start(node, move |node, each| node.connect("time", any, None, each));
        let address = taken.listening().await;
        let clients = (0..3_u8).map(|number| {
            tokio::spawn(async move {
                let client = UdpSocket::bind(any).await.unwrap();
                client.connect(address).await.unwrap();
                let mut buffer = vec![0; 65_536];
                for length in [10, 0, 20_000] {
                    client.send(&vec![number; length]).await.unwrap();
                    let answer = client.recv(&mut buffer).await.unwrap();
                    assert!(answer == length && buffer[..length].iter().all(|byte| *byte == number));
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
        }
    }
    let counters = (one.status().await.counters, other.status().await.counters);
    assert_eq!((counters.0["connections_served"], counters.1["connections_called"]), (3, 3));
    assert_eq!(counters.0["datagrams_dropped"] + counters.1["datagrams_dropped"], 0);

    // Datagrams for what takes connections are dropped, and it is said why.
    let mut taken = Going::start(&other, move |node, each| node.connect_datagrams("web", any, None, each));
    let client = UdpSocket::bind(any).await.unwrap();
    client.send_to(b"x", taken.listening().await).await.unwrap();
    let ServiceEvent::Refused { why } = taken.next().await else { panic!() };
    assert!(why.contains("`web` is exposed by tcp, not by udp"), "{why}");
    one.stop().await;
    other.stop().await;
}

async fn until_services(node: &Running, wanted: &[&str]) {
    let start = Instant::now();
    loop {
        let services = ask(node, Client::services).await.unwrap();
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        if names == wanted {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{services:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_read_holds_its_caller_back_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 6, &[]).await;
    let other = start(&dir.path().join("other"), 6, &[one.port]).await;
    for node in [&one, &other] {
        node.until("the other", |status| alive(status) == 1).await;
    }
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (to, echo) = (deaf.local_addr().unwrap(), echo().await);
    let mut exposed = Going::start(&one, move |node, each| node.expose("deaf", to, each));
    let mut beside = Going::start(&one, move |node, each| node.expose("echo", echo, each));
    exposed.next().await;
    beside.next().await;
    until_services(&other, &["deaf", "echo"]).await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut taken = Going::start(&other, move |node, each| node.connect("deaf", any, None, each));
    let mut stream = TcpStream::connect(taken.listening().await).await.unwrap();
    let held = deaf.accept().await.unwrap();
    let (mut sent, chunk) = (0, vec![7; 1024 * 1024]);
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stream.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < 64 * 1024 * 1024, "nothing holds the caller back");
    }
    let mut taken = Going::start(&other, move |node, each| node.connect("echo", any, None, each));
    let mut stream = TcpStream::connect(taken.listening().await).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, "hellobye");
    drop(held);
    one.stop().await;
    other.stop().await;
}

/// What a program made for Kairos reads at the local socket.
async fn old(node: &Running, path: &str) -> serde_json::Value {
    let mut stream = tokio::net::UnixStream::connect(node.dir.join("api.sock")).await.unwrap();
    stream.write_all(format!("GET /api/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{path}: {answer}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_made_for_kairos_read_the_state_in_the_form_that_they_know() {
    let dir = tempfile::tempdir().unwrap();
    let one = start(&dir.path().join("one"), 7, &[]).await;
    let other = start(&dir.path().join("other"), 7, &[one.port]).await;
    let status = one.until("the other", |status| alive(status) == 1).await;
    ask(&one, |node| node.put("kairos/uuid-role", b"master".to_vec(), None)).await.unwrap();
    ask(&one, |node| node.put("machines/x", b"forged".to_vec(), None)).await.unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut exposed = Going::start(&one, move |node, each| node.expose("web", to, each));
    exposed.next().await;

    let machines = old(&one, "machines").await;
    let ids: Vec<&str> =
        machines.as_array().unwrap().iter().map(|machine| machine["PeerID"].as_str().unwrap()).collect();
    let peer = &status.peers[0];
    assert_eq!(ids, [status.id.as_str(), peer.id.as_str()]);
    assert_eq!(machines[1]["Hostname"], "other");
    assert_eq!((&machines[1]["Online"], &machines[1]["Connected"]), (&true.into(), &true.into()));
    assert_eq!(old(&one, "nodes").await[1]["ID"], peer.id);
    assert_eq!(old(&one, "services").await[0]["Name"], "web");
    assert_eq!(old(&one, "files").await, serde_json::json!([]));
    let summary = old(&one, "summary").await;
    assert_eq!((&summary["Machines"], &summary["NodeID"]), (&2.into(), &status.id.clone().into()));
    assert_eq!(old(&one, "dns").await[1]["Records"]["AAAA"], peer.ula.to_string());

    // Values are texts that hold JSON, as they were.
    assert_eq!(old(&one, "ledger/kairos/uuid-role").await, "\"master\"");
    assert_eq!(old(&one, "ledger/kairos").await, serde_json::json!({ "uuid-role": "\"master\"" }));
    assert_eq!(old(&one, "ledger/kairos/nothing").await, "");
    let ledger = old(&one, "ledger").await;
    let machine: serde_json::Value =
        serde_json::from_str(ledger["machines"][peer.ula.to_string()].as_str().unwrap()).unwrap();
    assert_eq!((&machine["PeerID"], machines.as_array().unwrap().len()), (&peer.id.clone().into(), 2));
    assert_eq!(ledger["machines"].as_object().unwrap().len(), 2, "{ledger}");
    assert!(ledger["healthcheck"][&peer.id].as_str().unwrap().ends_with("Z\""));
    for node in [one, other] {
        node.stop().await;
    }
}

/// Waits until a node knows who has won a ballot, and says who that is.
async fn winner(node: &Running, name: &str) -> String {
    let known = |status: &Status| status.ballots.iter().any(|ballot| ballot.name == name && ballot.winner.is_some());
    let status = node.until("a winner", known).await;
    let ballot = status.ballots.into_iter().find(|ballot| ballot.name == name).unwrap();
    let winner = ballot.winner.unwrap();
    assert_eq!((ballot.state, ballot.is_own), (BallotState::Decided, winner.id == status.id));
    winner.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_stand_choose_one_and_a_restart_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(&dir.path().join("first"), 8, &[]).await;
    let second = start(&dir.path().join("second"), 8, &[first.port]).await;
    let third = start(&dir.path().join("third"), 8, &[second.port]).await;
    let mut ids = Vec::new();
    for node in [&first, &second, &third] {
        ids.push(node.until("two others", |status| alive(status) == 2).await.id);
    }
    let unknown = ask(&first, |node| node.ballot("cluster/edge")).await.unwrap_err();
    assert!(unknown.to_string().contains("has heard of no ballot"), "{unknown}");
    let wrong = ask(&first, |node| node.stand(&"x".repeat(65))).await.unwrap_err();
    assert!(wrong.to_string().contains("name of a ballot"), "{wrong}");
    for node in [&first, &second, &third] {
        let status = ask(node, |node| node.stand("cluster/edge")).await.unwrap();
        assert_eq!((status.quorum, status.expected), (2, 3));
    }
    let chosen = winner(&first, "cluster/edge").await;
    assert!(ids.contains(&chosen));
    for node in [&second, &third] {
        assert_eq!(winner(node, "cluster/edge").await, chosen);
    }
    // To stand again changes nothing.
    let again = ask(&second, |node| node.stand("cluster/edge")).await.unwrap();
    assert_eq!((again.stands, again.winner.unwrap().id), (false, chosen.clone()));

    // One alone, that nobody can tell.
    for node in [first, second, third] {
        node.stop().await;
    }
    let back = start(&dir.path().join("second"), 8, &[]).await;
    let status = back.status().await;
    assert_eq!(alive(&status), 0);
    assert_eq!(status.ballots[0].winner.as_ref().unwrap().id, chosen);

    // Once its record is lost it votes no more; a ballot that it never took part in is another thing.
    back.stop().await;
    std::fs::remove_file(dir.path().join("second/ballots/6b6169726f73/636c75737465722f65646765")).unwrap();
    let back = start(&dir.path().join("second"), 8, &[]).await;
    let status = ask(&back, |node| node.stand("cluster/edge")).await.unwrap();
    assert_eq!(status.state, BallotState::Refused);
    assert!(status.why[0].contains("has lost the record of its votes"), "{:?}", status.why);
    let other = ask(&back, |node| node.stand("other")).await.unwrap();
    assert_eq!((other.state, other.stands), (BallotState::Open, true));
    back.stop().await;
}
