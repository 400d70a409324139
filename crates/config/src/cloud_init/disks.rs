//! Reads disks as cloud-init describes them: `device_aliases`, `growpart`, `resize_rootfs`, `disk_setup`, `fs_setup`.

use super::{get, not_supported};
use crate::reading::Reader;
use crate::step::{Actions, check_label, device_path};
use crate::{
    Code, CommandWork, DiskSetup, DiskShare, DiskShares, Entry, FileSystemSetup, Growth, Node, PartitionChoice,
    Severity, ShareKind, StorageWork, TableKind, Work,
};
use kairn_report::{Place, Secret};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Partitions that a master boot record has room for.
const MBR_PARTITIONS: usize = 4;

/// Names that the configuration gives to devices.
pub(super) struct Aliases(BTreeMap<String, String>);

impl Aliases {
    /// Reads `device_aliases`; a fault of it is told by whoever asks for the stage that needs it.
    pub(super) fn read(actions: &mut Actions<'_, '_>, entries: &[Entry]) -> Self {
        let Some(node) = get(entries, "device_aliases") else { return Self(BTreeMap::new()) };
        let mut names = BTreeMap::new();
        for entry in actions.entries(node, "`device_aliases`") {
            if let Some(path) = actions.reader.text(&entry.value, "a device of `device_aliases`") {
                names.insert(entry.key.clone(), path);
            }
        }
        Self(names)
    }

    /// Returns the device that a name stands for; `name.1` is the first partition of the disk `name`.
    pub(super) fn resolve(&self, name: &str) -> (String, Option<u32>) {
        let (disk, part) = match name.rsplit_once('.').map(|(disk, number)| (disk, number.parse::<u32>())) {
            Some((disk, Ok(number))) if number > 0 && !disk.is_empty() => (disk, Some(number)),
            _ => (name, None),
        };
        (self.0.get(disk).cloned().unwrap_or_else(|| disk.to_owned()), part)
    }

    /// Returns the path of the device that an alias stands for, of its partition where one is named; `None` for what is no alias.
    pub(super) fn path(&self, name: &str) -> Option<String> {
        let disk = name.rsplit_once('.').map_or(name, |(disk, _)| disk);
        if !self.0.contains_key(name) && !self.0.contains_key(disk) {
            return None;
        }
        let (device, part) = self.resolve(name);
        let between = if device.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        Some(part.map_or_else(|| device.clone(), |number| format!("{device}{between}{number}")))
    }
}

pub(super) fn growpart(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    if let Some(node) = get(entries, "resize_rootfs") {
        resize_rootfs(actions.reader, node);
    }
    let Some(node) = get(entries, "growpart") else { return };
    let entries = actions.entries(node, "`growpart`");
    match get(entries, "mode").map(|node| actions.reader.attempt(|reader| grows(reader, node))) {
        None | Some(Ok(true)) => {}
        Some(Ok(false)) => return,
        Some(Err(why)) => return actions.push("growpart".into(), node.place, Work::Invalid(why)),
    }
    let ignored = get(entries, "ignore_growroot_disabled");
    let heed_disabled = match ignored {
        Some(node) => !actions.reader.bool(node, "`growpart.ignore_growroot_disabled`").unwrap_or_default(),
        None => true,
    };
    let Some(devices) = get(entries, "devices") else {
        let device = "/".to_owned();
        let work = Work::Storage(StorageWork::Growth(Growth { device, heed_disabled }));
        return actions.push("growpart /".into(), node.place, work);
    };
    actions.each(devices, "`growpart.devices`", |actions, _, item| {
        let mut label = "growpart".to_owned();
        let work = actions.reader.attempt(|reader| {
            let device = reader.path(item, "a device of `growpart`")?.to_string_lossy().into_owned();
            label = format!("growpart {device}");
            Some(Work::Storage(StorageWork::Growth(Growth { device, heed_disabled })))
        });
        actions.add(label, item.place, work);
    });
}

/// `mode` names a tool of cloud-init's; none of them is needed.
fn grows(reader: &mut Reader<'_>, node: &Node) -> bool {
    let text = reader.text(node, "`growpart.mode`").unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "auto" | "growpart" | "gpart" | "true" | "yes" | "on" => true,
        "off" | "false" | "no" => false,
        _ => {
            reader.error(Code::BadValue, node.place, format!("`{text}` is no mode of `growpart`"));
            reader.hint("there are `auto`, `growpart`, `gpart` and `off`");
            false
        }
    }
}

fn resize_rootfs(reader: &mut Reader<'_>, node: &Node) {
    let wanted = node.scalar().is_some_and(|scalar| scalar.as_bool() != Some(false));
    if wanted {
        let message = "`resize_rootfs` has no effect: the root is sealed, and as large as its content";
        reader.say(Severity::Note, Code::NotSupported, node.place, message);
        reader.hint("what is written lies on COS_PERSISTENT, which fills its disk");
    }
}

