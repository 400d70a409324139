//! Reads what partitions a disk is to have.

use super::Actions;
use crate::reading::{Reader, field};
use crate::suggest::nearest;
use crate::{
    Code, DiskName, Entry, FileSystemKind, Layout, NewPartition, Node, Severity, StorageWork, Work, label_fault,
};
use kairn_report::Place;
use std::path::PathBuf;

/// The name from which the GUID of an emptied disk derives when a step gives none.
const DISK_NAME: &str = "YIP_DISK";
/// What begins a path that a program prints.
const SCRIPT: &str = "script://";
/// The kind of file system of a partition that names none.
const DEFAULT_KIND: FileSystemKind = FileSystemKind::Ext2;
/// UTF-16 units that a name has room for (UEFI specification, table 5.6).
const NAME_UNITS: usize = 36;

impl Actions<'_, '_> {
    pub(super) fn layout(&mut self, node: &Node) {
        let mut label = "layout".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(node, "`layout`");
            let get = |name: &str| field(entries, name).filter(|node| !node.is_null());
            let (disk, empty) = match get("device") {
                Some(device) => disk(reader, device)?,
                None => {
                    names_no_disk(reader, node.place);
                    return None;
                }
            };
            label = match &disk {
                DiskName::Path(path) => format!("layout of {}", path.display()),
                DiskName::Script(_) => label.clone(),
                DiskName::Label(name) => format!("layout of the disk of {name}"),
            };
            let partitions: Vec<NewPartition> = match get("add_partitions") {
                Some(node) => {
                    let items = reader.list(node, "`layout.add_partitions`");
                    items.iter().filter_map(|item| partition(reader, item)).collect()
                }
                None => Vec::new(),
            };
            if let Some(second) = get("add_partitions").filter(|_| bootable(&partitions) > 1) {
                let message = "more than one partition is marked as one to boot from; firmware takes one of them";
                reader.say(Severity::Warning, Code::BadValue, second.place, message);
            }
            let expand = get("expand_partition").map(|node| {
                let entries = reader.map(node, "`layout.expand_partition`");
                size(reader, entries)
            });
            let layout = Layout { disk, empty, partitions, expand };
            let wanted = layout.empty.is_some() || !layout.partitions.is_empty() || layout.expand.is_some();
            wanted.then_some(Work::Storage(StorageWork::Layout(layout)))
        });
        self.add(label, node.place, work);
    }
}

fn bootable(partitions: &[NewPartition]) -> usize {
    partitions.iter().filter(|partition| partition.bootable).count()
}

/// Existing files have such blocks, which do nothing.
fn names_no_disk(reader: &mut Reader<'_>, place: Place) {
    reader.say(Severity::Warning, Code::BadValue, place, "`layout` names no disk and does nothing");
    reader.hint("name it by `device: {path: /dev/vdb}` or by `device: {label: COS_PERSISTENT}`");
}

/// The disk, and the name of its new table where it is to be emptied.
fn disk(reader: &mut Reader<'_>, node: &Node) -> Option<(DiskName, Option<String>)> {
    let entries = reader.map(node, "`layout.device`");
    let text = |reader: &mut Reader<'_>, name: &str| {
        let node = field(entries, name).filter(|node| !node.is_null())?;
        let text = reader.text(node, &format!("`layout.device.{name}`"))?;
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some((text, node))
    };
    let (path, label, name) = (text(reader, "path"), text(reader, "label"), text(reader, "disk_name"));
    let empty = field(entries, "init_disk").and_then(|node| reader.bool(node, "`layout.device.init_disk`"));
    let empty = empty.unwrap_or_default();
    if empty && path.is_none() {
        reader.error(Code::BadValue, node.place, "`init_disk` needs the `path` of the disk that it empties");
        return None;
    }
    if let Some((label, at)) = label.as_ref().filter(|_| empty) {
        let message =
            format!("`init_disk` empties the disk that `path` names; beside it `label: {label}` must not stand");
        reader.error(Code::BadValue, at.place, message);
        return None;
    }
    let name = empty.then(|| name.map_or_else(|| DISK_NAME.to_owned(), |(name, _)| name));
    match (path, label) {
        (Some((path, at)), _) => Some((by_path(reader, &path, at)?, name)),
        (None, Some((label, _))) => Some((DiskName::Label(label), None)),
        (None, None) => {
            names_no_disk(reader, node.place);
            None
        }
    }
}

fn by_path(reader: &mut Reader<'_>, path: &str, node: &Node) -> Option<DiskName> {
    if let Some(line) = path.strip_prefix(SCRIPT) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            reader.error(Code::BadValue, node.place, "`script://` names no program");
            return None;
        }
        return Some(DiskName::Script(words));
    }
    Some(DiskName::Path(device_path(reader, path, node.place, "`layout.device.path`")?))
}

