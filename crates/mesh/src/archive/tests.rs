//! The file on a disk that is sound, full, damaged, or another's.

use super::*;
use kairn_mesh_protocol::Token;
use kairn_mesh_protocol::archive::{Record, head};
use kairn_mesh_protocol::entry::{Bucket, Content, Entry};
use kairn_mesh_protocol::hlc::Stamp;
use kairn_mesh_protocol::{Identity, Wall};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn network() -> NetworkId {
    Token::new([1; 32], None).network().id
}

fn record(number: u8) -> Record {
    let identity = Identity::from_seed(&[1; 32]);
    let content = Content {
        bucket: Bucket::Values,
        key: format!("key-{number}"),
        author: identity.id(),
        stamp: Stamp::new(u64::from(number)),
        lifetime: 0,
        value: Some(vec![number; 50]),
    };
    Record { entry: Entry::sign(&network(), &identity, content).unwrap(), age: Duration::ZERO, saved: Some(Wall(1)) }
}

fn whole(records: &[Record]) -> Write {
    let bodies = records.iter().flat_map(|record| record.encode().unwrap());
    Write::Whole { bytes: head(&network(), records.len()).into_iter().chain(bodies).collect(), left_out: 0 }
}

fn open(dir: &Path) -> (Archive, Contents) {
    Archive::open(&StateDir::open(dir).unwrap(), &network())
}

#[test]
fn what_is_written_and_appended_is_read_again_and_belongs_to_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (mut archive, contents) = open(dir.path());
    assert_eq!((contents, archive.growth().is_sound()), (Contents::default(), false));
    archive.write(&whole(&[record(1), record(2)]), Instant::now());
    archive.write(&Write::Append(record(3).encode().unwrap()), Instant::now());
    archive.write(&Write::Append(record(4).encode().unwrap()), Instant::now());
    let status = archive.status();
    let file = dir.path().join(FILE).metadata().unwrap();
    assert_eq!((status.why, status.saved, status.bytes), (None, Some(0), Some(file.len() as usize)));
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    drop(archive);
    let (_, contents) = open(dir.path());
    assert_eq!(contents.records, [1, 2, 3, 4].map(record));
}

#[test]
fn a_disk_that_takes_nothing_is_said_and_everything_is_written_once_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (mut archive, _) = open(dir.path());
    archive.write(&whole(&[record(1)]), Instant::now());
    // What the file is written as first is a directory: nobody can write that, not even root.
    let temporary = files::temporary_name(&dir.path().join(FILE)).unwrap();
    std::fs::create_dir(&temporary).unwrap();
    archive.write(&whole(&[record(1), record(2)]), Instant::now());
    let status = archive.status();
    assert!(status.why.as_ref().is_some_and(|why| why.contains(FILE)) && status.failures == 1, "{status:?}");
    assert!(!archive.growth().is_sound() && !archive.may_write(Instant::now()));
    // It is not left at that until others' entries are due.
    assert!(!archive.is_due(Instant::now()) && archive.is_due(Instant::now() + RETRY));
    assert!(archive.may_write(Instant::now() + RETRY));
    // The old file is as it was.
    std::fs::remove_dir(&temporary).unwrap();
    assert_eq!(archive::read(&network(), &std::fs::read(dir.path().join(FILE)).unwrap()).unwrap().records, [record(1)]);
    archive.write(&whole(&[record(1), record(2)]), Instant::now());
    assert_eq!((archive.why(), archive.status().failures), (None, 1));
    assert!(!archive.is_due(Instant::now() + RETRY) && archive.is_due(Instant::now() + PERIOD));
    // What cannot be appended either.
    archive.growing = None;
    archive.write(&Write::Append(record(3).encode().unwrap()), Instant::now());
    assert!(archive.why().is_some() && !archive.growth().is_sound());
}

#[test]
fn damage_is_counted_and_what_is_not_this_programs_to_write_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let Write::Whole { mut bytes, .. } = whole(&[record(1), record(2), record(3)]) else { return };
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (archive, contents) = open(dir.path());
    assert_eq!(contents.records, [record(1), record(3)]);
    assert_eq!((archive.status().damaged, archive.status().missing), (1, 1));
    drop(archive);

    // Another network's is moved aside.
    let other = head(&Token::new([2; 32], None).network().id, 0);
    std::fs::write(&path, &other).unwrap();
    let (mut archive, contents) = open(dir.path());
    assert_eq!((contents, archive.why()), (Contents::default(), None));
    assert_eq!(std::fs::read(dir.path().join(ASIDE)).unwrap(), other);
    archive.write(&whole(&[record(1)]), Instant::now());
    assert_eq!(archive.why(), None);
    drop(archive);

    // So is one that is no file of any node's size.
    let huge = std::fs::File::create(&path).unwrap();
    huge.set_len(LARGEST as u64 + 1).unwrap();
    let (archive, contents) = open(dir.path());
    assert_eq!((contents, archive.why(), path.exists()), (Contents::default(), None, false));
    drop(archive);

    // A later program's stays as it is: that program may be booted again.
    let mut newer = head(&network(), 0);
    newer.truncate(32);
    newer[11] = 9;
    let sum = sum(&newer);
    newer.extend(sum);
    std::fs::write(&path, &newer).unwrap();
    let (archive, contents) = open(dir.path());
    assert_eq!(contents, Contents::default());
    assert!(archive.why().is_some_and(|why| why.contains("version 9")), "{:?}", archive.why());
    assert!(!archive.may_write(Instant::now() + RETRY) && !archive.is_due(Instant::now() + PERIOD));
    assert_eq!(std::fs::read(&path).unwrap(), newer);
}

/// The sum of a head: the first 8 bytes of SHA-256.
fn sum(mut bytes: &[u8]) -> Vec<u8> {
    hex::decode(&files::sha256_of(&mut bytes).unwrap()[..16]).unwrap()
}
