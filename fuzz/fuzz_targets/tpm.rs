//! What a TPM answers, and a file of what it sealed.
#![no_main]

use kairn_report::Secret;
use kairn_tpm::answer::{self, Sessioned, StorageKey};
use kairn_tpm::{Sealed, Tpm, Transport};
use libfuzzer_sys::fuzz_target;
use std::io;
use std::time::Duration;

/// Answers with one piece after the other, each behind its length, with a right header.
struct Script<'a>(&'a [u8]);

impl Transport for Script<'_> {
    fn exchange(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (length, rest) = self.0.split_first().ok_or_else(end)?;
        let (body, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(end)?;
        self.0 = rest;
        let length = u32::from(*length) + 10;
        Ok([&[0x80, 2][..], &length.to_be_bytes(), &[0; 4], body].concat())
    }

    fn pause(&mut self, _: Duration) {}
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sealed) = Sealed::decode(bytes) {
        assert_eq!(sealed.encode(), bytes);
        drop(Tpm::new(Script(bytes)).unseal(&sealed));
    }
    drop(Tpm::new(Script(bytes)).seal(&Secret::new(vec![1]), b""));
    drop(answer::open("read", bytes));
    for has_handle in [false, true] {
        if let Ok(found) = Sessioned::decode("read", 0x8002, bytes, has_handle) {
            drop((StorageKey::decode("read", found.parameters), answer::created("read", found.parameters)));
            drop(answer::unsealed("read", found.parameters));
        }
    }
    drop((StorageKey::decode("read", bytes), answer::created("read", bytes), answer::session("read", bytes)));
});
