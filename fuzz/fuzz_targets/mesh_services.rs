//! What the streams of services say: which one is wanted, why it is not had, the datagrams of a flow; and the entry that says what it is.
#![no_main]

use kairn_mesh::{Transport, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else { return };
    match reader % 4 {
        0 => {
            if let Some((transport, name)) = fuzzing::service(bytes) {
                assert!(name.len() < 256 && (transport == Transport::Udp || !name.ends_with("/udp")));
            }
        }
        1 => assert!(fuzzing::reason(bytes).is_none_or(|why| (1..=1_000).contains(&why.len()))),
        2 => {
            let datagrams = fuzzing::datagrams(bytes);
            // Each stands behind two bytes, and nothing is made up.
            let length: usize = datagrams.iter().map(|datagram| datagram.len() + 2).sum();
            assert!(length <= bytes.len());
        }
        _ => {
            if let Some(transport) = fuzzing::transport(bytes) {
                assert_eq!(transport.to_string().parse(), Ok(transport));
            }
        }
    }
});