pub(super) fn disk_setup(actions: &mut Actions<'_, '_>, entries: &[Entry], aliases: &Aliases) {
    let Some(node) = get(entries, "disk_setup") else { return };
    for entry in actions.entries(node, "`disk_setup`") {
        let work = actions.reader.attempt(|reader| {
            let (device, part) = device(reader, aliases, &entry.key, entry.key_place, "a disk of `disk_setup`")?;
            let device = match (device, part) {
                (Ok(device), None) => device,
                (Ok(_), Some(_)) => {
                    let message = format!("`disk_setup` parts whole disks, and `{}` is a partition", entry.key);
                    reader.error(Code::BadValue, entry.key_place, message);
                    return None;
                }
                (Err(why), _) => return Some(not_supported(reader, &entry.value, why)),
            };
            disk(reader, device, &entry.value)
        });
        actions.add(format!("disk {}", entry.key), entry.key_place, work);
    }
}

/// The path of a device; `vdb` is `/dev/vdb`, and `/dev/vdb.1` its first partition. What a platform names is not done: the inner error.
fn device(
    reader: &mut Reader<'_>,
    aliases: &Aliases,
    name: &str,
    place: Place,
    what: &str,
) -> Option<(Result<PathBuf, String>, Option<u32>)> {
    let (name, part) = aliases.resolve(name);
    if name.starts_with("ephemeral") || name == "swap" {
        let why = format!("`{name}` names a device by the metadata of a platform, which is not supported yet");
        return Some((Err(why), part));
    }
    let path = if name.contains('/') { name.clone() } else { format!("/dev/{name}") };
    Some((Ok(device_path(reader, &path, place, what)?), part))
}

fn disk(reader: &mut Reader<'_>, device: PathBuf, node: &Node) -> Option<Work> {
    let entries = reader.map(node, "a disk");
    let overwrite = get(entries, "overwrite").and_then(|node| reader.bool(node, "`overwrite`")).unwrap_or_default();
    let table = match get(entries, "table_type") {
        None => TableKind::Mbr,
        Some(node) => match reader.text(node, "`table_type`")?.as_str() {
            "gpt" => TableKind::Gpt,
            "mbr" => TableKind::Mbr,
            other => {
                reader.error(Code::BadValue, node.place, format!("`{other}` is no kind of partition table"));
                reader.hint("there are `gpt` and `mbr`");
                return None;
            }
        },
    };
    let layout = shares(reader, get(entries, "layout")?, table)?;
    Some(Work::Storage(StorageWork::DiskSetup(DiskSetup { device, table, layout, overwrite })))
}

/// What a disk is parted into; `false` and nothing leave it alone.
fn shares(reader: &mut Reader<'_>, node: &Node, table: TableKind) -> Option<DiskShares> {
    let Some(items) = node.items() else {
        let scalar = node.scalar();
        return match scalar.and_then(crate::Scalar::as_bool) {
            Some(true) => Some(DiskShares::Whole),
            Some(false) => None,
            None if scalar.is_some_and(|scalar| scalar.text == "remove") => Some(DiskShares::Remove),
            None => {
                let message = "`layout` of a disk is `true`, `false`, `remove` or a list of percentages";
                reader.error(Code::BadValue, node.place, message);
                None
            }
        };
    };
    let parts: Vec<DiskShare> = items.iter().filter_map(|item| share(reader, item, table)).collect();
    let sum: u32 = parts.iter().map(|part| part.share).sum();
    if items.is_empty() {
        reader.error(Code::BadValue, node.place, "`layout` of a disk lists no partition");
    } else if sum > 10_000 {
        let message = format!("the shares of the disk are {} per cent together", f64::from(sum) / 100.0);
        reader.error(Code::BadValue, node.place, message);
    } else if table == TableKind::Mbr && parts.len() > MBR_PARTITIONS {
        let message = format!("a master boot record has room for {MBR_PARTITIONS} partitions, not {}", parts.len());
        reader.error(Code::BadValue, node.place, message);
        reader.hint("take `table_type: gpt`");
    }
    Some(DiskShares::Parts(parts))
}

/// A percentage, or a list of a percentage and a type.
fn share(reader: &mut Reader<'_>, node: &Node, table: TableKind) -> Option<DiskShare> {
    let (share, kind) = match node.items() {
        None => (node, None),
        Some([share, kind]) => (share, Some(kind)),
        Some(_) => {
            reader.error(Code::BadValue, node.place, "a partition is a percentage, or a list of one and a type");
            return None;
        }
    };
    let percent = share.scalar().and_then(|scalar| scalar.text.trim().parse::<f64>().ok());
    let Some(percent) = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0) else {
        reader.error(Code::BadValue, share.place, "the size of a partition is a percentage above 0 and up to 100");
        return None;
    };
    // Within 0 and 10000.
    let hundredths = (percent * 100.0).round() as u32;
    let kind = match kind {
        None => None,
        Some(node) => {
            let text = reader.text(node, "the type of a partition")?;
            let kind = ShareKind::parse(&text).filter(|kind| match table {
                TableKind::Gpt => kind.guid.is_some(),
                TableKind::Mbr => kind.byte.is_some(),
            });
            if kind.is_none() {
                reader.error(Code::BadValue, node.place, format!("`{text}` is no known type of a partition"));
                reader.hint("a type is a number such as `82` (swap space), `83` (Linux), `ef` (EFI), or a GUID");
            }
            Some(kind?)
        }
    };
    Some(DiskShare { share: hundredths, kind })
}

