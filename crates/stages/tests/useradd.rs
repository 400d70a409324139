//! Users as we make them beside users as useradd(8) makes them, field by field.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

use kairn_config::{Document, TemplateValues};
use kairn_stages::{Context, run};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const FILES: [(&str, &str); 5] = [
    ("passwd", "root:x:0:0:root:/root:/bin/bash\n"),
    ("shadow", "root:*:19000:0:99999:7:::\n"),
    ("group", "root:x:0:\nusers:x:100:\nadmin:x:900:\n"),
    ("gshadow", "root:*::\nusers:!::\nadmin:!::\n"),
    (
        "login.defs",
        "UID_MIN 2000\nUID_MAX 3000\nGID_MIN 2000\nGID_MAX 3000\nSYS_UID_MIN 200\nSYS_UID_MAX 300\nSYS_GID_MIN 200\n\
         SYS_GID_MAX 300\nPASS_MAX_DAYS 90\nPASS_MIN_DAYS 1\nPASS_WARN_AGE 14\nUSERGROUPS_ENAB yes\nHOME_MODE 0750\n\
         ENCRYPT_METHOD SHA512\n",
    ),
];

/// The same users in both languages: the name, the settings in YAML, the arguments of useradd.
const USERS: [(&str, &str, &[&str]); 6] = [
    (
        "ann",
        "gecos: 'Ann A.', shell: /bin/sh, groups: [admin, users]",
        &["-m", "-c", "Ann A.", "-s", "/bin/sh", "-G", "admin,users"],
    ),
    ("cy", "no_user_group: true, no_create_home: true, no_log_init: true", &["-M", "-N", "-l"]),
    ("dan", "expiredate: '2032-09-01', inactive: 5", &["-m", "-e", "2032-09-01", "-f", "5"]),
    ("eve", "passwd: '$6$salt$hash'", &["-m", "-p", "$6$salt$hash"]),
    ("svc", "system: true", &["-r"]),
    // The last: useradd goes on behind the highest number, where the lowest free one is taken here.
    (
        "bob",
        "uid: 2500, homedir: /srv/bob, primary_group: users",
        &["-m", "-u", "2500", "-d", "/srv/bob", "-g", "users"],
    ),
];

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for dir in ["etc/default", "etc/skel/.config", "home", "srv"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    for (name, text) in FILES {
        fs::write(root.path().join("etc").join(name), text).unwrap();
    }
    fs::write(root.path().join("etc/default/useradd"), "SHELL=/bin/dash\nGROUP=100\nHOME=/home\nSKEL=/etc/skel\n")
        .unwrap();
    fs::write(root.path().join("etc/skel/.profile"), "# profile\n").unwrap();
    root
}

fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join("etc").join(file)).unwrap()
}

#[test]
fn users_have_the_same_lines_and_homes_as_useradd_gives_them() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("skipped: useradd makes users for root only");
    }
    let theirs = root();
    for (name, _, arguments) in USERS {
        let mut useradd = Command::new("useradd");
        useradd.arg("--root").arg(theirs.path()).args(arguments).arg(name);
        match useradd.output() {
            Err(error) => return eprintln!("skipped: useradd does not run: {error}"),
            Ok(output) => assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    let ours = root();
    let users: Vec<_> = USERS.iter().map(|(name, settings, _)| format!("- {{name: {name}, {settings}}}\n")).collect();
    let document = Document::parse("t", &format!("#cloud-config\nusers:\n{}", users.concat()));
    let context = Context { root: ours.path().to_owned(), live: false, ..Context::this(TemplateValues::default()) };
    let result = run(&[document], "boot", &context, &mut Vec::new());
    assert_eq!(result.failures(), 0, "{result:?}");
    for file in ["passwd", "shadow", "group", "gshadow"] {
        let sorted = |text: String| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(read(ours.path(), file)), sorted(read(theirs.path(), file)), "{file}");
        let mode = |root: &Path| fs::metadata(root.join("etc").join(file)).unwrap().mode();
        assert_eq!(mode(ours.path()), mode(theirs.path()), "{file}");
    }
    for path in ["home/ann", "home/ann/.profile", "srv/bob", "home/cy", "home/svc"] {
        let state = |root: &Path| {
            let metadata = fs::metadata(root.join(path)).ok()?;
            Some((format!("{:o}", metadata.mode()), metadata.uid(), metadata.gid()))
        };
        assert_eq!(state(ours.path()), state(theirs.path()), "{path}");
    }
    // And what is written is consistent to the tool that checks it.
    match Command::new("grpck").arg("--root").arg(ours.path()).arg("-r").output() {
        Err(error) => eprintln!("skipped: grpck does not run: {error}"),
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
    }
}

#[test]
fn every_stage_of_a_file_about_accounts_leaves_no_secret_in_events_results_or_debug() {
    let root = root();
    let me = rustix::process::getuid().as_raw();
    let text = format!(
        "#cloud-config\nusers:\n- {{name: ann, uid: {me}, passwd: hunter2, no_create_home: true, ssh_authorized_keys: \
         ['https://u:hunter2@127.0.0.1:1/k?t=hunter2']}}\nchpasswd: {{list: ['ann:hunter2x', 'hunter2']}}\nssh_keys: \
         {{rsa_private: hunter2}}\nstages:\n  boot:\n  - ensure_entities:\n    - entity: '{{kind: shadow, username: u, \
         password: hunter2}}'\n    - entity: '{{kind: shadow, username: u, password: \"hunter2\\n\"}}'\n    - entity: \
         '{{kind: shadow, username: v, password: hunter2, warn: {{{{ .x }}}}}}'\n"
    );
    let documents = [Document::parse("t", &text)];
    let context = Context {
        root: root.path().to_owned(),
        live: false,
        patience: kairn_stages::fetch::Patience { tries: 1, pause: std::time::Duration::ZERO },
        ..Context::this(TemplateValues::default())
    };
    for stage in ["boot", "network"] {
        let mut events = Vec::new();
        let result = run(&documents, stage, &context, &mut events);
        assert!(result.failures() > 0, "{stage}: {result:?}");
        let plan = kairn_config::plan(&documents, stage);
        let shown = format!("{events:?}{result:?}{plan:?}{}", serde_json::to_string(&result).unwrap());
        assert!(!shown.contains("hunter2"), "{stage}: {shown}");
    }
    assert!(!fs::read_to_string(root.path().join("etc/shadow")).unwrap().contains("hunter2"));
}
