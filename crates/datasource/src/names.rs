//! Host names: `/etc/hosts`, then the name servers of `/etc/resolv.conf`, asked directly.
//!
//! The program is linked statically and must not load modules of another libc, as the system's resolver would.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use kairn_host::files;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Bytes of a file that are read.
const FILE: u64 = 1 << 20;
/// Name servers that are asked, as resolv.conf(5) has it.
const SERVERS: usize = 3;
/// Domains that are searched.
const DOMAINS: usize = 6;
/// How long one name server may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Addresses that are kept of one name.
const ADDRESSES: usize = 8;
/// A datagram of DNS without extensions (RFC 1035, 2.3.4) has 512 bytes; some servers send more.
const DATAGRAM: usize = 4096;

/// Looks names up as the files below a root directory say.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    root: PathBuf,
    port: u16,
}

/// What resolv.conf(5) says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Configuration {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl Names {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), port: 53 }
    }

    /// Finds the addresses of a host; an empty list when there are none or nobody says.
    fn look_up(&self, host: &str, end: Instant) -> Vec<IpAddr> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return vec![address];
        }
        let found = in_hosts(&self.text("etc/hosts"), bare);
        if !found.is_empty() {
            return found;
        }
        // RFC 6761, 6.3.
        if bare == "localhost" || bare.ends_with(".localhost") {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let configuration = configuration(&self.text("etc/resolv.conf"));
        for name in full_names(bare, &configuration.search) {
            for kind in [RecordType::A, RecordType::AAAA] {
                let found = self.ask(&configuration.servers, &name, kind, end);
                if !found.is_empty() {
                    return found;
                }
            }
        }
        Vec::new()
    }

    fn text(&self, path: &str) -> String {
        match files::read_in_tree(&self.root, Path::new(path), FILE) {
            Ok(bytes) => String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
            Err(error) => {
                tracing::debug!(%error, "not read for names");
                String::new()
            }
        }
    }

    /// Asks one server after the other until one knows, or knows that there is nothing.
    fn ask(&self, servers: &[IpAddr], name: &str, kind: RecordType, end: Instant) -> Vec<IpAddr> {
        for server in servers {
            let left = end.saturating_duration_since(Instant::now()).min(ANSWER);
            if left.is_zero() {
                break;
            }
            match self.ask_one(*server, name, kind, left) {
                Ok(found) => return found,
                Err(error) => tracing::debug!(%server, name, %error, "name server"),
            }
        }
        Vec::new()
    }

    fn ask_one(&self, server: IpAddr, name: &str, kind: RecordType, time: Duration) -> std::io::Result<Vec<IpAddr>> {
        let other = std::io::Error::other;
        let mut query = Message::query();
        query.metadata.op_code = OpCode::Query;
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).map_err(other)?, kind));
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        // Connected, so that only this server's datagrams arrive.
        socket.connect(SocketAddr::new(server, self.port))?;
        socket.send(&query.to_vec().map_err(other)?)?;
        let end = Instant::now() + time;
        let mut buffer = [0; DATAGRAM];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            let got = socket.recv(&mut buffer)?;
            let Ok(answer) = Message::from_vec(buffer.get(..got).unwrap_or_default()) else { continue };
            let is_ours = answer.metadata.id == query.metadata.id
                && answer.metadata.message_type == MessageType::Response
                && answer.queries == query.queries;
            if is_ours {
                return match answer.metadata.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => Ok(addresses(&answer)),
                    code => Err(std::io::Error::other(format!("answers {code}"))),
                };
            }
        }
    }
}

/// The server follows aliases for us, so any address in the answer is one of the name.
fn addresses(answer: &Message) -> Vec<IpAddr> {
    let of = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(|record| of(&record.data)).take(ADDRESSES).collect()
}

/// hosts(5): an address, then names.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .take(ADDRESSES)
        .collect()
}

fn configuration(text: &str) -> Configuration {
    let mut configuration = Configuration::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // `fe80::1%eth0`: the zone needs the interface's number, which a name server on the link can do without.
                let word = words.next().and_then(|word| word.split('%').next()).unwrap_or_default();
                if let (Ok(address), true) = (word.parse(), configuration.servers.len() < SERVERS) {
                    configuration.servers.push(address);
                }
            }
            Some("search" | "domain") => configuration.search = words.take(DOMAINS).map(str::to_owned).collect(),
            _ => {}
        }
    }
    if configuration.servers.is_empty() {
        configuration.servers.push(Ipv4Addr::LOCALHOST.into());
    }
    configuration
}

