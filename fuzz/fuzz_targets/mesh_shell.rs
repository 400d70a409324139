//! What the two ends of a shell's stream say, as it comes in pieces.
#![no_main]

use kairn_mesh_protocol::shell::{Code, Frame, Room};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Ok(code)) = std::str::from_utf8(bytes).map(str::parse::<Code>) {
        assert_eq!(code.reveal().parse(), Ok(code));
    }
    let (mut rest, mut room) = (bytes, Room::default());
    while let Some((length, more)) = rest.split_first_chunk() {
        let Some((body, more)) = more.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
        let Ok(frame) = Frame::decode(body) else { return };
        let again = frame.encode().expect("what was read can be written");
        assert_eq!(again.get(2..).map(Frame::decode), Some(Ok(frame.clone())));
        match frame {
            Frame::Input(data) => drop(room.fill(data.len())),
            Frame::Taken(count) => drop(room.empty(count)),
            _ => {}
        }
        rest = more;
    }
});
