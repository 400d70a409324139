//! Names of hosts, without the C library: a static program must never go through NSS.

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use kairn_host::files;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Largest file that is read, in bytes.
const FILE: u64 = 1 << 20;
/// The longest that one question may take, whatever the request's own deadline.
const MOST: Duration = Duration::from_secs(30);
/// As many addresses as fit into what is returned.
const ADDRESSES: usize = 16;

/// Asks `/etc/hosts` and the servers of `/etc/resolv.conf`, as they are at the moment of the question.
#[derive(Clone, Debug)]
pub struct Names {
    root: PathBuf,
    /// Another port than that of DNS, for tests.
    port: Option<u16>,
}

impl Names {
    /// Looks names up as the files below a root directory say.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), port: None }
    }

    /// The addresses of a machine, by name or written out.
    ///
    /// # Errors
    /// Nobody knows the name, or nobody answers in time.
    pub fn addresses(&self, host: &str, within: Duration) -> Result<Vec<IpAddr>, Error> {
        self.look_up(host, within)
    }

    fn look_up(&self, host: &str, within: Duration) -> Result<Vec<IpAddr>, Error> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let failed = |why: &dyn Display| Error::Io(io::Error::other(format!("no address of {bare}: {why}")));
        let name = Name::from_str_relaxed(bare).map_err(|error| failed(&error))?;
        // Before any searched domain is put behind it, as a system's own resolver does (nsswitch.conf(5), `files dns`).
        let known = in_hosts(self.file("etc/hosts")?.as_deref().unwrap_or_default(), &name);
        if !known.is_empty() {
            return Ok(known);
        }
        let (config, options) = self.servers().map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            *builder.options_mut() = options;
            let resolver = builder.build().map_err(|error| failed(&error))?;
            match tokio::time::timeout(within.min(MOST), resolver.lookup_ip(bare)).await {
                Ok(Ok(found)) => Ok(found.iter().collect()),
                Ok(Err(error)) => Err(failed(&error)),
                Err(_) => Err(Error::Timeout(ureq::Timeout::Resolve)),
            }
        })
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = files::read_in_tree(&self.root, Path::new(path), FILE);
        read.map_err(|error| Error::Io(io::Error::other(kairn_report::Report::from(error).chain.join(": "))))
    }

    /// Whom to ask, and how.
    fn servers(&self) -> Result<(ResolverConfig, ResolverOpts), NetError> {
        let text = self.file("etc/resolv.conf").map_err(io::Error::other)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let names_any = text.lines().any(|line| line.split_whitespace().next() == Some("nameserver"));
        let (mut config, mut options) = if names_any {
            parse_resolv_conf(text.as_bytes())?
        } else {
            // resolv.conf(5): without any, the server of this machine is asked.
            parse_resolv_conf(format!("{text}\nnameserver {}\n", Ipv4Addr::LOCALHOST))?
        };
        // Else the files of the root that this program sees would be read.
        options.use_hosts_file = ResolveHosts::Never;
        if let Some(port) = self.port {
            let moved = |server: &NameServerConfig| {
                let mut server = server.clone();
                server.connections.iter_mut().for_each(|connection| connection.port = port);
                server
            };
            let servers = config.name_servers().iter().map(moved).collect();
            config = ResolverConfig::from_parts(config.domain().cloned(), config.search().to_vec(), servers);
        }
        Ok((config, options))
    }
}

