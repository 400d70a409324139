//! The machine as templates of configurations see it: node, system, firmware, processors, memory, disks, network devices.
//!
//! The names are those of the tree that Kairos gives to templates as `.Values` (the JSON of the Go package `zcalusic/sysinfo`), the units
//! too: memory in MiB, disks in GB, caches in KiB.
//!
//! Invariant: reading never fails and never writes. What cannot be read is absent, as is what is empty.

mod devices;
mod memory;
mod system;

use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most that is read of one file: `/proc/cpuinfo` of a machine with a thousand processors has two mebibytes.
const LARGEST: u64 = 4 << 20;

/// Reads all facts of a machine from `/proc`, `/sys`, `/etc` and `/run/udev` below a root directory, as one mapping.
///
/// The kernel's architecture is that of the running one, whatever the root.
#[must_use]
pub fn read(root: &Path) -> Value {
    let tables = memory::Tables::read(root);
    let processors = system::Processors::read(root);
    let parts = [
        ("node", system::node(root, &processors)),
        ("os", system::os(root)),
        ("kernel", system::kernel(root)),
        ("product", system::product(root)),
        ("board", system::board(root)),
        ("chassis", system::chassis(root)),
        ("bios", system::bios(root)),
        ("cpu", system::cpu(&processors, tables.processor_speed)),
        ("memory", memory::memory(root, &tables)),
    ];
    let mut tree: Map<String, Value> =
        parts.into_iter().map(|(name, facts)| (name.to_owned(), facts.0.into())).collect();
    tree.insert("storage".to_owned(), devices::storage(root).into());
    tree.insert("network".to_owned(), devices::network(root).into());
    Value::Object(tree)
}

/// Facts about one thing.
#[derive(Default)]
struct Facts(Map<String, Value>);

impl Facts {
    fn text(mut self, name: &str, text: Option<String>) -> Self {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.0.insert(name.to_owned(), text.into());
        }
        self
    }

    fn number(mut self, name: &str, number: Option<u64>) -> Self {
        if let Some(number) = number.filter(|number| *number > 0) {
            self.0.insert(name.to_owned(), number.into());
        }
        self
    }
}

/// Reads a file as text, without space around it; texts of the device tree end with a zero byte.
fn text(path: &Path) -> Option<String> {
    let bytes = bytes(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)) {
        Ok(_) => Some(bytes),
        // Much of it needs root, many machines lack a part, and some drivers answer reads with an error: then it is not known.
        Err(_) => None,
    }
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The last name of the path that a link holds.
fn link_name(path: &Path) -> Option<String> {
    Some(std::fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
