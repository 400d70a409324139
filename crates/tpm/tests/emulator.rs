//! Sealing by a TPM that is emulated: swtpm, without a resource manager, so that what is left open in it shows.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

use kairn_lab::{Emulator, Error as LabError};
use kairn_report::Secret;
use kairn_tpm::{Channel, Error, MOST_SECRET, Sealed, Standing, Tpm, Transport};
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// Starts a TPM, or says which package is missing.
fn emulator(dir: &Path) -> Option<Emulator> {
    match Emulator::start(dir) {
        Err(LabError::NoPackage { object, package }) => {
            eprintln!("skipped: {object} is not installed (package {package})");
            None
        }
        other => Some(other.unwrap()),
    }
}

/// All that goes over the bus, and what somebody there does about it: to the n-th command the answer is theirs.
struct Bus<F> {
    channel: Channel,
    seen: Rc<RefCell<Vec<Vec<u8>>>>,
    somebody: F,
}

impl<F: FnMut(usize, &[u8], &mut Channel) -> io::Result<Vec<u8>>> Bus<F> {
    fn tpm(emulator: &Emulator, seen: &Rc<RefCell<Vec<Vec<u8>>>>, somebody: F) -> Tpm<Self> {
        Tpm::new(Self { channel: Channel::open(&emulator.socket()).unwrap(), seen: Rc::clone(seen), somebody })
    }
}

impl<F: FnMut(usize, &[u8], &mut Channel) -> io::Result<Vec<u8>>> Transport for Bus<F> {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let count = self.seen.borrow().len() / 2 + 1;
        let answer = (self.somebody)(count, command, &mut self.channel)?;
        self.seen.borrow_mut().extend([command.to_vec(), answer.clone()]);
        Ok(answer)
    }
}

fn tpm(emulator: &Emulator) -> Tpm<Channel> {
    Tpm::new(Channel::open(&emulator.socket()).unwrap())
}

/// Sends a command that nothing in this program needs.
fn ask(emulator: &Emulator, command: &str) -> Vec<u8> {
    Channel::open(&emulator.socket()).unwrap().exchange(&hex::decode(command).unwrap()).unwrap()
}

/// The handles in the TPM that a program could have left there: transient objects and sessions (`TPM2_GetCapability`).
fn open_handles(emulator: &Emulator) -> u32 {
    ["80000000", "02000000", "03000000"]
        .map(|first| {
            let answer = ask(emulator, &format!("8001000000160000017a00000001{first}00000010"));
            // Header, whether there is more, the capability, the count.
            assert_eq!(answer[6..10], [0; 4]);
            u32::from_be_bytes(answer[15..19].try_into().unwrap())
        })
        .iter()
        .sum()
}

#[test]
fn what_is_sealed_is_unsealed_by_the_same_tpm_alone_and_never_after_it_was_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let Some(first) = emulator(&dir.path().join("first")) else { return };
    let secret: Vec<u8> = (0..MOST_SECRET).map(|byte| u8::try_from(byte).unwrap()).collect();
    let sealed = tpm(&first).seal(&Secret::new(secret.clone()), b"a node").unwrap();
    let bytes = sealed.encode();
    assert!(!bytes.windows(16).any(|window| secret.windows(16).any(|other| other == window)));
    let sealed = Sealed::decode(&bytes).unwrap();
    assert_eq!(sealed.about(), b"a node");
    assert_eq!(*tpm(&first).unseal(&sealed).unwrap().reveal(), secret);

    let other = emulator(&dir.path().join("other")).unwrap();
    let error = tpm(&other).unseal(&sealed).unwrap_err();
    assert!(matches!(error, Error::Foreign), "{error}");
    assert_eq!(error.standing(), Standing::Foreign);

    // The machine was switched off and on.
    drop(first);
    let first = emulator(&dir.path().join("first")).unwrap();
    assert_eq!(*tpm(&first).unseal(&sealed).unwrap().reveal(), secret);

    // TPM2_Clear by the lockout hierarchy, whose password is empty.
    let cleared = ask(&first, "80020000001b000001264000000a00000009400000090000000000");
    assert_eq!(cleared[6..10], [0; 4], "{}", hex::encode(&cleared));
    assert!(matches!(tpm(&first).unseal(&sealed), Err(Error::Foreign)));
    assert_eq!(open_handles(&first) + open_handles(&other), 0);
}