/// hosts(5): an address, then names.
fn in_hosts(text: &[u8], name: &Name) -> Vec<IpAddr> {
    let mut hosts = Hosts::default();
    // The reader gives up at the first line that is no text.
    if let Err(error) = hosts.read_hosts_conf(String::from_utf8_lossy(text).as_bytes()) {
        tracing::debug!(%error, "hosts(5)");
    }
    let kinds = [RecordType::A, RecordType::AAAA];
    let found = kinds.into_iter().filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
    found
        .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        .collect()
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, _) => 80,
        };
        let addresses = self.look_up(host, *timeout.after)?;
        let mut found = self.empty();
        let wanted = addresses.into_iter().map(|address| SocketAddr::new(address, port));
        for address in config.ip_family().keep_wanted(wanted).take(ADDRESSES) {
            found.push(address);
        }
        if found.is_empty() { Err(Error::HostNotFound) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::A;
    use hickory_resolver::proto::rr::{RData, Record};
    use std::net::UdpSocket;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(5);

    fn root(hosts: &str, resolv: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/hosts"), hosts).unwrap();
        std::fs::write(root.path().join("etc/resolv.conf"), resolv).unwrap();
        root
    }

    #[test]
    fn addresses_and_known_hosts_need_no_server() {
        let hosts = "10.9.8.7 Metaldata # gate\n::1 six\n10.0.0.2 both\nfe80::2 both\nrubbish gate\n";
        let root = root(hosts, "search lab\nnameserver 192.0.2.1\n");
        let names = Names::new(root.path());
        for (host, expected) in [
            ("10.0.0.1", vec!["10.0.0.1"]),
            ("[fe80::1]", vec!["fe80::1"]),
            ("metaldata", vec!["10.9.8.7"]),
            ("metaldata.", vec!["10.9.8.7"]),
            ("six", vec!["::1"]),
            ("both", vec!["10.0.0.2", "fe80::2"]),
            ("localhost", vec!["127.0.0.1"]),
        ] {
            let found: Vec<String> = names.look_up(host, LONG).unwrap().iter().map(ToString::to_string).collect();
            assert!(expected.iter().all(|address| found.iter().any(|found| found == address)), "{host}: {found:?}");
        }
    }

    #[test]
    fn without_a_name_server_that_of_the_machine_is_asked() {
        let names = |resolv| {
            let root = root("", resolv);
            Names::new(root.path()).servers().unwrap().0
        };
        assert_eq!(names("").name_servers()[0].ip, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let two = names("# x\nsearch a.example b\nnameserver 10.0.0.3\nnameserver fe80::1%eth0\noptions x\n");
        assert_eq!((two.name_servers().len(), two.search().len()), (2, 2));
    }

    #[test]
    fn a_name_server_is_asked_in_searched_domains_and_a_foreign_answer_is_not_believed() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            loop {
                let (got, from) = server.recv_from(&mut buffer).unwrap();
                let query = Message::from_vec(&buffer[..got]).unwrap();
                let asked = query.queries[0].clone();
                let mut answer = Message::response(query.metadata.id, OpCode::Query);
                answer.add_query(asked.clone());
                if asked.name().to_string() == "metaldata.lab." && asked.query_type() == RecordType::A {
                    let mut forged = answer.clone();
                    forged.metadata.id = query.metadata.id.wrapping_add(1);
                    forged.add_answer(Record::from_rdata(asked.name().clone(), 1, RData::A(A::new(6, 6, 6, 6))));
                    server.send_to(&forged.to_vec().unwrap(), from).unwrap();
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 1, RData::A(A::new(10, 1, 2, 3))));
                } else {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                server.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        });
        let root = root("", "search lab\nnameserver 127.0.0.1\n");
        let names = Names { root: root.path().to_owned(), port: Some(port) };
        assert_eq!(names.look_up("metaldata", LONG).unwrap(), [IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))]);
        let absent = names.look_up("absent", LONG).unwrap_err().to_string();
        assert!(absent.contains("no address of absent"), "{absent}");
    }

    #[test]
    fn a_silent_name_server_costs_its_time_only() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let root = root("", "nameserver 127.0.0.1\n");
        let port = Some(server.local_addr().unwrap().port());
        let begin = Instant::now();
        let names = Names { root: root.path().to_owned(), port };
        let error = names.look_up("a.b", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)) && begin.elapsed() < Duration::from_secs(3), "{error:?}");
    }
}
