//! Functions that draw. Where no chance was handed in, they fail.

use super::{Arguments, Function, exactly};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const DIGITS: &str = "0123456789";
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BOTH: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// The most that is drawn at once.
const MOST: usize = 1 << 16;

pub(super) const ALL: &[Function] = &[
    exactly("uuidv4", 0, |it| it.outside.chance.uuid().map(Value::from).ok_or_else(|| none(it))),
    exactly("randAlphaNum", 1, |it| letters(it, BOTH)),
    exactly("randAlpha", 1, |it| letters(it, LETTERS)),
    exactly("randNumeric", 1, |it| letters(it, DIGITS)),
    exactly("randAscii", 1, |it| letters(it, &(' '..='~').collect::<String>())),
    exactly("randBytes", 1, |it| Ok(STANDARD.encode(bytes(it, count(it)?)?).into())),
    exactly("randInt", 2, |it| {
        let (from, to) = (it.integer(0)?, it.integer(1)?);
        let range = to.checked_sub(from).and_then(|range| u64::try_from(range).ok()).filter(|range| *range > 0);
        let range = range.ok_or_else(|| "`randInt` wants a number above the first as argument 2".to_owned())?;
        let drawn = number(it)? % range;
        Ok(i64::try_from(drawn).ok().and_then(|drawn| from.checked_add(drawn)).into())
    }),
    exactly("shuffle", 1, |it| {
        let mut letters: Vec<char> = it.text(0)?.chars().collect();
        if letters.len() > MOST {
            return Err(it.wanted(0, &format!("a text of at most {MOST} letters")));
        }
        // Fisher and Yates: each of those that are left is as likely.
        for left in (1..letters.len()).rev() {
            let other = number(it)? % u64::try_from(left + 1).unwrap_or(1);
            letters.swap(left, usize::try_from(other).unwrap_or(left));
        }
        Ok(letters.into_iter().collect::<String>().into())
    }),
];

fn none(it: &Arguments<'_>) -> String {
    format!("`{}` has no source of chance here", it.name)
}

fn count(it: &Arguments<'_>) -> Result<usize, String> {
    let count = it.size(0)?;
    if count > MOST { Err(it.wanted(0, &format!("a number from 0 to {MOST}"))) } else { Ok(count) }
}

fn letters(it: &Arguments<'_>, letters: &str) -> Result<Value, String> {
    it.outside.chance.letters(letters, count(it)?).map(Value::from).ok_or_else(|| none(it))
}

fn bytes(it: &Arguments<'_>, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        bytes.extend(it.outside.chance.draw().ok_or_else(|| none(it))?);
    }
    bytes.truncate(count);
    Ok(bytes)
}

/// A number with more digits than any range that it is taken modulo of here, so that none is much likelier.
fn number(it: &Arguments<'_>) -> Result<u64, String> {
    let bytes = it.outside.chance.draw().ok_or_else(|| none(it))?;
    Ok(bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}
