//! Bytes as a TPM has them: numbers with their highest byte first, and byte strings behind 16 bits of length (Part 2, section 10.4).

/// What is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A byte string behind its length. All that is written here is far shorter than such a length can say.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        debug_assert!(u16::try_from(bytes.len()).is_ok());
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).raw(bytes)
    }
}

/// What is left to be read. Each function names what it looks for in its error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// Something is missing, too long, or not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        self.take(N, what)?.try_into().map_err(|_| Malformed(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A byte string of at most `most` bytes behind its length.
    pub(crate) fn sized(&mut self, most: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let count = usize::from(self.u16(what)?);
        if count > most {
            return Err(Malformed(what));
        }
        self.take(count, what)
    }

    /// Bytes that are always these.
    pub(crate) fn exactly(&mut self, bytes: &[u8], what: &'static str) -> Result<(), Malformed> {
        if self.take(bytes.len(), what)? == bytes { Ok(()) } else { Err(Malformed(what)) }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_less(a: u8, b: u16, c: u32, text in prop::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Writer::default().u8(a).u16(b).u32(c).sized(&text).0;
            let read = |bytes: &[u8]| -> Result<_, Malformed> {
                let mut reader = Reader::new(bytes);
                let all = (reader.u8("a")?, reader.u16("b")?, reader.u32("c")?, reader.sized(80, "d")?.to_vec());
                reader.end("end").map(|()| all)
            };
            prop_assert_eq!(read(&bytes).unwrap(), (a, b, c, text));
            for count in 0..bytes.len() {
                prop_assert!(read(&bytes[..count]).is_err());
            }
            prop_assert_eq!(read(&[bytes, vec![0]].concat()).unwrap_err(), Malformed("end"));
        }
    }

    #[test]
    fn a_string_beyond_its_bound_is_refused_before_it_is_read() {
        assert_eq!(Reader::new(&[0, 3, 1, 2, 3]).sized(2, "long"), Err(Malformed("long")));
    }
}