#[test]
fn nothing_readable_goes_over_the_bus_and_what_is_changed_there_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(emulator) = emulator(dir.path()) else { return };
    let secret = b"it is said to nobody on the way.".to_vec();
    let seen = Rc::default();
    let mut tpm = Bus::tpm(&emulator, &seen, |_, command, channel| channel.exchange(command));
    let sealed = tpm.seal(&Secret::new(secret.clone()), b"").unwrap();
    assert_eq!(*tpm.unseal(&sealed).unwrap().reveal(), secret);
    drop(tpm);
    let all: Vec<Vec<u8>> = seen.take();
    // Derive, begin, seal, forget two; derive, begin, load, unseal, forget three; each with its answer.
    assert_eq!(all.len(), 2 * 12);
    assert!(!all.iter().any(|bytes| bytes.windows(8).any(|window| secret.windows(8).any(|other| other == window))));

    // Of each answer one byte behind the handle is another on the way.
    for (at, byte) in (1..=4).flat_map(|at| [14, 30, 60].map(|byte| (at, byte))) {
        let somebody = |count, command: &[u8], channel: &mut Channel| {
            let mut answer = channel.exchange(command)?;
            let byte = byte.min(answer.len() - 1);
            if count == at {
                answer[byte] ^= 0x10;
            }
            Ok(answer)
        };
        let found = Bus::tpm(&emulator, &seen, somebody).unseal(&sealed);
        seen.take();
        match found {
            Ok(same) => assert_eq!(*same.reveal(), secret, "{at} {byte}"),
            Err(error) => assert_ne!(error.standing(), Standing::Foreign, "{at} {byte}: {error}"),
        }
        assert_eq!(open_handles(&emulator), 0, "{at} {byte}");
    }
}

#[test]
fn a_key_that_somebody_on_the_bus_slips_in_is_told_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(own) = emulator(&dir.path().join("own")) else { return };
    let strange = emulator(&dir.path().join("strange")).unwrap();
    let sealed = tpm(&own).seal(&Secret::new(b"secret".to_vec()), b"").unwrap();
    let mut stranger = Channel::open(&strange.socket()).unwrap();
    let seen = Rc::default();
    let somebody = |count, command: &[u8], channel: &mut Channel| {
        if count == 1 { stranger.exchange(command) } else { channel.exchange(command) }
    };
    let found = Bus::tpm(&own, &seen, somebody).unseal(&sealed);
    assert!(matches!(found, Err(Error::Foreign)), "the key that was slipped in is taken");
    // No session was begun for it: it is forgotten at once.
    let said: Vec<Vec<u8>> = seen.take();
    let codes: Vec<_> = said.iter().step_by(2).map(|command| hex::encode(&command[6..10])).collect();
    assert_eq!(codes, ["00000131", "00000165"]);
}

#[test]
fn a_refusal_of_any_command_leaves_nothing_open_and_only_one_disowns_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let Some(emulator) = emulator(dir.path()) else { return };
    let sealed = tpm(&emulator).seal(&Secret::new(b"secret".to_vec()), b"").unwrap();
    let cases = [1, 2, 3, 4].into_iter().flat_map(|at| [0x921_u32, 0x902, 0x101, 0x1df].map(|code| (at, code)));
    for (at, code) in cases {
        let somebody = |count, command: &[u8], channel: &mut Channel| {
            let refused = [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
            if count == at { Ok(refused) } else { channel.exchange(command) }
        };
        let error = Bus::tpm(&emulator, &Rc::default(), somebody).unseal(&sealed).unwrap_err();
        // Of all commands, loading alone says whose the secret is.
        let is_foreign = at == 3 && code == 0x1df;
        assert_eq!(error.standing() == Standing::Foreign, is_foreign, "{at} {code:#x}: {error}");
        assert_eq!(error.standing() == Standing::Passing, matches!(code, 0x921 | 0x902), "{at} {code:#x}: {error}");
        assert_eq!(open_handles(&emulator), 0, "{at} {code:#x}");
    }
}
