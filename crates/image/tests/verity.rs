//! The hash tree as `veritysetup` makes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_image::verity;
use std::process::Command;

#[test]
fn a_tree_is_byte_identical_to_that_of_veritysetup() {
    let directory = tempfile::tempdir().unwrap();
    let (image, tree) = (directory.path().join("image"), directory.path().join("tree"));
    for (blocks, salt) in
        [(1, "00ff"), (2, "-"), (128, "aa"), (129, "c0ffee"), (128 * 128, "01"), (128 * 128 + 1, "5a17")]
    {
        let data: Vec<u8> = (0..blocks * 4096_u64).map(|at| (at * 31 / 4096 + at % 251) as u8).collect();
        std::fs::write(&image, &data).unwrap();
        std::fs::write(&tree, b"").unwrap();
        let output = Command::new("veritysetup")
            .args(["format", "--no-superblock", "--data-block-size=4096", "--hash-block-size=4096"])
            .arg(format!("--data-blocks={blocks}"))
            .arg(format!("--salt={salt}"))
            .args([&image, &tree])
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => return eprintln!("skipped: cannot run veritysetup: {error}"),
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let root = text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();

        let salt: Vec<u8> = match salt {
            "-" => Vec::new(),
            hex => (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect(),
        };
        let ours = verity::build(data.as_slice(), &salt).unwrap();
        assert_eq!(ours.root_hash.map(|byte| format!("{byte:02x}")).concat(), root, "{blocks} blocks");
        assert_eq!(ours.data_blocks, blocks);
        assert!(ours.bytes == std::fs::read(&tree).unwrap(), "the trees of {blocks} blocks differ");
        verity::verify(data.as_slice(), &ours.bytes, blocks, &ours.root_hash, &salt).unwrap();
    }
}
