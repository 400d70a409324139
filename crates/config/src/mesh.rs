//! `p2p`, read from the merged configuration: what this machine's node of the mesh is to be.
//!
//! Each value keeps its place, so that whoever finds more about it can point there. Variables of `p2p.vpn.env` win over the keys, as
//! they did where they came from; what cannot be is said and left out.

mod variables;

use crate::install::flag;
use crate::{Code, Diagnostic, Merged, MergedValue, Scalar, Severity, Style};
use kairn_report::{Secret, Span};
use std::net::Ipv4Addr;

/// The longest name of a network interface (linux/if.h, `IFNAMSIZ` less the zero at its end).
const LONGEST_INTERFACE: usize = 15;
/// Bits of the prefix of a range that addresses are taken from.
const PREFIX: std::ops::RangeInclusive<u8> = 8..=30;
/// Bytes of a packet of the private network: what IPv6 asks for (RFC 8200, section 5), and jumbo frames.
const MTU: std::ops::RangeInclusive<i64> = 1280..=9000;
/// Machines that a ballot can be held among.
const NODES: std::ops::RangeInclusive<i64> = 1..=512;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub span: Span,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What does not act as one may think.
    Warn,
    /// Who comes and goes.
    Info,
    /// What leads to that.
    Debug,
    /// Everything.
    Trace,
}

/// When members may have a shell of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShellLending {
    /// In recovery.
    #[default]
    Recovery,
    /// In recovery, and administrators at any time.
    Always,
    /// Never.
    Never,
}

/// What a machine is in the clusters that are built on the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshRole {
    /// It is in the control plane.
    Master,
    /// It runs what the masters give it.
    Worker,
    /// It takes no part.
    None,
}

/// What `p2p` asks for. What it does not say is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSettings {
    /// The network's token, as it is written.
    pub token: Option<Placed<Secret<String>>>,
    /// Nodes that are known to be there, each `HOST:PORT`.
    pub peers: Vec<Placed<String>>,
    /// Machines are looked for by the distributed hash table too.
    pub dht: bool,
    /// Where that is begun, each `HOST:PORT`, instead of the public nodes.
    pub dht_bootstrap: Vec<Placed<String>>,
    /// Public keys of those who may put machines out and change the secret, beside the one in the token.
    pub admin_keys: Vec<Placed<String>>,
    /// The names of the nodes that may be members; all where there are none.
    pub allowed: Vec<Placed<String>>,
    /// Who the node is gets sealed by the machine's TPM.
    pub seal_identity: bool,
    /// The UDP port to listen on.
    pub port: Option<u16>,
    /// How much is logged.
    pub log: Option<LogLevel>,
    /// Interfaces that carry nothing of the mesh, by the beginnings of their names.
    pub excluded: Vec<String>,
    /// Names of machines are answered, and this machine asks for them.
    pub dns: bool,
    /// The domain of these names.
    pub dns_domain: Option<Placed<String>>,
    /// How many machines have to agree at least in a ballot.
    pub minimum_nodes: Option<u16>,
    /// How many machines there will be.
    pub expected_nodes: Option<u16>,
    /// The cluster of the network that the machine is in.
    pub network_id: Option<Placed<String>>,
    /// When members may have a shell of the machine.
    pub shell: ShellLending,
    /// The role that is fixed for this machine.
    pub role: Option<MeshRole>,
    /// There is a private network.
    pub vpn: bool,
    /// The name of its interface.
    pub interface: Option<String>,
    /// The range that IPv4 addresses are taken from: `10.1.0.0/24`, or with the address of its first node.
    pub range: Option<Placed<String>>,
    /// Its largest packet, in bytes.
    pub mtu: Option<u16>,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            token: None,
            peers: Vec::new(),
            dht: false,
            dht_bootstrap: Vec::new(),
            admin_keys: Vec::new(),
            allowed: Vec::new(),
            seal_identity: false,
            port: None,
            log: None,
            excluded: Vec::new(),
            dns: false,
            dns_domain: None,
            minimum_nodes: None,
            expected_nodes: None,
            network_id: None,
            shell: ShellLending::Recovery,
            role: None,
            vpn: true,
            interface: None,
            range: None,
            mtu: None,
        }
    }
}

impl MeshSettings {
    /// Reads them from a merged configuration, with what is to be said about them.
    #[must_use]
    pub fn of(merged: &Merged) -> (Self, Vec<Diagnostic>) {
        let mut reader = Reader { said: Vec::new() };
        let mut settings = Self::default();
        if let Some(p2p) = merged.get("p2p").and_then(|block| reader.block(block, "p2p")) {
            settings.read(&mut reader, p2p);
        }
        (settings, reader.said)
    }

