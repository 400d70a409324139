//! The archive as `cpio` reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::cpio::{NodeKind, Writer};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn cpio_lists_and_unpacks_what_was_written() {
    let mut archive = Writer::new(Vec::new(), 1_700_000_000);
    archive.dir("dev", 0o755).unwrap();
    archive.node("dev/console", 0o600, NodeKind::Character, 5, 1).unwrap();
    archive.node("dev/loop0", 0o660, NodeKind::Block, 7, 0).unwrap();
    archive.dir("lib", 0o750).unwrap();
    archive.file("lib/a", 0o644, b"hello").unwrap();
    archive.file("init", 0o755, &vec![b'x'; 10_001]).unwrap();
    archive.symlink("lib/link", "../init").unwrap();
    let bytes = archive.finish().unwrap();

    let listing = match Command::new("cpio")
        .args(["-itv", "--numeric-uid-gid"])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(mut child) => {
            child.stdin.take().unwrap().write_all(&bytes).unwrap();
            child.wait_with_output().unwrap()
        }
        Err(error) => return eprintln!("skipped: cannot run cpio: {error}"),
    };
    assert!(listing.status.success());
    let text = String::from_utf8(listing.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [
            "drwxr-xr-x 2 0 0 0 Nov 14 2023 dev",
            "crw------- 1 0 0 5, 1 Nov 14 2023 dev/console",
            "brw-rw---- 1 0 0 7, 0 Nov 14 2023 dev/loop0",
            "drwxr-x--- 2 0 0 0 Nov 14 2023 lib",
            "-rw-r--r-- 1 0 0 5 Nov 14 2023 lib/a",
            "-rwxr-xr-x 1 0 0 10001 Nov 14 2023 init",
            "lrwxrwxrwx 1 0 0 7 Nov 14 2023 lib/link -> ../init",
        ]
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
    );
}
