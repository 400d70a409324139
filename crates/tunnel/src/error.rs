//! What keeps a tunnel from being there.

use ipnet::IpNet;
use kairn_report::{Diagnostic, Kind};
use std::io;
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// An operation on a tunnel that failed, with the object it failed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel was built without TUN, or a container does not show it.
    #[error("there is no /dev/net/tun on this machine")]
    NoTun,
    /// The process may not make interfaces.
    #[error("making the interface `{name}` is not permitted to this process")]
    NotPermitted {
        /// The interface.
        name: String,
    },
    /// A name that no interface can have.
    #[error("`{name}` cannot be the name of an interface: {why}")]
    Name {
        /// The name.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The name and all that follow it are taken.
    #[error("the interface name `{first}` and those up to `{last}` are taken")]
    NamesTaken {
        /// The first that was tried.
        first: String,
        /// The last that was tried.
        last: String,
    },
    /// The port and all that follow it are taken.
    #[error("the UDP port {first} and those up to {last} are taken")]
    PortsTaken {
        /// The first that was tried.
        first: u16,
        /// The last that was tried.
        last: u16,
    },
    /// An address that another interface has.
    #[error("the address {address} is already on the interface `{interface}`")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        interface: String,
    },
    /// An MTU that no interface here has.
    #[error("an MTU of {mtu} is out of bounds: {} to {} bytes", crate::MIN_MTU, crate::MAX_MTU)]
    Mtu {
        /// What was asked for.
        mtu: u16,
    },
    /// An address to which nothing can be sent.
    #[error("{address} cannot be the address of a peer: {why}")]
    BadEndpoint {
        /// The address.
        address: SocketAddr,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The interface's own key as a peer.
    #[error("the key {key} is this interface's own")]
    OwnKey {
        /// The key.
        key: crate::PublicKey,
    },
    /// More peers than there are names of sessions for.
    #[error("there are too many peers: {0}")]
    TooManyPeers(usize),
    /// A probe that does not begin as one, or is too long.
    #[error("a probe of {length} bytes is none: it begins with 0x20 and has at most {} bytes", crate::MAX_PROBE)]
    BadProbe {
        /// Its length.
        length: usize,
    },
    /// The kernel has no WireGuard.
    #[error("this kernel has no WireGuard")]
    NoKernelWireguard,
    /// The kernel's WireGuard owns the port, and probes need a raw socket beside it.
    #[error("raw sockets are not permitted to this process, and probes beside the kernel's WireGuard need them")]
    NoRawSocket,
    /// An address could not be put on the interface, or taken away.
    #[error("cannot {action} the address {address} on `{name}`")]
    Address {
        /// `set` or `remove`.
        action: &'static str,
        /// The address.
        address: IpNet,
        /// The interface.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something else that the system refused.
    #[error("cannot {action} `{object}`")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// The interface, port or socket.
        object: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Several errors, none of which stopped the others (teardown).
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Error {
    /// Makes a function for `map_err` that names action and object.
    pub(crate) fn system<E: Into<io::Error>>(
        action: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, object: object.into(), source: source.into() }
    }

    /// All errors of a teardown as one, if there were any.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Self::Several(errors)),
        }
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } | Self::Mtu { .. } | Self::BadEndpoint { .. } | Self::OwnKey { .. } => Kind::User,
            Self::BadProbe { .. } => Kind::Bug,
            _ => Kind::Environment,
        }
    }

    fn hints(&self) -> Vec<String> {
        let one = |hint: &str| vec![hint.to_owned()];
        match self {
            Self::NoTun => vec![
                "load the module: `modprobe tun`".into(),
                "in a container, pass the device through: `--device /dev/net/tun`".into(),
                "or go without the private network: `kairn mesh up --no-vpn`".into(),
            ],
            Self::NotPermitted { .. } => {
                vec!["run it as root".into(), "in a container, grant CAP_NET_ADMIN: `--cap-add NET_ADMIN`".into()]
            }
            Self::NoRawSocket => one("grant CAP_NET_RAW, or take the userspace tier"),
            Self::NoKernelWireguard => one("load the module: `modprobe wireguard`"),
            Self::Name { .. } => one("take a name of at most 15 letters, digits, `-`, `_` and `.`"),
            Self::NamesTaken { first, .. } => vec![format!("see who has them: `ip link show {first}`")],
            Self::PortsTaken { .. } => one("see who has them: `ss -lunp`; 0 takes any port"),
            Self::AddressTaken { interface, .. } => vec![
                format!("see what it is for: `ip address show {interface}`"),
                "or give the mesh another address range".into(),
            ],
            Self::Several(errors) => errors.iter().flat_map(Diagnostic::hints).collect(),
            _ => Vec::new(),
        }
    }
}