/// The names to try: one with a dot as it is first, one without in the searched domains first.
fn full_names(host: &str, search: &[String]) -> Vec<String> {
    let absolute = format!("{}.", host.trim_end_matches('.'));
    if host.ends_with('.') {
        return vec![absolute];
    }
    let searched = search.iter().map(|domain| format!("{host}.{}.", domain.trim_matches('.')));
    if host.contains('.') {
        std::iter::once(absolute).chain(searched).collect()
    } else {
        searched.chain(std::iter::once(absolute)).collect()
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let time = timeout.not_zero().map_or(Duration::from_secs(5), |after| *after);
        let mut found = self.empty();
        for address in self.look_up(uri.host().unwrap_or_default(), Instant::now() + time).into_iter().take(ADDRESSES) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    fn root(hosts: &str, resolv: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/hosts"), hosts).unwrap();
        std::fs::write(root.path().join("etc/resolv.conf"), resolv).unwrap();
        root
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn files_say_names_and_whom_to_ask() {
        assert_eq!(
            in_hosts("10.0.0.1 a b # c\n::1 B\n", "b"),
            ["10.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert!(in_hosts("10.0.0.1 a # b", "b").is_empty());
        let read = configuration("# x\nsearch a.example b\nnameserver 10.0.0.3\nnameserver fe80::1%eth0\noptions x\n");
        assert_eq!((read.servers.len(), read.search), (2, vec!["a.example".to_owned(), "b".to_owned()]));
        assert_eq!(configuration("").servers, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let search = ["x.y".to_owned()];
        assert_eq!(full_names("metaldata", &search), ["metaldata.x.y.", "metaldata."]);
        assert_eq!(full_names("a.b", &search), ["a.b.", "a.b.x.y."]);
        assert_eq!(full_names("a.", &search), ["a."]);
    }

    #[test]
    fn addresses_and_known_hosts_need_no_server() {
        let root = root("10.9.8.7 metaldata\n", "");
        let names = Names::new(root.path());
        for (host, expected) in
            [("10.0.0.1", "10.0.0.1"), ("[fe80::1]", "fe80::1"), ("metaldata", "10.9.8.7"), ("localhost", "127.0.0.1")]
        {
            assert_eq!(names.look_up(host, soon()).first().map(ToString::to_string).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_name_server_is_asked_and_a_foreign_answer_is_not_believed() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            let mut buffer = [0; 512];
            for _ in 0..3 {
                let (got, from) = server.recv_from(&mut buffer).unwrap();
                let query = Message::from_vec(&buffer[..got]).unwrap();
                let name = query.queries[0].name().clone();
                asked.push(format!("{name} {}", query.queries[0].query_type()));
                let mut answer = Message::response(query.metadata.id, OpCode::Query);
                answer.add_query(query.queries[0].clone());
                if name.to_string() == "metaldata." && query.queries[0].query_type() == RecordType::A {
                    let mut forged = answer.clone();
                    forged.metadata.id = query.metadata.id.wrapping_add(1);
                    forged.add_answer(Record::from_rdata(name.clone(), 1, RData::A(A::new(6, 6, 6, 6))));
                    server.send_to(&forged.to_vec().unwrap(), from).unwrap();
                    server.send_to(b"rubbish", from).unwrap();
                    answer.add_answer(Record::from_rdata(name, 1, RData::A(A::new(10, 1, 2, 3))));
                } else {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                server.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
            asked
        });
        let root = root("", "search lab\nnameserver 127.0.0.1\n");
        let names = Names { root: root.path().to_owned(), port };
        assert_eq!(names.look_up("metaldata", soon()), [IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))]);
        assert_eq!(thread.join().unwrap(), ["metaldata.lab. A", "metaldata.lab. AAAA", "metaldata. A"]);
    }

    #[test]
    fn a_silent_name_server_costs_its_time_only() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let root = root("", "nameserver 127.0.0.1\n");
        let names = Names { root: root.path().to_owned(), port: server.local_addr().unwrap().port() };
        let begin = Instant::now();
        assert!(names.look_up("a.b", begin + Duration::from_millis(200)).is_empty());
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
}
