//! The machine's identity: made at the first boot, kept in COS_PERSISTENT, in place before systemd reads it.

use kairn_host::{Error, files};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What to do about the identity that is kept, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It is good.
    Keep(String),
    /// There is none yet.
    First,
    /// What is kept is no identity; a new one is made and this is reported.
    Damaged,
}

/// Judges the content of the kept file; `None` when there is none. An identity is 32 lower-case hex digits, not all zero
/// (machine-id(5)).
#[must_use]
pub fn judge(kept: Option<&[u8]>) -> Identity {
    let Some(kept) = kept else { return Identity::First };
    let text = kept.strip_suffix(b"\n").unwrap_or(kept);
    let hex = text.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    match std::str::from_utf8(text) {
        Ok(text) if hex && text.len() == 32 && text.bytes().any(|byte| byte != b'0') => Identity::Keep(text.to_owned()),
        _ => Identity::Damaged,
    }
}

/// Makes an identity of random bytes: a version 4 UUID without dashes, as systemd makes them.
#[must_use]
pub fn make(random: [u8; 16]) -> String {
    let mut bytes = random;
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    hex::encode(bytes)
}

/// Returns the identity below `persistent`, making and keeping one where there is none or a damaged one.
///
/// # Errors
/// It can be neither read nor kept; an identity that would be another at the next boot is none.
pub fn ensure(persistent: &Path, random: [u8; 16]) -> Result<(String, Identity), Error> {
    let path = persistent.join("etc/machine-id");
    // One byte more than an identity has tells that it is none.
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(34).read_to_end(&mut bytes));
    let kept = match read {
        Ok(_) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        // A bad block in it is damage like any other; a directory in its place cannot be replaced by a rename.
        Err(error) if error.raw_os_error() == Some(5) => Some(Vec::new()),
        Err(error) => return Err(Error::path("read", &path)(error)),
    };
    let identity = judge(kept.as_deref());
    if let Identity::Keep(id) = &identity {
        return Ok((id.clone(), identity));
    }
    let id = make(random);
    files::make_dir(&persistent.join("etc"), 0o755)?;
    files::write_whole(&path, format!("{id}\n").as_bytes(), 0o444)?;
    Ok((id, identity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_identity_is_kept_and_a_damaged_one_is_remade_with_a_report() {
        let dir = tempfile::tempdir().unwrap();
        let (first, how) = ensure(dir.path(), [7; 16]).unwrap();
        assert_eq!(how, Identity::First);
        let (second, how) = ensure(dir.path(), [9; 16]).unwrap();
        assert_eq!((second.as_str(), how), (first.as_str(), Identity::Keep(first.clone())));
        for damage in
            ["", "uninitialized\n", "00000000000000000000000000000000\n", &first[..31], "\u{0}\u{0}", &first.repeat(9)]
        {
            std::fs::remove_file(dir.path().join("etc/machine-id")).unwrap();
            std::fs::write(dir.path().join("etc/machine-id"), damage).unwrap();
            let (remade, how) = ensure(dir.path(), [9; 16]).unwrap();
            assert_eq!(how, Identity::Damaged, "{damage:?}");
            assert_ne!(remade, first);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_made_is_judged_good(random in proptest::array::uniform16(any::<u8>())) {
            let id = make(random);
            prop_assert_eq!(judge(Some(format!("{id}\n").as_bytes())), Identity::Keep(id));
        }
    }
}
