//! Pulls from registries that behave and from ones that do not, and a round trip through Debian's docker-registry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use kairn_lifecycle::{Architecture, Digest};
use kairn_oci::{Error, Image, Layout, Options, PackOptions, Registry, pack};
use kairn_report::{Diagnostic as _, Event, Silent};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How the fake registry serves the layer blob.
#[derive(Clone, Copy)]
enum Manner {
    /// As it should.
    Honest,
    /// Closes each connection after so many bytes, and knows ranges.
    Drops(usize),
    /// Closes each connection after so many bytes, and knows no ranges.
    DropsWithoutRanges(usize),
    /// Sends another blob of the same size.
    Corrupt,
    /// Sends more than the descriptor says.
    Longer,
    /// Says a length in its header that is not that of the blob, and sends the blob's first half.
    LiesShort,
    /// Accepts and never answers.
    Silent,
    /// As it should, with so many pauses that a connection takes long but is never silent for long.
    Slow,
    /// Ends each connection somewhere else, and knows no ranges.
    Erratic,
    /// Never answers about the manifest.
    SilentFromTheStart,
    /// Sends the manifest byte by byte, for ever.
    Trickles,
    /// Answers everything with an error of its own.
    Broken,
    /// Sends another configuration than the manifest names.
    WrongConfiguration,
    /// Sends the manifest without a length and without an end.
    EndlessManifest,
    /// Answers everything with an error whose text has no end.
    EndlessError,
    /// Wants a token, and gives one to whom asks.
    Token,
    /// Wants a token, and answers the question for one without an end.
    EndlessToken,
}

struct Fake {
    address: String,
    requests: Arc<AtomicUsize>,
    /// Bytes of answers without an end that went out before the client hung up.
    endless: Arc<AtomicUsize>,
}

/// What the server counts: requests for the layer, bytes without an end.
type Counters = (Arc<AtomicUsize>, Arc<AtomicUsize>);

/// Serves the image of a layout as `HOST/test:v1`.
fn serve(layout: &Layout, image: &Image, manner: Manner) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let counters = Counters::default();
    let (layout, image, cloned) = (layout.clone(), image.clone(), counters.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (layout, image, counters) = (layout.clone(), image.clone(), cloned.clone());
            thread::spawn(move || answer(stream.unwrap(), &layout, &image, manner, &counters));
        }
    });
    Fake { address, requests: counters.0, endless: counters.1 }
}

