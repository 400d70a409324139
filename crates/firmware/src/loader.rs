//! The boot loader's binary: which versions count tries as the contract needs, and whether an installed one may be replaced.

use crate::Error;
use std::cmp::Ordering;
use std::fmt;

/// Majors of systemd-boot that pass the conformance suite in a virtual machine: the scenario `loader-<major>` of each plays one table of
/// names, counters and selections, and a test keeps scenarios and this list the same. Known upstream and not on the list: `efi`
/// entries to UKIs uncounted in 259, exhausted entries still booted in 258.3.
pub const SUPPORTED_LOADERS: &[u32] = &[252, 257];

/// The version of a systemd-boot binary as it states it, e.g. `252.39-1~deb12u1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderVersion {
    /// systemd's major version.
    pub major: u32,
    /// The whole text.
    pub text: String,
}

impl LoaderVersion {
    /// Parses the text that a loader states about itself; `None` without a leading number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self { major: digits.parse().ok()?, text: text.to_owned() })
    }

    /// Finds the version in a binary, which carries it for exactly this use.
    #[must_use]
    pub fn of_binary(bytes: &[u8]) -> Option<Self> {
        let info = kairn_image::uki::version(bytes).filter(|info| info.program == "systemd-boot")?;
        Self::parse(info.version)
    }

    /// Returns whether this version is on the list of proven ones.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        SUPPORTED_LOADERS.contains(&self.major)
    }
}

/// Orders as packages do (deb-version(7)): runs of digits by value, `~` before everything, letters before other characters.
impl PartialOrd for LoaderVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LoaderVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.text.as_bytes(), other.text.as_bytes())
    }
}

fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let ((digits_a, rest_a), (digits_b, rest_b)) = (split_digits(a), split_digits(b));
        let by_number = digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b));
        if by_number != Ordering::Equal {
            return by_number;
        }
        match (rest_a.split_first(), rest_b.split_first()) {
            (None, None) => return Ordering::Equal,
            (None, Some((b'~', _))) => return Ordering::Greater,
            (Some((b'~', _)), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some((x, left_a)), Some((y, left_b))) => {
                let rank = |byte: u8| (byte != b'~', !byte.is_ascii_digit(), !byte.is_ascii_alphabetic(), byte);
                if x != y {
                    return rank(*x).cmp(&rank(*y));
                }
                (a, b) = (left_a, left_b);
            }
        }
    }
}

/// Splits leading digits off, without their leading zeros.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    (digits.split_at(zeros).1, rest)
}

impl fmt::Display for LoaderVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One loader binary on the ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderBinary {
    /// Its version; `None` when the file does not say one.
    pub version: Option<LoaderVersion>,
    /// Its digest.
    pub sha256: kairn_lifecycle::Digest,
}

/// What is to happen to one loader binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderChange {
    /// Write it.
    Write,
    /// Leave it, with the reason.
    Keep(String),
}

/// Decides about one path on the ESP: a working loader is never replaced by one that is not on the list or is older.
///
/// # Errors
/// Nothing usable is installed and the offered one is not on the list: then there is nothing to boot with.
pub fn decide_loader(
    installed: Option<&LoaderBinary>,
    offered: &LoaderVersion,
    offered_sha256: &kairn_lifecycle::Digest,
) -> Result<LoaderChange, Error> {
    if installed.is_some_and(|binary| binary.sha256 == *offered_sha256) {
        return Ok(LoaderChange::Keep(format!("systemd-boot {offered} is already there")));
    }
    let working = installed.and_then(|binary| binary.version.as_ref()).filter(|version| version.is_supported());
    match working {
        Some(version) if !offered.is_supported() => Ok(LoaderChange::Keep(format!(
            "systemd-boot {version} stays: {offered} is not on the list of proven versions"
        ))),
        Some(version) if version >= offered => {
            Ok(LoaderChange::Keep(format!("systemd-boot {version} stays: {offered} is not newer")))
        }
        None if !offered.is_supported() => Err(Error::UnsupportedLoader {
            version: offered.text.clone(),
            supported: SUPPORTED_LOADERS.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        }),
        _ => Ok(LoaderChange::Write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_lifecycle::Digest;
    use proptest::prelude::*;

    fn version(text: &str) -> LoaderVersion {
        LoaderVersion::parse(text).unwrap()
    }

    #[test]
    fn versions_order_as_packages_do() {
        for (older, newer) in [
            ("252.9-1", "252.39-1~deb12u1"),
            ("252.39-1~deb12u1", "252.39-1"),
            ("252.39-1", "257.8-1~deb13u2"),
            ("257~rc1", "257"),
            ("257.8", "257.8-1"),
            ("257.8a", "257.8+1"),
        ] {
            assert!(version(older) < version(newer), "{older} {newer}");
            assert!(version(newer) > version(older), "{older} {newer}");
        }
    }

    #[test]
    fn a_binary_states_its_version() {
        let binary = b"MZ\0junk#### LoaderInfo: systemd-boot 252.39-1~deb12u1 ####\0more";
        assert_eq!(LoaderVersion::of_binary(binary), Some(version("252.39-1~deb12u1")));
        assert_eq!(LoaderVersion::of_binary(b"#### LoaderInfo: systemd-boot 252"), None);
        assert_eq!(LoaderVersion::of_binary(b"MZ"), None);
    }

    #[test]
    fn a_working_loader_is_never_replaced_by_an_unproven_or_older_one() {
        let binary =
            |text: &str| LoaderBinary { version: LoaderVersion::parse(text), sha256: Digest::of(text.as_bytes()) };
        let decide = |installed: Option<&str>, offered: &str| {
            decide_loader(installed.map(binary).as_ref(), &version(offered), &Digest::of(offered.as_bytes()))
        };
        assert_eq!(decide(None, "252.39-1").unwrap(), LoaderChange::Write);
        assert_eq!(decide(Some("252.39-1"), "257.8-1").unwrap(), LoaderChange::Write);
        for (installed, offered) in
            [("257.8-1", "252.39-1"), ("252.39-1", "259.1"), ("252.39-1", "258.3"), ("252.39-1", "252.39-1")]
        {
            assert!(
                matches!(decide(Some(installed), offered).unwrap(), LoaderChange::Keep(_)),
                "{installed} {offered}"
            );
        }
        // Neither garbage nor an unproven loader is a working one, so a proven older one may replace it.
        assert_eq!(decide(Some("garbage"), "252.39-1").unwrap(), LoaderChange::Write);
        assert_eq!(decide(Some("259.1"), "252.39-1").unwrap(), LoaderChange::Write);
        assert!(matches!(decide(None, "259.1"), Err(Error::UnsupportedLoader { .. })));
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-9]{1,3}[-~.a-z0-9]{0,6}", b in "[0-9]{1,3}[-~.a-z0-9]{0,6}", c in "[0-9]{1,3}[-~.a-z0-9]{0,6}") {
            let (a, b, c) = (version(&a), version(&b), version(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn no_bytes_make_the_search_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(LoaderVersion::of_binary(&bytes));
        }
    }
}
