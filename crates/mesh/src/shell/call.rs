//! Sessions of this node with members whose shell somebody here wants.

use super::Shells;
use crate::error::Error;
use kairn_mesh_protocol::NodeId;
use kairn_mesh_protocol::shell::{EXPORTER, Shell};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes, join};

/// Bytes that are copied at a time, in each direction.
const BUFFER: usize = 64 * 1024;

/// A session that nobody has knocked in yet.
pub struct Line {
    connection: quinn::Connection,
    /// What proofs are bound to.
    pub shell: Shell,
}

impl Shells {
    /// Calls a member at its addresses.
    ///
    /// # Errors
    /// It is at none of them.
    pub async fn call(&self, to: NodeId, addresses: Vec<SocketAddr>) -> Result<Line, Error> {
        let open = self.caller.meet(to, addresses).await?;
        let mut exporter = [0; 32];
        let exported = open.connection.export_keying_material(&mut exporter, EXPORTER, b"");
        exported.map_err(|_| Error::call(open.address, &"no exporter"))?;
        self.keep(to, &open.connection);
        let shell = Shell { network: self.network, exporter, client: self.caller.own, server: to };
        Ok(Line { connection: open.connection, shell })
    }
}

impl Line {
    /// Carries what a program here and the member say to each other, until either goes.
    ///
    /// # Errors
    /// The session breaks off.
    pub async fn carry(self, mut program: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<(u64, u64)> {
        let (mut send, mut receive) = self.connection.open_bi().await.map_err(io::Error::other)?;
        let mut stream = join(&mut receive, &mut send);
        let carried = copy_bidirectional_with_sizes(&mut program, &mut stream, BUFFER, BUFFER).await;
        self.connection.close(0_u8.into(), b"the shell has ended");
        carried
    }
}