fn answer(mut stream: TcpStream, layout: &Layout, image: &Image, manner: Manner, counters: &Counters) -> Option<()> {
    let (blobs, endless) = counters;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut request, mut range, mut login) = (String::new(), None, false);
    reader.read_line(&mut request).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
            range = value.trim().trim_end_matches('-').parse::<usize>().ok();
        }
        login |= line.to_lowercase().trim() == "authorization: bearer a-token";
    }
    let path = request.split(' ').nth(1)?.to_owned();
    let head = |status: &str, kind: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
            .into_bytes()
    };
    match manner {
        Manner::SilentFromTheStart => return wait(&mut reader),
        Manner::Broken => return stream.write_all(&head("503 Service Unavailable", "text/plain", 0)).ok(),
        Manner::Trickles if path.contains("/manifests/") => {
            stream.write_all(&head("200 OK", "application/vnd.oci.image.manifest.v1+json", 1 << 30)).ok()?;
            // Ends when the client hangs up.
            while stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            return None;
        }
        Manner::EndlessManifest if path.contains("/manifests/") => {
            return without_end(&mut stream, "200 OK", "application/vnd.oci.image.manifest.v1+json", endless);
        }
        Manner::EndlessError => return without_end(&mut stream, "403 Forbidden", "text/plain", endless),
        Manner::EndlessToken if path.contains("/token?") => {
            return without_end(&mut stream, "200 OK", "application/json", endless);
        }
        Manner::Token if path.starts_with("/token?") && path.contains("scope=repository%3Atest%3Apull") => {
            let token = br#"{"token": "a-token"}"#;
            stream.write_all(&head("200 OK", "application/json", token.len())).ok()?;
            return stream.write_all(token).ok();
        }
        Manner::Token | Manner::EndlessToken if !login => {
            let port = stream.local_addr().ok()?;
            let scope = "repository:test:pull";
            let challenge = format!("Bearer realm=\"http://{port}/token\",service=\"tests\",scope=\"{scope}\"");
            let text = format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return stream.write_all(text.as_bytes()).ok();
        }
        _ => {}
    }
    if path.contains("/manifests/") {
        let bytes = std::fs::read(layout.blob(&image.digest)).ok()?;
        stream.write_all(&head("200 OK", "application/vnd.oci.image.manifest.v1+json", bytes.len())).ok()?;
        return stream.write_all(&bytes).ok();
    }
    let Some(digest) = path.rsplit("sha256:").next().and_then(|hex| hex.parse::<Digest>().ok()) else {
        return stream.write_all(&head("200 OK", "application/json", 0)).ok();
    };
    let bytes = std::fs::read(layout.blob(&digest)).ok()?;
    if digest == image.config.0 {
        let bytes = if matches!(manner, Manner::WrongConfiguration) { vec![b' '; bytes.len()] } else { bytes };
        stream.write_all(&head("200 OK", "application/octet-stream", bytes.len())).ok()?;
        return stream.write_all(&bytes).ok();
    }
    blobs.fetch_add(1, Ordering::SeqCst);
    let octets = "application/octet-stream";
    match manner {
        Manner::Honest | Manner::Token => {
            stream.write_all(&head("200 OK", octets, bytes.len())).ok()?;
            stream.write_all(&bytes).ok()
        }
        Manner::Drops(limit) => {
            let from = range.unwrap_or(0);
            let rest = &bytes[from..];
            stream.write_all(&head("206 Partial Content", octets, rest.len())).ok()?;
            stream.write_all(&rest[..limit.min(rest.len())]).ok()
        }
        Manner::DropsWithoutRanges(limit) => {
            stream.write_all(&head("200 OK", octets, bytes.len())).ok()?;
            stream.write_all(&bytes[..limit.min(bytes.len())]).ok()
        }
        Manner::Corrupt => {
            stream.write_all(&head("200 OK", octets, bytes.len())).ok()?;
            stream.write_all(&vec![0; bytes.len()]).ok()
        }
        Manner::Longer => {
            stream.write_all(&head("200 OK", octets, bytes.len() + 7)).ok()?;
            stream.write_all(&bytes).ok()?;
            stream.write_all(b"and more").ok()
        }
        Manner::LiesShort => {
            let half = &bytes[..bytes.len() / 2];
            stream.write_all(&head("200 OK", octets, half.len())).ok()?;
            stream.write_all(half).ok()
        }
        Manner::Slow => {
            stream.write_all(&head("200 OK", octets, bytes.len())).ok()?;
            for part in bytes.chunks(bytes.len() / 8) {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(part).ok()?;
            }
            Some(())
        }
        Manner::Erratic => {
            let limit = 1_000 * (1 + blobs.load(Ordering::SeqCst) % 2);
            stream.write_all(&head("200 OK", octets, bytes.len())).ok()?;
            stream.write_all(&bytes[..limit]).ok()
        }
        _ => wait(&mut reader),
    }
}

/// Sends text for as long as the client takes it, and counts it.
fn without_end(stream: &mut TcpStream, status: &str, kind: &str, sent: &AtomicUsize) -> Option<()> {
    stream
        .write_all(format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let part = [b' '; 1 << 16];
    while stream.write_all(&part).is_ok() {
        sent.fetch_add(part.len(), Ordering::SeqCst);
    }
    None
}

/// Says nothing until the client hangs up.
fn wait(reader: &mut impl Read) -> Option<()> {
    reader.read_to_end(&mut Vec::new()).ok().map(drop)
}

/// An image whose layer does not compress, some 300 kB.
fn sample(dir: &Path) -> (Layout, Image) {
    let tree = dir.join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..300_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    std::fs::write(tree.join("etc/noise"), noise).unwrap();
    let options =
        PackOptions { architecture: Architecture::Amd64, epoch: 1, labels: BTreeMap::new(), name: Some("v1".into()) };
    let layout = Layout::create(&dir.join("source")).unwrap();
    let image = pack(&tree, &layout, &options, &mut Silent).unwrap();
    (layout, image)
}

fn registry(insecure: &str) -> Registry {
    Registry::new(&Options {
        insecure: vec![insecure.to_owned()],
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_millis(300),
        resolve_timeout: Duration::from_secs(3),
        pause: Duration::from_millis(1),
    })
    .unwrap()
}

fn pull(dir: &Path, manner: Manner) -> (Result<(), Error>, usize, Vec<Event>, PathBuf) {
    let (layout, image) = sample(dir);
    let fake = serve(&layout, &image, manner);
    let registry = registry(&fake.address);
    let resolved = registry.resolve(&format!("{}/test:v1", fake.address), Architecture::Amd64).unwrap();
    assert_eq!(resolved.image, image);
    let (mut events, to) = (Vec::new(), dir.join("pulled"));
    let result = registry.pull(&resolved, &Layout::create(&to).unwrap(), &mut events);
    (result, fake.requests.load(Ordering::SeqCst), events, to)
}

#[test]
fn an_honest_registry_is_asked_once_and_the_image_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let (result, requests, ..) = pull(dir.path(), Manner::Honest);
    result.unwrap();
    assert_eq!(requests, 1);
    Layout::open(&dir.path().join("pulled")).unwrap().image(Architecture::Amd64).unwrap();
}