    fn read(&mut self, reader: &mut Reader, p2p: &Merged) {
        let token = reader.text(p2p, "network_token");
        self.token = token.map(|Placed { value, span }| Placed { value: Secret::new(value), span });
        self.peers = reader.texts(p2p, "peers");
        self.peers.retain(|peer| reader.peer(peer));
        self.admin_keys = reader.texts(p2p, "admin_keys");
        self.allowed = reader.texts(p2p, "allowed_nodes");
        self.seal_identity = flag(p2p, "seal_identity", &mut reader.said);
        self.port = p2p.get("listen_port").and_then(|value| reader.number(value, 1..=65_535, "`listen_port`"));
        self.log = reader.text(p2p, "loglevel").and_then(|text| reader.log(&text));
        self.excluded = reader.texts(p2p, "exclude_interfaces").into_iter().map(|name| name.value).collect();
        self.dns =
            p2p.get("dns").is_some_and(|value| value.value != MergedValue::Null) && flag(p2p, "dns", &mut reader.said);
        self.dns_domain = reader.text(p2p, "dns_domain");
        self.minimum_nodes = p2p.get("minimum_nodes").and_then(|value| reader.number(value, NODES, "`minimum_nodes`"));
        self.expected_nodes =
            p2p.get("expected_nodes").and_then(|value| reader.number(value, NODES, "`expected_nodes`"));
        self.network_id = reader.text(p2p, "network_id");
        self.shell = reader.text(p2p, "shell").map_or_else(Default::default, |text| reader.shell(&text));
        self.read_dht(reader, p2p);
        self.role = reader.text(p2p, "role").and_then(|text| reader.role(&text));
        let Some(vpn) = p2p.get("vpn").and_then(|block| reader.block(block, "p2p.vpn")) else { return };
        if vpn.get("create").is_some_and(|value| value.value != MergedValue::Null) {
            self.vpn = flag(vpn, "create", &mut reader.said);
        }
        self.interface = reader.text(vpn, "interface").and_then(|name| reader.interface(name));
        self.range = reader.text(vpn, "range").filter(|range| reader.range(range));
        self.mtu = vpn.get("mtu").and_then(|value| reader.number(value, MTU, "`mtu`"));
        if let Some(env) = vpn.get("env").and_then(|block| reader.block(block, "p2p.vpn.env")) {
            variables::apply(self, reader, env);
        }
    }
}

impl MeshSettings {
    /// Strangers are told of this machine only where its owner says so in so many words.
    fn read_dht(&mut self, reader: &mut Reader, p2p: &Merged) {
        let is_nothing = |value: &MergedValue| match value {
            MergedValue::Text(text) => text.is_empty(),
            value => *value == MergedValue::Null,
        };
        let (is_said, faults) =
            (p2p.get("disable_dht").is_some_and(|value| !is_nothing(&value.value)), reader.said.len());
        let is_disabled = flag(p2p, "disable_dht", &mut reader.said);
        // A word that is neither reads as `false`, which it does not say.
        self.dht = is_said && !is_disabled && reader.said.len() == faults;
        self.dht_bootstrap = reader.texts(p2p, "dht_bootstrap");
        self.dht_bootstrap.retain(|node| reader.peer(node));
        if let (false, Some(first)) = (self.dht, self.dht_bootstrap.first()) {
            let message = "`dht_bootstrap` does nothing unless `p2p.disable_dht` is `false`";
            let said = Diagnostic::new(Severity::Warning, Code::BadValue, first.span.clone(), message);
            reader.said.push(said.key("p2p.dht_bootstrap"));
        }
    }
}

/// Collects what is to be said.
struct Reader {
    said: Vec<Diagnostic>,
}

impl Reader {
    fn bad(&mut self, code: Code, span: &Span, message: impl Into<String>) {
        self.said.push(Diagnostic::new(Severity::Error, code, span.clone(), message));
    }

    fn hint(&mut self, hint: &str) {
        if let Some(last) = self.said.last_mut() {
            last.hint = Some(hint.to_owned());
        }
    }

