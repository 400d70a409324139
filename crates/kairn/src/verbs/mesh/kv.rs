//! `kairn mesh kv`: values that the members' programs share.

use super::table::duration;
use crate::cli::MeshKv;
use crate::output::{self, Format};
use kairn_mesh::{Change, Client, Value};
use kairn_mesh_protocol::entry::LARGEST_VALUE;
use kairn_report::{Kind, Report};
use std::fmt;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// The most characters of a value in a list.
const SHOWN: usize = 48;

pub fn run(verb: &MeshKv) -> Result<ExitCode, Report> {
    match verb {
        MeshKv::Get { key, author, asking } => {
            let values = Client::new(&asking.state_dir).value(key, author.as_deref())?;
            match asking.reading.output {
                Format::Json => output::json(&values)?,
                Format::Human => get(&values)?,
            }
        }
        MeshKv::Put { key, value, ttl, asking } => {
            let bytes = if value == "-" { stdin()? } else { value.clone().into_bytes() };
            let written = Client::new(&asking.state_dir).put(key, bytes, *ttl)?;
            if asking.reading.output == Format::Json {
                output::json(&written)?;
            }
        }
        MeshKv::Delete { key, state_dir } => Client::new(state_dir).delete(key)?,
        MeshKv::List { prefix, asking } => {
            let values = Client::new(&asking.state_dir).values(prefix)?;
            match asking.reading.output {
                Format::Json => output::json(&values)?,
                Format::Human => output::raw(&Values(&values, now()).to_string())?,
            }
        }
        MeshKv::Watch { prefix, asking } => {
            let each = |change| watched(asking.reading.output, &change);
            Client::new(&asking.state_dir).watch(prefix, each)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn get(values: &[Value]) -> Result<(), Report> {
    let Some(newest) = values.first() else { return Ok(()) };
    if values.len() > 1 {
        let others: Vec<String> = values.iter().skip(1).map(author).collect();
        let text =
            format!("notice: this is what {} wrote, the newest; {} wrote too", author(newest), others.join(", "));
        output::say(&format!("{text}: --author says whose"));
    }
    let bytes = newest.bytes().map_err(|error| Report::new(Kind::Bug, format!("the node's answer: {error}")))?;
    output::bytes(&bytes)?;
    if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
        output::raw("\n")?;
    }
    Ok(())
}

fn stdin() -> Result<Vec<u8>, Report> {
    let mut bytes = Vec::new();
    // One more than fits: the node says what is too long.
    let limit = LARGEST_VALUE as u64 + 1;
    let read = io::stdin().lock().take(limit).read_to_end(&mut bytes);
    read.map_err(|error| Report::new(Kind::Environment, format!("cannot read the value from stdin: {error}")))?;
    Ok(bytes)
}

/// Prints a line of a watch; a reader that goes away ends it.
fn watched(format: Format, change: &Change) -> ControlFlow<()> {
    let line = match format {
        Format::Json => serde_json::to_string(change).unwrap_or_default(),
        Format::Human => match change {
            Change::Put(value) => {
                format!("put      {}  {}  {}", value.key.escape_debug(), author(value), excerpt(value))
            }
            Change::Deleted(gone) => format!("deleted  {}  {}", gone.key.escape_debug(), short(&gone.author)),
            Change::Expired(gone) => format!("expired  {}  {}", gone.key.escape_debug(), short(&gone.author)),
            Change::Ready => return ControlFlow::Continue(()),
        },
    };
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

fn author(value: &Value) -> String {
    format!("{} ({})", short(&value.author), value.name)
}

/// The beginning of a value, fit for a terminal.
fn excerpt(value: &Value) -> String {
    match &value.text {
        Some(text) if text.chars().count() <= SHOWN => text.escape_debug().to_string(),
        Some(text) => {
            format!("{}… ({} bytes)", text.chars().take(SHOWN).collect::<String>().escape_debug(), text.len())
        }
        None => format!("({} bytes)", value.bytes().map_or(0, |bytes| bytes.len())),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Values, at a time in milliseconds since the Unix epoch.
struct Values<'a>(&'a [Value], u64);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "there are no values");
        }
        let keys: Vec<String> = self.0.iter().map(|value| value.key.escape_debug().to_string()).collect();
        let wide = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0).max(3);
        let authors: Vec<String> = self.0.iter().map(author).collect();
        let name = authors.iter().map(|author| author.chars().count()).max().unwrap_or(0).max(6);
        writeln!(f, "{:wide$}  {:name$}  {:>10}  {:>10}  VALUE", "KEY", "AUTHOR", "AGE", "LEFT")?;
        for ((value, key), author) in self.0.iter().zip(keys).zip(authors) {
            let age = duration(self.1.saturating_sub(value.written) / 1_000);
            let left = value.left.map_or_else(|| "-".to_owned(), duration);
            writeln!(f, "{key:wide$}  {author:name$}  {age:>10}  {left:>10}  {}", excerpt(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_a_table_that_no_value_garbles() {
        let value = Value {
            key: "colour".to_owned(),
            author: "a".repeat(52),
            name: "edge-7".to_owned(),
            text: Some("blue\u{1b}[2J".to_owned()),
            base64: None,
            written: 5_000,
            left: Some(90),
        };
        let long = Value { text: Some("x".repeat(100)), left: None, ..value.clone() };
        let bytes = Value { text: None, base64: Some("/wAB".to_owned()), ..long.clone() };
        let text = Values(&[value, long, bytes], 65_000).to_string();
        let wanted = format!(
            "\
KEY     AUTHOR                      AGE        LEFT  VALUE
colour  aaaaaaaaaa (edge-7)       1 min       1 min  blue\\u{{1b}}[2J
colour  aaaaaaaaaa (edge-7)       1 min           -  {}… (100 bytes)
colour  aaaaaaaaaa (edge-7)       1 min           -  (3 bytes)
",
            "x".repeat(48)
        );
        assert_eq!(text, wanted);
        assert_eq!(Values(&[], 0).to_string(), "there are no values\n");
    }
}
