//! Providers that are scripts in a temporary root.

use super::*;
use kairn_config::providers::{Answer, DIRECTORIES, payload};
use std::fs;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

fn root(scripts: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, script) in scripts {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written by another process: a descriptor that a child of this one inherits would keep the file from being run.
        let written = Runner::default()
            .run(&Invocation::new("tee").arg(path.to_str().unwrap()).stdin(format!("#!/bin/sh\n{script}\n")));
        written.unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn call(config: &str) -> Call {
    let name: EventName = "agent.boot".parse().unwrap();
    let payload = payload(&name, config, &[]);
    Call::new(name, &payload)
}

fn providers(dir: &TempDir) -> Vec<Provider> {
    find(dir.path(), &DIRECTORIES.map(PathBuf::from))
}

type Answers = Vec<(String, Result<Response, String>)>;

/// What each provider of a root answers, by its name.
fn ask(dir: &TempDir, config: &str, deadline: Duration) -> (Answers, Vec<Event>) {
    let mut events = Vec::new();
    let replies = publish(&providers(dir), &call(config), deadline, &mut events);
    (replies.into_iter().map(|reply| (reply.provider.name, reply.result)).collect(), events)
}

fn said(dir: &TempDir, config: &str, deadline: Duration) -> String {
    let (replies, _) = ask(dir, config, deadline);
    replies.into_iter().next().unwrap().1.unwrap_err()
}

#[test]
fn providers_are_found_by_name_and_the_owners_hide_the_images() {
    let dir = root(&[
        ("system/providers/agent-provider-b", "echo image"),
        ("system/providers/agent-provider-c", ""),
        ("usr/local/system/providers/agent-provider-b", "echo owner"),
        ("usr/local/system/providers/agent-provider-a", ""),
        ("usr/local/system/providers/other", ""),
        ("agent-provider-cwd", ""),
    ]);
    let found = providers(&dir);
    let below: Vec<_> = found.iter().map(|one| one.path.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(
        below,
        [
            "usr/local/system/providers/agent-provider-a",
            "usr/local/system/providers/agent-provider-b",
            "system/providers/agent-provider-c"
        ]
    );
    assert_eq!(find(dir.path(), &["/absent".into()]), []);
}

#[test]
fn a_provider_reads_the_event_and_its_answer_is_read() {
    let script = r#"test "$1" = agent.boot || exit 9
input=$(cat); echo "said on the side" >&2; test "$PWD" = / || exit 8
case $input in *'"name":"agent.boot"'*'}') ;; *) exit 7 ;; esac
case $input in *'hostname: a'*) ;; *) exit 6 ;; esac
echo '{"state":"ready","data":"{}","error":"","log":"l"}'"#;
    let dir = root(&[("system/providers/agent-provider-x", script)]);
    let (replies, events) = ask(&dir, "hostname: a", PATIENCE);
    let expected = Response { state: "ready".into(), data: "{}".into(), log: "l".into(), unknown: Vec::new() };
    assert_eq!(replies, [("agent-provider-x".to_owned(), Ok(expected))]);
    assert_eq!(events.last(), Some(&Event::done("agent.boot: agent-provider-x")));
}

#[test]
fn a_long_payload_is_in_a_file_that_is_gone_afterwards() {
    let script = r#"file=$(sed -n 's/.*"file":"\([^"]*\)".*/\1/p')
test "$(stat -c %a "$file")" = 600 || exit 9
echo "{\"data\":\"$file $(wc -c < "$file")\"}""#;
    let dir = root(&[("system/providers/agent-provider-x", script)]);
    let config = "a".repeat(20_000);
    let (replies, _) = ask(&dir, &config, PATIENCE);
    let data = replies[0].1.clone().unwrap().data;
    let (path, length) = data.split_once(' ').unwrap();
    assert_eq!(length.trim().parse::<usize>().unwrap(), call(&config).data.len());
    assert!(!Path::new(path).exists(), "{path}");
}

