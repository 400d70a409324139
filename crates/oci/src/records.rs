//! A bound on what describes an entry of a tar: GNU's records of long names (`L`, `K`), PAX headers (`x`, `g`) and maps of sparse files
//! (tar(5)) are read into memory whole by the reader of tars, and say themselves how long they are.
//!
//! Invariant: between the content of one entry and the next entry, at most [`MOST`] bytes are read. It does not rest on how these records
//! are framed, so that nothing in them can lead past it.

use crate::Error;
use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

/// The most that describes one entry, in bytes: a path has 4096 at most (`PATH_MAX`), an extended attribute 65536 (xattr(7)).
const MOST: u64 = 1 << 20;
/// The most of a path that an error shows, in characters.
const SHOWN: usize = 300;
/// Size of a tar's blocks in bytes.
const BLOCK: u64 = 512;

/// A tar's bytes, as far as they are allowed.
pub(crate) struct Bounded<R> {
    inner: R,
    allowance: Allowance,
}

/// How many bytes may still be read before the next entry must have come.
#[derive(Clone)]
pub(crate) struct Allowance(Rc<Cell<u64>>);

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R) -> (Self, Allowance) {
        let allowance = Allowance(Rc::new(Cell::new(MOST)));
        (Self { inner, allowance: allowance.clone() }, allowance)
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }
}

impl Allowance {
    /// Takes note of an entry that came: its content may be read or passed over, and then a description of the next.
    pub(crate) fn came(&self, entry: &tar::Entry<'_, impl Read>) {
        // The size of a sparse entry is that of the file, not of what lies in the tar.
        let sparse = entry.header().entry_type().is_gnu_sparse();
        let size = if sparse { entry.header().entry_size().unwrap_or(0) } else { entry.size() };
        self.0.set(size.checked_next_multiple_of(BLOCK).unwrap_or(size).saturating_add(MOST));
    }

    /// Says what is wrong when reading ended: with the description of the entry after `last`, or with the bytes.
    pub(crate) fn judge(&self, tar: &str, last: Option<&Path>, error: io::Error) -> Error {
        if self.0.get() > 0 {
            return Error::malformed(tar, error);
        }
        let entry = last.map_or("first entry".to_owned(), |last| format!("entry after `{}`", shown(last)));
        Error::TooLarge { what: format!("{tar}: the description (name, link, attributes) of the {entry}"), limit: MOST }
    }
}

/// A path of an entry as an error names it: a name of a mebibyte helps nobody.
pub(crate) fn shown(path: &Path) -> String {
    let mut text = path.display().to_string();
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.0.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the description of an entry is too long"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.allowance.0.set(left.saturating_sub(count as u64));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::EntryType;

    fn header(kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path("a").unwrap();
        header.set_cksum();
        header
    }

    /// Reads all entries, their contents only where asked for; returns how many there were.
    fn read(bytes: impl Read, contents: bool) -> Result<usize, Error> {
        let (bounded, allowance) = Bounded::new(bytes);
        let mut archive = tar::Archive::new(bounded);
        let (mut count, mut last) = (0, None);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.map_err(|error| allowance.judge("layer", last.as_deref(), error))?;
            allowance.came(&entry);
            last = Some(entry.path().unwrap().into_owned());
            if contents {
                io::copy(&mut entry, &mut io::sink()).unwrap();
            }
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_description_without_an_end_is_refused() {
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let header = header(kind, 1 << 40);
            let error = read(header.as_bytes().chain(io::repeat(b'a')), true).unwrap_err();
            assert!(matches!(&error, Error::TooLarge { what, .. } if what.ends_with("the first entry")), "{error}");
        }
        // A map of a sparse file that always has one more block, with a part of no length.
        let mut sparse = header(EntryType::GNUSparse, 0);
        sparse.as_gnu_mut().unwrap().isextended = [1];
        sparse.set_cksum();
        let mut block = tar::GnuExtSparseHeader::new();
        block.isextended = [1];
        block.sparse[0].offset = *b"00000000000\0";
        block.sparse[0].numbytes = *b"00000000000\0";
        let blocks: Vec<u8> = block.as_bytes().repeat(5_000);
        let error = read(sparse.as_bytes().chain(blocks.as_slice()), true).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }

    #[test]
    fn contents_of_any_size_and_long_descriptions_pass_and_do_not_add_up() {
        let mut tar = tar::Builder::new(Vec::new());
        for _ in 0..3 {
            let content = vec![7; 3 << 20];
            tar.append_data(&mut header(EntryType::Regular, content.len() as u64), "n".repeat(4_000), &*content)
                .unwrap();
            let value = vec![b'v'; 1 << 16];
            let attributes = (0..10).map(|_| ("SCHILY.xattr.user.a", value.as_slice()));
            tar.append_pax_extensions(attributes).unwrap();
            tar.append(&header(EntryType::Regular, 0), io::empty()).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        assert_eq!(read(bytes.as_slice(), true).unwrap(), 6);
        assert_eq!(read(bytes.as_slice(), false).unwrap(), 6);
        // What is left of an allowance for content is none for a description.
        let long = header(EntryType::GNULongName, 2 << 20);
        let data = vec![b'a'; 2 << 20];
        let end = bytes.len() - 1_024;
        let bytes = bytes[..end].chain(long.as_bytes().as_slice()).chain(data.as_slice());
        let error = read(bytes, false).unwrap_err();
        assert!(
            matches!(&error, Error::TooLarge { what, limit: MOST } if what.ends_with("entry after `a`")),
            "{error}"
        );
    }
}
