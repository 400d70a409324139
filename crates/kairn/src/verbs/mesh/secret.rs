//! `kairn mesh secret`: secrets in the mesh, sealed to those who are to read them.

use super::orders;
use super::table::duration;
use crate::cli::MeshSecret;
use crate::output::{self, Format};
use kairn_mesh::{Client, SealedSecret, SecretStatus, SecretValue};
use kairn_mesh_protocol::Identity;
use kairn_mesh_protocol::secret::LARGEST_SECRET;
use kairn_report::{Kind, Report};
use std::fmt;
use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

pub fn run(verb: &MeshSecret) -> Result<ExitCode, Report> {
    match verb {
        MeshSecret::Put { key, to, ttl, asking } => {
            let written = Client::new(&asking.state_dir).put_secret(key, to, stdin()?, *ttl)?;
            if asking.reading.output == Format::Json {
                output::json(&written)?;
            }
        }
        MeshSecret::Get { key, author, admin_key, asking } => {
            let (client, author) = (Client::new(&asking.state_dir), author.as_deref());
            let value = match admin_key {
                Some(path) => with_key(&client, key, author, &orders::key(path)?)?,
                None => client.secret(key, author)?,
            };
            match asking.reading.output {
                Format::Json => output::json(&value)?,
                Format::Human => print(&value)?,
            }
        }
        MeshSecret::Delete { key, state_dir } => Client::new(state_dir).delete_secret(key)?,
        MeshSecret::List(asking) => {
            let secrets = Client::new(&asking.state_dir).secrets()?;
            match asking.reading.output {
                Format::Json => output::json(&secrets)?,
                Format::Human => output::raw(&Secrets(&secrets).to_string())?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A secret is never an argument: those of a program can be read by everybody on the machine.
fn stdin() -> Result<Vec<u8>, Report> {
    if io::stdin().is_terminal() {
        output::say("the secret is read from the terminal until Ctrl-D");
    }
    let mut bytes = Vec::new();
    // One more than fits: the node says what is too long.
    let read = io::stdin().lock().take(LARGEST_SECRET as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Report::new(Kind::Environment, format!("cannot read the secret from stdin: {error}")))?;
    Ok(bytes)
}

/// Opens here what the node cannot: the administrator's key goes no further.
fn with_key(client: &Client, key: &str, author: Option<&str>, admin: &Identity) -> Result<SecretValue, Report> {
    let (network, sealed) = (client.status()?.network, client.sealed_secret(key, author)?);
    let mut unbelieved: Option<&SealedSecret> = None;
    for part in &sealed {
        let Some(value) = part.open(&network, admin)? else { continue };
        if part.is_believed || author.is_some() {
            return Ok(value);
        }
        unbelieved = Some(part);
    }
    Err(match unbelieved {
        Some(part) => {
            let name = format!("{} ({})", short(&part.author), part.name);
            let why = format!("{name} wrote a secret under this key, and it is no master");
            Report::new(Kind::User, why).hint("to take it all the same, say whose with --author")
        }
        None => Report::new(Kind::User, "nothing under this key is sealed to this administrator's key"),
    })
}

fn print(value: &SecretValue) -> Result<(), Report> {
    let bytes = value.bytes().map_err(|error| Report::new(Kind::Bug, format!("the node's answer: {error}")))?;
    output::bytes(&bytes)?;
    if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
        output::raw("\n")?;
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// Secrets, without what they say.
struct Secrets<'a>(&'a [SecretStatus]);

impl fmt::Display for Secrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "there are no secrets");
        }
        let rows: Vec<[String; 3]> = self.0.iter().map(row).collect();
        let wide = |column: usize, least: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0).max(least)
        };
        let (key, to, author) = (wide(0, 3), wide(1, 2), wide(2, 6));
        writeln!(f, "{:key$}  {:to$}  {:author$}  {:>10}  {:>6}  HERE", "KEY", "TO", "AUTHOR", "LEFT", "SHARES")?;
        for (secret, [name, receivers, by]) in self.0.iter().zip(&rows) {
            let left = secret.left.map_or_else(|| "-".to_owned(), duration);
            let here = match (secret.is_open, secret.is_believed) {
                (true, true) => "opens",
                (true, false) => "opens, author is no master",
                (false, _) => "closed",
            };
            writeln!(f, "{name:key$}  {receivers:to$}  {by:author$}  {left:>10}  {:>6}  {here}", secret.receivers)?;
        }
        Ok(())
    }
}

fn row(secret: &SecretStatus) -> [String; 3] {
    let to = secret.to.strip_prefix("node:").map_or_else(|| secret.to.clone(), |node| format!("node:{}", short(node)));
    [secret.key.escape_debug().to_string(), to, format!("{} ({})", short(&secret.author), secret.name)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_in_a_table_without_what_they_say() {
        let join = SecretStatus {
            key: "join/k3s".to_owned(),
            author: "a".repeat(52),
            name: "edge-7".to_owned(),
            to: "role:worker".to_owned(),
            cluster: "kairos".to_owned(),
            created: 5_000,
            left: Some(90),
            receivers: 3,
            is_open: true,
            is_believed: true,
        };
        let node = SecretStatus {
            key: "a\u{1b}b".to_owned(),
            to: format!("node:{}", "b".repeat(52)),
            left: None,
            receivers: 1,
            is_believed: false,
            ..join.clone()
        };
        let wanted = "\
KEY       TO               AUTHOR                     LEFT  SHARES  HERE
join/k3s  role:worker      aaaaaaaaaa (edge-7)       1 min       3  opens
a\\u{1b}b  node:bbbbbbbbbb  aaaaaaaaaa (edge-7)           -       1  opens, author is no master
";
        assert_eq!(Secrets(&[join, node]).to_string(), wanted);
        assert_eq!(Secrets(&[]).to_string(), "there are no secrets\n");
    }
}
