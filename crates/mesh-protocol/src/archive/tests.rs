//! What a file holds after anything happened to it.

use super::*;
use crate::entry::{Bucket, Content};
use crate::hlc::Stamp;
use crate::{Identity, Token};
use proptest::prelude::*;

fn network() -> NetworkId {
    Token::new([1; 32], None).network().id
}

fn record(number: u8, length: usize) -> Record {
    let content = Content {
        bucket: Bucket::Values,
        key: format!("key-{number}"),
        author: Identity::from_seed(&[1; 32]).id(),
        stamp: Stamp::new(u64::from(number) << 20),
        lifetime: u32::from(number),
        value: (number > 0).then(|| vec![number; length]),
    };
    let entry = Entry::sign(&network(), &Identity::from_seed(&[1; 32]), content).unwrap();
    let saved = (!number.is_multiple_of(3)).then_some(Wall(1_800_000_000_000));
    Record { entry, age: Duration::from_millis(u64::from(number) * 700), saved }
}

/// A file of these records, and where each begins.
fn file(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut begins) = (head(&network(), records.len()), Vec::new());
    for record in records {
        begins.push(bytes.len());
        bytes.extend(record.encode().unwrap());
    }
    (bytes, begins)
}

#[test]
fn a_file_is_read_as_it_was_written_and_a_later_programs_or_another_networks_is_not() {
    let records = [record(0, 0), record(1, 3), record(2, crate::entry::LARGEST_VALUE)];
    let (bytes, _) = file(&records);
    assert_eq!(read(&network(), &bytes), Ok(Contents { records: records.to_vec(), damaged: 0, missing: 0 }));
    assert_eq!(read(&network(), &head(&network(), 0)), Ok(Contents::default()));
    let other = Token::new([2; 32], None).network().id;
    assert_eq!(read(&other, &bytes), Err(Unreadable::Foreign(network())));
    let mut newer = [&MAGIC[..], &2_u32.to_be_bytes(), network().as_bytes(), &[0; 4]].concat();
    newer.extend(checksum(&newer));
    newer.extend(b"whatever");
    assert_eq!(read(&network(), &newer), Err(Unreadable::Newer(2)));
    // Its version is damaged: not a later one's.
    newer[9] ^= 1;
    assert_eq!(read(&network(), &newer), Ok(Contents { records: Vec::new(), damaged: 1, missing: 0 }));
    assert_eq!(read(&network(), b""), Ok(Contents { records: Vec::new(), damaged: 1, missing: 0 }));
}

#[test]
fn a_file_that_was_cut_off_anywhere_holds_what_stands_before_that() {
    let records = [record(1, 30), record(2, 0), record(3, 200)];
    let (bytes, begins) = file(&records);
    for length in begins[0]..bytes.len() {
        let contents = read(&network(), &bytes[..length]).unwrap();
        let whole = begins.iter().chain([&bytes.len()]).skip(1).filter(|end| **end <= length).count();
        assert_eq!(contents.records, records[..whole], "{length}");
        assert_eq!(contents.missing, records.len() - whole, "{length}");
        assert_eq!(contents.damaged, usize::from(!begins.contains(&length)), "{length}");
    }
}

#[test]
fn a_file_of_marks_is_given_up() {
    let mut bytes = head(&network(), 1);
    let hollow = [&MARK[..], &60_000_u32.to_be_bytes()].concat();
    bytes.extend(hollow.repeat(200_000));
    assert_eq!(read(&network(), &bytes), Ok(Contents { records: Vec::new(), damaged: 1, missing: 1 }));
}

#[test]
fn a_file_grows_until_as_much_was_appended_as_it_had() {
    let mut growth = Growth::default();
    assert!(!growth.takes(0) && !growth.is_sound());
    growth.written(&Write::Whole { bytes: vec![0; 1_000_000], left_out: 0 });
    let mut appended = 0;
    while growth.takes(70_000) {
        growth.written(&Write::Append(vec![0; 70_000]));
        appended += 1;
    }
    assert_eq!((appended, growth.length()), (14, Some(1_980_000)));
    growth.failed();
    assert!(!growth.takes(1));
    growth.written(&Write::Append(vec![0; 1]));
    assert!(!growth.is_sound());
    growth.written(&Write::Whole { bytes: vec![0; 100], left_out: 0 });
    assert!(growth.takes(256 * 1024) && !growth.takes(256 * 1024 + 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_costs_the_records_that_it_is_in_and_no_others(
        lengths in proptest::collection::vec(0_usize..300, 1..6),
        at in any::<prop::sample::Index>(),
        junk in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let records: Vec<Record> = (1..).zip(lengths).map(|(number, length)| record(number, length)).collect();
        let (mut bytes, begins) = file(&records);
        let ends: Vec<usize> = begins.iter().skip(1).copied().chain([bytes.len()]).collect();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + junk.len());
        bytes[at..end].copy_from_slice(&junk[..end - at]);
        let contents = read(&network(), &bytes);
        let contents = contents.unwrap();
        let touched = |begin: usize, stop: usize| begin < end && at < stop;
        for ((record, begin), stop) in records.iter().zip(&begins).zip(&ends) {
            prop_assert!(touched(*begin, *stop) || contents.records.contains(record));
        }
        prop_assert!(contents.records.iter().all(|found| records.contains(found)));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), marks in any::<bool>()) {
        let mut file = if marks { head(&network(), 3) } else { Vec::new() };
        for chunk in bytes.chunks(9) {
            if marks {
                file.extend(MARK);
            }
            file.extend(chunk);
        }
        if let Ok(contents) = read(&network(), &file) {
            prop_assert!(contents.records.is_empty());
        }
    }
}