#[test]
fn what_goes_wrong_at_one_provider_is_named_and_the_next_is_asked_all_the_same() {
    let dir = root(&[
        ("system/providers/agent-provider-a", "echo no disk >&2; exit 3"),
        ("system/providers/agent-provider-b", "echo hello"),
        ("system/providers/agent-provider-c", "true"),
        ("system/providers/agent-provider-d", r#"echo '{"error":"no quorum"}'"#),
        ("system/providers/agent-provider-e", r#"echo '{"error":"no quorum"}'; exit 1"#),
        ("system/providers/agent-provider-f", r#"echo '{"stat":1}'"#),
        ("system/providers/agent-provider-g", "kill -9 $$"),
        ("system/providers/agent-provider-h", ""),
        ("system/providers/agent-provider-i", ""),
    ]);
    let path = |name: &str| dir.path().join("system/providers").join(name);
    fs::set_permissions(path("agent-provider-h"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(path("agent-provider-i"), fs::Permissions::from_mode(0o777)).unwrap();
    let (replies, events) = ask(&dir, "", PATIENCE);
    let said: Vec<String> = replies
        .iter()
        .map(|(name, result)| match result {
            Ok(_) => format!("{name}: answered"),
            Err(why) => format!("{name}: {why}"),
        })
        .map(|line| line.trim_start_matches("agent-provider-").to_owned())
        .collect();
    assert_eq!(
        said,
        [
            "a: it ended with exit status: 3; it said: no disk",
            "b: its answer cannot be read at line 1, column 1: expected value",
            "c: it said nothing, where an answer in JSON was due",
            "d: it answered with an error: no quorum",
            "e: it ended with exit status: 1; it said: no quorum",
            "f: answered",
            "g: it ended with signal: 9 (SIGKILL)",
            "h: it is not executable",
            "i: everybody may write it, so it could be anybody's program",
        ]
    );
    let failed = events
        .iter()
        .filter(|event| matches!(event, Event::End { outcome, .. } if *outcome != kairn_report::Outcome::Done));
    assert_eq!(failed.count(), 8);
    assert!(events.contains(&Event::warning("agent.boot: agent-provider-f: an answer has no `stat`: left out")));
}

#[test]
fn a_provider_that_hangs_is_killed_with_what_it_started() {
    let dir = root(&[
        ("system/providers/agent-provider-x", "sleep 600 & sleep 600"),
        ("system/providers/agent-provider-y", "echo '{}'"),
    ]);
    let begun = Instant::now();
    let (replies, _) = ask(&dir, "", Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(replies[0].1.as_ref().unwrap_err().contains("did not end within"), "{replies:?}");
    assert_eq!(replies[1].1, Err("no time is left for it: the providers before it took all of it".to_owned()));
}

#[test]
fn a_provider_that_never_stops_talking_is_killed() {
    let dir = root(&[("system/providers/agent-provider-x", "cat /dev/zero")]);
    let said = said(&dir, "", PATIENCE);
    assert!(said.contains(&format!("wrote more than {MOST} bytes and was killed")), "{said}");
}

#[test]
fn failures_of_the_owners_providers_count_when_the_owner_is_strict_and_the_images_with_all() {
    let of = |path: &str| Provider { name: "agent-provider-x".into(), path: path.into(), refused: None };
    let replies = [
        Reply { provider: of("/system/providers/agent-provider-x"), result: Err("no".into()) },
        Reply { provider: of("/usr/local/system/providers/agent-provider-y"), result: Err("no".into()) },
        Reply { provider: of("/usr/local/system/providers/agent-provider-z"), result: Ok(Response::default()) },
    ];
    let event = "agent.boot".parse().unwrap();
    for (strictness, refused) in [(Strictness::Lenient, 0), (Strictness::Owner, 1), (Strictness::All, 2)] {
        let mut result = StageResult::empty("initramfs");
        add_to(&mut result, &event, &replies, strictness);
        assert_eq!((result.refused, result.failures(), result.steps.len()), (refused, 2, 3), "{strictness:?}");
        assert_eq!(result.steps[0].name, "agent.boot: agent-provider-x");
    }
}

#[test]
fn an_answer_is_kept_for_root_only_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(kept(dir.path()).unwrap(), []);
    let answer = Answer { provider: "p".into(), event: "agent.install".into(), text: "hostname: a".into() };
    keep(dir.path(), std::slice::from_ref(&answer)).unwrap();
    assert_eq!(kept(dir.path()).unwrap(), [answer]);
    let path = dir.path().join("run/kairn/answers.json");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "{\"format\":2,\"answers\":[]}").unwrap();
    let documents = answers::documents(dir.path(), None);
    assert!(documents[0].diagnostics[0].message.contains("its form is 2"), "{documents:?}");
}
