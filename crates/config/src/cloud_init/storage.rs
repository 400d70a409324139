//! Reads file systems and swap space: `mounts`, `mount_default_fields`, `swap`.

use super::disks::Aliases;
use super::{get, not_supported};
use crate::reading::Reader;
use crate::step::Actions;
use crate::{Code, Entry, Mount, Node, StorageWork, SwapFile, SwapSize, Work, mount_point_fault, mount_source_fault};
use kairn_report::Secret;
use std::path::PathBuf;

/// The fields of a mount that it leaves out: source, target, type, options, dump, pass.
type Fields = [Option<String>; 6];

/// Where swap space goes when no file is named. The root is read-only, so cloud-init's `/swap.img` cannot be.
const SWAP_FILE: &str = "/usr/local/swap.img";

pub(super) fn mounts(actions: &mut Actions<'_, '_>, entries: &[Entry], aliases: &Aliases) {
    let Some(node) = get(entries, "mounts") else { return };
    let mut defaults: Fields = [None, None, Some("auto"), Some("defaults,nofail"), Some("0"), Some("2")]
        .map(|field: Option<&str>| field.map(str::to_owned));
    if let Some(node) = get(entries, "mount_default_fields") {
        match actions.reader.attempt(|reader| fields(reader, node, "`mount_default_fields`")) {
            Ok(fields) => {
                for (default, field) in defaults.iter_mut().zip(fields) {
                    *default = field.or_else(|| default.take());
                }
            }
            Err(why) => actions.push("mount_default_fields".into(), node.place, Work::Invalid(why)),
        }
    }
    actions.each(node, "`mounts`", |actions, _, item| {
        let mut label = "mount".to_owned();
        let work = actions.reader.attempt(|reader| {
            let own = fields(reader, item, "a mount");
            // A mount without a place takes away one that cloud-init would make by itself. Nothing is made by itself here.
            let [Some(source), Some(target), ..] = &own else { return None };
            label = format!("mount {target}");
            let mut rest =
                own.iter().zip(&defaults).skip(2).map(|(own, default)| own.clone().or_else(|| default.clone()));
            let mut next = || rest.next().flatten().unwrap_or_default();
            let (fs_type, options, dump, pass) = (next(), next(), next(), next());
            let named = aliases.path(source);
            mount(reader, item, named.as_ref().unwrap_or(source), target, [fs_type, options, dump, pass])
        });
        actions.add(label, item.place, work);
    });
}

/// The fields of a line of fstab(5); null and what is left out are `None`.
fn fields(reader: &mut Reader<'_>, node: &Node, what: &str) -> Fields {
    let items = reader.list(node, what);
    if items.len() > 6 {
        reader.error(Code::BadValue, node.place, format!("{what} has at most six fields, as a line of fstab(5) has"));
    }
    let mut fields = Fields::default();
    for (field, item) in fields.iter_mut().zip(items) {
        *field = reader.text(item, "a field of a mount").filter(|text| !text.is_empty() && text != "None");
    }
    fields
}

fn mount(
    reader: &mut Reader<'_>,
    item: &Node,
    source: &str,
    target: &str,
    [fs_type, options, dump, pass]: [String; 4],
) -> Option<Work> {
    let place = item.place;
    for text in [source, target, &fs_type, &options] {
        // fstab(5) has escapes for blanks, for control characters it has none.
        if text.chars().any(char::is_control) {
            reader.error(Code::BadValue, place, "a field of a mount must not hold control characters");
            return None;
        }
    }
    if source.starts_with("ephemeral") || source == "swap" {
        let why = format!("`{source}` names a device by the metadata of a platform, which is not supported yet");
        return Some(not_supported(reader, item, why));
    }
    // A bare name of a disk is that of its device.
    let disk = ["sd", "vd", "xvd", "hd", "nvme", "mmcblk"].iter().any(|kind| source.starts_with(kind));
    let source = if disk && !source.contains(['/', '=', ':']) { format!("/dev/{source}") } else { source.to_owned() };
    let is_swap = fs_type == "swap" || target == "swap";
    let target = if is_swap {
        None
    } else if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
        let message = format!("a mount point is an absolute path without `..`, not `{target}`");
        reader.error(Code::BadValue, place, message);
        return None;
    } else {
        Some(PathBuf::from(target))
    };
    if let Some(fault) = target.as_deref().and_then(mount_point_fault) {
        let at = target.as_deref().map(|target| target.display().to_string()).unwrap_or_default();
        reader.error(Code::BadValue, place, format!("nothing is mounted at `{at}` by a configuration: {fault}"));
        return None;
    }
    if let Some(fault) = mount_source_fault(&source) {
        reader.error(Code::BadValue, place, format!("`{source}` is not mounted by a configuration: {fault}"));
        return None;
    }
    let mut number = |text: &str, what: &str| match text.parse::<u32>() {
        Ok(number) => Some(number),
        Err(_) => {
            reader.error(Code::BadValue, place, format!("{what} of a mount is a number, not `{text}`"));
            None
        }
    };
    let (dump, pass) = (number(&dump, "the fifth field")?, number(&pass, "the sixth field")?);
    let fs_type = if is_swap { "swap".to_owned() } else { fs_type };
    let options = Secret::new(options);
    Some(Work::Storage(StorageWork::Mount(Mount { source, target, fs_type, options, dump, pass })))
}

pub(super) fn swap(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "swap") else { return };
    let mut label = "swap".to_owned();
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`swap`");
        let path = match get(entries, "filename") {
            Some(node) => reader.path(node, "`swap.filename`")?,
            None => SWAP_FILE.into(),
        };
        label = format!("swap {}", path.display());
        let size = get(entries, "size")?;
        let automatic = size.scalar().is_some_and(|scalar| scalar.text == "auto");
        let size = if automatic { SwapSize::Automatic } else { SwapSize::Bytes(bytes(reader, size, "`swap.size`")?) };
        let most = get(entries, "maxsize").and_then(|node| bytes(reader, node, "`swap.maxsize`"));
        // Zero asks for none.
        let wanted = size != SwapSize::Bytes(0);
        wanted.then_some(Work::Storage(StorageWork::SwapFile(SwapFile { path, size, most })))
    });
    actions.add(label, node.place, work);
}

/// A number of bytes, or a number with a unit, which is a power of 1024 whatever its spelling.
fn bytes(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<u64> {
    let read = node.scalar().and_then(|scalar| {
        if let Some(number) = scalar.as_int() {
            return u64::try_from(number).ok();
        }
        let text = scalar.text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..)?.to_ascii_uppercase();
        let shift = match unit.as_str() {
            "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return None,
        };
        digits.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
    });
    if read.is_none() {
        let found = node.scalar().map_or_else(|| node.kind().to_owned(), |scalar| format!("`{}`", scalar.text));
        let message = format!("{what} is a number of bytes, or a number with a unit such as `512M`, not {found}");
        reader.error(Code::BadValue, node.place, message);
    }
    read
}
