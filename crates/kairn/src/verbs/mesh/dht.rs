//! Whether this machine's node looks for others by the distributed hash table, and where it begins.

use super::seeds;
use crate::cli::MeshUp;
use kairn_config::MeshSettings;
use kairn_datasource::Names;
use kairn_mesh::{BOOTSTRAP, DhtSettings};
use kairn_report::{Kind, Report, in_one_line};
use std::net::IpAddr;
use std::time::Duration;

/// How long a name may take to be found.
const NAME: Duration = Duration::from_secs(10);

/// What the command line says, then the configuration; nothing where neither asks for it.
///
/// # Errors
/// The command line names nodes to begin at, and not the use of them; or none.
pub fn of(verb: &MeshUp, said: &MeshSettings) -> Result<Option<DhtSettings>, Report> {
    if !verb.dht && !said.dht {
        return match verb.dht_bootstrap.first() {
            None => Ok(None),
            Some(node) => Err(Report::new(Kind::User, format!("--dht-bootstrap {node} does nothing without --dht"))
                .hint("--dht, or p2p.disable_dht: false in the configuration, has nodes looked for there")),
        };
    }
    let given: Vec<String> = match (verb.dht_bootstrap.as_slice(), said.dht_bootstrap.as_slice()) {
        ([], []) => BOOTSTRAP.map(str::to_owned).to_vec(),
        ([], said) => said.iter().map(|node| node.value.clone()).collect(),
        (given, _) => given.to_vec(),
    };
    let bootstrap = given.iter().map(|node| seeds::name(node)).collect::<Result<_, _>>()?;
    Ok(Some(DhtSettings { bootstrap, look_up }))
}

fn look_up(host: &str) -> Result<Vec<IpAddr>, String> {
    Names::new("/").addresses(host, NAME).map_err(|error| in_one_line(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Mesh, Verb};
    use clap::Parser as _;
    use kairn_config::{Document, merge};

    #[test]
    fn nothing_is_sent_there_unless_one_asks_for_it_and_the_command_line_names_the_nodes_first() {
        let public = BOOTSTRAP.len();
        for (line, block, wanted) in [
            ("", "{}", Some(0)),
            ("", "{disable_dht: true}", Some(0)),
            ("", "{disable_dht: nonsense}", Some(0)),
            ("", "{disable_dht: false}", Some(public)),
            ("--dht", "{disable_dht: true}", Some(public)),
            ("", "{disable_dht: false, dht_bootstrap: ['a.example:1', 'b.example:2']}", Some(2)),
            (
                "--dht-bootstrap c.example:3",
                "{disable_dht: false, dht_bootstrap: ['a.example:1', 'b.example:2']}",
                Some(1),
            ),
            ("--dht-bootstrap c.example:3", "{}", None),
            ("--dht --dht-bootstrap c.example", "{}", None),
        ] {
            let verb = match Cli::parse_from(format!("kairn mesh up {line}").split_whitespace()).verb {
                Verb::Mesh(Mesh::Up(verb)) => verb,
                other => panic!("{other:?}"),
            };
            let said = merge(&[Document::parse("/oem/a", &format!("#cloud-config\np2p: {block}\n"))]).mesh;
            let found = of(&verb, &said).ok().map(|dht| dht.map_or(0, |dht| dht.bootstrap.len()));
            assert_eq!(found, wanted, "{line} {block}");
        }
    }
}
