//! The real systemd-networkd as judge of what is written for it.

use super::{OWN, V1, V2, good};
use kairn_config::network::{Renderer, render};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Hands files to the real service in name spaces of its own and returns what it says of them; `Err` is why it cannot run.
fn networkd_says(files: &[(String, String)]) -> Result<Vec<String>, String> {
    let daemon = "/usr/lib/systemd/systemd-networkd";
    if !Path::new(daemon).exists() {
        return Err(format!("no {daemon}"));
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    // Its own network, and a /run of its own, where it reads files as it does in /etc.
    let script = "set -e; mount -t tmpfs none /run; mkdir -p /run/systemd/network; cp \"$1\"/* /run/systemd/network/; \
                  chmod 0644 /run/systemd/network/*; export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console; \
                  exec /usr/lib/systemd/systemd-networkd";
    let mut child = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    let errors = BufReader::new(child.stderr.take().unwrap());
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in errors.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    // It reads its files before it looks at the links.
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut said, mut read) = (Vec::new(), false);
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        read = line.contains("Enumeration completed");
        if read {
            break;
        }
        said.push(line);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lines);
    reader.join().unwrap();
    if !read {
        return Err(format!("systemd-networkd does not run here: {}", said.join("; ")));
    }
    Ok(said.into_iter().filter(|line| line.contains("/run/systemd/network/")).collect())
}

#[test]
fn the_real_networkd_understands_every_line() {
    for text in [OWN, V2, V1] {
        let rendering = render(&good(text), Renderer::Networkd);
        // .link files are udev's.
        let files: Vec<(String, String)> = rendering
            .files
            .iter()
            .filter(|file| file.path.ends_with(".network") || file.path.ends_with(".netdev"))
            .map(|file| (file.path.rsplit('/').next().unwrap().to_owned(), file.content.reveal().clone()))
            .collect();
        match networkd_says(&files) {
            Ok(said) => assert_eq!(said, Vec::<String>::new(), "{text}"),
            Err(why) => return println!("skipped: {why}"),
        }
    }
    // The oracle does speak.
    let bad =
        [("10-bad.network".to_owned(), "[Match]\nName=a\n[Network]\nAdress=10.0.0.1/24\nDHCP=perhaps\n".to_owned())];
    assert_eq!(networkd_says(&bad).map(|said| said.len()), Ok(2));
}
