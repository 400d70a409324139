//! Who is called what and where they are: questions to the server for names, records, announcements in the local network, and what
//! members say of their addresses.
#![no_main]

use kairn_mesh::fuzzing;
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, SocketAddr};

/// The most bytes of an answer over UDP.
const LARGEST: usize = 1_232;

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else { return };
    match reader % 8 {
        kind @ 0..=3 => {
            let (is_stream, may_forward) = (kind & 1 > 0, kind & 2 > 0);
            let Some(answer) = fuzzing::answer(&fuzzing::zone(), is_stream, may_forward, bytes) else { return };
            assert_eq!(answer.get(..2), bytes.get(..2), "it answers another question");
            // Two servers that answer each other's answers never end.
            assert!(answer.get(2).is_some_and(|flags| flags & 0x80 > 0));
            assert!(is_stream || answer.len() <= LARGEST);
        }
        4 => assert!(fuzzing::name_record(bytes).is_none_or(|addresses| (1..=8).contains(&addresses.len()))),
        5 => drop(fuzzing::candidates(bytes)),
        6 => {
            // Announcements have no questions; what the library's door asserts of those does not hold for a type that it does not know.
            if bytes.get(4..6) == Some(&[0, 0]) {
                mdns_sd::fuzz_api::parse_packet(bytes);
            }
        }
        _ => {
            let Some((ip, id)) = bytes.split_first_chunk::<16>() else { return };
            let address = SocketAddr::new(IpAddr::from(*ip).to_canonical(), 7_946);
            if let Some((_, addresses)) = fuzzing::found(&String::from_utf8_lossy(id), address) {
                assert!(addresses.iter().all(|found| found.port() == address.port()));
            }
        }
    }
});
