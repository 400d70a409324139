//! Entering a user namespace as a user without privileges. This program is its own test: it runs itself as that user, and
//! that run executes itself once more inside. Needs no harness, whose threads and arguments would be in the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it was skipped"
)]

use kairn_host::rootless::{Standing, ensure_root_or_userns};
use kairn_host::{Invocation, Runner, Sandbox, mount};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

const USER: &str = "54321";

fn main() {
    if std::env::args().nth(1).as_deref() == Some("as-user") {
        as_user();
    } else {
        outside();
    }
}

/// First as the user, then again inside.
fn as_user() {
    match ensure_root_or_userns() {
        Ok(Standing::Ran(status)) => std::process::exit(status.code().unwrap_or(1)),
        Ok(Standing::UserNamespace) => {
            let dir = Path::new(&std::env::args().nth(2).unwrap()).join("inside");
            fs::create_dir(&dir).unwrap();
            // Ids of a distribution's users exist, and mounts work.
            chown(&dir, Some(0), Some(42)).unwrap();
            chown(&dir, Some(65_534), Some(0)).unwrap();
            mount::private_namespace().unwrap();
            mount::mount_tmpfs(&dir, 0o755, None).unwrap();
            sandboxed(&dir);
            println!("{}", fs::read_to_string("/proc/self/uid_map").unwrap());
            std::process::exit(7);
        }
        Ok(Standing::Root) => panic!("the user is root"),
        Err(error) => {
            let hints = kairn_report::Diagnostic::hints(&error);
            eprintln!("{error}: {hints:?}");
            std::process::exit(3);
        }
    }
}

/// A sandbox works inside a user namespace too, with files of other owners in its tree and its output.
fn sandboxed(dir: &Path) {
    let (tree, output) = (dir.join("tree"), dir.join("output"));
    for name in ["usr", "proc", "dev", "run", "tmp", "etc"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(Path::new("usr").join(name), tree.join(name)).unwrap();
    }
    fs::create_dir(&output).unwrap();
    fs::write(tree.join("etc/shadow"), "secret").unwrap();
    fs::set_permissions(tree.join("etc/shadow"), fs::Permissions::from_mode(0o000)).unwrap();
    chown(tree.join("etc/shadow"), Some(1), Some(42)).unwrap();
    let script = "echo $$; id -u; cat /run/seal/tree/etc/shadow > /run/seal/out/copy; chown 7:8 /run/seal/out/copy; ls /proc/self/fd > /dev/null";
    let finished = Sandbox::for_sealing(&tree, &output)
        .bind("/usr", "/usr", true)
        .run(&Invocation::new("sh").args(["-ec", script]))
        .unwrap();
    assert_eq!(finished.text(), "1\n0\n", "{}", finished.stderr);
    let copy = fs::metadata(output.join("copy")).unwrap();
    assert_eq!((copy.uid(), copy.gid(), copy.len()), (7, 8, 6));
}

fn outside() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: taking on another user needs root");
    }
    if let Some(absent) =
        ["setpriv", "newuidmap", "newgidmap"].iter().find(|name| !Path::new("/usr/bin").join(name).exists())
    {
        return eprintln!("skipped: `{absent}` not installed");
    }
    if !Path::new("/bin").is_symlink() {
        return eprintln!("skipped: the programs of this machine are not all in /usr");
    }
    assert_eq!(ensure_root_or_userns().unwrap(), Standing::Root);
    // The user exists in a mount namespace of this test only.
    mount::private_namespace().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("program");
    fs::copy("/proc/self/exe", &program).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap() + &format!("kairn-test:x:{USER}:{USER}::/:/bin/sh\n");
    for (name, content) in [("passwd", passwd.as_str()), ("subuid", ""), ("subgid", "kairn-test:600000:65536\n")] {
        let file = dir.path().join(name);
        fs::write(&file, content).unwrap();
        if !Path::new("/etc").join(name).exists() {
            return eprintln!("skipped: /etc/{name} is absent, so nothing can be bound on it");
        }
        mount::bind(&file, &Path::new("/etc").join(name)).unwrap();
    }
    let run = Invocation::new("setpriv").args(["--reuid", USER, "--regid", USER, "--clear-groups"]).args([
        program.to_string_lossy(),
        "as-user".into(),
        dir.path().to_string_lossy(),
    ]);

    let refused = Runner::default().run_unchecked(&run).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("/etc/subuid has no entry") && refused.stderr.contains("usermod"),
        "{}",
        refused.stderr
    );

    fs::write(dir.path().join("subuid"), "kairn-test:500000:65536\n").unwrap();
    let finished = Runner::default().run_unchecked(&run).unwrap();
    if finished.stderr.contains("the kernel refuses user namespaces") {
        return eprintln!("skipped: {}", finished.stderr);
    }
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
    let map: Vec<u32> = finished.text().split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(map, [0, 54_321, 1, 1, 500_000, 65_536]);
    println!("test a_user_without_privileges_becomes_root_of_a_namespace_with_all_its_ids ... ok");
}
