//! What both ends of a shell's stream say, one frame after the other: two bytes of length (big-endian), one byte of kind, and what
//! belongs to it. The length counts the kind.

use crate::error::Error;
use crate::identity::{NodeId, Signature};
use serde::{Deserialize, Serialize};

/// The most bytes of input or output in a frame.
pub const LARGEST_DATA: usize = 32 * 1024;
/// The most bytes of a frame, without its length.
pub const LARGEST_FRAME: usize = LARGEST_DATA + 1;
/// The most words of a command.
pub const MOST_WORDS: usize = 1_024;
/// The most bytes of a text that is said to people.
const LONGEST_TEXT: usize = 1_000;
/// The most bytes of a terminal's name.
const LONGEST_NAME: usize = 64;

/// A size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// How wide.
    pub columns: u16,
    /// How high.
    pub rows: u16,
}

/// The caller's terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// What kind it is, as `TERM` names it.
    pub name: String,
    /// How large it is.
    pub size: Size,
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The terminal that it gets; without one it has three streams.
    pub terminal: Option<Terminal>,
    /// A program with its arguments; none is a login shell.
    pub command: Vec<String>,
}

/// A frame.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// The caller is there, and asks what it has to show.
    Knock,
    /// It shows that it knows the code.
    Code([u8; 32]),
    /// It shows an administrator's word.
    Key {
        /// Whose.
        administrator: NodeId,
        /// It.
        signature: Signature,
    },
    /// It says what is to be run.
    Begin(Request),
    /// For the program to read.
    Input(Vec<u8>),
    /// There is no more for it to read.
    InputEnd,
    /// The caller's terminal has another size now.
    Resize(Size),
    /// A signal for the program.
    Signal(u8),
    /// What the node asks for: either does.
    Door {
        /// The code on its console.
        code: bool,
        /// An administrator's key.
        key: bool,
    },
    /// The caller gets no shell.
    Refused(String),
    /// It may say what is to be run.
    Granted,
    /// What the program wrote, or what its terminal shows.
    Output(Vec<u8>),
    /// What it wrote to its standard error.
    Errors(Vec<u8>),
    /// The program has read so many bytes more: as many may be sent again.
    Taken(u32),
    /// It ended by itself.
    Ended(u8),
    /// A signal ended it.
    Killed(u8),
    /// It could not be run.
    Failed(String),
}

