//! Copying into a disk image without writing zeros, so that the image takes only the space of its content.

use crate::Error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Unit in which zeros are left out.
const BLOCK: usize = 64 << 10;

/// Copies a file to an offset of `disk`, which is all zeros there.
pub(crate) fn copy_into(from: &Path, disk: &File, disk_path: &Path, offset: u64) -> Result<(), Error> {
    let mut source = File::open(from).map_err(Error::path("open", from))?;
    // Another program wrote it. Bytes that found no place on a full disk are told about here only, and would be taken for holes.
    source.sync_all().map_err(Error::path("sync", from))?;
    let length = source.metadata().map_err(Error::path("examine", from))?.len();
    let mut buffer = vec![0; BLOCK];
    let mut at = 0;
    while at < length {
        // A file system that knows no holes reports the whole file as data.
        let data = match rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(errno) => return Err(Error::path("seek in", from)(errno.into())),
        };
        at = data - data % BLOCK as u64;
        source.seek(SeekFrom::Start(at)).map_err(Error::path("seek in", from))?;
        let wanted = buffer.len().min(usize::try_from(length - at).unwrap_or(BLOCK));
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        source.read_exact(chunk).map_err(Error::path("read", from))?;
        if chunk.iter().any(|byte| *byte != 0) {
            disk.write_all_at(chunk, offset + at).map_err(Error::path("write", disk_path))?;
        }
        at += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_copy_has_the_content_of_its_source(islands in proptest::collection::vec((0_u64..400_000, 1_usize..3_000, 1_u8..), 0..6), length in 0_u64..500_000, offset in 0_u64..70_000) {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            let source = File::create(&from).unwrap();
            source.set_len(length).unwrap();
            for (at, size, byte) in islands {
                if at + size as u64 <= length {
                    source.write_all_at(&vec![byte; size], at).unwrap();
                }
            }
            let disk = File::create(&to).unwrap();
            disk.set_len(offset + length).unwrap();
            copy_into(&from, &disk, &to, offset).unwrap();
            prop_assert_eq!(&fs::read(&to).unwrap()[offset as usize..], fs::read(&from).unwrap());
        }
    }

    #[test]
    fn zeros_take_no_space() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, vec![0; 4 << 20]).unwrap();
        let disk = File::create(&to).unwrap();
        disk.set_len(4 << 20).unwrap();
        copy_into(&from, &disk, &to, 0).unwrap();
        assert_eq!(disk.metadata().unwrap().blocks(), 0);
    }
}
