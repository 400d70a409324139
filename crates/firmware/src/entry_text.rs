//! The text of a loader entry (Boot Loader Specification, type 1).

use kairn_layout::paths::esp;
use kairn_lifecycle::Sequence;
use std::fmt::Write as _;

/// Sort key of deployments. The loader sorts keys upwards and, within one, versions downwards.
pub const SORT_KEY: &str = "kairn";
/// Sort key of the recovery entry: after every usable deployment; the loader itself puts exhausted entries last.
pub const SORT_KEY_RECOVERY: &str = "kairn-recovery";

/// The key that names a UKI in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKey {
    /// `efi`: any EFI program; what loaders before 258 know.
    Efi,
    /// `uki`: from systemd-boot 258 on, where `efi` entries are no longer counted as we need (seen in 259).
    Uki,
}

impl ImageKey {
    /// Returns the key that a loader of this major version wants.
    #[must_use]
    pub const fn for_loader(major: u32) -> Self {
        if major >= 258 { Self::Uki } else { Self::Efi }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Efi => "efi",
            Self::Uki => "uki",
        }
    }
}

/// What an entry of ours says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryText {
    /// What a person reads in the loader's menu.
    pub title: String,
    /// The deployment's number; `None` for recovery.
    pub sequence: Option<Sequence>,
    /// The key that names the UKI.
    pub key: ImageKey,
    /// File name of the UKI below [`esp::UKIS`].
    pub uki: String,
}

impl EntryText {
    /// Renders the entry. Line breaks and control characters of the title become blanks, since a title comes from an image's files.
    #[must_use]
    pub fn render(&self) -> String {
        let title: String = self.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut text = format!("title {}\n", title.trim());
        // Writing to a String cannot fail.
        let written = match self.sequence {
            Some(sequence) => writeln!(text, "sort-key {SORT_KEY}\nversion {sequence}"),
            None => writeln!(text, "sort-key {SORT_KEY_RECOVERY}"),
        }
        .and_then(|()| writeln!(text, "{} /{}/{}", self.key.name(), esp::UKIS, self.uki));
        debug_assert!(written.is_ok());
        text
    }

    /// Parses an entry of ours; `None` when a line that ours always have is absent, e.g. in a torn file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut title, mut version, mut sort_key, mut image) = (None, None, None, None);
        for line in text.lines() {
            let line = line.trim();
            let Some((key, value)) = line.split_once([' ', '\t']) else { continue };
            let value = value.trim();
            match key {
                "title" => title = Some(value),
                "version" => version = Some(value),
                "sort-key" => sort_key = Some(value),
                "efi" => image = Some((ImageKey::Efi, value)),
                "uki" => image = Some((ImageKey::Uki, value)),
                _ => {}
            }
        }
        let (key, path) = image?;
        let uki = path.trim_start_matches('/').strip_prefix(esp::UKIS)?.strip_prefix('/')?;
        if uki.is_empty() || uki.contains('/') {
            return None;
        }
        let sequence = match sort_key? {
            SORT_KEY => Some(Sequence(version?.parse().ok()?)),
            SORT_KEY_RECOVERY => None,
            _ => return None,
        };
        Some(Self { title: title?.to_owned(), sequence, key, uki: uki.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_name_their_uki_by_the_key_that_the_loader_wants() {
        let entry = EntryText {
            title: "Debian\nGNU/Linux".into(),
            sequence: Some(Sequence(7)),
            key: ImageKey::for_loader(252),
            uki: "0123456789abcdef-01234567.efi".into(),
        };
        let text = entry.render();
        assert_eq!(
            text,
            "title Debian GNU/Linux\nsort-key kairn\nversion 7\nefi /EFI/kairn/0123456789abcdef-01234567.efi\n"
        );
        let recovery = EntryText { sequence: None, key: ImageKey::for_loader(258), ..entry };
        assert!(recovery.render().contains("sort-key kairn-recovery\nuki /EFI/kairn/"));
        assert!(!recovery.render().contains("version"));
    }

    #[test]
    fn a_torn_entry_is_not_an_entry() {
        let text = "title x\nsort-key kairn\nversion 7\nefi /EFI/kairn/a.efi\n";
        assert!(EntryText::parse(text).is_some());
        for cut in 0..text.len() - "a.efi\n".len() {
            assert!(EntryText::parse(text.get(..cut).unwrap()).is_none(), "{cut}");
        }
        assert!(EntryText::parse("title x\nsort-key kairn\nversion 7\nefi /EFI/kairn/../x.efi\n").is_none());
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses_back(title in "[a-zA-Z0-9(][ -~]{0,30}", sequence in proptest::option::of(any::<u32>()), uki in "[0-9a-f]{16}-[0-9a-f]{8}\\.efi", new in any::<bool>()) {
            let entry = EntryText {
                title: title.trim().to_owned(),
                sequence: sequence.map(Sequence),
                key: if new { ImageKey::Uki } else { ImageKey::Efi },
                uki,
            };
            prop_assert_eq!(EntryText::parse(&entry.render()), Some(entry));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            drop(EntryText::parse(&text));
        }
    }
}
