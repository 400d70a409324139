//! What is booted, from what the loader says and the command line. Pure.

use kairn_lifecycle::cmdline::Cmdline;
use kairn_lifecycle::{DeploymentState, EntryName, Role, Sequence};

/// What the loader and the command line say about this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Entry as the loader named it: with its counter by systemd-boot 252, without by 257.
    pub entry: Option<String>,
    /// GUID of the loader's partition.
    pub partition: Option<String>,
    /// GUID of the disk, from the command line.
    pub disk: Option<String>,
    /// Path of the entry that the loader counted last (`LoaderBootCountPath`). One that did not load went back to the firmware, and
    /// the variable outlives it until power off: it may name another entry than the one that boots.
    pub counted: Option<String>,
    /// All entries that the loader found (`LoaderEntries`); empty when it does not say.
    pub entries: Vec<String>,
}

/// This boot's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booted {
    /// The name.
    pub name: EntryName,
    /// The loader counts this boot: it is on trial.
    pub trial: bool,
}

impl Hints {
    /// Adds what the command line says; it wins over the firmware, since GRUB and tests speak through it.
    #[must_use]
    pub fn with_cmdline(mut self, cmdline: &Cmdline) -> Self {
        if let Some(entry) = cmdline.get("kairn.entry") {
            self.entry = Some(entry.to_owned());
            (self.counted, self.entries) = (None, Vec::new());
        }
        self.disk = cmdline.get("kairn.disk").map(str::to_owned);
        self
    }

    /// Returns this boot's entry; `None` for a boot without one, or with a foreign one.
    #[must_use]
    pub fn booted(&self) -> Option<Booted> {
        let name = EntryName::parse(self.entry.as_deref()?)?;
        let counted = matches!(name, EntryName::Deployment { counter: Some(_), .. });
        // The loader writes `\loader\entries\NAME`.
        let last = self.counted.as_deref().and_then(|path| EntryName::parse(path.rsplit(['\\', '/']).next()?));
        let same = last.is_some_and(|last| last.stripped() == name.stripped());
        Some(Booted { name, trial: counted || same && name != EntryName::Recovery })
    }

    /// Says whether the booted deployment is the highest that is not bad, as far as the loader's own list shows it; `None` when only
    /// the ESP can tell. Some versions list names without their counters.
    #[must_use]
    pub fn is_active(&self, sequence: Sequence) -> Option<bool> {
        if self.entries.is_empty() {
            return None;
        }
        let mut above = self
            .entries
            .iter()
            .filter_map(|name| EntryName::parse(name))
            .filter(|name| matches!(name, EntryName::Deployment { sequence: other, .. } if *other > sequence));
        above.all(|name| name.state() == DeploymentState::Bad).then_some(true)
    }
}

impl Booted {
    /// Returns the role.
    #[must_use]
    pub const fn role(self) -> Role {
        match self.name {
            EntryName::Deployment { sequence, .. } => Role::Deployment { sequence },
            EntryName::Recovery => Role::Recovery,
        }
    }
}

/// Splits the list that the loader keeps in `LoaderEntries`: UTF-16 names, each ended by a zero.
#[must_use]
pub fn entries(bytes: &[u8]) -> Vec<String> {
    let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    units.split(|unit| *unit == 0).filter(|name| !name.is_empty()).map(String::from_utf16_lossy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(entry: &str, entries: &[&str]) -> Hints {
        Hints {
            entry: Some(entry.into()),
            entries: entries.iter().map(|&name| name.to_owned()).collect(),
            ..Hints::default()
        }
    }

    #[test]
    fn the_entry_fixes_role_and_trial() {
        let deployment = Role::Deployment { sequence: Sequence(5) };
        for (entry, counted, wanted) in [
            ("kairn-5.conf", None, Some((deployment, false))),
            ("kairn-5.conf", Some(r"\loader\entries\kairn-5+1-1.conf"), Some((deployment, true))),
            // Deployment 6 did not load, and the firmware started the loader again.
            ("kairn-5.conf", Some(r"\loader\entries\kairn-6+0-2.conf"), Some((deployment, false))),
            ("kairn-5+2.conf", None, Some((deployment, true))),
            ("kairn-5+0-1.conf", None, Some((deployment, true))),
            ("kairn-recovery.conf", Some(r"\loader\entries\kairn-5+0-2.conf"), Some((Role::Recovery, false))),
            ("auto-windows", None, None),
        ] {
            let booted = Hints { counted: counted.map(str::to_owned), ..hints(entry, &[]) }.booted();
            assert_eq!(booted.map(|booted| (booted.role(), booted.trial)), wanted, "{entry}");
        }
        assert_eq!(Hints::default().booted(), None);
    }

    #[test]
    fn the_command_line_wins_over_the_firmware() {
        let cmdline = Cmdline::parse("kairn.entry=kairn-2.conf kairn.disk=AB");
        let merged = Hints { counted: Some("kairn-5.conf".into()), ..hints("kairn-5+1.conf", &["kairn-5+1.conf"]) }
            .with_cmdline(&cmdline);
        assert_eq!(merged.booted().unwrap().role(), Role::Deployment { sequence: Sequence(2) });
        assert!(!merged.booted().unwrap().trial && merged.entries.is_empty());
        assert_eq!(merged.disk.as_deref(), Some("AB"));
    }

    #[test]
    fn a_deployment_is_active_when_all_above_it_are_bad() {
        let five = Sequence(5);
        assert_eq!(hints("kairn-5.conf", &["kairn-5.conf", "kairn-4.conf", "x.conf"]).is_active(five), Some(true));
        assert_eq!(hints("kairn-5.conf", &["kairn-6+0-2.conf", "kairn-5.conf"]).is_active(five), Some(true));
        assert_eq!(hints("kairn-5.conf", &["kairn-6.conf", "kairn-5.conf"]).is_active(five), None);
        assert_eq!(hints("kairn-5.conf", &[]).is_active(five), None);
    }

    #[test]
    fn the_loaders_list_is_split_at_zeros() {
        let bytes: Vec<u8> = "a.conf\0b.conf\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(entries(&bytes), ["a.conf", "b.conf"]);
    }
}
