//! What members and strangers send, and what people type: every reader of the mesh's protocol, chosen by the first byte.
#![no_main]

use kairn_mesh_protocol::address::{Claimed, Lease};
use kairn_mesh_protocol::admission::Proof;
use kairn_mesh_protocol::assignment::Sheet;
use kairn_mesh_protocol::entry::Entry;
use kairn_mesh_protocol::member::MemberRecord;
use kairn_mesh_protocol::message::{self, Answer, Datagram, Question};
use kairn_mesh_protocol::order::Order;
use kairn_mesh_protocol::path::probe;
use kairn_mesh_protocol::secret::Part;
use kairn_mesh_protocol::{ClusterName, Identity, NodeId, Token, ballot, swim};
use kairn_report::Secret;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else { return };
    let (network, node) = (Token::new([1; 32], None).network().id, NodeId::new([1; 32]));
    match reader % 15 {
        0 => {
            if let Ok(Ok(token)) = std::str::from_utf8(bytes).map(str::parse::<Token>) {
                // What is read is written the same, but for white space and case.
                assert_eq!(token.reveal().parse(), Ok(token));
            }
        }
        1 => {
            if let Ok((entry, age)) = Entry::decode_aged(bytes) {
                let again = entry.encode_aged(age).and_then(|bytes| Entry::decode_aged(&bytes));
                assert_eq!(again, Ok((entry, age)));
            }
            if let Ok(entry) = Entry::decode(bytes) {
                assert_eq!(entry.encode().and_then(|bytes| Entry::decode(&bytes)), Ok(entry.clone()));
                assert!(entry.verify(&network).is_err());
            }
        }
        2 => drop(MemberRecord::decode(bytes)),
        3 => drop(Proof::decode(bytes)),
        4 => drop(message::decode::<Datagram>("datagram", bytes)),
        5 => drop(message::decode::<Question>("question", bytes)),
        6 => drop(message::decode::<Answer>("answer", bytes)),
        7 => drop(swim::Datagram::decode(bytes)),
        10 => {
            let (key, value) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
            let order = Order::decode(&String::from_utf8_lossy(key), value.get(1..).unwrap_or_default());
            if let Ok(order) = order {
                assert_eq!(Order::decode(&order.key(), &order.encode().expect("there is memory")), Ok(order.clone()));
                if let Order::Rotation(part) = order {
                    assert!(part.open(&network, &Identity::from_seed(&[1; 32])).is_none());
                    drop(part.open_retired(&Secret::new([1; 32])));
                }
            }
        }
        9 => {
            if let Ok(text) = probe::decode(bytes) {
                let again = probe::encode(&text, bytes.len()).map(|bytes| probe::decode(&bytes));
                assert_eq!(again, Ok(Ok(text)));
            }
        }
        11 => {
            let (key, value) = bytes.split_at(bytes.len().min(60));
            if let Ok((label, number, part)) = Part::decode(&String::from_utf8_lossy(key), value) {
                let again = Part::decode(&label.entry_key(number), &part.encode().expect("there is memory"));
                assert_eq!(again, Ok((label.clone(), number, part.clone())));
                assert!(part.open(&network, &Identity::from_seed(&[1; 32]), &node, &label).is_err());
            }
        }
        12 => {
            let (key, value) = bytes.split_at(bytes.len().min(1));
            let key = String::from_utf8_lossy(key);
            if let Ok(sheet) = Sheet::decode(&key, value) {
                assert_eq!(sheet.encode().and_then(|bytes| Sheet::decode(&key, &bytes)), Ok(sheet.clone()));
            }
        }
        13 => {
            if let Ok(tenure) = ballot::Tenure::decode(node, bytes) {
                assert_eq!(tenure.encode().and_then(|bytes| ballot::Tenure::decode(node, &bytes)), Ok(tenure.clone()));
            }
        }
        8 => drop((Claimed::open(&network, bytes), Lease::decode(&network, node, bytes))),
        _ => {
            if let Ok(name) = ballot::BallotName::try_from("cluster".to_owned()) {
                drop(ballot::Heard::open(&ballot::Scope::new(network, ClusterName::default(), name), bytes));
            }
        }
    }
});
