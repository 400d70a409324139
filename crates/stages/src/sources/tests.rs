//! Sources of a temporary root, with a server whose pages the tests set.

use super::*;
use crate::context::tests::context;
use crate::fetch::{Answer, FetchError};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use tempfile::TempDir;

/// Pages that may change; each has its own text as its tag. Keeps what was asked, and what was not sent again.
#[derive(Debug, Default)]
struct Server {
    pages: Mutex<BTreeMap<String, Vec<u8>>>,
    log: Mutex<Vec<String>>,
}

impl Server {
    fn put(&self, url: &str, text: &str) {
        self.pages.lock().unwrap().insert(url.to_owned(), text.as_bytes().to_vec());
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Fetch for Server {
    fn get(&self, request: &Request, body: &mut dyn Write) -> Result<Answer, FetchError> {
        let url = request.url.reveal();
        let pages = self.pages.lock().unwrap();
        let note = |what: &str| self.log.lock().unwrap().push(format!("{url} {what}"));
        let Some(page) = pages.get(url) else {
            note("absent");
            return Err(FetchError::Status { url: request.name(), status: 404 });
        };
        let etag = String::from_utf8_lossy(page).into_owned();
        if request.etag.as_ref() == Some(&etag) {
            note("unmodified");
            return Ok(Answer { status: 304, etag: Some(etag), bytes: 0 });
        }
        note("sent");
        if page.len() as u64 > request.limits.bytes {
            return Err(FetchError::TooLarge { url: request.name(), limit: request.limits.bytes });
        }
        body.write_all(page).unwrap();
        Ok(Answer { status: 200, etag: Some(etag), bytes: page.len() as u64 })
    }
}

struct Machine {
    dir: TempDir,
    server: Arc<Server>,
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap(), server: Arc::default() };
        for (path, text) in files {
            let path = machine.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        machine
    }

    fn online(&self) -> Gathered {
        let context = Context { fetch: Arc::clone(&self.server) as Arc<dyn Fetch>, ..context(self.dir.path()) };
        let mut events = Vec::new();
        let gathered = Sources::online(&context).machine(&mut events);
        assert_eq!(events, []);
        gathered
    }

    fn offline(&self) -> Gathered {
        Sources::at_hand(self.dir.path(), TemplateValues::default()).machine(&mut Vec::new())
    }
}

/// The `v` of each document.
fn values(gathered: &Gathered) -> Vec<String> {
    let value = |document: &Document| document.get("x-v").and_then(|node| Some(node.scalar()?.text.clone()));
    gathered.documents.iter().map(|document| value(document).unwrap_or_default()).collect()
}

fn said(gathered: &Gathered) -> Vec<String> {
    let all = gathered.documents.iter().flat_map(|document| &document.diagnostics);
    all.map(|said| {
        let source = said.span.source.rsplit('/').next().unwrap_or_default();
        let place = said.span.place;
        format!("{source}:{}:{} {}: {}", place.line, place.column, said.severity, said.message)
    })
    .collect()
}

fn text(value: &str, url: &str) -> String {
    let url = if url.is_empty() { String::new() } else { format!("config_url: {url}\n") };
    format!("#cloud-config\nx-v: {value}\n{url}")
}

#[test]
fn sources_come_in_the_order_of_their_precedence() {
    let machine = Machine::new(&[
        ("oem/a.yaml", &text("oem", "https://c/one")),
        (
            "usr/local/cloud-config/b.yaml",
            "#cloud-config\nx-v: local\ncloud-init-paths: [/srv/more, /srv/absent, /oem]\n",
        ),
        ("srv/more/c.yaml", "#cloud-config\nx-v: more\ncloud-init-paths: [/srv/more, /srv/last]\n"),
        ("srv/last/d.yaml", &text("last", "https://c/three")),
        ("proc/cmdline", "quiet kairn.config_url=https://c/two x-v=no kairos.config=x-v=line\n"),
    ]);
    machine.server.put("https://c/one", &text("one", "https://c/inner"));
    machine.server.put("https://c/inner", &text("inner", ""));
    machine.server.put("https://c/two", &text("two", ""));
    machine.server.put("https://c/three", &text("three", ""));
    let answer = |provider: &str| kairn_config::providers::Answer {
        provider: format!("agent-provider-{provider}"),
        event: "agent.install".into(),
        text: format!("x-v: answer {provider}\n"),
    };
    providers::keep(machine.dir.path(), &[answer("a"), answer("b")]).unwrap();
    let gathered = machine.online();
    assert_eq!(said(&gathered), Vec::<String>::new());
    let expected = ["oem", "local", "more", "last", "one", "inner", "three", "two", "answer a", "answer b", "line"];
    assert_eq!(values(&gathered), expected);
    assert_eq!(gathered.late, [4, 5, 6, 7]);
    let merged = kairn_config::merge(&gathered.documents).merged;
    let value = merged.at("x-v").unwrap();
    assert_eq!(
        value.overrode.last().map(ToString::to_string).as_deref(),
        Some("answer of agent-provider-b to agent.install:1:6")
    );
    fs::write(machine.dir.path().join("proc/cmdline"), "quiet").unwrap();
    assert_eq!(values(&machine.online()).last().map(String::as_str), Some("answer b"), "without a command line");
}

#[test]
fn a_copy_counts_where_nothing_is_fetched_and_only_changes_come_late() {
    let machine = Machine::new(&[("oem/a.yaml", &text("a", "https://c/x?token=s"))]);
    machine.server.put("https://c/x?token=s", &text("1", ""));
    let before = machine.offline();
    assert_eq!(values(&before), ["a"]);
    assert_eq!(
        said(&before),
        ["a.yaml:3:13 note: there is no copy of this configuration yet: it is fetched in stage `network`"]
    );
    assert_eq!(machine.online().late, [1]);
    assert_eq!((values(&machine.offline()), said(&machine.offline())), (vec!["a".into(), "1".into()], vec![]));
    let again = machine.online();
    assert_eq!((values(&again), again.late), (vec!["a".into(), "1".into()], vec![]));
    machine.server.put("https://c/x?token=s", &text("2", ""));
    assert_eq!(machine.online().late, [1]);
    assert_eq!(
        machine.server.log(),
        ["https://c/x?token=s sent", "https://c/x?token=s unmodified", "https://c/x?token=s sent"]
    );
    // Neither its name nor any message shows the token; the copy is root's alone.
    assert_eq!(machine.offline().documents[1].source, "https://c/x?…");
    let copies: Vec<_> = fs::read_dir(machine.dir.path().join("oem/.kairn/remote")).unwrap().collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].as_ref().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    // It goes when nothing points at it.
    fs::write(machine.dir.path().join("oem/a.yaml"), text("a", "")).unwrap();
    machine.online();
    assert_eq!(fs::read_dir(machine.dir.path().join("oem/.kairn/remote")).unwrap().count(), 0);
}

