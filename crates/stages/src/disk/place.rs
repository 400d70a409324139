//! Decides where a file system goes as `fs_setup` wants it: pure, from facts that were read once.
//!
//! Invariant: what lies somewhere is given up only where the wish says so, and what is as wished is never made again, since steps run
//! at every boot.

use super::plan::Content;
use kairn_config::{FileSystemSetup, PartitionChoice};
use std::path::PathBuf;

/// A device that may take a file system: the one that is named, or a partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub device: PathBuf,
    /// Its number, for a partition of the device that is named.
    pub number: Option<u32>,
    /// It is parted.
    pub parted: bool,
    /// What lies on it.
    pub content: Option<Content>,
    /// Why nothing is made there, whatever is wished.
    pub taken: Option<String>,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placing {
    /// It is there.
    Is,
    /// It is not made, for this reason.
    Left(String),
    /// It is made on this device.
    Make(Place),
    /// It cannot be made, for this reason.
    Refused(String),
}

/// Decides among the places of a device: itself first, then its partitions.
pub fn decide(places: &[Place], wanted: &FileSystemSetup) -> Placing {
    let Some(device) = places.first() else { return Placing::Refused("it is not there".to_owned()) };
    match wanted.partition {
        PartitionChoice::Number(number) => match places.iter().find(|place| place.number == Some(number)) {
            Some(place) => one(place, wanted),
            None => Placing::Refused(format!("it has no partition {number}")),
        },
        PartitionChoice::Device => one(device, wanted),
        PartitionChoice::Auto => any(places, wanted, true),
        PartitionChoice::Any => any(places, wanted, false),
    }
}

fn one(place: &Place, wanted: &FileSystemSetup) -> Placing {
    if place.content.as_ref().is_some_and(|content| is(content, wanted, true)) {
        return Placing::Is;
    }
    if let Some(why) = &place.taken {
        return Placing::Refused(why.clone());
    }
    let held = match &place.content {
        Some(content) => Some(described(content)),
        None => place.parted.then(|| "a partition table".to_owned()),
    };
    match held {
        Some(held) if !wanted.overwrite && !may_go(place, wanted) => {
            Placing::Left(format!("`{}` holds {held}; `overwrite: true` gives it up", place.device.display()))
        }
        _ => Placing::Make(place.clone()),
    }
}

fn any(places: &[Place], wanted: &FileSystemSetup, by_label: bool) -> Placing {
    if places.iter().filter_map(|place| place.content.as_ref()).any(|content| is(content, wanted, by_label)) {
        return Placing::Is;
    }
    let parts = || places.iter().filter(|place| place.taken.is_none() && (places.len() == 1 || place.number.is_some()));
    let free = parts().find(|place| may_go(place, wanted)).or_else(|| parts().find(|place| place.content.is_none()));
    // A disk without partitions takes it itself.
    match free.filter(|place| !place.parted) {
        Some(place) => Placing::Make(place.clone()),
        None => match places {
            [only] => one(only, wanted),
            _ => Placing::Left("none of its partitions is free".to_owned()),
        },
    }
}

fn may_go(place: &Place, wanted: &FileSystemSetup) -> bool {
    let named = place.content.as_ref().zip(wanted.replace.as_deref());
    named.is_some_and(|(content, kind)| same_kind(&content.kind, kind))
}

/// Says whether what lies there is what is wished. Without a kind the label decides, and without either nothing is as wished.
fn is(content: &Content, wanted: &FileSystemSetup, by_label: bool) -> bool {
    let label = wanted.label.as_deref().filter(|_| by_label || wanted.kind.is_none());
    let labelled = label.is_none_or(|label| content.label == cut(&content.kind, label));
    match &wanted.kind {
        Some(kind) => labelled && same_kind(&content.kind, kind),
        None => label.is_some() && labelled,
    }
}

fn same_kind(found: &str, wanted: &str) -> bool {
    let plain = |kind: &str| match kind {
        "fat" | "msdos" | "fat16" | "fat32" => "vfat".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    plain(found) == plain(wanted)
}

/// A label as a file system of this kind keeps it.
fn cut<'l>(kind: &str, label: &'l str) -> &'l str {
    let most = match kind {
        "ext2" | "ext3" | "ext4" => 16,
        "swap" => 15,
        _ => return label,
    };
    let end = (0..=most.min(label.len())).rev().find(|end| label.is_char_boundary(*end)).unwrap_or_default();
    label.get(..end).unwrap_or_default()
}

