//! The real systemd-networkd as judge of what is written for it. Needs root, name spaces and the service; else skipped.

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

/// Lets the real service carry a network out on pairs of virtual cables, then shows addresses, routes and rules.
fn networkd_does(text: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for file in render(&good(text), Renderer::Networkd).files {
        let name = file.path.rsplit('/').next().unwrap();
        std::fs::write(folder.path().join(name), file.content.reveal()).unwrap();
    }
    // With /sys read-only the service does not wait for udev, which is not there.
    let script = "set -e
        mount -t tmpfs none /run; mkdir -p /run/systemd/network; cp \"$1\"/* /run/systemd/network/
        chmod 0644 /run/systemd/network/*; mount -t sysfs -o ro none /sys
        ip link add e0 type veth peer name x0; ip link set e0 address 02:00:00:00:00:77; ip link set x0 up
        ip link add e1 type veth peer name x1; ip link set x1 up; ip link add probe type bridge; ip link del probe
        echo begun
        /usr/lib/systemd/systemd-networkd 2>/dev/null & service=$!
        /usr/lib/systemd/systemd-networkd-wait-online --timeout=20 -i e0 -i br0 2>&1 || echo 'not online'
        kill $service; ip -o -4 addr; ip route show table all type unicast; ip route show type blackhole; ip rule; ip -o link";
    let output =
        Command::new("unshare").args(["--mount", "--net", "sh", "-c", script, "sh"]).arg(folder.path()).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.contains("begun") {
        Ok(said)
    } else {
        Err(format!("no name spaces, cables or bridges: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

#[test]
fn the_real_networkd_does_what_is_written() {
    if !Path::new("/usr/lib/systemd/systemd-networkd-wait-online").exists() {
        return println!("skipped: no systemd-networkd-wait-online");
    }
    let text = "
interfaces:
  - name: uplink
    match: {mac: '02:00:00:00:00:77'}
    mtu: 1400
    accept-ra: false
    addresses: [10.99.0.2/24]
    gateway: 10.99.0.1
    routes: [{to: 10.98.0.0/16, via: 10.99.0.9, metric: 7, table: 100}, {to: 198.51.100.0/24, type: blackhole}]
    rules: [{from: 10.99.0.0/24, table: 100, priority: 1000}]
  - {name: e1, match: {name: 'e*'}}
  - {name: br0, bridge: {members: [e1], stp: false, forward-delay: 0}, accept-ra: false, addresses: [10.97.0.1/24], mac: '02:00:00:00:00:99'}
";
    match networkd_does(text) {
        Err(why) => println!("skipped: {why}"),
        Ok(said) => {
            let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in [
                "e0 inet 10.99.0.2/24",
                "br0 inet 10.97.0.1/24",
                "default via 10.99.0.1 dev e0",
                "10.98.0.0/16 via 10.99.0.9 dev e0 table 100",
                "metric 7",
                "blackhole 198.51.100.0/24",
                "1000: from 10.99.0.0/24 lookup 100",
                "mtu 1400",
                "master br0",
                "link/ether 02:00:00:00:00:99",
            ] {
                assert!(flat.contains(part), "no `{part}` in\n{said}");
            }
            assert_eq!(flat.matches("master br0").count(), 1, "{said}");
        }
    }
}
