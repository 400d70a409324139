//! Functions of numbers. Like sprig's, those that count take texts of numbers, too.

use super::{Arguments, Function, exactly, from};
use crate::template::print::plain;
use serde_json::{Number, Value};

/// The most items of a sequence.
const MOST: i64 = 10_000;

pub(super) const ALL: &[Function] = &[
    exactly("int", 1, |it| Ok(cast(it.value(0)).into())),
    exactly("int64", 1, |it| Ok(cast(it.value(0)).into())),
    exactly("atoi", 1, |it| Ok(it.text(0)?.parse::<i64>().unwrap_or(0).into())),
    exactly("float64", 1, |it| Ok(float(fractional(it.value(0))))),
    from("add", 1, |it| fold(it, i64::checked_add)),
    exactly("add1", 1, |it| checked(it, cast(it.value(0)).checked_add(1))),
    exactly("sub", 2, |it| fold(it, i64::checked_sub)),
    from("mul", 1, |it| fold(it, i64::checked_mul)),
    exactly("div", 2, |it| fold(it, i64::checked_div)),
    exactly("mod", 2, |it| fold(it, i64::checked_rem)),
    from("max", 1, |it| fold(it, |a, b| Some(a.max(b)))),
    from("min", 1, |it| fold(it, |a, b| Some(a.min(b)))),
    exactly("floor", 1, |it| Ok(float(fractional(it.value(0)).floor()))),
    exactly("ceil", 1, |it| Ok(float(fractional(it.value(0)).ceil()))),
    // Halves go up; the third argument is another limit than a half.
    Function { name: "round", count: (2, Some(3)), body: super::Body::Pure(round) },
    from("add1f", 1, |it| Ok(float(fractional(it.value(0)) + 1.0))),
    from("addf", 1, |it| folded(it, |a, b| a + b)),
    from("subf", 1, |it| folded(it, |a, b| a - b)),
    from("mulf", 1, |it| folded(it, |a, b| a * b)),
    from("divf", 1, |it| folded(it, |a, b| a / b)),
    from("maxf", 1, |it| folded(it, f64::max)),
    from("minf", 1, |it| folded(it, f64::min)),
    from("biggest", 1, |it| fold(it, |a, b| Some(a.max(b)))),
    exactly("toDecimal", 1, |it| Ok(i64::from_str_radix(plain(it.value(0)).trim(), 8).unwrap_or(0).into())),
    Function { name: "seq", count: (0, None), body: super::Body::Pure(seq) },
    exactly("until", 1, |it| {
        let end = cast(it.value(0));
        sequence(it, 0, end, if end < 0 { -1 } else { 1 })
    }),
    exactly("untilStep", 3, |it| sequence(it, it.integer(0)?, it.integer(1)?, it.integer(2)?)),
];

/// Makes a whole number of what is one or looks like one, and zero of all else, as sprig does.
fn cast(value: &Value) -> i64 {
    match value {
        Value::Bool(value) => i64::from(*value),
        Value::Number(number) => number.as_i64().unwrap_or_else(|| whole(number.as_f64().unwrap_or_default())),
        Value::String(text) => {
            let text = text.trim();
            let number = with_base(text).or_else(|| text.parse().ok());
            number.or_else(|| text.parse().ok().map(whole)).unwrap_or(0)
        }
        _ => 0,
    }
}

/// `strconv.ParseInt` with base 0: what begins with `0x`, `0o`, `0b` or a zero is not decimal.
fn with_base(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let bases = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let (prefix, base) =
        bases.into_iter().find(|(prefix, _)| lower.len() > prefix.len() && lower.starts_with(prefix))?;
    let digits = lower.strip_prefix(prefix).filter(|digits| digits.starts_with(|c: char| c.is_ascii_alphanumeric()))?;
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "the cast of floats ends at the bounds, which is what is wanted")]
fn whole(value: f64) -> i64 {
    value as i64
}

fn fractional(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        Value::String(text) => text.trim().parse().unwrap_or(0.0),
        Value::Bool(true) => 1.0,
        _ => 0.0,
    }
}

/// What no number is (an infinite one, say) becomes zero.
fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| 0.into(), Value::Number)
}

fn fold(it: &Arguments<'_>, step: impl Fn(i64, i64) -> Option<i64>) -> Result<Value, String> {
    let mut rest = it.all.iter().map(cast);
    let first = rest.next();
    checked(it, rest.fold(first, |sum, next| step(sum?, next)))
}

fn folded(it: &Arguments<'_>, step: impl Fn(f64, f64) -> f64) -> Result<Value, String> {
    let sum = it.all.iter().map(fractional).reduce(step).unwrap_or_default();
    Number::from_f64(sum).map(Value::Number).ok_or_else(|| format!("`{}` of these numbers has no result", it.name))
}

fn round(it: &Arguments<'_>) -> Result<Value, String> {
    let places = i32::try_from(it.integer(1)?).ok().filter(|places| (-300..=300).contains(places));
    let scale = 10_f64.powi(places.ok_or_else(|| it.wanted(1, "a number from -300 to 300"))?);
    let limit = if it.all.len() > 2 { fractional(it.value(2)) } else { 0.5 };
    let digit = fractional(it.value(0)) * scale;
    let up = digit.fract() >= limit;
    Ok(float(if up { digit.ceil() } else { digit.floor() } / scale))
}

/// As the program `seq`: last; first and last; first, step and last. Gives a text.
fn seq(it: &Arguments<'_>) -> Result<Value, String> {
    let numbers: Vec<i64> = it.all.iter().map(cast).collect();
    let (first, step, last) = match *numbers.as_slice() {
        [last] => (1, if last < 1 { -1 } else { 1 }, last),
        [first, last] => (first, if last < first { -1 } else { 1 }, last),
        [first, step, last] => (first, step, last),
        _ => return Ok("".into()),
    };
    if step == 0 || (step > 0) != (last >= first) {
        return Ok("".into());
    }
    let Some(end) = last.checked_add(step.signum()) else { return Ok("".into()) };
    let items = sequence(it, first, end, step)?;
    let texts: Vec<String> = items.as_array().into_iter().flatten().map(plain).collect();
    Ok(texts.join(" ").into())
}

fn checked(it: &Arguments<'_>, value: Option<i64>) -> Result<Value, String> {
    value.map(Value::from).ok_or_else(|| format!("`{}` of these numbers has no result", it.name))
}

fn sequence(it: &Arguments<'_>, begin: i64, end: i64, step: i64) -> Result<Value, String> {
    let mut items = Vec::new();
    let mut at = begin;
    while step != 0 && if step > 0 { at < end } else { at > end } {
        if items.len() >= usize::try_from(MOST).unwrap_or(usize::MAX) {
            return Err(format!("`{}` gives at most {MOST} numbers", it.name));
        }
        items.push(Value::from(at));
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(items.into())
}
