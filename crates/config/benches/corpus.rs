//! What a whole corpus of configurations costs: parse, merge, validate and plan of all files, against the parse alone by PyYAML's C
//! loader of the same files in the same run. `cargo bench -p kairn-config --bench corpus [DIRECTORY]`, by default `../shared/corpus`
//! beside the project.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it prints figures, and a failure ends it")]

use kairn_config::{Document, merge, plan, validate};
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Rounds that are timed.
const ROUNDS: usize = 200;
/// The stages that a boot plans.
const STAGES: [&str; 5] = ["rootfs", "initramfs", "fs", "boot", "network"];
/// Times the parse of every file by libyaml; prints the median and the minimum in milliseconds.
const PEER: &str = "
import sys, time, yaml
texts = [open(path, encoding='utf-8').read() for path in sys.argv[2:]]
taken = []
for _ in range(int(sys.argv[1])):
    begin = time.perf_counter()
    for text in texts:
        list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    taken.append((time.perf_counter() - begin) * 1e3)
taken.sort()
print(yaml.__version__, taken[len(taken) // 2], taken[0])
";

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let root =
        given.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    let mut paths = Vec::new();
    for part in ["bundled", "examples", "tests"] {
        let Ok(entries) = fs::read_dir(root.join(part)) else { continue };
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    // A placeholder that its own runner fills, without which a file is no YAML.
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap().replace("@PUBKEY@", "ssh-ed25519 AAAA");
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    if paths.is_empty() {
        println!("skipped: there is no corpus at {}", root.display());
        return;
    }
    let files: Vec<(String, String)> = paths.iter().map(|path| (path.display().to_string(), read(path))).collect();
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    println!("{} files, {bytes} bytes, {ROUNDS} rounds; milliseconds: median (minimum)", files.len());
    let parse = || files.iter().map(|(name, text)| Document::parse(name.as_str(), text)).collect::<Vec<_>>();
    show("parse", || drop(black_box(parse())));
    let documents = parse();
    show("merge", || drop(black_box(merge(&documents))));
    show("plan of five stages", || STAGES.iter().for_each(|stage| drop(black_box(plan(&documents, stage)))));
    show("validate, which merges and plans all stages", || drop(black_box(validate(&documents))));
    show("all of it", || {
        let documents = parse();
        drop(black_box(merge(&documents)));
        drop(black_box(validate(&documents)));
        STAGES.iter().for_each(|stage| drop(black_box(plan(&documents, stage))));
    });
    peer(&files);
}

fn show(what: &str, run: impl Fn()) {
    let time = || {
        let begun = Instant::now();
        run();
        begun.elapsed()
    };
    let mut taken: Vec<Duration> = (0..ROUNDS).map(|_| time()).collect();
    taken.sort();
    let milliseconds = |at: usize| taken.get(at).map_or(0.0, |taken| taken.as_secs_f64() * 1e3);
    println!("{what:45} {:7.3} ({:.3})", milliseconds(ROUNDS / 2), milliseconds(0));
}

/// The same texts by libyaml, whose interpreter's start does not count.
fn peer(files: &[(String, String)]) {
    let dir = tempfile::tempdir().unwrap();
    let place = |(number, (_, text)): (usize, &(String, String))| {
        let path = dir.path().join(format!("{number}.yaml"));
        fs::write(&path, text).unwrap();
        path
    };
    let paths: Vec<PathBuf> = files.iter().enumerate().map(place).collect();
    let output = Command::new("python3").args(["-c", PEER, &ROUNDS.to_string()]).args(paths).output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            println!("peer: PyYAML {} with libyaml, parse alone: {words:?}", words.first().unwrap_or(&""));
        }
        Ok(output) => println!("skipped: PyYAML with libyaml: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => println!("skipped: python3 cannot be run: {error}"),
    }
}