#[test]
fn a_pull_goes_on_where_the_connection_broke_as_long_as_there_is_progress() {
    let dir = tempfile::tempdir().unwrap();
    let (result, requests, events, to) = pull(dir.path(), Manner::Drops(40_000));
    result.unwrap();
    assert!(requests >= 8, "{requests}");
    assert!(events.iter().any(|event| matches!(event, Event::Warning { text } if text.contains("going on at byte"))));
    let layout = Layout::open(&to).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    layout.image(Architecture::Amd64).unwrap().unpack(&layout, &out, &mut Silent).unwrap();
}

#[test]
fn a_file_is_read_out_of_an_image_without_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = sample(dir.path());
    let noise = std::fs::read(dir.path().join("tree/etc/noise")).unwrap();
    let fake = serve(&layout, &image, Manner::Honest);
    let registry = registry(&fake.address);
    let resolved = registry.resolve(&format!("{}/test:v1", fake.address), Architecture::Amd64).unwrap();
    assert!(!resolved.states_conversion());
    assert_eq!(registry.peek(&resolved, Path::new("etc/noise")).unwrap(), Some(noise));
    assert_eq!(registry.peek(&resolved, Path::new("etc/nois")).unwrap(), None);
    let fake = serve(&layout, &image, Manner::LiesShort);
    let resolved = registry_of(&fake).resolve(&format!("{}/test:v1", fake.address), Architecture::Amd64).unwrap();
    assert!(registry_of(&fake).peek(&resolved, Path::new("etc/absent")).is_err());
}

fn registry_of(fake: &Fake) -> Registry {
    registry(&fake.address)
}

#[test]
fn a_pull_that_gives_up_keeps_what_it_has_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (result, requests, ..) = pull(dir.path(), Manner::DropsWithoutRanges(1_000));
    assert!(matches!(result, Err(Error::GaveUp { at: 1_000, .. })), "{result:?}");
    assert!(requests <= 6, "{requests}");
}

#[test]
fn wrong_bytes_never_get_a_name() {
    for manner in [Manner::Corrupt, Manner::Longer, Manner::LiesShort] {
        let dir = tempfile::tempdir().unwrap();
        let (result, _, _, to) = pull(dir.path(), manner);
        match (manner, result.unwrap_err()) {
            (Manner::Corrupt, Error::Digest { .. } | Error::GaveUp { .. })
            | (Manner::Longer, Error::Length { .. } | Error::GaveUp { .. })
            | (Manner::LiesShort, Error::GaveUp { .. }) => {}
            (_, error) => panic!("{error}"),
        }
        let (_, image) = (0, sample(&dir.path().join("again")).1);
        assert!(!Layout::open(&to).unwrap().blob(&image.layers[0].digest).exists());
    }
}

#[test]
fn a_silent_registry_is_given_up_within_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (result, ..) = pull(dir.path(), Manner::Silent);
    assert!(matches!(result, Err(Error::GaveUp { .. })), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_slow_registry_is_waited_for_as_long_as_bytes_come() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (result, requests, ..) = pull(dir.path(), Manner::Slow);
    result.unwrap();
    assert_eq!(requests, 1);
    assert!(start.elapsed() > Duration::from_millis(300), "longer than the silence that ends a connection");
}

#[test]
fn a_registry_that_gets_nowhere_new_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (result, requests, ..) = pull(dir.path(), Manner::Erratic);
    assert!(matches!(result, Err(Error::GaveUp { .. })), "{result:?}");
    assert!(requests <= 8, "{requests}");
}

#[test]
fn a_registry_that_does_not_describe_the_image_is_named_within_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = sample(dir.path());
    for manner in [Manner::SilentFromTheStart, Manner::Trickles, Manner::Broken] {
        let (fake, start) = (serve(&layout, &image, manner), Instant::now());
        let error = registry_of(&fake).resolve(&format!("{}/test:v1", fake.address), Architecture::Amd64).unwrap_err();
        assert!(matches!(&error, Error::Unreachable { registry, .. } if *registry == fake.address), "{error:?}");
        assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 2));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_configuration_with_another_digest_is_refused_before_anything_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = sample(dir.path());
    let fake = serve(&layout, &image, Manner::WrongConfiguration);
    let reference = format!("{}/test:v1", fake.address);
    let error = registry_of(&fake).resolve(&reference, Architecture::Amd64).unwrap_err();
    assert!(matches!(error, Error::Digest { expected, .. } if expected == image.config.0), "{error:?}");
    assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 2));
    assert_eq!(fake.requests.load(Ordering::SeqCst), 0);
    // So is a manifest that is not the one that the reference pins.
    let fake = serve(&layout, &image, Manner::Honest);
    let pinned = format!("{}/test@sha256:{}", fake.address, "0".repeat(64));
    let error = registry_of(&fake).resolve(&pinned, Architecture::Amd64).unwrap_err();
    assert!(matches!(error, Error::Digest { found, .. } if found == image.digest), "{error:?}");
}

