//! Reads what the planners of this room want to know of a disk.

use super::plan::{Content, DiskFacts, Gpt, Slot};
use crate::{Context, Error, tool};
use kairn_host::block::{self, Disk, Partition};
use kairn_image::gpt;
use kairn_image::probe::{self, PROBE_BYTES};
use kairn_report::Sink;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The kind of a content that nothing here knows.
const UNKNOWN: &str = "data of an unknown kind";

/// Reads the table of a disk and what lies on its partitions.
///
/// # Errors
/// The disk cannot be read, or has sectors of a size that no table is known for.
pub fn read(context: &Context, disk: &Disk) -> Result<DiskFacts, Error> {
    let path = context.at(&disk.device);
    let mut file = BufReader::new(File::open(&path).map_err(Error::path("open", &path))?);
    let found = match gpt::read(&mut file, disk.sector) {
        Ok(found) => Some(found),
        Err(kairn_image::Error::NoTable { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let head = block::head(&path, PROBE_BYTES as u64)?;
    let mut facts = DiskFacts { size: disk.size, sector: disk.sector, gpt: None, mbr: None, content: None };
    let Some(found) = found else {
        facts.mbr = probe::mbr(&head).map(|record| (record.signature, record.entries.map(|entry| entry.kind)));
        facts.content = of_head(&head).filter(|_| facts.mbr.is_none());
        return Ok(facts);
    };
    let mut slots = Vec::new();
    let whole = found.is_whole();
    for (number, entry) in found.numbers.iter().zip(found.table.partitions) {
        let start = entry.first_lba.saturating_mul(disk.sector.into());
        let shown = disk.partitions.iter().find(|partition| partition.number == *number && partition.start == start);
        let head = match shown {
            // Its own node, since the kernel caches a disk and its partitions apart.
            Some(Partition { device, .. }) => block::head(&context.at(device), PROBE_BYTES as u64)?,
            None => {
                let mut head = Vec::new();
                let read = file
                    .seek(SeekFrom::Start(start))
                    .and_then(|_| file.by_ref().take(PROBE_BYTES as u64).read_to_end(&mut head));
                read.map_err(Error::path("read", &path))?;
                head
            }
        };
        slots.push(Slot { number: *number, entry, content: of_head(&head) });
    }
    facts.gpt = Some(Gpt { guid: found.table.disk_guid, whole, slots });
    Ok(facts)
}

fn of_head(head: &[u8]) -> Option<Content> {
    let found = probe::probe(head)?;
    Some(Content { kind: found.kind.name().to_owned(), label: found.label, span: probe::span(head) })
}

/// Looks at a device that is to be given another content: what is not known here, `blkid` may know; and where that is not there, bytes
/// other than zeros count as something.
///
/// # Errors
/// It cannot be read.
pub fn look(context: &Context, device: &Path, sink: &mut dyn Sink) -> Result<Option<Content>, Error> {
    let head = block::head(&context.at(device), PROBE_BYTES as u64)?;
    if let Some(content) = of_head(&head) {
        return Ok(Some(content));
    }
    let unknown = |kind: &str| Content { kind: kind.to_owned(), label: String::new(), span: None };
    if tool::find(context, "blkid").is_none() {
        return Ok(head.iter().any(|byte| *byte != 0).then(|| unknown(UNKNOWN)));
    }
    let asked = tool::program(context, "blkid")?.args(["-p", "-s", "TYPE", "-o", "value", "--"]);
    let said = tool::ask(&asked.arg(device.display().to_string()), context, sink)?;
    // 2 is nothing, 8 is more than one thing (blkid(8)).
    Ok(match (said.status.code(), said.lines.first().map(|line| line.trim())) {
        (Some(0), Some(kind)) if !kind.is_empty() => Some(unknown(kind)),
        (Some(0 | 2), _) => None,
        _ => Some(unknown(UNKNOWN)),
    })
}
