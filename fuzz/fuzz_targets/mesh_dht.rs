//! What nodes of the distributed hash table answer, and what members leave there: a reply, a board, and a lookup led by answers.
#![no_main]

use kairn_mesh_protocol::dht::{
    Board, Day, Fence, Id, LARGEST_BOARD, Lookup, MOST_ADDRESSES, MOST_NOTICES, Rendezvous, Reply,
};
use kairn_mesh_protocol::{Moment, Token, Wall};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let token = Token::new([1; 32], None);
    if let Some(Reply { answer: Ok(answer), .. }) = Reply::decode(bytes) {
        assert!(answer.nodes.len() <= 16);
        std::hint::black_box(answer.item.map(|item| item.is_signed()));
    }
    if let Some(board) = Board::decode(bytes.get(..LARGEST_BOARD).unwrap_or(bytes)) {
        assert!(board.notices().len() <= MOST_NOTICES);
        assert!(board.notices().iter().all(|notice| notice.addresses.len() <= MOST_ADDRESSES));
        let rendezvous = Rendezvous::new(&token.network(), &token.epoch(), Day(1));
        let mut item = rendezvous.seal(&board, None, Wall(0), [0; 24]).expect("a first version");
        // What is read is put up the same, but for what a board has no room for; and what is no board under its seal does not open.
        assert_eq!(rendezvous.open(&item), Board::decode(bytes.get(..LARGEST_BOARD).unwrap_or(bytes)));
        item.value = bytes.to_vec();
        assert_eq!(rendezvous.open(&item), None);
    }
    let (mut asked, mut now) = (0, Moment::default());
    let Ok(seed) = "45.1.1.1:1".parse() else { return };
    let mut lookup = Lookup::new(Id([7; 20]), Fence::default(), &[seed], &[], 1, now);
    loop {
        let sent = lookup.poll(now);
        asked += sent.len();
        if lookup.is_over(now) {
            break;
        }
        for (to, query) in &sent {
            // The number of a question stands behind its name, which nothing before it holds.
            let place = query.windows(5).rposition(|part| part == b"1:t4:").unwrap_or(0) + 5;
            let number = query.get(place..place + 4).unwrap_or_default();
            let answer = [b"d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes", bytes, b"e1:t4:", number, b"1:y1:re"].concat();
            lookup.heard(*to, &answer);
        }
        if sent.is_empty() {
            now = lookup.deadline();
        }
    }
    assert!(asked <= 96 && now <= Moment::after(Duration::from_secs(20)));
    assert!(lookup.keepers().len() <= 8);
});