impl Frame {
    /// Reads a frame, without its length.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (length, limit) = (bytes.len(), LARGEST_FRAME);
        if length > limit {
            return Err(Error::TooLarge { kind: "frame", length, limit });
        }
        let (kind, body) = bytes.split_first().ok_or_else(|| malformed("it is empty"))?;
        let data = || if body.is_empty() { Err(malformed("it carries nothing")) } else { Ok(body.to_vec()) };
        match (kind, body) {
            (0, []) => Ok(Self::Knock),
            (1, proof) => Ok(Self::Code(whole(proof)?)),
            (2, proof) => {
                let (name, signature) = proof.split_first_chunk().ok_or_else(|| malformed("it is cut off"))?;
                let signature: [u8; 64] = whole(signature)?;
                Ok(Self::Key { administrator: NodeId::new(*name), signature: Signature::new(signature.to_vec()) })
            }
            (3, request) => Request::decode(request).map(Self::Begin),
            (4, _) => data().map(Self::Input),
            (5, []) => Ok(Self::InputEnd),
            (6, size) => {
                let [a, b, c, d] = whole(size)?;
                Ok(Self::Resize(Size { columns: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) }))
            }
            (7, [signal]) => Ok(Self::Signal(*signal)),
            (16, [doors @ 0..=3]) => Ok(Self::Door { code: doors & 1 != 0, key: doors & 2 != 0 }),
            (17, why) => text(why).map(Self::Refused),
            (18, []) => Ok(Self::Granted),
            (19, _) => data().map(Self::Output),
            (20, _) => data().map(Self::Errors),
            (21, count) => Ok(Self::Taken(u32::from_be_bytes(whole(count)?))),
            (22, [code]) => Ok(Self::Ended(*code)),
            (23, [signal]) => Ok(Self::Killed(*signal)),
            (24, why) => text(why).map(Self::Failed),
            (kind, _) => Err(Error::Malformed("frame", format!("kind {kind} with {} bytes", body.len()))),
        }
    }

    /// The frame with its length.
    ///
    /// # Errors
    /// It carries more than a frame may.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let body = match self {
            Self::Knock | Self::InputEnd | Self::Granted => Vec::new(),
            Self::Code(proof) => proof.to_vec(),
            Self::Key { administrator, signature } => {
                [administrator.as_bytes().as_slice(), signature.as_bytes()].concat()
            }
            Self::Begin(request) => request.encode()?,
            Self::Input(data) | Self::Output(data) | Self::Errors(data) => data.clone(),
            Self::Resize(size) => [size.columns.to_be_bytes(), size.rows.to_be_bytes()].concat(),
            Self::Signal(byte) | Self::Ended(byte) | Self::Killed(byte) => vec![*byte],
            Self::Door { code, key } => vec![u8::from(*code) | u8::from(*key) << 1],
            Self::Refused(why) | Self::Failed(why) => shortened(why).as_bytes().to_vec(),
            Self::Taken(count) => count.to_be_bytes().to_vec(),
        };
        let length = body.len().saturating_add(1);
        let too_large = || Error::TooLarge { kind: "frame", length, limit: LARGEST_FRAME };
        let short = u16::try_from(length).ok().filter(|_| length <= LARGEST_FRAME).ok_or_else(too_large)?;
        Ok([&short.to_be_bytes()[..], &[self.kind()], &body].concat())
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Knock => 0,
            Self::Code(_) => 1,
            Self::Key { .. } => 2,
            Self::Begin(_) => 3,
            Self::Input(_) => 4,
            Self::InputEnd => 5,
            Self::Resize(_) => 6,
            Self::Signal(_) => 7,
            Self::Door { .. } => 16,
            Self::Refused(_) => 17,
            Self::Granted => 18,
            Self::Output(_) => 19,
            Self::Errors(_) => 20,
            Self::Taken(_) => 21,
            Self::Ended(_) => 22,
            Self::Killed(_) => 23,
            Self::Failed(_) => 24,
        }
    }
}

/// What goes through a shell is nobody's business but its two ends'.
impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame of kind {}", self.kind())
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// It is none, or asks for what cannot be run.
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let request: Self = postcard::from_bytes(bytes).map_err(|error| malformed(&error.to_string()))?;
        request.check()?;
        Ok(request)
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        postcard::to_stdvec(self).map_err(|error| malformed(&error.to_string()))
    }

    /// Looks whether such a thing can be run at all.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<(), Error> {
        if self.command.len() > MOST_WORDS {
            return Err(malformed("a command of so many words"));
        }
        if self.command.iter().any(|word| word.contains('\0')) || self.command.first().is_some_and(String::is_empty) {
            return Err(malformed("a command that no program can be"));
        }
        let is_name = |name: &str| name.len() <= LONGEST_NAME && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
        if self.terminal.as_ref().is_some_and(|terminal| !is_name(&terminal.name)) {
            return Err(malformed("a terminal whose name is none"));
        }
        Ok(())
    }
}

fn malformed(why: &str) -> Error {
    Error::Malformed("frame", why.to_owned())
}