/// A path below /dev.
pub(crate) fn device_path(reader: &mut Reader<'_>, path: &str, place: Place, what: &str) -> Option<PathBuf> {
    let fits = path.starts_with("/dev/") && !path.contains('\0') && path.split('/').all(|part| part != "..");
    if !fits {
        reader.error(Code::BadValue, place, format!("{what} is a path below /dev, not `{path}`"));
    }
    fits.then(|| PathBuf::from(path))
}

/// `size` of a block, in MiB; zero without it.
fn size(reader: &mut Reader<'_>, entries: &[Entry]) -> u64 {
    let Some(node) = field(entries, "size").filter(|node| !node.is_null()) else { return 0 };
    let size = node.scalar().and_then(crate::Scalar::as_int).and_then(|size| u64::try_from(size).ok());
    // More than 2^44 MiB is more than any disk, and its bytes more than a number holds.
    let size = size.filter(|size| *size <= 1 << 44);
    if size.is_none() {
        let found = node.scalar().map_or_else(|| node.kind().to_owned(), |scalar| format!("`{}`", scalar.text));
        reader.error(Code::BadValue, node.place, format!("`size` is a number of MiB, not {found}"));
    }
    size.unwrap_or_default()
}

fn partition(reader: &mut Reader<'_>, item: &Node) -> Option<NewPartition> {
    let entries = reader.map(item, "a partition");
    let text = |reader: &mut Reader<'_>, name: &str| {
        let node = field(entries, name).filter(|node| !node.is_null())?;
        let text = reader.text(node, &format!("`{name}`"))?;
        (!text.is_empty()).then_some((text, node.place))
    };
    let (label, name, kind) = (text(reader, "fsLabel"), text(reader, "pLabel"), text(reader, "filesystem"));
    let (kind_name, file_system) = match kind {
        None => ("ext2".to_owned(), Some(DEFAULT_KIND)),
        Some((kind, _)) if matches!(kind.as_str(), "noformat" | "none" | "-") => (kind, None),
        Some((kind, place)) => {
            let known = FileSystemKind::of_name(&kind);
            if known.is_none() {
                reader.error(Code::BadValue, place, format!("`layout` makes no file system `{kind}`"));
                match nearest(&kind, FileSystemKind::NAMES.iter().map(|(name, _)| *name)) {
                    Some(near) => reader.hint(format!("did you mean `{near}`?")),
                    None => reader.hint(format!(
                        "there are {}, and `none`",
                        FileSystemKind::NAMES.map(|(name, _)| name).join(", ")
                    )),
                }
            }
            (kind, known)
        }
    };
    if let Some((label, place)) = &label {
        check_label(reader, &kind_name, label, *place);
    }
    if let Some((name, place)) = &name
        && (name.encode_utf16().count() > NAME_UNITS || name.contains(char::is_control))
    {
        let message = format!("`pLabel` has at most {NAME_UNITS} characters and none that controls: `{name}`");
        reader.error(Code::BadValue, *place, message);
    }
    if let Some((_, place)) = label.as_ref().filter(|_| file_system.is_none()) {
        let message = "`fsLabel` has no effect where no file system is made";
        reader.say(Severity::Warning, Code::BadValue, *place, message);
    }
    let bootable = field(entries, "bootable").and_then(|node| reader.bool(node, "`bootable`")).unwrap_or_default();
    Some(NewPartition {
        name: name.map(|(name, _)| name),
        label: label.map(|(label, _)| label),
        size: size(reader, entries),
        file_system,
        bootable,
    })
}

