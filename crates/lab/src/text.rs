//! The console as text: bytes as they come, without escape sequences, carriage returns and broken UTF-8.
//!
//! Firmware and systemd paint with ECMA-48 control sequences in the middle of lines; a test that looks for `login:` must not
//! know them. The log file keeps the raw bytes.

/// Turns console bytes into text, whatever the pieces they come in.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    state: State,
    /// The start of a UTF-8 sequence that is not complete yet.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC `[`, until a final byte 0x40 to 0x7e (ECMA-48 section 5.4).
    Control,
    /// After ESC and an intermediate byte, e.g. `(`: one more byte belongs to it.
    Intermediate,
    /// After ESC `]`, `P`, `X`, `^` or `_`: a string until BEL or ESC `\`.
    Str,
    /// ESC within such a string.
    StrEscape,
}

impl Cleaner {
    /// Appends what the bytes say to a text.
    pub(crate) fn feed(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) => State::Escape,
                (State::Text, _) => {
                    self.text(byte, text);
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Str,
                (State::Escape, 0x20..=0x2f) => State::Intermediate,
                (State::Escape, 0x1b) | (State::Control, 0x1b) => State::Escape,
                (State::Escape | State::Intermediate, _) => State::Text,
                (State::Control, 0x40..=0x7e) => State::Text,
                // A line's end inside a control sequence: the sequence was cut off by a reset.
                (State::Control | State::Str, b'\n') => {
                    self.text(byte, text);
                    State::Text
                }
                (State::Control, _) => State::Control,
                (State::Str, 0x07) | (State::StrEscape, b'\\') => State::Text,
                (State::Str, 0x1b) => State::StrEscape,
                (State::Str | State::StrEscape, _) => State::Str,
            };
        }
    }

    fn text(&mut self, byte: u8, text: &mut String) {
        if byte.is_ascii() {
            self.give_up_pending(text);
            // Tabs and line ends shape the text; other control characters (NUL of a reset UART, CR, BEL) do not.
            if byte == b'\t' || byte == b'\n' || !byte.is_ascii_control() {
                text.push(char::from(byte));
            }
            return;
        }
        if byte >= 0xc0 {
            self.give_up_pending(text);
        }
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(complete) => {
                text.push_str(complete);
                self.pending.clear();
            }
            Err(error) if error.error_len().is_some() => self.give_up_pending(text),
            Err(_) => {}
        }
    }

    fn give_up_pending(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(pieces: &[&[u8]]) -> String {
        let (mut cleaner, mut text) = (Cleaner::default(), String::new());
        for piece in pieces {
            cleaner.feed(piece, &mut text);
        }
        text
    }

    #[test]
    fn escape_sequences_and_carriage_returns_vanish() {
        for (raw, text) in [
            (&b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe\r\n"[..], "BdsDxe\n"),
            (b"Welcome to \x1b[1mDebian\x1b[0m!", "Welcome to Debian!"),
            (b"\x1b]0;title\x07a\x1b]0;t\x1b\\b\x1b(Bc", "abc"),
            (b"cut \x1b[12\nnext", "cut \nnext"),
            ("… ●".as_bytes(), "… ●"),
            (b"\xe2\x80x\xff", "\u{fffd}x\u{fffd}"),
            (b"\0\0a\tb", "a\tb"),
        ] {
            assert_eq!(clean(&[raw]), text, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn text_does_not_depend_on_the_pieces_it_came_in(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let cut = cut.min(bytes.len());
            let (head, tail) = bytes.split_at(cut);
            prop_assert_eq!(clean(&[&bytes]), clean(&[head, tail]));
        }

        #[test]
        fn valid_text_passes_unchanged(text in "[ -~\t\näöü…●]{0,80}") {
            prop_assert_eq!(clean(&[text.as_bytes()]), text);
        }
    }
}
