//! `kairn mesh dns`: the names of the members.

use crate::cli::{MeshDns, MeshReading, MeshRecord};
use crate::output::{self, Format};
use kairn_mesh::{Client, NameKind, Names};
use kairn_report::Report;
use std::fmt;
use std::process::ExitCode;

pub fn run(verb: &MeshDns) -> Result<ExitCode, Report> {
    match &verb.verb {
        None => list(&verb.asking)?,
        Some(MeshRecord::List(asking)) => list(asking)?,
        Some(MeshRecord::Set { name, addresses, state_dir }) => Client::new(state_dir).set_name(name, addresses)?,
        Some(MeshRecord::Delete { name, state_dir }) => Client::new(state_dir).delete_name(name)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(asking: &MeshReading) -> Result<(), Report> {
    let names = Client::new(&asking.state_dir).names()?;
    match asking.reading.output {
        Format::Json => output::json(&names),
        Format::Human => output::raw(&Table(&names).to_string()),
    }
}

struct Table<'a>(&'a Names);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Names { domain, server, names } = self.0;
        match server {
            Some(server) => writeln!(f, "{domain} is answered at {server}")?,
            None => writeln!(f, "{domain} is not answered here: the node runs without --dns")?,
        }
        let wide = names.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
        writeln!(f, "{:wide$}  {:6}  {:10}  ADDRESSES", "NAME", "KIND", "NODE")?;
        for row in names {
            let kind = match row.kind {
                NameKind::Member => "member",
                NameKind::Record => "record",
                NameKind::Service => "service",
            };
            let node: String = row.node.chars().take(10).collect();
            let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
            write!(f, "{:wide$}  {kind:6}  {node:10}  {}", row.name, addresses.join(" "))?;
            match &row.contested {
                Some(instead) => writeln!(f, "  (claimed by others too: ask for {instead})")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
