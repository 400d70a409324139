//! Names of others, asked of the servers that the machine had before: each answer is kept as long as it says.

use crate::error::Error;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ServerOrderingStrategy};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Message, ResponseCode};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most answers that are kept.
const KEPT: u64 = 1_024;
/// The longest that one is kept, whatever it says.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How many questions are under way at a time.
const AT_ONCE: usize = 128;

/// The way to other servers.
pub struct Forwarder {
    resolver: TokioResolver,
    limit: Semaphore,
}

impl Forwarder {
    /// A way to these servers, asked in this order.
    ///
    /// # Errors
    /// The library refuses them.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, Error> {
        let config = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            config
        });
        let config = ResolverConfig::from_name_servers(config.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ndots = 0;
        options.timeout = PATIENCE;
        options.attempts = 1;
        options.edns0 = true;
        options.cache_size = KEPT;
        options.positive_max_ttl = Some(LONGEST);
        options.negative_max_ttl = Some(LONGEST);
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let resolver = builder.build().map_err(|error| Error::Names(error.to_string()))?;
        Ok(Self { resolver, limit: Semaphore::new(AT_ONCE) })
    }

    /// Answers a question with what the others say.
    pub async fn answer(&self, asked: &Message) -> Message {
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_queries(asked.queries.iter().cloned());
        let (Some(question), Ok(_permit)) = (asked.queries.first(), self.limit.try_acquire()) else {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        };
        let mut name = question.name().clone();
        name.set_fqdn(true);
        match self.resolver.lookup(name, question.query_type()).await {
            Ok(found) => {
                answer.add_answers(found.answers().iter().cloned());
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                answer.metadata.response_code = none.response_code;
                if let Some(soa) = none.soa {
                    answer.add_authority(soa.into_record_of_rdata());
                }
            }
            Err(error) => {
                tracing::debug!(name = %question.name(), %error, "no other server answers");
                answer.metadata.response_code = ResponseCode::ServFail;
            }
        }
        answer
    }
}

/// The servers of a text in the format of resolv.conf (resolv.conf(5)), without one's own.
pub fn servers(text: &str, own: IpAddr) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses.filter(|address| *address != own).map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::rdata::A;
    use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::UdpSocket;

    /// A server that knows one name, and counts what it is asked.
    async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                answer.add_queries(question.queries.iter().cloned());
                let name = question.queries[0].name().clone();
                if name.to_ascii().eq_ignore_ascii_case("www.example.org.") {
                    let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 80)));
                    answer.add_answer(Record::from_rdata(name, 300, data));
                } else {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        (address, asked)
    }

    fn question(id: u16, name: &str) -> Message {
        let mut message = Message::query();
        message.metadata.id = id;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message
    }

    #[tokio::test]
    async fn what_others_say_is_handed_on_and_kept_for_as_long_as_it_says() {
        let (address, asked) = server().await;
        let forwarder = Forwarder::new(&[address]).unwrap();
        for id in [7, 8, 9] {
            let answer = forwarder.answer(&question(id, "www.example.org.")).await;
            assert_eq!((answer.metadata.id, answer.answers.len()), (id, 1), "{answer:?}");
            assert_eq!(answer.answers[0].data.to_string(), "192.0.2.80");
            assert!(answer.answers[0].ttl <= 300);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let none = forwarder.answer(&question(1, "nobody.example.org.")).await;
        assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NXDomain, 0));
    }

    #[tokio::test]
    async fn servers_that_do_not_answer_are_a_failure_and_no_silence() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let answer = Forwarder::new(&[closed]).unwrap().answer(&question(7, "www.example.org.")).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn the_servers_of_a_machine_are_read_without_our_own() {
        let text =
            "# c\nsearch a\nnameserver 127.0.0.153\nnameserver\t192.0.2.53 # x\n  nameserver ::1\nnameserver bad\n";
        let wanted: Vec<SocketAddr> = vec!["192.0.2.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(servers(text, "127.0.0.153".parse().unwrap()), wanted);
    }
}
