//! Makes file systems, by the programs of the root.

use super::place::{self, Place, Placing};
use super::{facts, find, not_live, settle, table};
use crate::shell;
use crate::{Context, Effect, Error, tool};
use kairn_config::{CommandWork, FileSystemKind, FileSystemSetup};
use kairn_host::Invocation;
use kairn_host::block::{Disk, Inventory, Partition};
use kairn_host::partition_table;
use kairn_report::Sink;
use std::path::Path;

/// Makes a file system on a device.
///
/// # Errors
/// Its program is absent or fails.
pub fn make(
    context: &Context,
    device: &Path,
    kind: FileSystemKind,
    label: Option<&str>,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let (name, args) = kind.program(label);
    let program = tool::program(context, name)?.args(args).arg(device.display().to_string());
    tool::run(&program, context, sink).map(drop)
}

/// Makes a file system as cloud-init's `fs_setup` describes it, where none is.
///
/// # Errors
/// The device is not there or is taken, the program is absent or fails.
pub fn make_file_system(context: &Context, wanted: &FileSystemSetup, sink: &mut dyn Sink) -> Result<Effect, Error> {
    if let Some(skipped) = not_live(context) {
        return Ok(skipped);
    }
    let inventory = Inventory::read(&context.root)?;
    let (disk, number) = find::device(context, &inventory, &wanted.device)?;
    let own = find::own(context, &inventory)?;
    let places = places(context, disk, number, &own, sink)?;
    let place = match place::decide(&places, wanted) {
        Placing::Is => return Ok(Effect::Unchanged),
        Placing::Left(why) => return Ok(Effect::Skipped(why)),
        Placing::Refused(why) => {
            return Err(Error::refused(format!("no file system is made on `{}`: {why}", wanted.device.display()), ""));
        }
        Placing::Make(place) => place,
    };
    let command = command(context, wanted, &place.device)?;
    let held = partition_table::hold(&context.at(&disk.device))?;
    if place.parted {
        table::wipe(context, disk)?;
    }
    let shown = disk.partitions.iter().find(|partition| partition.device == place.device);
    table::blank(context, &place.device, shown.map_or(disk.size, |partition| partition.size))?;
    let made = tool::run(&command, context, sink);
    drop(held);
    made?;
    settle(context, sink);
    Ok(Effect::Changed)
}

/// The device that is named, and its partitions if it is a whole disk.
fn places(
    context: &Context,
    disk: &Disk,
    number: Option<u32>,
    own: &[String],
    sink: &mut dyn Sink,
) -> Result<Vec<Place>, Error> {
    let facts = facts::read(context, disk)?;
    let parted = facts.gpt.is_some() || facts.mbr.is_some();
    let is_own = own.contains(&disk.name);
    let mut part = |partition: &Partition, number| {
        let content = facts::look(context, &partition.device, sink)?;
        let label = content.as_ref().map(|content| content.label.clone()).unwrap_or_default();
        let of_system = is_own && (label.starts_with("COS_") || is_named_as_systems(partition));
        let taken = find::in_use(&partition.device, &partition.uses)
            .or_else(|| of_system.then(|| "it is one of the system's own partitions".to_owned()));
        Ok::<_, Error>(Place { device: partition.device.clone(), number, parted: false, content, taken })
    };
    if let Some(number) = number {
        let partition = disk.partitions.iter().find(|partition| partition.number == number);
        return partition.into_iter().map(|partition| part(partition, None)).collect();
    }
    let parts: Vec<Place> =
        disk.partitions.iter().map(|partition| part(partition, Some(partition.number))).collect::<Result<_, _>>()?;
    let content = if parted { None } else { facts::look(context, &disk.device, sink)? };
    let itself = Place { device: disk.device.clone(), number: None, parted, content, taken: find::bond(disk, own) };
    Ok(std::iter::once(itself).chain(parts).collect())
}

fn is_named_as_systems(partition: &Partition) -> bool {
    partition.label.as_deref().and_then(kairn_layout::PartLabel::from_gpt_name).is_some()
}

/// What makes it: the wish's own command, or the program of its kind.
fn command(context: &Context, wanted: &FileSystemSetup, device: &Path) -> Result<Invocation, Error> {
    let device = device.display().to_string();
    let kind = wanted.kind.as_deref().unwrap_or_default();
    let label = wanted.label.as_deref().unwrap_or_default();
    let values = [("%(device)s", device.as_str()), ("%(filesystem)s", kind), ("%(label)s", label)];
    match &wanted.command {
        Some(CommandWork::Shell(line)) => {
            let line = filled(line.reveal().source(), &values.map(|(name, value)| (name, quoted(value))));
            Ok(shell::line(&line, context.command_deadline))
        }
        Some(CommandWork::Program(words)) => {
            let values = values.map(|(name, value)| (name, value.to_owned()));
            let words: Vec<String> = words.reveal().iter().map(|word| filled(word.source(), &values)).collect();
            Ok(shell::words(&words, context.command_deadline))
        }
        None => {
            let named = [format!("mkfs.{kind}"), format!("mk{kind}")];
            let there = named.iter().find(|name| tool::find(context, name).is_some());
            let program = tool::program(context, there.or(named.first()).map_or("mkfs", String::as_str))?;
            let known = FileSystemKind::of_name(kind).map(|known| known.program(wanted.label.as_deref()).1);
            let args = known.unwrap_or_else(|| {
                let label = wanted.label.iter().flat_map(|label| ["-L".to_owned(), label.clone()]);
                label.collect()
            });
            Ok(program.args(args).args(wanted.options.iter().cloned()).arg(device))
        }
    }
}

/// Puts values where their names stand; `%%` is a per cent sign.
fn filled(text: &str, values: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, _)) = rest.split_once('%') {
        out.push_str(before);
        rest = rest.get(before.len()..).unwrap_or_default();
        let value = values.iter().find_map(|(name, value)| Some((rest.strip_prefix(name)?, value.as_str())));
        let (after, value) = value.or_else(|| Some((rest.strip_prefix("%%")?, "%"))).unwrap_or_else(|| {
            // Not one of ours: it stays as it is.
            (rest.strip_prefix('%').unwrap_or_default(), "%")
        });
        out.push_str(value);
        rest = after;
    }
    out + rest
}

/// Writes a value as one word of a line for the shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:+@".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_command_become_values_that_stay_one_word() {
        let values = [
            ("%(device)s", quoted("/dev/vdb1")),
            ("%(label)s", quoted("it's; rm -rf")),
            ("%(filesystem)s", quoted("")),
        ];
        for (text, expected) in [
            ("mkfs -L %(label)s %(device)s", r"mkfs -L 'it'\''s; rm -rf' /dev/vdb1"),
            ("a 100%% %(other)s %", "a 100% %(other)s %"),
            ("x%(filesystem)s", "x''"),
            ("", ""),
        ] {
            assert_eq!(filled(text, &values), expected, "{text}");
        }
    }
}
