//! Takes what kernels said at their end out of persistent storage, and puts it into the records of those boots.
//!
//! Invariant: a file leaves the storage only when what is kept of it is durable on STATE, or belongs to no boot that STATE knows. EFI
//! variables are few, and firmware that runs out of them may not start any more; so nothing is left there that was understood.

use crate::facts::{self, attempts, below};
use crate::{Error, Node};
use kairn_host::{Content, Effect, files};
use kairn_layout::paths;
use kairn_lifecycle::attempt::Attempt;
use kairn_lifecycle::panic::{Dump, Part, assemble, owner};
use kairn_report::{Event, Sink};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Where the kernel shows its persistent storage.
const STORAGE: &str = "/sys/fs/pstore";
/// Logs of panics; consoles and other kinds are not ours.
const KIND: &str = "dmesg-";
/// More than a part of any backend holds.
const PART: u64 = 64 << 10;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Records that got their last words, by name, with the line that says why.
    pub kept: Vec<(String, String)>,
    /// Lines of logs that belong to no boot that STATE knows.
    pub foreign: Vec<String>,
}

/// Takes all logs out of the storage.
///
/// # Errors
/// The storage or STATE cannot be read or written; then the storage still holds what STATE does not.
pub fn collect(node: &mut Node<'_>, sink: &mut dyn Sink) -> Result<Collected, Error> {
    let dir = below(node.root(), STORAGE);
    let (found, parts) = read(&dir)?;
    if found.is_empty() {
        return Ok(Collected::default());
    }
    let _lock = node.lock("kairn last-words")?;
    let boot_id = facts::boot_id(node.root())?;
    let records = node.volumes.state.read(attempts)?;
    let (records, collected) = assign(assemble(&parts), records, &boot_id);
    if !records.is_empty() {
        node.volumes.state.write(node.machine, |state, machine| {
            for record in &records {
                let path = state.join(paths::BOOTS).join(record.name().to_string());
                let text = serde_json::to_vec(record)
                    .map_err(|error| Error::Damaged { path: path.clone(), why: error.to_string() })?;
                machine.apply(&Effect::WriteFile { path, content: Content(text), mode: 0o644 })?;
            }
            Ok(())
        })?;
    }
    for (name, line) in &collected.kept {
        sink.event(Event::warning(format!("boot {} ended: {line}", name.trim_end_matches(".json"))));
    }
    for line in &collected.foreign {
        sink.event(Event::warning(format!("a boot that has no record ended: {line}")));
    }
    for path in found {
        node.machine.apply(&Effect::RemoveFile { path })?;
    }
    Ok(collected)
}

/// Gives each log to its boot, the newest first; returns the records that changed.
fn assign(dumps: Vec<Dump>, mut records: Vec<Attempt>, boot_id: &str) -> (Vec<Attempt>, Collected) {
    let (mut taken, mut collected) = (Vec::new(), Collected::default());
    for dump in dumps.into_iter().rev() {
        let name = owner(&dump, &records, boot_id, &taken);
        let record = name.and_then(|name| records.iter_mut().find(|record| record.name() == name));
        match record {
            Some(record) => {
                taken.push(record.name());
                collected.kept.push((record.name().to_string(), dump.words.line.clone()));
                record.last_words = Some(dump.words);
            }
            None => collected.foreign.push(dump.words.line),
        }
    }
    records.retain(|record| taken.contains(&record.name()));
    (records, collected)
}

/// Reads all logs; returns their files too.
fn read(dir: &Path) -> Result<(Vec<PathBuf>, Vec<Part>), Error> {
    let (mut found, mut parts) = (Vec::new(), Vec::new());
    for name in files::names(dir)? {
        let name = name.to_string_lossy().into_owned();
        // A part that this kernel could not decompress says nothing and takes the same room.
        if name.starts_with(KIND) {
            let path = dir.join(&name);
            if !name.ends_with(".enc.z") {
                parts.push(part(&path).map_err(kairn_host::Error::path("read", &path))?);
            }
            found.push(path);
        }
    }
    Ok((found, parts))
}

fn part(path: &Path) -> std::io::Result<Part> {
    let file = File::open(path)?;
    let at = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut bytes = Vec::new();
    file.take(PART).read_to_end(&mut bytes)?;
    Ok(Part { at, text: String::from_utf8_lossy(&bytes).into_owned() })
}