    fn block<'a>(&mut self, block: &'a Merged, name: &str) -> Option<&'a Merged> {
        match block.value {
            MergedValue::Map(_) => Some(block),
            MergedValue::Null => None,
            _ => {
                self.bad(Code::WrongType, &block.origin, format!("`{name}` is a mapping"));
                None
            }
        }
    }

    /// A text that is not empty.
    fn text(&mut self, block: &Merged, name: &str) -> Option<Placed<String>> {
        self.text_of(block.get(name)?, name)
    }

    fn text_of(&mut self, value: &Merged, name: &str) -> Option<Placed<String>> {
        let text = match &value.value {
            MergedValue::Null => return None,
            MergedValue::Text(text) => text.trim().to_owned(),
            MergedValue::Bool(value) => value.to_string(),
            MergedValue::Int(value) => value.to_string(),
            MergedValue::Float(value) => value.to_string(),
            MergedValue::List(_) | MergedValue::Map(_) => {
                self.bad(Code::WrongType, &value.origin, format!("`{name}` is text"));
                return None;
            }
        };
        (!text.is_empty()).then(|| Placed { value: text, span: value.origin.clone() })
    }

    fn texts(&mut self, block: &Merged, name: &str) -> Vec<Placed<String>> {
        let Some(value) = block.get(name) else { return Vec::new() };
        match &value.value {
            MergedValue::Null => Vec::new(),
            MergedValue::List(items) => items.iter().filter_map(|item| self.text_of(item, name)).collect(),
            _ => {
                self.bad(Code::WrongType, &value.origin, format!("`{name}` is a list"));
                Vec::new()
            }
        }
    }

    /// A whole number within bounds, in a text too.
    fn number(&mut self, value: &Merged, bounds: std::ops::RangeInclusive<i64>, what: &str) -> Option<u16> {
        let number = match &value.value {
            MergedValue::Null => return None,
            MergedValue::Int(number) => Some(*number),
            MergedValue::Text(text) => Scalar { text: text.clone(), style: Style::Quoted }.as_int(),
            _ => None,
        };
        let fits = number.filter(|number| bounds.contains(number)).and_then(|number| u16::try_from(number).ok());
        if fits.is_none() {
            let code = if number.is_some() { Code::BadValue } else { Code::WrongType };
            let (least, most) = (bounds.start(), bounds.end());
            self.bad(code, &value.origin, format!("{what} is a whole number from {least} to {most}"));
        }
        fits
    }

    fn log(&mut self, text: &Placed<String>) -> Option<LogLevel> {
        let level = match text.value.to_ascii_lowercase().as_str() {
            // The last three are of the log that such files were written for, where they say nearly nothing.
            "error" | "dpanic" | "panic" | "fatal" => LogLevel::Error,
            "warn" | "warning" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            other => {
                self.bad(Code::BadValue, &text.span, format!("`{other}` is no level of a log"));
                self.hint("there are `error`, `warn`, `info`, `debug` and `trace`");
                return None;
            }
        };
        Some(level)
    }

    /// What cannot be read lends nothing: it may have been meant as the strictest.
    fn shell(&mut self, text: &Placed<String>) -> ShellLending {
        match text.value.as_str() {
            "recovery" => ShellLending::Recovery,
            "always" => ShellLending::Always,
            "never" => ShellLending::Never,
            other => {
                self.bad(
                    Code::BadValue,
                    &text.span,
                    format!("`{other}` does not say when a shell may be had: never, now"),
                );
                self.hint("there are `recovery`, `always` and `never`");
                ShellLending::Never
            }
        }
    }

    fn role(&mut self, text: &Placed<String>) -> Option<MeshRole> {
        match text.value.as_str() {
            "master" => Some(MeshRole::Master),
            "worker" => Some(MeshRole::Worker),
            "none" => Some(MeshRole::None),
            other => {
                let message = format!("`role` is `master`, `worker` or `none`, not `{other}`");
                self.bad(Code::BadValue, &text.span, message);
                None
            }
        }
    }

    fn peer(&mut self, peer: &Placed<String>) -> bool {
        let fits = peer.value.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let named = match bare {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => !host.is_empty() && !host.contains([':', '/', ' ']),
            };
            named && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !fits {
            self.bad(Code::BadValue, &peer.span, format!("`{}` does not say where a node is", peer.value));
            self.hint("a peer is HOST:PORT, such as 192.0.2.1:7946, '[2001:db8::1]:7946' or gate.example.org:7946");
        }
        fits
    }

    fn interface(&mut self, name: Placed<String>) -> Option<String> {
        let text = &name.value;
        let fits = text.len() <= LONGEST_INTERFACE
            && !matches!(text.as_str(), "." | "..")
            && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'));
        if fits {
            return Some(name.value);
        }
        let message =
            format!("`{text}` cannot be the name of an interface: it has 1 to {LONGEST_INTERFACE} characters");
        self.bad(Code::BadValue, &name.span, message);
        None
    }

    fn range(&mut self, range: &Placed<String>) -> bool {
        let fits = range.value.split_once('/').is_some_and(|(address, length)| {
            address.parse::<Ipv4Addr>().is_ok() && length.parse().is_ok_and(|length: u8| PREFIX.contains(&length))
        });
        if !fits {
            let (least, most) = (PREFIX.start(), PREFIX.end());
            let message = format!("`{}` is no range of IPv4 addresses with {least} to {most} bits", range.value);
            self.bad(Code::BadValue, &range.span, message);
            self.hint("a range is written as `10.1.0.0/24`");
        }
        fits
    }
}

#[cfg(test)]
mod tests;
