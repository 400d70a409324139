//! Secrets: written, listed and opened for programs of the machine.

use super::Runner;
use crate::fault::Fault;
use crate::sealed::{Receivers, SealedSecret, SecretStatus, SecretValue};
use hyper::StatusCode;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::node::NoSecret;
use kairn_mesh_protocol::secret::Audience;
use std::time::Duration;

/// How long a secret for a role holds unless said otherwise, in seconds.
const USUAL: u32 = 3_600;

impl Runner {
    /// Writes a secret of this node. Without a lifetime one for a role holds for an hour, and another until it is deleted.
    ///
    /// # Errors
    /// Nobody would believe it or could open it, or it is too large.
    pub(crate) fn put_secret(
        &mut self,
        key: &str,
        to: &Receivers,
        seconds: Option<u32>,
        value: Vec<u8>,
    ) -> Result<SecretStatus, Fault> {
        let audience = match to {
            Receivers::Role(role) => Audience::Role(*role),
            Receivers::Node(node) => Audience::Node(self.member_called(node)?),
            Receivers::Administrators => Audience::Administrators,
        };
        let usual = if matches!(audience, Audience::Role(_)) { USUAL } else { 0 };
        let now = self.now();
        let label = self.node.put_secret(now, key, audience, seconds.unwrap_or(usual), value).map_err(fault)?;
        self.keep_own();
        let own = label.author.to_string();
        let written = self.secrets().into_iter().find(|secret| secret.key == key && secret.author == own);
        written.ok_or_else(|| Fault::missing("the secret expired at once"))
    }

    /// Opens a secret for this machine, of one author if it is named.
    ///
    /// # Errors
    /// There is none that this node can open or believes.
    pub(crate) fn secret(&self, key: &str, author: Option<&str>) -> Result<SecretValue, Fault> {
        let author = author.map(|author| self.member_called(author)).transpose()?;
        let (opened, left) = self.node.secret_of(self.now(), key, author).map_err(fault)?;
        Ok(SecretValue::new(&opened, self.called(&opened.label.author), seconds(left)))
    }

    /// The secrets that this node knows of: never what they say.
    pub(crate) fn secrets(&self) -> Vec<SecretStatus> {
        let views = self.node.secrets(self.now()).into_iter();
        views
            .map(|view| SecretStatus {
                key: view.label.key,
                author: view.label.author.to_string(),
                name: self.called(&view.label.author),
                to: view.label.audience.to_string(),
                cluster: view.label.cluster.to_string(),
                created: view.label.created,
                left: seconds(view.left),
                receivers: view.receivers,
                is_open: view.is_open,
                is_believed: view.is_believed,
            })
            .collect()
    }

    /// The sealed parts under a key, of one author if it is named.
    ///
    /// # Errors
    /// There are none.
    pub(crate) fn sealed(&self, key: &str, author: Option<&str>) -> Result<Vec<SealedSecret>, Fault> {
        let author = author.map(|author| self.member_called(author)).transpose()?;
        let mut sealed = self.node.sealed_secrets(self.now(), key);
        sealed.retain(|sealed| author.is_none_or(|author| author == sealed.label.author));
        sealed.sort_by_key(|sealed| std::cmp::Reverse((sealed.label.created, sealed.label.author)));
        if sealed.is_empty() {
            return Err(fault(NoSecret::Absent));
        }
        let encoded = sealed.into_iter().map(|sealed| {
            let part = sealed.part.encode().map_err(|error| Fault::wrong(error.to_string()))?;
            Ok(SealedSecret {
                author: sealed.label.author.to_string(),
                name: self.called(&sealed.label.author),
                sealer: sealed.sealer.to_string(),
                is_believed: sealed.is_believed,
                left: seconds(sealed.left),
                entry: sealed.label.entry_key(0),
                part: hex::encode(part),
            })
        });
        encoded.collect()
    }

    /// Deletes this node's secret under a key.
    ///
    /// # Errors
    /// It has none there.
    pub(crate) fn delete_secret(&mut self, key: &str) -> Result<(), Fault> {
        let now = self.now();
        if self.node.delete_secret(now, key).map_err(fault)? {
            self.keep_own();
            return Ok(());
        }
        let fault = Fault::missing(format!("this node wrote no secret under `{}`", key.escape_debug()));
        let others = self.secrets().into_iter().filter(|secret| secret.key == key);
        let others: Vec<String> = others.map(|secret| secret.name).collect();
        Err(match others.as_slice() {
            [] => fault,
            others => fault.hint(format!("what stands there can be deleted on {} only", others.join(", "))),
        })
    }
}

fn seconds(left: Option<Duration>) -> Option<u64> {
    left.map(|left| left.as_secs())
}

fn fault(why: NoSecret) -> Fault {
    let text = why.to_string();
    match why {
        NoSecret::NotMaster => Fault::new(StatusCode::CONFLICT, text)
            .hint("who leads assigns roles: PUT /v1/roles/NODE on the machine that holds the lease `cluster`"),
        NoSecret::NoAdministrator => Fault::new(StatusCode::CONFLICT, text).hint(
            "name one in p2p.admin_keys on all nodes, or begin with a token of `kairn mesh token --admin-key FILE`",
        ),
        NoSecret::Key | NoSecret::Lifetime => Fault::wrong(text),
        NoSecret::Stranger(_) | NoSecret::Absent => Fault::missing(text),
        NoSecret::Unbelieved(node) => Fault::new(StatusCode::FORBIDDEN, text).hint(ask_for(&node)),
        NoSecret::Refused(why) => why.into(),
    }
}

fn ask_for(node: &NodeId) -> String {
    format!("to take it all the same, name its author: {}", node.short())
}