/// Points at a label that the program of a kind of file system refuses or cuts.
pub(crate) fn check_label(reader: &mut Reader<'_>, kind: &str, label: &str, place: Place) {
    match label_fault(kind, label) {
        None => {}
        Some((fault, true)) => reader.error(Code::BadValue, place, format!("`{label}` cannot be its label: {fault}")),
        Some((fault, false)) => {
            let message = format!("the label `{label}` is cut: {fault}");
            reader.say(Severity::Warning, Code::BadValue, place, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, plan};

    fn read(layout: &str) -> (Vec<Work>, Vec<String>) {
        let text = format!("stages:\n  s:\n  - layout: {layout}\n");
        let plan = plan(&[Document::parse("t", &text)], "s");
        let work = plan.steps.into_iter().flat_map(|step| step.actions).map(|action| action.work);
        (work.collect(), plan.diagnostics.iter().map(|said| said.to_string().replace('\n', " ")).collect())
    }

    fn layout(text: &str) -> Layout {
        let (work, said) = read(text);
        assert_eq!(said, [""; 0], "{text}");
        match work.as_slice() {
            [Work::Storage(StorageWork::Layout(layout))] => layout.clone(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn layouts_are_read_with_what_they_leave_out() {
        let read = layout(
            "{device: {label: COS_RECOVERY}, add_partitions: [{fsLabel: COS_STATE, size: 16240, pLabel: state}, \
             {pLabel: raw, filesystem: '-'}, {pLabel: efi, filesystem: vfat, size: 0, bootable: true}], \
             expand_partition: {size: 0}}",
        );
        let new = |name: &str, label: Option<&str>, size, file_system, bootable| NewPartition {
            name: Some(name.to_owned()),
            label: label.map(str::to_owned),
            size,
            file_system,
            bootable,
        };
        let expected = Layout {
            disk: DiskName::Label("COS_RECOVERY".into()),
            empty: None,
            partitions: vec![
                new("state", Some("COS_STATE"), 16240, Some(FileSystemKind::Ext2), false),
                new("raw", None, 0, None, false),
                new("efi", None, 0, Some(FileSystemKind::Fat), true),
            ],
            expand: Some(0),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_path_wins_over_a_label_and_may_be_what_a_program_prints() {
        let disk = |text: &str| {
            let read = layout(&format!("{{device: {text}, expand_partition: {{}}}}"));
            (read.disk, read.empty)
        };
        assert_eq!(disk("{path: /dev/vdb, label: x}"), (DiskName::Path("/dev/vdb".into()), None));
        let script = DiskName::Script(vec!["/usr/bin/disk".into(), "-a".into(), "b".into()]);
        assert_eq!(disk("{path: 'script:///usr/bin/disk -a  b'}"), (script, None));
        let path = DiskName::Path("/dev/vdb".into());
        assert_eq!(disk("{path: /dev/vdb, init_disk: true}"), (path.clone(), Some("YIP_DISK".into())));
        assert_eq!(disk("{path: /dev/vdb, init_disk: true, disk_name: data}"), (path, Some("data".into())));
        assert_eq!(layout("{device: {label: a}, expand_partition: {size: 512}}").expand, Some(512));
    }

    #[test]
    fn what_cannot_be_is_pointed_at_and_never_done() {
        let at = "{path: /dev/vdb}";
        for (text, expected) in [
            ("{device: {init_disk: true}}", "t:3:22: error: `init_disk` needs the `path` of the disk that it empties"),
            (
                "{device: {path: /dev/vdb, init_disk: true, label: x}}",
                "t:3:63: error: `init_disk` empties the disk that `path` names; beside it `label: x` must not stand",
            ),
            ("{device: {path: vdb}}", "t:3:29: error: `layout.device.path` is a path below /dev, not `vdb`"),
            ("{device: {path: 'script:// '}}", "t:3:29: error: `script://` names no program"),
            (
                "{expand_partition: {size: -1}, device: {label: a}}",
                "t:3:39: error: `size` is a number of MiB, not `-1`",
            ),
            (
                &format!("{{device: {at}, add_partitions: [{{pLabel: a, filesystem: ext5}}]}}"),
                "t:3:81: error: `layout` makes no file system `ext5`   hint: did you mean `ext2`?",
            ),
            (
                &format!("{{device: {at}, add_partitions: [{{fsLabel: thirteen-byte, filesystem: xfs}}]}}"),
                "t:3:67: error: `thirteen-byte` cannot be its label: a label of XFS has at most 12 bytes",
            ),
            (
                &format!("{{device: {at}, add_partitions: [{{pLabel: {}}}]}}", "x".repeat(37)),
                &format!(
                    "t:3:66: error: `pLabel` has at most 36 characters and none that controls: `{}`",
                    "x".repeat(37)
                ),
            ),
        ] {
            let (work, said) = read(text);
            assert!(matches!(work.as_slice(), [Work::Invalid(_)]), "{text}: {work:?}");
            assert_eq!(said, [expected], "{text}");
        }
        for text in ["{expand_partition: {size: 0}}", "{device: {path: ''}, expand_partition: {size: 0}}"] {
            let (work, said) = read(text);
            assert!(
                work.is_empty() && said[0].contains("warning: `layout` names no disk and does nothing"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn what_is_doubtful_is_told_and_done() {
        for (text, expected) in [
            ("[{pLabel: a, fsLabel: seventeen-letters}]", "is cut: of a label ext has 16 bytes"),
            ("[{pLabel: a, fsLabel: b, filesystem: none}]", "has no effect where no file system is made"),
            ("[{pLabel: a, bootable: true}, {pLabel: b, bootable: true}]", "firmware takes one of them"),
        ] {
            let (work, said) = read(&format!("{{device: {{label: a}}, add_partitions: {text}}}"));
            assert_eq!((work.len(), said.len()), (1, 1), "{said:?}");
            assert!(said[0].contains("warning") && said[0].contains(expected), "{said:?}");
        }
    }
}