#[test]
fn an_address_that_needs_what_is_not_known_yet_is_a_fault_only_where_it_is_fetched() {
    let machine = Machine::new(&[("oem/a.yaml", &text("a", "'https://c/{{ .Values.ProtectedID }}'"))]);
    assert!(said(&machine.offline())[0].starts_with("a.yaml:3:13 note: the address cannot be made out: "));
    assert!(said(&machine.online())[0].starts_with("a.yaml:3:13 error: the address cannot be made out: "));
}

#[test]
fn what_is_no_configuration_is_told_and_the_last_good_copy_counts() {
    let machine = Machine::new(&[("oem/a.yaml", &text("a", "https://c/x")), ("oem/b.yaml", &text("b", ""))]);
    let long = format!("#cloud-config\n# {}\n", "x".repeat(yaml::LIMITS.bytes));
    for (page, why) in [
        (
            "<html>please log in</html>",
            "`https://c/x` is no configuration: it has no header line such as `#cloud-config`",
        ),
        ("#cloud-config\na: [\n", "`https://c/x` is no configuration: line 3: "),
        (&*long, "`https://c/x` has more than 1048576 bytes"),
        ("", "`https://c/x` is no configuration: it has no header line such as `#cloud-config`"),
    ] {
        machine.server.put("https://c/x", page);
        let gathered = machine.online();
        assert_eq!(values(&gathered), ["a", "b"], "{page}");
        let said = said(&gathered);
        assert!(said[0].starts_with(&format!("a.yaml:3:13 error: {why}")), "{said:?}");
        assert_eq!(said.len(), 1);
    }
    machine.server.pages.lock().unwrap().insert("https://c/x".into(), b"#cloud-config\n# \xff\n".to_vec());
    assert_eq!(said(&machine.online()), ["a.yaml:3:13 error: `https://c/x` is not UTF-8 at byte 16"]);
    machine.server.put("https://c/x", &text("good", ""));
    assert_eq!(values(&machine.online()), ["a", "b", "good"]);
    machine.server.put("https://c/x", "<html>");
    let gathered = machine.online();
    assert_eq!((values(&gathered), gathered.late.len()), (vec!["a".into(), "b".into(), "good".into()], 0));
    let said = said(&gathered);
    assert!(said[0].starts_with("a.yaml:3:13 warning: ") && said[0].contains("; its copy of "), "{said:?}");
    machine.server.pages.lock().unwrap().clear();
    assert_eq!(values(&machine.online()), ["a", "b", "good"]);
}

