//! Tokens that people type, paste and keep from before.

use super::*;
use crate::Identity;
use crate::dht::{Day, Rendezvous};
use crate::typed::ALPHABET;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32m, Hrp};
use data_encoding::HEXLOWER;
use proptest::prelude::*;

fn admin() -> AdminKey {
    AdminKey::new(*Identity::from_seed(&[9; 32]).id().as_bytes()).unwrap()
}

/// The token of an existing configuration, out of its text.
fn old_token() -> &'static str {
    let text = include_str!("../../tests/old-token.yaml");
    text.split('"').nth(1).unwrap()
}

#[test]
fn a_token_has_the_length_that_the_protocol_page_says_and_is_read_back_in_either_case() {
    let network = Token::new([1; 32], None).network();
    for (token, length) in [
        (Token::new([1; 32], None), 65),
        (Token::new([2; 32], Some(admin())), 116),
        (Token::rotated(network.clone(), 1 << 16 | 7, [3; 32], None), 145),
        (Token::rotated(network.clone(), 1 << 16 | 7, [3; 32], Some(admin())), 196),
    ] {
        let text = token.reveal();
        assert_eq!(text.len(), length);
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(text.to_uppercase().parse(), Ok(token.clone()));
        let (start, end) = text.split_at(20);
        assert_eq!(format!(" {start}\n  {end}\n").parse(), Ok(token));
    }
}

#[test]
fn the_token_of_a_rotated_secret_is_of_the_same_network_in_another_epoch() {
    let first = Token::new([1; 32], Some(admin()));
    let rotated: Token = Token::rotated(first.network(), 1 << 16, [3; 32], Some(admin())).reveal().parse().unwrap();
    assert_eq!(rotated.network(), first.network());
    assert_eq!(rotated.epoch(), EpochKeys::rotated(1 << 16, &[3; 32]));
    assert_eq!(rotated.secret(), Some(Secret::new([3; 32])));
    assert_eq!((rotated.admin(), first.secret()), (first.admin(), None));
}

#[test]
fn faults_name_the_place_and_never_the_token() {
    let good = Token::new([1; 32], None).reveal();
    let typed = |at: usize, character: &str| {
        let mut text = good.clone();
        text.replace_range(at..=at, character);
        text
    };
    let two = {
        let mut text = typed(20, if &good[20..21] == "q" { "p" } else { "q" });
        text.replace_range(40..41, if &good[40..41] == "q" { "p" } else { "q" });
        text
    };
    let wrong = if &good[29..30] == "q" { "p" } else { "q" };
    for (text, fault) in [
        (String::new(), TokenFault::Empty),
        (" \n".to_owned(), TokenFault::Empty),
        (typed(29, wrong), TokenFault::Mistyped { position: 30, character: wrong.chars().next().unwrap() }),
        (typed(29, "b"), TokenFault::Character { position: 30, character: 'b' }),
        (typed(29, "Z"), TokenFault::Case),
        (two, TokenFault::Checksum),
        (good[..64].to_owned(), TokenFault::Length { characters: 64 }),
        ("kairn1".to_owned(), TokenFault::Length { characters: 6 }),
        ("hello, world".to_owned(), TokenFault::Foreign("it is not base64".to_owned())),
        ("aGVsbG8=".to_owned(), TokenFault::Foreign("what it decodes to is no YAML mapping".to_owned())),
        ("b3RwOiB7ZGh0OiB7a2V5OiAiIn19".to_owned(), TokenFault::Keyless),
        ("/////w==".to_owned(), TokenFault::Foreign("what it decodes to is not text".to_owned())),
    ] {
        let said = text.parse::<Token>().unwrap_err();
        assert_eq!(said, fault);
        assert!(text.is_empty() || !said.to_string().contains(&good[10..20]), "{said}");
    }
}

#[test]
fn a_token_of_a_later_version_is_told_from_a_mistyped_one() {
    let hrp = Hrp::parse("kairn").unwrap();
    let data = [1_u8; 32].iter().copied().bytes_to_fes().with_checksum::<Bech32m>(&hrp);
    let text: String = data.with_witness_version(Fe32::Z).chars().collect();
    assert_eq!(text.parse::<Token>(), Err(TokenFault::Version(2)));
}

