//! Orders of an administrator: what is to be signed, what was, and what is kept and done of it.

use super::Runner;
use crate::fault::Fault;
use crate::orders::{Prepared, Signed, Wish};
use crate::secrets::Secrets;
use crate::state::random;
use hyper::StatusCode;
use kairn_mesh_protocol::entry::{Bucket, Content, Entry};
use kairn_mesh_protocol::node::Draw;
use kairn_mesh_protocol::order::MOST_REVOKED;
use kairn_mesh_protocol::{AdminKey, NodeId, Token};

impl Runner {
    /// What an administrator has to sign for the secret to change and nodes to be put out.
    ///
    /// # Errors
    /// They are no administrator of this network, or the nodes are unknown.
    pub(crate) fn prepare_rotation(&self, wish: &Wish) -> Result<Prepared, Fault> {
        let administrator: NodeId = wish.administrator.parse().map_err(|error| Fault::wrong(format!("{error}")))?;
        self.check_administrator(&administrator)?;
        if wish.revoke.len() > MOST_REVOKED {
            return Err(Fault::wrong(format!("{} nodes at once; the most is {MOST_REVOKED}", wish.revoke.len())));
        }
        let revoked = wish.revoke.iter().map(|text| self.to_put_out(text)).collect::<Result<Vec<_>, _>>()?;
        let draw = draw().map_err(|error| {
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the kernel gives no random bytes: {error}"))
        })?;
        let wrong = |error: kairn_mesh_protocol::Error| Fault::wrong(error.to_string());
        let contents = self.node.prepare_rotation(self.now(), administrator, &revoked, &draw).map_err(wrong)?;
        let epoch = self.node.next_epoch(&draw).map_err(wrong)?;
        let admin = AdminKey::new(*administrator.as_bytes()).map_err(|fault| Fault::wrong(fault.to_string()))?;
        let members = self.node.store().member_ids().filter(|node| !revoked.contains(node)).count();
        Ok(Prepared {
            network: self.network.id.to_string(),
            revoke: revoked.iter().map(NodeId::to_string).collect(),
            members,
            token: Token::rotated(self.network.clone(), epoch, draw.secret, Some(admin)).reveal(),
            contents: contents.iter().map(encode).collect::<Result<_, _>>()?,
        })
    }

    /// Takes in what an administrator signed.
    ///
    /// # Errors
    /// They are none, or it is no order. What came before in the list is taken.
    pub(crate) fn order(&mut self, signed: &Signed) -> Result<serde_json::Map<String, serde_json::Value>, Fault> {
        for text in &signed.entries {
            let bytes = hex::decode(text).map_err(|_| Fault::wrong("an order is not hexadecimal digits"))?;
            let entry = Entry::decode(&bytes).map_err(|error| Fault::wrong(error.to_string()))?;
            if entry.content().bucket != Bucket::Administration {
                return Err(Fault::wrong("an entry that is no order"));
            }
            self.node.order(self.now(), entry)?;
        }
        Ok(serde_json::Map::new())
    }

    /// Keeps what an administrator ordered: without it a restart would let in whom they put out.
    pub(super) fn keep_secrets(&self) {
        let orders = self.node.orders(self.now().0);
        let (epochs, newest) = (self.node.store().epochs().to_vec(), self.node.secret().cloned());
        if let Err(error) = self.dir.keep_secrets(&self.network.id, &Secrets { epochs, newest, orders }) {
            tracing::error!(error = kairn_report::in_one_line(&error), "orders are forgotten at a restart");
        }
    }

    /// A node is no member any more: it, or this one, was put out.
    pub(super) fn put_out(&mut self, node: NodeId) {
        if node == self.node.id() {
            self.is_out = true;
            return;
        }
        tracing::warn!(node = %node.short(), "put out of the network");
        self.is_gone(&node);
    }

    /// Lets go of what belongs to a node that is no member any more.
    pub(super) fn is_gone(&mut self, node: &NodeId) {
        self.calls.end(node);
        self.services.end(node);
        self.shells.end(node);
        self.paths.forget(node);
        self.show_papers();
        self.follow_members();
    }

    fn check_administrator(&self, administrator: &NodeId) -> Result<(), Fault> {
        let administrators = self.node.store().administrators();
        if administrators.contains(administrator) {
            return Ok(());
        }
        let fault = Fault::new(StatusCode::FORBIDDEN, "this key is not the network's administrator");
        Err(match administrators.len() {
            0 => fault
                .hint("this network has none: its token carries no administrator's key")
                .hint(format!("name it on all nodes first: p2p.admin_keys: [{administrator}]")),
            _ => fault.hint(format!(
                "its administrators are {}",
                administrators.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
            )),
        })
    }

    /// A member, or a node that is not known here and named in full.
    fn to_put_out(&self, text: &str) -> Result<NodeId, Fault> {
        match text.parse::<NodeId>() {
            Ok(id) => Ok(id),
            Err(_) => self.member_called(text),
        }
    }
}

fn draw() -> std::io::Result<Draw> {
    Ok(Draw { secret: random()?, seed: random()?, lot: u16::from_be_bytes(random()?) })
}

fn encode(content: &Content) -> Result<String, Fault> {
    let bytes = postcard::to_stdvec(content)
        .map_err(|error| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(hex::encode(bytes))
}