pub(super) fn fs_setup(actions: &mut Actions<'_, '_>, entries: &[Entry], aliases: &Aliases) {
    let Some(node) = get(entries, "fs_setup") else { return };
    actions.each(node, "`fs_setup`", |actions, _, item| {
        let mut label = "file system".to_owned();
        let work = actions.reader.attempt(|reader| file_system(reader, item, aliases, &mut label));
        actions.add(label, item.place, work);
    });
}

fn file_system(reader: &mut Reader<'_>, item: &Node, aliases: &Aliases, label_of_action: &mut String) -> Option<Work> {
    let entries = reader.map(item, "a file system");
    let Some(node) = get(entries, "device") else {
        reader.error(Code::BadValue, item.place, "`device` is missing");
        return None;
    };
    let name = reader.text(node, "`device`")?;
    *label_of_action = format!("file system of {name}");
    let (device, dotted) = device(reader, aliases, &name, node.place, "`device`")?;
    let device = match device {
        Ok(device) => device,
        Err(why) => return Some(not_supported(reader, item, why)),
    };
    let text = |reader: &mut Reader<'_>, name: &str| {
        let node = get(entries, name)?;
        let text = reader.text(node, &format!("`{name}`"))?;
        (!text.is_empty()).then_some((text, node.place))
    };
    let (kind, label, replace) = (text(reader, "filesystem"), text(reader, "label"), text(reader, "replace_fs"));
    // A bool that turns the key off.
    let replace = replace.map(|(kind, _)| kind).filter(|kind| !matches!(kind.as_str(), "false" | "False"));
    if let Some((kind, place)) = &kind {
        // It becomes part of the name of a program.
        if !kind.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) || kind.starts_with(['-', '.']) {
            reader.error(Code::BadValue, *place, format!("`{kind}` cannot name a file system"));
        }
    }
    if let Some((label, place)) = &label {
        check_label(reader, kind.as_ref().map_or("", |(kind, _)| kind), label, *place);
    }
    let partition = match (dotted, get(entries, "partition")) {
        (Some(number), _) => PartitionChoice::Number(number),
        (None, None) => PartitionChoice::Any,
        (None, Some(node)) => partition(reader, node)?,
    };
    let command = get(entries, "cmd").and_then(|node| command(reader, node));
    let options = get(entries, "extra_opts").map(|node| options(reader, node)).unwrap_or_default();
    if let Some(node) = get(entries, "extra_opts").filter(|_| command.is_some()) {
        reader.say(Severity::Warning, Code::BadValue, node.place, "`extra_opts` has no effect beside `cmd`");
    }
    if kind.is_none() && get(entries, "cmd").is_none() {
        reader.error(Code::BadValue, item.place, "`filesystem` is missing, and there is no `cmd`");
    }
    let overwrite = get(entries, "overwrite").and_then(|node| reader.bool(node, "`overwrite`")).unwrap_or_default();
    let (kind, label) = (kind.map(|(kind, _)| kind), label.map(|(label, _)| label));
    let setup = FileSystemSetup { device, partition, kind, label, overwrite, replace, options, command };
    Some(Work::Storage(StorageWork::FileSystem(Box::new(setup))))
}

fn partition(reader: &mut Reader<'_>, node: &Node) -> Option<PartitionChoice> {
    let text = reader.text(node, "`partition`")?;
    match (text.to_ascii_lowercase().as_str(), text.parse::<u32>()) {
        ("auto", _) => Some(PartitionChoice::Auto),
        ("any", _) => Some(PartitionChoice::Any),
        ("none", _) => Some(PartitionChoice::Device),
        (_, Ok(number)) if number > 0 => Some(PartitionChoice::Number(number)),
        _ => {
            let message = format!("`partition` is a number from 1, `auto`, `any` or `none`, not `{text}`");
            reader.error(Code::BadValue, node.place, message);
            None
        }
    }
}

/// A list of arguments, or one text that blanks part.
fn options(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    match node.scalar() {
        Some(scalar) => scalar.text.split_whitespace().map(str::to_owned).collect(),
        None => reader.words(node, "`extra_opts`"),
    }
}

/// A line for the shell, or a program with its arguments.
fn command(reader: &mut Reader<'_>, node: &Node) -> Option<CommandWork> {
    if node.items().is_none() {
        let text = reader.text(node, "`cmd`")?;
        return Some(CommandWork::Shell(Secret::new(text.as_str().into())));
    }
    let words = reader.words(node, "`cmd`");
    if words.is_empty() {
        reader.error(Code::BadValue, node.place, "`cmd` names no program");
        return None;
    }
    Some(CommandWork::Program(Secret::new(words.iter().map(|word| word.as_str().into()).collect())))
}