fn described(content: &Content) -> String {
    match content.label.as_str() {
        "" => content.kind.clone(),
        label => format!("{} `{label}`", content.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u32, content: &str) -> Place {
        let (kind, label) = content.split_once(' ').unwrap_or((content, ""));
        let content = Content { kind: kind.into(), label: label.into(), span: None };
        Place {
            device: format!("/dev/vdb{number}").into(),
            number: Some(number),
            parted: false,
            content: Some(content).filter(|content| !content.kind.is_empty()),
            taken: None,
        }
    }

    /// A disk with these contents of its partitions, or of itself when it has none.
    fn disk(own: &str, parts: &[&str]) -> Vec<Place> {
        let itself = Place { device: "/dev/vdb".into(), number: None, parted: !parts.is_empty(), ..place(0, own) };
        std::iter::once(itself).chain((1..).zip(parts).map(|(number, content)| place(number, content))).collect()
    }

    fn wish(partition: PartitionChoice) -> FileSystemSetup {
        FileSystemSetup {
            device: "/dev/vdb".into(),
            partition,
            kind: Some("ext4".into()),
            label: Some("data".into()),
            overwrite: false,
            replace: None,
            options: Vec::new(),
            command: None,
        }
    }

    fn said(places: &[Place], wanted: &FileSystemSetup) -> String {
        match decide(places, wanted) {
            Placing::Is => "is".into(),
            Placing::Left(why) => format!("left: {why}"),
            Placing::Make(place) => format!("make {}", place.device.display()),
            Placing::Refused(why) => format!("refused: {why}"),
        }
    }

    #[test]
    fn a_file_system_goes_where_none_is_and_is_made_once() {
        use PartitionChoice::{Any, Auto, Device, Number};
        for (own, parts, choice, expected) in [
            ("", &[][..], Any, "make /dev/vdb"),
            ("", &[], Auto, "make /dev/vdb"),
            ("", &[], Device, "make /dev/vdb"),
            ("", &[], Number(1), "refused: it has no partition 1"),
            ("ext4 data", &[], Device, "is"),
            ("ext4 other", &[], Device, "left: `/dev/vdb` holds ext4 `other`; `overwrite: true` gives it up"),
            ("ext4 other", &[], Any, "is"),
            ("ext4 other", &[], Auto, "left: `/dev/vdb` holds ext4 `other`; `overwrite: true` gives it up"),
            ("", &["ext4 data", ""], Number(1), "is"),
            ("", &["ext4 data", ""], Number(2), "make /dev/vdb2"),
            ("", &["ext4 data", ""], Auto, "is"),
            ("", &["ext4 other", ""], Auto, "make /dev/vdb2"),
            ("", &["ext4 other", ""], Any, "is"),
            ("", &["xfs other", "swap"], Any, "left: none of its partitions is free"),
            ("", &[""], Device, "left: `/dev/vdb` holds a partition table; `overwrite: true` gives it up"),
            ("", &["xfs data"], Number(1), "left: `/dev/vdb1` holds xfs `data`; `overwrite: true` gives it up"),
        ] {
            assert_eq!(said(&disk(own, parts), &wish(choice)), expected, "{own} {parts:?} {choice:?}");
        }
    }

    #[test]
    fn what_may_go_goes_and_what_is_taken_does_not() {
        let mut wanted = wish(PartitionChoice::Number(1));
        let mut places = disk("", &["xfs data", ""]);
        wanted.overwrite = true;
        assert_eq!(said(&places, &wanted), "make /dev/vdb1");
        places[1].taken = Some("it is mounted".into());
        assert_eq!(said(&places, &wanted), "refused: it is mounted");
        assert_eq!(said(&disk("", &["ext4 data"]), &wanted), "is");
        let replace = FileSystemSetup { replace: Some("ntfs".into()), ..wish(PartitionChoice::Any) };
        assert_eq!(said(&disk("", &["xfs", "ntfs Temporary"]), &replace), "make /dev/vdb2");
        assert_eq!(said(&disk("ntfs Temporary", &[]), &replace), "make /dev/vdb");
        assert_eq!(said(&places, &replace), "make /dev/vdb2");
    }

    #[test]
    fn without_a_kind_the_label_decides_and_labels_count_as_they_are_kept() {
        let mut wanted = FileSystemSetup { kind: None, ..wish(PartitionChoice::Device) };
        assert_eq!(said(&disk("f2fs data", &[]), &wanted), "is");
        assert!(said(&disk("f2fs other", &[]), &wanted).starts_with("left: "));
        wanted.label = None;
        assert!(said(&disk("f2fs other", &[]), &wanted).starts_with("left: "));
        let long = FileSystemSetup { label: Some("seventeen-letters".into()), ..wish(PartitionChoice::Auto) };
        assert_eq!(said(&disk("", &["ext4 seventeen-letter"]), &long), "is");
        let fat = FileSystemSetup { kind: Some("fat32".into()), label: None, ..wish(PartitionChoice::Auto) };
        assert_eq!(said(&disk("", &["vfat X"]), &fat), "is");
    }
}
