//! Shell patterns of module aliases: `fnmatch(3)` without flags, dash and underscore equal outside brackets as in libkmod.

/// Says whether a pattern matches a whole text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut here) = (pattern, text);
    // Where to go on when what follows the last star does not fit: one byte further in the text.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let fits = match (at.split_first(), here.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                retry = Some((rest, here));
                at = rest;
                true
            }
            (Some(_), Some((&byte, after))) => match one(at, byte) {
                Some(rest) => {
                    (at, here) = (rest, after);
                    true
                }
                None => false,
            },
            (None, Some(_)) | (Some(_), None) => false,
        };
        if fits {
            continue;
        }
        match retry {
            Some((rest, from)) => match from.split_first() {
                Some((_, after)) => {
                    retry = Some((rest, after));
                    (at, here) = (rest, after);
                }
                None => return false,
            },
            None => return false,
        }
    }
}

/// Matches one byte against the head of a pattern that is no star; returns the pattern behind that head.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (&head, rest) = pattern.split_first()?;
    match head {
        b'?' => Some(rest),
        b'[' => match class(rest, byte) {
            Some((true, rest)) => Some(rest),
            Some((false, _)) => None,
            // A bracket that never closes is a plain character.
            None => (byte == b'[').then_some(rest),
        },
        b'\\' => match rest.split_first() {
            Some((&escaped, rest)) => (escaped == byte).then_some(rest),
            None => (byte == b'\\').then_some(rest),
        },
        _ => (fold(head) == fold(byte)).then_some(rest),
    }
}

/// Reads a bracket expression behind its `[`: whether the byte is in it, and what follows the `]`.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let (mut found, mut first) = (false, true);
    loop {
        let (&low, after) = rest.split_first()?;
        if low == b']' && !first {
            return Some((found != negated, after));
        }
        first = false;
        match after {
            [b'-', high, after @ ..] if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                rest = after;
            }
            _ => {
                found |= low == byte;
                rest = after;
            }
        }
    }
}

const fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}