/// Expected values: `tests/vectors.py`, which shares no code with this.
#[test]
fn keys_are_those_of_the_independent_script() {
    let vectors: Vec<(&str, &str)> =
        include_str!("../../tests/vectors.txt").lines().map(|line| line.split_once(' ').unwrap()).collect();
    let tokens = [
        ("new", Token::new(std::array::from_fn(|at| u8::try_from(at).unwrap()), None)),
        ("old", old_token().parse().unwrap()),
    ];
    let mut seen = 0;
    for (name, token) in tokens {
        let (network, epoch) = (token.network(), token.epoch());
        let node = NodeId::new([5; 32]);
        let board = Rendezvous::new(&network, &epoch, Day(20_833));
        for (key, value) in [
            ("network-id", network.id.to_string()),
            ("ula-prefix", network.ula.network().to_string()),
            ("label", network.label),
            ("rendezvous", HEXLOWER.encode(network.rendezvous.reveal())),
            ("admission", HEXLOWER.encode(epoch.admission.reveal())),
            ("datagrams", HEXLOWER.encode(epoch.datagram.reveal())),
            ("wireguard", HEXLOWER.encode(epoch.wireguard.reveal())),
            ("address-05", network.ula.address(&node).to_string()),
            ("pair-05-06", HEXLOWER.encode(epoch.pair(&NodeId::new([6; 32]), &node).reveal())),
            ("board-target", HEXLOWER.encode(&board.target().0)),
            ("board-seal", HEXLOWER.encode(board.seal_key().reveal())),
        ] {
            let wanted = vectors.iter().find(|(vector, _)| *vector == format!("{name}.{key}")).unwrap().1;
            assert_eq!(value, wanted, "{name}.{key}");
            seen += 1;
        }
    }
    assert_eq!(seen + 1, vectors.len());
    assert_eq!(
        Token::new(std::array::from_fn(|at| u8::try_from(at).unwrap()), None).reveal(),
        vectors.last().unwrap().1
    );
}

#[test]
fn white_space_and_lost_padding_do_not_change_an_old_tokens_network() {
    let token: Token = old_token().parse().unwrap();
    let folded = old_token()
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect::<Vec<_>>()
        .join("\r\n ");
    assert_eq!(folded.parse::<Token>().unwrap().network(), token.network());
    assert_eq!(old_token().trim_end_matches('=').parse::<Token>().unwrap().network(), token.network());
    assert_eq!(format!("{token:?}"), "***");
}

proptest! {
    #[test]
    fn every_single_mistyped_character_is_located(secret: [u8; 32], with_admin: bool, at in 6_usize..116, other in 0_usize..32) {
        let text = Token::new(secret, with_admin.then(admin)).reveal();
        let at = 6 + (at - 6) % (text.len() - 6);
        let character = ALPHABET.chars().nth(other).unwrap();
        let mut typed = text.clone();
        typed.replace_range(at..=at, &character.to_string());
        prop_assume!(typed != text);
        prop_assert_eq!(typed.parse::<Token>(), Err(TokenFault::Mistyped { position: at + 1, character }));
    }

    #[test]
    fn two_mistyped_characters_are_never_taken_for_one(secret: [u8; 32], first in 6_usize..65, second in 6_usize..65, shift in 1_usize..32) {
        prop_assume!(first != second);
        let text = Token::new(secret, None).reveal();
        let mut typed: Vec<char> = text.chars().collect();
        for at in [first, second] {
            let old = ALPHABET.find(typed[at]).unwrap();
            typed[at] = ALPHABET.chars().nth((old + shift) % 32).unwrap();
        }
        prop_assert_eq!(typed.iter().collect::<String>().parse::<Token>(), Err(TokenFault::Checksum));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        prop_assert!(text.parse::<Token>().is_err());
        let ours = format!("kairn1{text}");
        prop_assert!(ours.parse::<Token>().is_err());
    }
}
