//! What a DNS message is answered with, as a function of its bytes and the zone.

use super::TTL;
use super::zone::Zone;
use hickory_resolver::proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::IpAddr;

/// The most bytes of an answer over UDP, whatever the asker says that it takes (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1_232;
/// The bytes of a header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// Who asks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whether the question came over TCP, where answers may be long.
    pub is_stream: bool,
    /// Whether names of others are asked of other servers for it.
    pub may_forward: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this.
    Send(Vec<u8>),
    /// Ask another server this, and answer what it answers.
    Forward(Box<Message>),
    /// Nothing: these bytes are no question.
    Malformed,
}

/// Answers a message.
pub fn answer(zone: &Zone, query: Query, bytes: &[u8]) -> Reply {
    // A bit that answers have: answering an answer makes two servers talk for ever.
    if bytes.len() < HEADER || bytes.get(2).is_some_and(|flags| flags & 0x80 != 0) {
        return Reply::Malformed;
    }
    let Ok(asked) = Message::from_vec(bytes) else {
        let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
        return sent(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), u16::MAX);
    };
    let limit = if query.is_stream { u16::MAX } else { asked.max_payload().min(LARGEST_DATAGRAM) };
    match decide(zone, query, &asked) {
        Decision::Answer(answer) => sent(*answer, limit),
        Decision::Forward => Reply::Forward(Box::new(asked)),
    }
}

enum Decision {
    Answer(Box<Message>),
    Forward,
}

fn decide(zone: &Zone, query: Query, asked: &Message) -> Decision {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    let Metadata { op_code, recursion_desired, .. } = asked.metadata;
    answer.metadata.recursion_desired = recursion_desired;
    answer.metadata.recursion_available = query.may_forward;
    answer.add_queries(asked.queries.iter().cloned());
    if let Some(edns) = &asked.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(LARGEST_DATAGRAM).set_version(0);
        ours.set_dnssec_ok(edns.flags().dnssec_ok);
        answer.set_edns(ours);
    }
    let refuse = |mut answer: Message, code| {
        answer.metadata.response_code = code;
        Decision::Answer(Box::new(answer))
    };
    if op_code != OpCode::Query {
        return refuse(answer, ResponseCode::NotImp);
    }
    if asked.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(answer, ResponseCode::BADVERS);
    }
    let [question] = asked.queries.as_slice() else { return refuse(answer, ResponseCode::FormErr) };
    let is_transfer = matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    if is_transfer || !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(answer, ResponseCode::Refused);
    }
    let whole = question.name().to_ascii().to_ascii_lowercase();
    let whole = whole.trim_end_matches('.');
    match found(zone, question.name(), whole, question.query_type()) {
        Some(found) => {
            fill(&mut answer, zone, found);
            Decision::Answer(Box::new(answer))
        }
        None if query.may_forward && recursion_desired => Decision::Forward,
        None => refuse(answer, ResponseCode::Refused),
    }
}

/// What this zone has to say of a name.
struct Found {
    exists: bool,
    records: Vec<Record>,
    /// The domain that says so.
    authority: Name,
}

/// Nothing where the name is not this zone's business.
fn found(zone: &Zone, name: &Name, whole: &str, kind: RecordType) -> Option<Found> {
    let record = |data| Record::from_rdata(name.clone(), TTL, data);
    if let Some(before) = zone.within(whole) {
        let authority = Name::from_ascii(format!("{}.", zone.domain())).ok()?;
        if before.is_empty() {
            let records = if kind == RecordType::SOA { vec![soa(&authority)] } else { Vec::new() };
            return Some(Found { exists: true, records, authority });
        }
        let addresses = zone.addresses(before);
        let records = addresses.unwrap_or_default().iter().filter_map(|address| match address {
            IpAddr::V4(v4) => [RecordType::A, RecordType::ANY].contains(&kind).then(|| record(RData::A(A(*v4)))),
            IpAddr::V6(v6) => {
                [RecordType::AAAA, RecordType::ANY].contains(&kind).then(|| record(RData::AAAA(AAAA(*v6))))
            }
        });
        return Some(Found { exists: addresses.is_some(), records: records.collect(), authority });
    }
    let address = name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len())?.addr();
    if !zone.is_inside(&address) {
        return None;
    }
    let pointer = zone.name_of(&address);
    let target = pointer.and_then(|target| Name::from_ascii(format!("{target}.")).ok());
    let is_asked = [RecordType::PTR, RecordType::ANY].contains(&kind);
    let records = target.filter(|_| is_asked).map(|target| record(RData::PTR(PTR(target)))).into_iter().collect();
    Some(Found { exists: pointer.is_some(), records, authority: name.clone() })
}

