//! Connections from a port below 1024.

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout as SocketTimeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

/// Ports that are tried, from the highest: the lower half belongs to well-known services.
const PORTS: std::ops::Range<u16> = 512..1024;

/// Makes such connections; for `http` only.
#[derive(Debug)]
pub(crate) struct PrivilegedConnector;

impl Connector<()> for PrivilegedConnector {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Connection>, Error> {
        let deadline = details.timeout.not_zero().map_or(Duration::from_secs(5), |after| *after);
        let end = Instant::now() + deadline;
        let mut last = Errno::ADDRNOTAVAIL;
        for address in details.addrs.iter() {
            for port in PORTS.rev() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Error::Timeout(details.timeout.reason));
                }
                match stream(*address, port, left) {
                    Ok(stream) => {
                        let config = details.config;
                        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                        return Ok(Some(Connection { stream, buffers }));
                    }
                    // The port is taken, or a connection from it to there is not over yet (tcp(7), TIME_WAIT).
                    Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => {}
                    // A connection that takes longer than SO_SNDTIMEO is still in progress (socket(7)).
                    Err(Errno::INPROGRESS) => return Err(Error::Timeout(details.timeout.reason)),
                    Err(errno) => {
                        last = errno;
                        break;
                    }
                }
            }
        }
        Err(Error::Io(last.into()))
    }
}

fn stream(to: SocketAddr, port: u16, deadline: Duration) -> Result<TcpStream, Errno> {
    let (family, any) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::new(any, port))?;
    set_socket_timeout(&socket, SocketTimeout::Send, Some(deadline))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// A plain connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

fn timed_out(error: std::io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|after| *after))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|after| *after))?;
        let got = self.stream.read(self.buffers.input_append_buf()).map_err(|error| timed_out(error, timeout))?;
        self.buffers.input_appended(got);
        Ok(got > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each connection serves one question: few are asked, and a port stays taken as long as it is kept.
        false
    }
}
