//! What a monitoring program reads of a node at its local socket.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use kairn_mesh::{Client, Settings, StateDir, Status, run};
use kairn_mesh_protocol::Token;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// How long a machine with other work may take for what takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// The head of the answer that a program without a library of ours gets, and its body.
async fn get(socket: &Path, path: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{path}: {answer}");
    (head.to_owned(), body.to_owned())
}

/// Reads the text format of Prometheus as its description has it (exposition format, version 0.0.4): the samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
            && !name.starts_with(|c: char| c.is_numeric())
    };
    let (mut family, mut known, mut samples) = ((String::new(), ""), BTreeSet::new(), BTreeMap::new());
    assert!(text.ends_with('\n'), "the last line is not whole");
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').unwrap();
            assert!(is_name(name) && !name.is_empty() && ["counter", "gauge"].contains(&kind), "{line}");
            assert!(known.insert(name.to_owned()), "{line}: a second time");
            family = (name.to_owned(), kind);
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let (bare, labels) =
            name.split_once('{').map_or((name, ""), |(bare, rest)| (bare, rest.strip_suffix('}').unwrap()));
        assert_eq!(bare, family.0, "{line}: behind the type of another");
        assert_eq!(family.1 == "counter", bare.ends_with("_total"), "{line}");
        for label in labels.split_terminator(',') {
            let (name, value) = label.split_once('=').unwrap();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
            assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
        }
        assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "{line}: a second time");
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_in_the_format_of_prometheus_with_all_counters_at_a_socket_of_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let state = StateDir::open(dir.path()).unwrap();
    let task = tokio::spawn(run(
        state,
        Settings::new(Token::new([17; 32], None), "watched"),
        async { ended.await.unwrap_or_default() },
        |_: &Status| {
            ready.send(()).unwrap();
        },
    ));
    is_ready.await.unwrap();
    let socket = dir.path().join("api.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o600);
    let client = Client::new(dir.path());
    let status = tokio::task::spawn_blocking(move || client.status()).await.unwrap().unwrap();
    let (head, body) = get(&socket, "/metrics").await;
    assert!(head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    let samples = samples(&body);
    for counter in status.counters.keys() {
        assert!(samples.contains_key(&format!("kairn_mesh_{counter}_total")), "{counter} is missing: {body}");
    }
    for counter in ["sessions_unproven", "questions_overlong", "membership_malformed", "refused", "overrun"] {
        assert!(status.counters.contains_key(counter), "{counter}");
    }
    for (name, value) in
        [("peers{state=\"alive\"}", 0.0), ("paths{path=\"none\"}", 0.0), ("kept", 1.0), ("leases_own", 0.0)]
    {
        assert_eq!(samples.get(&format!("kairn_mesh_{name}")), Some(&value), "{name}");
    }
    end.send(()).unwrap();
    task.await.unwrap().unwrap();
}