/// An error with all that it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    error.to_string() + &error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default()
}

#[test]
fn an_answer_without_an_end_is_read_to_its_limit_and_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = sample(dir.path());
    for (manner, object, limit) in [
        (Manner::EndlessManifest, "/v2/test/manifests/v1", "more than 4194304 bytes"),
        (Manner::EndlessToken, "/token?", "more than 65536 bytes"),
        (Manner::EndlessError, "/v2/test/manifests/v1", ""),
    ] {
        let fake = serve(&layout, &image, manner);
        let error = registry_of(&fake).resolve(&format!("{}/test:v1", fake.address), Architecture::Amd64).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(&format!("http://{}{object}", fake.address)), "{text}");
        assert!(text.contains(limit) && text.len() < 2_000, "{text}");
        assert_eq!(error.kind().exit_code(), 4);
        assert!(!error.hints().is_empty());
        // What is above the limit lay in buffers of sockets.
        let sent = fake.endless.load(Ordering::SeqCst);
        assert!(sent < 32 << 20, "{sent} bytes");
    }
}

#[test]
fn an_image_is_pulled_from_a_registry_that_wants_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let (result, requests, ..) = pull(dir.path(), Manner::Token);
    result.unwrap();
    assert_eq!(requests, 1);
}

#[test]
fn an_image_of_another_architecture_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, image) = sample(dir.path());
    let fake = serve(&layout, &image, Manner::Honest);
    let error = registry_of(&fake).resolve(&format!("{}/test:v1", fake.address), Architecture::Arm64).unwrap_err();
    assert!(matches!(&error, Error::Architecture { available, .. } if available == "amd64"), "{error:?}");
    assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 1));
    assert!(matches!(layout.image(Architecture::Arm64), Err(Error::Architecture { .. })));
}

#[test]
fn an_absent_registry_is_named_with_a_hint() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = registry(&port.to_string()).resolve(&format!("{port}/none:v1"), Architecture::Amd64).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { registry, .. } if *registry == port.to_string()), "{error:?}");
    assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 2));
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts Debian's docker-registry (`KAIRN_DOCKER_REGISTRY` or in PATH) on a free port and waits until it listens.
fn docker_registry(dir: &Path) -> Option<(Killed, String)> {
    let program = std::env::var("KAIRN_DOCKER_REGISTRY").unwrap_or_else(|_| "docker-registry".to_owned());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = dir.join("registry.yml");
    let root = dir.join("registry");
    std::fs::write(
        &config,
        format!("version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n", root.display()),
    )
    .unwrap();
    let child = Command::new(&program).arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        eprintln!("skipped: `{program}` is not installed");
        return None;
    };
    let killed = Killed(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "docker-registry did not listen within 60 s");
        thread::yield_now();
    }
    Some((killed, format!("127.0.0.1:{port}")))
}

#[test]
fn an_image_pushed_to_docker_registry_comes_back_by_tag_and_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_killed, address)) = docker_registry(dir.path()) else { return };
    let (layout, image) = sample(dir.path());
    let registry = registry(&address);
    let digest = registry.push(&layout, &image, &format!("{address}/team/os:v1"), &mut Silent).unwrap();
    let mut again = Vec::new();
    registry.push(&layout, &image, &format!("{address}/team/os:v2"), &mut again).unwrap();
    assert!(again.iter().any(|event| matches!(event, Event::End { outcome: kairn_report::Outcome::Skipped(_), .. })));
    for reference in [format!("{address}/team/os:v1"), format!("{address}/team/os@sha256:{digest}")] {
        let resolved = registry.resolve(&reference, Architecture::Amd64).unwrap();
        assert_eq!(resolved.image, image);
        let pulled = Layout::create(&dir.path().join("pulled")).unwrap();
        registry.pull(&resolved, &pulled, &mut Silent).unwrap();
        assert_eq!(pulled.image(Architecture::Amd64).unwrap(), image);
    }
    let error = registry.resolve(&format!("{address}/team/os:v9"), Architecture::Amd64).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let error = registry.resolve(&format!("{address}/team/os:v1"), Architecture::Arm64).unwrap_err();
    assert!(matches!(error, Error::Architecture { .. }), "{error:?}");
}
