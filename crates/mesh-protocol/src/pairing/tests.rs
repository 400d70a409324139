//! Texts that people photograph and type, proofs, digits and messages.

use super::*;
use crate::Identity;
use crate::typed::ALPHABET;
use proptest::prelude::*;
use std::net::IpAddr;

fn machine() -> NodeId {
    Identity::from_seed(&[7; 32]).id()
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|address| address.parse().unwrap()).collect()
}

fn invitation() -> Invitation {
    Invitation::new([1; 16], machine(), 7_940, addresses("192.0.2.7 2001:db8::7"))
}

fn session() -> Session {
    Session { exporter: [5; 32], sender: Identity::from_seed(&[8; 32]).id(), machine: machine() }
}

#[test]
fn a_text_has_the_length_that_the_protocol_page_says_and_is_read_back_in_either_case() {
    for (list, length) in [("", 97), ("192.0.2.7", 105), ("192.0.2.7 2001:db8::7", 133), ("::2 ::3 ::4 ::5", 206)] {
        let invitation = Invitation::new([3; 16], machine(), 7_940, addresses(list));
        let text = invitation.reveal();
        assert_eq!((text.len(), text.starts_with("kairnpair1q")), (length, true), "{text}");
        assert_eq!(text.parse(), Ok(invitation.clone()));
        let typed = text.to_uppercase();
        let (start, end) = typed.split_at(60);
        assert_eq!(format!(" {start}\n  {end}\n").parse(), Ok(invitation.clone()));
        assert!(Invitation::is_meant(&typed) && !Invitation::is_meant("kairn1qq"));
        assert!(!format!("{invitation:?}").contains("3, 3"), "{invitation:?}");
    }
    let most = Invitation::new([3; 16], machine(), 1, addresses("::2 ::3 ::4 ::5 ::6"));
    assert_eq!((most.addresses.len(), most.places().first().unwrap().to_string()), (4, "[::2]:1".to_owned()));
}

#[test]
fn faults_of_a_text_name_the_place_and_never_the_text() {
    let good = invitation().reveal();
    let typed = |at: usize, character: &str| {
        let mut text = good.clone();
        text.replace_range(at..=at, character);
        text
    };
    let wrong = if good.get(29..30) == Some("q") { "p" } else { "q" };
    let character = wrong.chars().next().unwrap();
    let written = |version, payload: &[u8]| {
        crate::typed::Kind { prefix: "kairnpair1", is_length: |_| true }.write(version, &[payload])
    };
    let payload = |port: u16, machine: &[u8], rest: &[u8]| {
        let payload = [[1; 16].as_slice(), machine, &port.to_be_bytes(), rest].concat();
        written(bech32::Fe32::Q, &payload)
    };
    let key = *machine().as_bytes();
    let five: Vec<u8> = (1..=5).flat_map(|host| [4, 192, 0, 2, host]).collect();
    for (text, fault) in [
        (" \n".to_owned(), InvitationFault::Empty),
        ("hello".to_owned(), InvitationFault::Foreign),
        (crate::Token::new([1; 32], None).reveal(), InvitationFault::Token),
        (typed(29, wrong), InvitationFault::Mistyped { position: 30, character }),
        (typed(29, "b"), InvitationFault::Character { position: 30, character: 'b' }),
        (typed(29, "Z"), InvitationFault::Case),
        (good[..96].to_owned(), InvitationFault::Length { characters: 96 }),
        ("kairnpair1".to_owned(), InvitationFault::Length { characters: 10 }),
        (written(bech32::Fe32::P, &[0; 50]), InvitationFault::Version(1)),
        (payload(0, &key, &[]), InvitationFault::Content("port 0")),
        (payload(1, &[2; 32], &[]), InvitationFault::Content("a key that is no Ed25519 key")),
        (payload(1, &key, &[4, 0, 0, 0, 0]), InvitationFault::Content("an address that no machine has")),
        (payload(1, &key, &[5]), InvitationFault::Content("an address of a family that there is not")),
        (payload(1, &key, &[4, 1]), InvitationFault::Length { characters: 101 }),
        (payload(1, &key, &five), InvitationFault::Length { characters: 137 }),
    ] {
        let said = text.parse::<Invitation>().unwrap_err();
        assert_eq!(said, fault);
        assert!(!said.to_string().contains(&good[10..20]), "{said}");
    }
}

#[test]
fn a_proof_and_a_code_count_for_one_session_with_one_secret() {
    let (keys, others, session) = (Keys::of(&[1; 16]), Keys::of(&[2; 16]), session());
    let proof = session.proof(&keys);
    let code = session.code(&keys, &[9; 16]);
    assert!(session.is_proven(&keys, &proof) && !session.is_proven(&others, &proof));
    for other in [
        Session { exporter: [6; 32], ..session },
        Session { sender: session.machine, ..session },
        Session { machine: session.sender, ..session },
    ] {
        assert!(!other.is_proven(&keys, &proof));
        assert_ne!(other.code(&keys, &[9; 16]), code);
    }
    assert_ne!(session.code(&keys, &[8; 16]), code);
    assert_ne!(session.code(&others, &[9; 16]), code);
    assert_ne!(keys.network.label, others.network.label);
}