fn fill(answer: &mut Message, zone: &Zone, found: Found) {
    answer.metadata.authoritative = true;
    if !found.exists {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    if found.records.is_empty() {
        // For how long nothing may be kept (RFC 2308, 3).
        tracing::trace!(domain = %zone.domain(), "no such record");
        answer.add_authority(soa(&found.authority));
    }
    answer.add_answers(found.records);
}

fn soa(domain: &Name) -> Record {
    let times = 60;
    let data = SOA::new(domain.clone(), domain.clone(), 1, times, times, times, TTL);
    Record::from_rdata(domain.clone(), TTL, RData::SOA(data))
}

/// The bytes of an answer; one that is too long is cut, so that it is asked for again over TCP.
pub fn sent(answer: Message, limit: u16) -> Reply {
    match encode(&answer, limit) {
        Some(bytes) => Reply::Send(bytes),
        None => Reply::Malformed,
    }
}

/// As [`sent`]; nothing where the message cannot be written.
pub fn encode(answer: &Message, limit: u16) -> Option<Vec<u8>> {
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    let mut cut = answer.truncate();
    cut.metadata.message_type = MessageType::Response;
    cut.to_vec().ok()
}

/// How long an answer may be for whoever asked this.
pub fn limit(asked: &Message, is_stream: bool) -> u16 {
    if is_stream { u16::MAX } else { asked.max_payload().min(LARGEST_DATAGRAM) }
}

#[cfg(test)]
mod tests {
    use super::super::zone::{Custom, Domain, Member};
    use super::*;
    use hickory_resolver::proto::op::Query as Question;
    use kairn_mesh_protocol::NodeId;
    use proptest::prelude::*;

    const LOCAL: Query = Query { is_stream: false, may_forward: true };
    const MEMBER: Query = Query { is_stream: false, may_forward: false };

    fn zone() -> Zone {
        let id = NodeId::new([1; 32]);
        let addresses = vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let member = Member { id, name: "edge-1".to_owned(), addresses, is_here: true };
        let many = (0..8).map(|last| format!("2001:db8::{last}").parse().unwrap()).collect();
        let record = Custom { label: "many".to_owned(), author: id, addresses: many };
        let nets = (Some("fd00::/48".parse().unwrap()), Some("10.1.0.0/24".parse().unwrap()));
        Zone::new(Domain::default(), nets, &[member], &[record])
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.id = 7;
        message.metadata.recursion_desired = true;
        message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(query: Query, message: &Message) -> Option<Message> {
        match answer(&zone(), query, &message.to_vec().unwrap()) {
            Reply::Send(bytes) => Some(Message::from_vec(&bytes).unwrap()),
            Reply::Forward(_) | Reply::Malformed => None,
        }
    }

    fn data(message: &Message) -> Vec<String> {
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn names_and_addresses_of_members_are_answered() {
        for (name, kind, wanted) in [
            ("Edge-1.Mesh.Internal.", RecordType::A, vec!["10.1.0.1"]),
            ("edge-1.mesh.internal.", RecordType::AAAA, vec!["fd00::1"]),
            ("edge-1.mesh.internal.", RecordType::ANY, vec!["10.1.0.1", "fd00::1"]),
            ("edge-1.mesh.internal.", RecordType::MX, vec![]),
            ("mesh.internal.", RecordType::A, vec![]),
            ("1.0.1.10.in-addr.arpa.", RecordType::PTR, vec!["edge-1.mesh.internal."]),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
                RecordType::PTR,
                vec!["edge-1.mesh.internal."],
            ),
        ] {
            let said = ask(MEMBER, &question(name, kind)).unwrap();
            assert_eq!(data(&said), wanted, "{name} {kind}");
            assert_eq!((said.metadata.response_code, said.metadata.id), (ResponseCode::NoError, 7), "{name}");
            assert!(said.metadata.authoritative && said.metadata.message_type == MessageType::Response);
            // The name comes back in the letters of the question, by which some tell forged answers (0x20).
            assert_eq!(said.queries[0].name().to_ascii(), name);
            assert_eq!(said.authorities.len(), usize::from(wanted.is_empty()), "{name}");
        }
        let nobody = ask(LOCAL, &question("nobody.mesh.internal.", RecordType::A)).unwrap();
        assert_eq!(nobody.metadata.response_code, ResponseCode::NXDomain);
        let free = ask(LOCAL, &question("9.0.1.10.in-addr.arpa.", RecordType::PTR)).unwrap();
        assert_eq!(free.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn other_names_are_forwarded_for_this_machine_only() {
        for name in ["example.org.", "8.8.8.8.in-addr.arpa.", "xmesh.internal."] {
            let asked = question(name, RecordType::A);
            assert_eq!(ask(LOCAL, &asked), None, "{name}");
            let refused = ask(MEMBER, &asked).unwrap();
            assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "{name}");
            assert!(refused.to_vec().unwrap().len() <= asked.to_vec().unwrap().len());
        }
    }

    #[test]
    fn what_is_no_proper_question_is_refused_or_dropped() {
        let asked = question("edge-1.mesh.internal.", RecordType::A);
        let bytes = asked.to_vec().unwrap();
        let mut response = asked.clone();
        response.metadata.message_type = MessageType::Response;
        assert_eq!(answer(&zone(), LOCAL, &response.to_vec().unwrap()), Reply::Malformed);
        assert_eq!(answer(&zone(), LOCAL, &bytes[..11]), Reply::Malformed);
        let mut update = asked.clone();
        update.metadata.op_code = OpCode::Update;
        let mut two = asked.clone();
        two.add_query(asked.queries[0].clone());
        for (message, wanted) in
            [(two, ResponseCode::FormErr), (question("mesh.internal.", RecordType::AXFR), ResponseCode::Refused)]
        {
            assert_eq!(ask(LOCAL, &message).unwrap().metadata.response_code, wanted);
        }
        assert!(matches!(answer(&zone(), LOCAL, &bytes[..bytes.len() - 3]), Reply::Send(cut) if cut.len() == HEADER));
    }

    #[test]
    fn what_no_datagram_holds_is_cut_and_whole_over_tcp() {
        let asked = question("many.mesh.internal.", RecordType::AAAA);
        let zone = {
            let id = NodeId::new([1; 32]);
            let many = (0..60).map(|last| format!("2001:db8::{last}").parse().unwrap()).collect();
            let record = Custom { label: "many".to_owned(), author: id, addresses: many };
            Zone::new(Domain::default(), (None, None), &[], &[record])
        };
        let bytes = asked.to_vec().unwrap();
        let Reply::Send(cut) = answer(&zone, MEMBER, &bytes) else { panic!() };
        assert!(cut.len() <= bytes.len() && Message::from_vec(&cut).unwrap().metadata.truncation);
        let Reply::Send(whole) = answer(&zone, Query { is_stream: true, ..MEMBER }, &bytes) else { panic!() };
        assert_eq!(Message::from_vec(&whole).unwrap().answers.len(), 60);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_handler_panic_or_say_more_than_fits(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            at in 0_usize..60,
            byte in any::<u8>(),
            is_stream in any::<bool>(),
            may_forward in any::<bool>(),
        ) {
            let query = Query { is_stream, may_forward };
            let mut near = question("edge-1.mesh.internal.", RecordType::ANY).to_vec().unwrap();
            if let Some(place) = near.get_mut(at) {
                *place = byte;
            }
            for bytes in [bytes, near] {
                if let Reply::Send(said) = answer(&zone(), query, &bytes) {
                    prop_assert!(is_stream || said.len() <= usize::from(LARGEST_DATAGRAM));
                    prop_assert!(Message::from_vec(&said).is_ok());
                }
            }
        }
    }
}
