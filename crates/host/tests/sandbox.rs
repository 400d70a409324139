//! Programs in a sandbox, in a tree made of this machine's own programs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

use kairn_host::sandbox::{SEAL_OUTPUT, SEAL_TREE};
use kairn_host::{Error, Invocation, Sandbox};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

/// A tree whose `/usr` is that of this machine; `None` with the reason printed where it would not work.
fn tree() -> Option<tempfile::TempDir> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a sandbox needs root");
        return None;
    }
    if !Path::new("/bin").is_symlink() {
        eprintln!("skipped: the programs of this machine are not all in /usr");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["usr", "proc", "dev", "run", "tmp", "etc", "sys", "root"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), dir.path().join(name)).unwrap();
    }
    Some(dir)
}

fn sandbox(tree: &Path) -> Sandbox {
    Sandbox::new(tree).bind("/usr", "/usr", true)
}

fn shell(script: &str) -> Invocation {
    Invocation::new("sh").args(["-c", script]).deadline(Duration::from_secs(60))
}

#[test]
fn a_program_sees_its_tree_and_nothing_of_the_machine() {
    let Some(tree) = tree() else { return };
    let said = |script: &str| sandbox(tree.path()).run(&shell(script)).unwrap().text();
    assert_eq!(said("echo $$ /proc/[0-9]*"), "1 /proc/1\n");
    assert_eq!(said("cat /proc/sys/kernel/hostname"), "localhost\n");
    assert_eq!(said("ls /sys; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo\n");
    assert_eq!(said("ls / | tr '\\n' ' '"), "bin dev etc lib lib64 proc root run sbin sys tmp usr ");
    let devices = said("ls /dev | tr '\\n' ' '");
    assert!(
        devices.starts_with("fd full null random shm stderr stdin stdout ") && devices.ends_with("urandom zero "),
        "{devices}"
    );
    assert_eq!(
        said("head -c 4 /dev/zero | wc -c; echo x > /dev/null; echo y > /dev/stderr; umask; pwd"),
        "4\n0022\n/\n"
    );
    let environment = said("env | sort | grep -v '^PWD\\|^_\\|^SHLVL\\|^OLDPWD'");
    assert_eq!(environment, "HOME=/root\nLANG=C.UTF-8\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n");
    let mounts = said("cut -d' ' -f5 /proc/self/mountinfo | sort | tr '\\n' ' '");
    assert!(mounts.starts_with("/ /dev /dev/full "), "{mounts}");
    assert!(!mounts.contains(tree.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn the_tree_is_read_only_unless_asked_and_the_fresh_directories_are_not() {
    let Some(tree) = tree() else { return };
    let script = shell("echo x > /run/a && echo x > /tmp/b && ! echo x > /etc/c");
    sandbox(tree.path()).run(&script).unwrap();
    sandbox(tree.path()).writable(true).run(&shell("echo x > /etc/d; echo x > /run/e; ! echo x > /usr/f")).unwrap();
    assert!(tree.path().join("etc/d").exists() && !tree.path().join("etc/c").exists());
    assert_eq!(fs::read_dir(tree.path().join("run")).unwrap().count(), 0);
    assert!(!Path::new("/usr/f").exists());
}

#[test]
fn sealing_sees_the_tree_as_it_is_and_writes_to_its_output_only() {
    let Some(tree) = tree() else { return };
    let output = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("run/left"), "by the image").unwrap();
    let script = format!(
        "ls {SEAL_TREE}/run /run > {SEAL_OUTPUT}/list; touch -d @1 {SEAL_TREE}/run; ls {SEAL_TREE}/usr | wc -l"
    );
    let finished =
        Sandbox::for_sealing(tree.path(), output.path()).bind("/usr", "/usr", true).run(&shell(&script)).unwrap();
    assert_eq!(finished.text(), "0\n", "what lies over the tree is not seen in its pristine view");
    let list = fs::read_to_string(output.path().join("list")).unwrap();
    assert_eq!(list, format!("/run:\nseal\n\n{SEAL_TREE}/run:\nleft\n"));
}

#[test]
fn capabilities_that_reach_the_machine_are_gone() {
    let Some(tree) = tree() else { return };
    let status = sandbox(tree.path()).run(&shell("grep -E 'CapEff|NoNewPrivs' /proc/self/status")).unwrap().text();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    let bits = |bits: &[u32]| bits.iter().fold(0_u64, |all, bit| all | 1 << bit);
    // SYS_MODULE, SYS_RAWIO, SYS_ADMIN, SYS_BOOT, MKNOD are gone; CHOWN, DAC_OVERRIDE, FOWNER stay (linux/capability.h).
    assert_eq!(effective & bits(&[16, 17, 21, 22, 27]), 0, "{status}");
    assert_eq!(effective & bits(&[0, 1, 3]), bits(&[0, 1, 3]), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}

#[test]
fn status_streams_and_directory_are_those_of_the_program() {
    let Some(tree) = tree() else { return };
    let run = |invocation: &Invocation| sandbox(tree.path()).run_unchecked(invocation).unwrap();
    let finished = run(&shell("cat; echo no >&2; pwd; exit 7").stdin("fed ").dir("/usr/bin"));
    assert_eq!(
        (finished.status.code(), finished.text().as_str(), finished.stderr.as_str()),
        (Some(7), "fed /usr/bin\n", "no\n")
    );
    let killed = run(&shell("sh -c 'kill -9 $$'; exec sh -c 'kill -9 $$; exit 3'"));
    assert_eq!(killed.status.code(), Some(3), "process 1 of a namespace is immune to its own signals");
    let error = sandbox(tree.path()).run(&shell("echo why >&2; exit 4")).unwrap_err().to_string();
    assert!(error.contains("exit code 4") && error.contains("why"), "{error}");
    let absent = sandbox(tree.path()).run(&Invocation::new("no-such-program")).unwrap_err();
    assert!(matches!(absent, Error::NoProgram { program } if program == "no-such-program"));
}

#[test]
fn what_a_program_leaves_behind_is_killed_and_a_deadline_holds() {
    let Some(tree) = tree() else { return };
    let start = Instant::now();
    // The daemon keeps the output open, in a session of its own; it ends because process 1 did.
    sandbox(tree.path()).run(&shell("setsid sleep 600 & echo begun")).unwrap();
    let slow = shell("setsid sleep 600 & sleep 600").deadline(Duration::from_millis(300));
    assert!(matches!(sandbox(tree.path()).run(&slow).unwrap_err(), Error::Deadline { .. }));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn links_in_the_tree_lead_nowhere_outside_and_what_is_missing_is_named() {
    let Some(tree) = tree() else { return };
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir(tree.path().join("run")).unwrap();
    symlink(outside.path(), tree.path().join("run")).unwrap();
    let error = sandbox(tree.path()).run(&shell("true")).unwrap_err();
    assert!(matches!(&error, Error::Path { path, .. } if path == Path::new("/run")), "{error}");
    fs::remove_file(tree.path().join("run")).unwrap();
    fs::create_dir(tree.path().join("run")).unwrap();
    let error = sandbox(tree.path()).bind("/usr", "/absent/place", true).run(&shell("true")).unwrap_err();
    assert!(error.to_string().contains("/absent"), "{error}");
    assert!(sandbox(tree.path()).bind("/usr", "/run/../etc", true).run(&shell("true")).is_err());
    assert!(sandbox(tree.path()).bind("/no/such", "/run/x", true).run(&shell("true")).is_err());
    assert!(Sandbox::new("/").run(&shell("true")).is_err());
}

#[test]
fn a_single_file_can_be_shown_and_the_network_left_in_place() {
    let Some(tree) = tree() else { return };
    let file = tree.path().join("given");
    fs::write(&file, "content").unwrap();
    let finished =
        sandbox(tree.path()).bind(&file, "/run/deep/er/file", true).run(&shell("cat /run/deep/er/file")).unwrap();
    assert_eq!(finished.text(), "content");
    let namespace = |sandbox: Sandbox| sandbox.run(&shell("readlink /proc/self/ns/net")).unwrap().text();
    let ours = fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy().into_owned();
    assert_eq!(namespace(sandbox(tree.path()).network(true)).trim(), ours);
    assert_ne!(namespace(sandbox(tree.path())).trim(), ours);
}