/// Expected values: `tests/pairing-vectors.py`, which shares no code with this.
#[test]
fn keys_and_codes_are_those_of_the_independent_script() {
    let vectors: Vec<(&str, &str)> =
        include_str!("../../tests/pairing-vectors.txt").lines().map(|line| line.split_once(' ').unwrap()).collect();
    let secret: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    // The first public key of RFC 8032, 7.1.
    let machine = b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let machine = NodeId::new(data_encoding::HEXLOWER.decode(machine).unwrap().try_into().unwrap());
    let keys = Keys::of(&secret);
    let session = Session { exporter: [5; 32], sender: NodeId::new([6; 32]), machine };
    let found = [
        ("label", keys.network.label.clone()),
        ("proof", data_encoding::HEXLOWER.encode(&session.proof(&keys))),
        ("code", session.code(&keys, &[9; 16]).to_string().replace(' ', "")),
        ("text", Invitation::new(secret, machine, 7_940, addresses("192.0.2.7")).reveal()),
    ];
    assert_eq!(found.each_ref().map(|(name, value)| (*name, value.as_str())).as_slice(), vectors);
}

#[test]
fn messages_are_read_back_and_nothing_beyond_their_bounds() {
    let offer =
        Offer { config: "#cloud-config\n".to_owned(), device: Some("/dev/vda".to_owned()), after: After::Reboot };
    let call = Call::Offer(offer.clone());
    let bytes = encode("call", LARGEST_OFFER, &call).unwrap();
    let (header, body) = bytes.split_first_chunk::<HEADER>().unwrap();
    assert_eq!(length("call", LARGEST_OFFER, *header), Ok(body.len()));
    assert_eq!(decode::<Call>("call", body), Ok(call));
    assert!(decode::<Call>("call", &[body, &[0]].concat()).is_err());
    assert!(length("call", 4, *header).is_err() && encode("call", 4, &offer).is_err());
    assert_eq!(offer.check(), Ok(()));
    let largest = Offer { config: "x".repeat(LARGEST_CONFIG), ..offer.clone() };
    assert_eq!(largest.check(), Ok(()));
    assert!(encode("call", LARGEST_OFFER, &Call::Offer(largest.clone())).is_ok());
    let larger = Offer { config: format!("{}x", largest.config), ..largest };
    assert_eq!(larger.check(), Err(OfferFault::Large(LARGEST_CONFIG + 1)));
    for device in ["", "/dev/a\nb", &"x".repeat(257)] {
        assert_eq!(Offer { device: Some(device.to_owned()), ..offer.clone() }.check(), Err(OfferFault::Device));
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
        .prop_filter("no machine has it", |address| !address.is_unspecified() && !address.is_multicast())
}

proptest! {
    #[test]
    fn every_invitation_is_read_back(
        secret: [u8; 16], seed: [u8; 32], port in 1_u16.., addresses in prop::collection::vec(any_address(), 0..=MOST_ADDRESSES)
    ) {
        let invitation = Invitation::new(secret, Identity::from_seed(&seed).id(), port, addresses);
        prop_assert_eq!(invitation.reveal().parse(), Ok(invitation.clone()));
        prop_assert_eq!(invitation.reveal().to_uppercase().parse(), Ok(invitation));
    }

    #[test]
    fn every_single_mistyped_character_is_located(secret: [u8; 16], at in 10_usize..133, shift in 1_usize..32) {
        let invitation = Invitation { secret: Secret::new(secret), ..invitation() };
        let mut typed: Vec<char> = invitation.reveal().chars().collect();
        let old = ALPHABET.find(typed[at]).unwrap();
        let character = ALPHABET.chars().nth((old + shift) % 32).unwrap();
        typed[at] = character;
        let fault = typed.iter().collect::<String>().parse::<Invitation>();
        prop_assert_eq!(fault, Err(InvitationFault::Mistyped { position: at + 1, character }));
    }

    #[test]
    fn no_text_and_no_message_makes_a_reader_panic(text in "\\PC{0,260}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(text.parse::<Invitation>().is_err());
        let meant = format!("KAIRNPAIR1{text}");
        prop_assert!(meant.parse::<Invitation>().is_err());
        if let Ok(call) = decode::<Call>("call", &bytes) {
            prop_assert!(encode("call", LARGEST_OFFER, &call).is_ok());
        }
        drop(decode::<Word>("word", &bytes));
    }

    #[test]
    fn a_code_has_six_digits(exporter: [u8; 32], nonce: [u8; 16]) {
        let code = Session { exporter, ..session() }.code(&Keys::of(&[1; 16]), &nonce);
        let text = code.to_string();
        prop_assert!(text.len() == 7 && text.chars().enumerate().all(|(at, c)| if at == 3 { c == ' ' } else { c.is_ascii_digit() }), "{}", text);
    }
}
