//! Bencoding (BEP 3), as far as messages of the table need it. Reading borrows, goes eight levels deep and holds 512 values at most.

/// How deep values may lie in each other.
const DEEPEST: usize = 8;
/// How many values one text may hold.
const MOST: usize = 512;
/// The most digits of a number or a length: those of `i64` and a sign.
const DIGITS: usize = 20;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A whole number.
    Number(i64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Values.
    List(Vec<Value<'a>>),
    /// Values by name, as they stand.
    Map(Vec<(&'a [u8], Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads one value that is the whole text.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { rest: text, left: MOST };
        let value = reader.value(DEEPEST)?;
        reader.rest.is_empty().then_some(value)
    }

    /// The value of a name; of two of one name the first.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The bytes, where it is bytes.
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes, where they are so many.
    pub fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes()?.try_into().ok()
    }

    /// The number, where it is one.
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        match self.rest.first()? {
            b'i' => {
                self.skip();
                self.number(b'e').map(Value::Number)
            }
            b'l' => {
                self.skip();
                let mut values = Vec::new();
                while !self.ends()? {
                    values.push(self.value(depth)?);
                }
                Some(Value::List(values))
            }
            b'd' => {
                self.skip();
                let mut entries = Vec::new();
                while !self.ends()? {
                    let name = self.bytes()?;
                    entries.push((name, self.value(depth)?));
                }
                Some(Value::Map(entries))
            }
            _ => self.bytes().map(Value::Bytes),
        }
    }

    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Whether a list or map ends here, which is taken in then; nothing where the text does.
    fn ends(&mut self) -> Option<bool> {
        let is_end = *self.rest.first()? == b'e';
        if is_end {
            self.skip();
        }
        Some(is_end)
    }

    /// Digits up to a mark.
    fn number(&mut self, mark: u8) -> Option<i64> {
        let length = self.rest.iter().take(DIGITS + 1).position(|byte| *byte == mark)?;
        let digits = self.rest.get(..length)?;
        self.rest = self.rest.get(length + 1..)?;
        let bare = digits.strip_prefix(b"-").unwrap_or(digits);
        let fits = !bare.is_empty() && bare.iter().all(u8::is_ascii_digit);
        fits.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number(b':')?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}

/// Writes a text; names of a map are to come in their order.
#[derive(Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    /// A map.
    pub fn map(&mut self, entries: impl FnOnce(&mut Self)) {
        self.0.push(b'd');
        entries(self);
        self.0.push(b'e');
    }

    /// Bytes, or a name.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes.len().to_string().as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(bytes);
        self
    }

    /// A name.
    pub fn name(&mut self, name: &str) -> &mut Self {
        self.bytes(name.as_bytes())
    }

    /// A whole number.
    pub fn number(&mut self, number: i64) -> &mut Self {
        self.0.extend_from_slice(format!("i{number}e").as_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_as_they_stand() {
        for (text, value) in [
            ("i-7e", Some(Value::Number(-7))),
            ("i9223372036854775807e", Some(Value::Number(i64::MAX))),
            ("0:", Some(Value::Bytes(b""))),
            ("3:abc", Some(Value::Bytes(b"abc"))),
            ("le", Some(Value::List(Vec::new()))),
            ("li1e1:ae", Some(Value::List(vec![Value::Number(1), Value::Bytes(b"a")]))),
            ("d1:bi1e1:ai2ee", Some(Value::Map(vec![(b"b", Value::Number(1)), (b"a", Value::Number(2))]))),
            ("", None),
            ("i9223372036854775808e", None),
            ("ie", None),
            ("i+1e", None),
            ("i1", None),
            ("3:ab", None),
            ("-1:a", None),
            ("99999999999999999999:a", None),
            ("18446744073709551615:a", None),
            ("d1:a", None),
            ("di1ei2ee", None),
            ("i1ei2e", None),
        ] {
            assert_eq!(Value::read(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        assert!(Value::read(&nested(DEEPEST)).is_some());
        assert!(Value::read(&nested(DEEPEST + 1)).is_none());
        assert!(Value::read(&nested(100_000)).is_none());
        let wide = |count: usize| [b"l".to_vec(), b"0:".repeat(count), b"e".to_vec()].concat();
        assert!(Value::read(&wide(MOST - 1)).is_some());
        assert!(Value::read(&wide(MOST)).is_none());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(bytes: Vec<u8>, number: i64) {
            let mut writer = Writer::default();
            writer.map(|map| {
                map.name("a").bytes(&bytes).name("b").number(number);
            });
            let value = Value::read(&writer.0).unwrap();
            prop_assert_eq!(value.get("a").and_then(Value::bytes), Some(bytes.as_slice()));
            prop_assert_eq!(value.get("b").and_then(Value::number), Some(number));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: Vec<u8>) {
            Value::read(&text);
        }
    }
}
