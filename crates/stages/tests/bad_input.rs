//! Every kind of mistake in a configuration: it is said where and how to mend it, and its neighbours run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use kairn_config::{Document, Severity, TemplateValues};
use kairn_stages::fetch::{Answer, Fetch, FetchError, Request};
use kairn_stages::{Context, Gathered, Sources, StageResult, run};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What stands beside a mistake in the same stage, and must be done in spite of it.
const NEIGHBOUR: &str = "  - {name: neighbour, files: [{path: /neighbour}]}\n";

/// A configuration with a mistake among the steps of stage `boot`.
fn beside(steps: &str) -> String {
    format!("#cloud-config\nstages:\n  boot:\n{steps}{NEIGHBOUR}")
}

/// Serves one page, or refuses.
#[derive(Debug)]
struct Page(Option<Vec<u8>>);

impl Fetch for Page {
    fn get(&self, request: &Request, body: &mut dyn Write) -> Result<Answer, FetchError> {
        let Some(page) = &self.0 else {
            let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Err(FetchError::Transport { url: request.name(), source });
        };
        if page.len() as u64 > request.limits.bytes {
            return Err(FetchError::TooLarge { url: request.name(), limit: request.limits.bytes });
        }
        body.write_all(page).unwrap();
        Ok(Answer { status: 200, etag: None, bytes: page.len() as u64 })
    }
}

fn context(root: &Path, page: Option<&[u8]>) -> Context {
    Context {
        root: root.to_owned(),
        command_deadline: Duration::from_secs(10),
        fetch: Arc::new(Page(page.map(<[u8]>::to_vec))),
        fetch_deadline: Duration::from_millis(200),
        live: false,
        ..Context::this(TemplateValues::default())
    }
}

/// Runs a file with a mistake before a sound one; returns what was said and failed, and which neighbours ran.
fn outcome(text: &str, page: Option<&[u8]>) -> (Vec<String>, bool, bool) {
    let root = tempfile::tempdir().unwrap();
    let context = context(root.path(), page);
    let sound = Document::parse("sound.yaml", "stages: {boot: [{files: [{path: /sound}]}]}\n");
    let local = vec![Document::parse("bad.yaml", text), sound];
    let Gathered { documents, .. } = Sources::online(&context).complete(local, None, &mut Vec::new());
    let result: StageResult = run(&documents, "boot", &context, &mut Vec::new());
    let mut said: Vec<String> = result
        .diagnostics
        .iter()
        .filter(|said| said.severity >= Severity::Warning)
        .map(|said| said.to_string().replace('\n', " |"))
        .collect();
    for step in &result.steps {
        said.extend(step.skipped.iter().map(|why| format!("{}: skipped: {why}", step.place)));
        for action in &step.actions {
            if let kairn_stages::Effect::Failed(why) = &action.effect {
                said.push(format!("{}: {} failed: {why}", step.place, action.label));
            }
        }
    }
    (said, root.path().join("neighbour").exists(), root.path().join("sound").exists())
}

/// Ten to the seventh values in eight lines.
fn aliases() -> String {
    let mut text = String::from("#cloud-config\nx-a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
        text.push_str(&format!("x-{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(", ")));
    }
    text.push_str("stages: {boot: [{files: [{path: /neighbour}]}]}\n");
    text
}

#[test]
fn a_mistake_is_pointed_at_and_takes_out_only_what_holds_it() {
    for (step, expected) in [
        ("{name: a, commands: {a: b}}", "4:25: error: `commands` is a list, not a mapping"),
        ("{name: a, comands: [a]}", "4:15: error: unknown key `comands` in a step |  hint: did you mean `commands`?"),
        (
            "{name: a, name: b}",
            "4:15: error: the key `name` stands here a second time and is left out |  bad.yaml:4:6: here is the first",
        ),
        (
            "{name: a, after: [{name: nobody}]}",
            "4:23: error: no step of this stage has the name `nobody` |  hint: it is the name of a step of this file and stage, \
             or `<file>.<name>`",
        ),
        (
            "{name: a, after: [{name: b}]}\n  - {name: b, after: [{name: a}]}",
            "5:23: error: `a` and `b` each wait for the other; this reference is left out |  bad.yaml:4:23: the circle goes on here",
        ),
        (
            "{name: a, only_os: '(', commands: [exit 1]}",
            "4:24: error: `only_os` is not a regular expression: unclosed group",
        ),
        (
            "{name: a, files: [{path: /a, permissions: 0698}]}",
            "4:47: error: `permissions` is an octal number from 0000 to 7777, not `0698`",
        ),
        (
            "{name: a, files: [{path: /a, encoding: b64, content: '%%'}]}",
            "4:58: error: the content is not base64: Invalid symbol 37, offset 0.",
        ),
        (
            "{name: a, files: [{path: /a, encoding: gz+b64, content: YWJj}]}",
            "4:61: error: the content is not gzip: unexpected end of file",
        ),
        (
            "{name: a, hostname: 'h-{{ nobody }}'}",
            "4:25: warning: there is no template function `nobody`; the host name is left alone |  hint: a host name has \
             .MachineID, .Random and .UUID, as in `node-{{ trunc 4 .MachineID }}`",
        ),
        (
            "{name: a, hostname: 'h-{{ .Absent }}'}",
            "4:5: hostname failed: the template names a value that is not known at this point",
        ),
    ] {
        let (said, neighbour, sound) = outcome(&beside(&format!("  - {step}\n")), None);
        assert_eq!(said.first().map(String::as_str), Some(&*format!("bad.yaml:{expected}")), "{said:?}");
        assert!(neighbour && sound, "{step}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_pointed_at_and_the_next_one_counts() {
    let unclosed = beside("  - {name: a, commands: [a\n");
    for (text, expected) in [
        (
            unclosed,
            "5:5: error: not YAML: while parsing a flow sequence, expected ',' or ']' |  hint: a value that holds `: ` needs quotes",
        ),
        (
            aliases(),
            "6:38: error: the document has more than 100000 values or 8388608 bytes once its aliases are expanded",
        ),
    ] {
        let (said, neighbour, sound) = outcome(&text, None);
        assert_eq!(said.first().map(String::as_str), Some(&*format!("bad.yaml:{expected}")), "{said:?}");
        assert!(!neighbour && sound);
    }
}

#[test]
fn a_document_that_cannot_be_had_is_told_where_it_is_named_and_the_file_that_names_it_counts() {
    const HINT: &str = "hint: the configuration is read without it; stage `network` tries it at each boot";
    let text = beside("").replace("stages:", "config_url: https://c/x\nstages:");
    for (page, expected) in [
        (None, "`https://c/x` cannot be reached: connection refused"),
        (Some(vec![b'#'; 2 << 20]), "`https://c/x` has more than 1048576 bytes"),
        (Some(b"#cloud-config\nx: \xff\n".to_vec()), "`https://c/x` is not UTF-8 at byte 17"),
        (Some(b"<html>".to_vec()), "`https://c/x` is no configuration: it has no header line such as `#cloud-config`"),
        (
            Some(b"#cloud-config\nx: [\n".to_vec()),
            "`https://c/x` is no configuration: line 3: not YAML: while parsing a node, did not find expected node content",
        ),
    ] {
        let (said, neighbour, sound) = outcome(&text, page.as_deref());
        assert_eq!(said, [format!("bad.yaml:2:13: error: {expected} |  {HINT}")]);
        assert!(neighbour && sound);
    }
}