fn whole<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::Malformed("frame", format!("{} bytes where {N} belong", bytes.len())))
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    if bytes.len() > LONGEST_TEXT {
        return Err(malformed("a text that is too long"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a text that is not UTF-8"))
}

fn shortened(text: &str) -> &str {
    let ends = text.char_indices().map(|(at, c)| at.saturating_add(c.len_utf8()));
    let end = ends.take_while(|end| *end <= LONGEST_TEXT).last().unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = Request> {
        let size = (any::<u16>(), any::<u16>()).prop_map(|(columns, rows)| Size { columns, rows });
        let terminal = ("[!-.0-~]{0,64}", size).prop_map(|(name, size)| Terminal { name, size });
        (proptest::option::of(terminal), proptest::collection::vec("[^\0]{1,20}", 0..20))
            .prop_map(|(terminal, command)| Request { terminal, command })
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let data = || proptest::collection::vec(any::<u8>(), 1..2_000);
        prop_oneof![
            Just(Frame::Knock),
            any::<[u8; 32]>().prop_map(Frame::Code),
            (any::<[u8; 32]>(), any::<u8>()).prop_map(|(name, byte)| Frame::Key {
                administrator: NodeId::new(name),
                signature: Signature::new(vec![byte; 64])
            }),
            requests().prop_map(Frame::Begin),
            data().prop_map(Frame::Input),
            Just(Frame::InputEnd),
            (any::<u16>(), any::<u16>()).prop_map(|(columns, rows)| Frame::Resize(Size { columns, rows })),
            any::<u8>().prop_map(Frame::Signal),
            (any::<bool>(), any::<bool>()).prop_map(|(code, key)| Frame::Door { code, key }),
            ".{0,200}".prop_map(Frame::Refused),
            Just(Frame::Granted),
            data().prop_map(Frame::Output),
            data().prop_map(Frame::Errors),
            any::<u32>().prop_map(Frame::Taken),
            any::<u8>().prop_map(Frame::Ended),
            any::<u8>().prop_map(Frame::Killed),
            ".{0,200}".prop_map(Frame::Failed),
        ]
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol_page() {
        let terminal = Terminal { name: "xterm".into(), size: Size { columns: 80, rows: 300 } };
        let request = Request { terminal: Some(terminal), command: vec!["ls".into(), "/".into()] };
        for (frame, bytes) in [
            (Frame::Knock, &[0, 1, 0][..]),
            (Frame::Begin(request), b"\0\x11\x03\x01\x05xterm\x50\xac\x02\x02\x02ls\x01/"),
            (Frame::Resize(Size { columns: 80, rows: 300 }), &[0, 5, 6, 0, 80, 1, 44]),
            (Frame::Door { code: false, key: true }, &[0, 2, 16, 2]),
            (Frame::Refused("no".into()), b"\0\x03\x11no"),
            (Frame::Output(b"hi".to_vec()), b"\0\x03\x13hi"),
            (Frame::Taken(65_536), &[0, 5, 21, 0, 1, 0, 0]),
            (Frame::Ended(3), &[0, 2, 22, 3]),
        ] {
            assert_eq!(frame.encode().unwrap(), bytes, "{frame:?}");
        }
    }

    #[test]
    fn what_is_too_large_or_cannot_be_run_is_refused_by_writer_and_reader() {
        assert!(Frame::Output(vec![0; LARGEST_DATA]).encode().is_ok());
        assert!(Frame::Output(vec![0; LARGEST_DATA + 1]).encode().is_err());
        assert!(Frame::decode(&vec![19; LARGEST_FRAME + 1]).is_err());
        let run =
            |words: &[&str]| Request { terminal: None, command: words.iter().map(|word| (*word).to_owned()).collect() };
        for request in [
            run(&[""]),
            run(&["a", "b\0c"]),
            run(&["a"; MOST_WORDS + 1]),
            Request { terminal: Some(Terminal { name: "a/b".into(), size: Size { columns: 1, rows: 1 } }), ..run(&[]) },
        ] {
            let foreign = [vec![3], postcard::to_stdvec(&request).unwrap()].concat();
            assert!(Frame::decode(&foreign).is_err() && Frame::Begin(request).encode().is_err());
        }
        // What people are told is cut where a character ends.
        let long = Frame::Refused("\u{e9}".repeat(600)).encode().unwrap();
        assert_eq!(Frame::decode(&long[2..]), Ok(Frame::Refused("\u{e9}".repeat(500))));
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(frame in frames()) {
            let bytes = frame.encode().unwrap();
            prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
            prop_assert_eq!(Frame::decode(&bytes[2..]), Ok(frame));
        }

        #[test]
        fn no_bytes_make_the_reader_fall_over_and_what_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frame) = Frame::decode(&bytes) {
                let again = frame.encode().unwrap();
                prop_assert_eq!(Frame::decode(&again[2..]), Ok(frame));
            }
        }
    }
}