#[test]
fn a_pinned_document_has_its_digest_or_does_not_count() {
    let (good, bad) = (text("good", ""), text("bad", ""));
    let digest = files::sha256_of(&mut good.as_bytes()).unwrap();
    let machine = Machine::new(&[("oem/a.yaml", &text("a", &format!("https://c/x#sha256={digest}")))]);
    machine.server.put("https://c/x", &bad);
    let gathered = machine.online();
    assert_eq!(values(&gathered), ["a"]);
    assert!(said(&gathered)[0].contains(&format!(", not {digest}")), "{:?}", said(&gathered));
    machine.server.put("https://c/x", &good);
    assert_eq!(values(&machine.online()), ["a", "good"]);
    machine.server.log();
    // It can be no other, so nobody is asked.
    machine.server.put("https://c/x", &bad);
    assert_eq!(values(&machine.online()), ["a", "good"]);
    assert_eq!(machine.server.log(), Vec::<String>::new());
    // Pinned to another, the copy does not count.
    let other = files::sha256_of(&mut bad.as_bytes()).unwrap();
    fs::write(machine.dir.path().join("oem/a.yaml"), text("a", &format!("https://c/x#sha256={other}"))).unwrap();
    assert_eq!(values(&machine.offline()), ["a"]);
    assert_eq!(values(&machine.online()), ["a", "bad"]);
}

#[test]
fn circles_end_and_chains_are_bounded() {
    let machine = Machine::new(&[("oem/a.yaml", &text("a", "https://c/0")), ("oem/b.yaml", &text("b", "https://c/0"))]);
    machine.server.put("https://c/0", &text("0", "https://c/1"));
    machine.server.put("https://c/1", &text("1", "https://c/0"));
    let gathered = machine.online();
    assert_eq!((values(&gathered), said(&gathered)), (vec!["a".into(), "b".into(), "0".into(), "1".into()], vec![]));
    for link in 0..20 {
        machine.server.put(&format!("https://c/{link}"), &text("x", &format!("https://c/{}", link + 1)));
    }
    let gathered = machine.online();
    assert_eq!(gathered.documents.len(), 2 + DEEPEST);
    assert_eq!(said(&gathered), ["7:3:13 error: more than 8 configurations point at one another in a row"]);
    let files: Vec<(String, String)> =
        (0..MOST + 2).map(|i| (format!("oem/{i:03}.yaml"), text("f", &format!("https://c/w{i}")))).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let machine = Machine::new(&files);
    (0..MOST + 2).for_each(|i| machine.server.put(&format!("https://c/w{i}"), &text("w", "")));
    let gathered = machine.online();
    assert_eq!(gathered.documents.len(), 2 * MOST + 2);
    assert_eq!(said(&gathered).len(), 2);
}

#[test]
fn a_damaged_copy_is_told_and_fetched_anew() {
    let machine = Machine::new(&[("oem/a.yaml", &text("a", "https://c/x"))]);
    machine.server.put("https://c/x", &text("1", ""));
    machine.online();
    let dir = machine.dir.path().join("oem/.kairn/remote");
    let copy = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read_to_string(&copy).unwrap();
    for damage in [whole.replace("x-v: 1", "x-v: 9"), whole.get(..40).unwrap().to_owned()] {
        fs::write(&copy, damage).unwrap();
        let mut events = Vec::new();
        let offline = Sources::at_hand(machine.dir.path(), TemplateValues::default()).machine(&mut events);
        assert_eq!((values(&offline).len(), events.len()), (1, 1));
        let context = Context { fetch: Arc::clone(&machine.server) as Arc<dyn Fetch>, ..context(machine.dir.path()) };
        let online = Sources::online(&context).machine(&mut events);
        assert_eq!(values(&online), ["a", "1"]);
    }
}

#[test]
fn a_live_system_keeps_copies_in_memory() {
    let machine = Machine::new(&[("oem/a.yaml", &text("a", "https://c/x")), ("run/cos/live_mode", "")]);
    machine.server.put("https://c/x", &text("1", ""));
    machine.online();
    assert_eq!(values(&machine.offline()), ["a", "1"]);
    assert!(machine.dir.path().join("run/kairn/remote").is_dir() && !machine.dir.path().join("oem/.kairn").exists());
}
