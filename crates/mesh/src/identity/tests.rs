use super::*;
use kairn_lab::{Emulator, Error as LabError};
use kairn_mesh_protocol::ClusterName;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use tempfile::TempDir;

/// A directory of a node, and TPMs beside it.
struct Place {
    dir: TempDir,
    tpm: Emulator,
}

impl Place {
    /// `None`, with the reason printed, where no TPM can be emulated.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        match Emulator::start(&dir.path().join("tpm")) {
            Err(LabError::NoPackage { object, package }) => {
                eprintln!("skipped: {object} is not installed (package {package})");
                None
            }
            tpm => Some(Self { tpm: tpm.unwrap(), dir }),
        }
    }

    fn node(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node().join(name)
    }

    fn wanted(&self) -> Sealing {
        Sealing { wanted: true, tpm: self.tpm.socket() }
    }

    fn keys(&self, sealing: &Sealing) -> Result<Keys, Error> {
        StateDir::open(&self.node()).unwrap().keys(sealing, false)
    }

    /// Which keys there are, and how they are kept.
    fn found(&self, sealing: &Sealing) -> (NodeId, [u8; 32], IdentityStatus) {
        let Keys { identity, wireguard, status } = self.keys(sealing).unwrap();
        (identity.id(), wireguard.public(), status)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            files::names(&self.node()).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name != "lock" && name != "ballots");
        names
    }

    /// What another TPM is asked at.
    fn other(&self) -> (Emulator, Sealing) {
        let other = Emulator::start(&self.dir.path().join("other")).unwrap();
        let sealing = Sealing { wanted: true, tpm: other.socket() };
        (other, sealing)
    }

    /// A TPM that is not there.
    fn absent(&self) -> Sealing {
        Sealing { wanted: true, tpm: self.dir.path().join("absent") }
    }
}

fn sealed() -> IdentityStatus {
    IdentityStatus { sealed: true, wanted: true, ..IdentityStatus::default() }
}

/// A file with no keys in it, whatever the bytes: as they are, and in digits.
fn is_secret_in(bytes: &[u8], pair: &Pair) -> bool {
    [pair.seed, pair.wireguard].iter().any(|key| {
        let (key, digits) = (key.to_vec(), hex::encode(key).into_bytes());
        [key, digits].iter().any(|needle| bytes.windows(16).any(|window| needle.windows(16).any(|part| part == window)))
    })
}

#[test]
fn a_new_identity_is_written_sealed_only_and_is_the_same_ever_after() {
    let Some(place) = Place::new() else { return };
    let first = place.found(&place.wanted());
    assert_eq!((place.names(), &first.2), (vec![SEALED.to_owned()], &sealed()));
    assert_eq!(place.path(SEALED).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let pair = open(&fs::read(place.path(SEALED)).unwrap(), &place.tpm.socket()).ok().unwrap();
    assert!(is_secret_in(&pair.seed, &pair));
    for file in [place.path(SEALED), place.path("ballots/index.json")] {
        assert!(!is_secret_in(&fs::read(&file).unwrap(), &pair), "{}", file.display());
    }
    assert_eq!(place.found(&place.wanted()), first);
    assert!(StateDir::open(&place.node()).unwrap().ballots(first.0, &ClusterName::default()).unwrap().is_whole);
    // Not asked for any more, it stays as it is.
    let still = place.found(&Sealing { wanted: false, ..place.wanted() });
    assert_eq!((still.0, still.1, still.2), (first.0, first.1, IdentityStatus { wanted: false, ..sealed() }));
    assert_eq!(place.names(), [SEALED]);
}

#[test]
fn a_plain_identity_is_sealed_and_a_cut_after_any_write_loses_nothing() {
    let Some(place) = Place::new() else { return };
    let plain = place.found(&Sealing::default());
    assert_eq!((place.names(), &plain.2), (vec![PLAIN.to_owned(), TUNNEL.to_owned()], &IdentityStatus::default()));
    let files: Vec<(&str, Vec<u8>)> = [PLAIN, TUNNEL].map(|name| (name, fs::read(place.path(name)).unwrap())).into();
    let ballots = fs::read(place.path("ballots/index.json")).unwrap();
    assert_eq!(place.found(&place.wanted()), (plain.0, plain.1, sealed()));
    assert_eq!(place.names(), [SEALED]);
    assert_eq!(fs::read(place.path("ballots/index.json")).unwrap(), ballots, "it is the same voter");
    let whole = fs::read(place.path(SEALED)).unwrap();
    // What is there after each write: half a file under its temporary name, the sealed file, and one key after the other removed.
    let temporary = files::temporary_name(&place.path(SEALED)).unwrap();
    for (left, has_sealed, is_half) in
        [(&files[..], false, true), (&files[..], true, false), (&files[1..], true, false), (&files[2..], true, false)]
    {
        for name in [PLAIN, TUNNEL, SEALED] {
            files::remove_file(&place.path(name)).unwrap();
        }
        left.iter().for_each(|(name, bytes)| fs::write(place.path(name), bytes).unwrap());
        if has_sealed {
            fs::write(place.path(SEALED), &whole).unwrap();
        }
        if is_half {
            fs::write(&temporary, &whole[..40]).unwrap();
        }
        // Whatever the next start finds: the TPM, none, or another one.
        if left.len() == 2 {
            let at_once = place.found(&place.absent());
            assert_eq!((at_once.0, at_once.1, at_once.2.sealed), (plain.0, plain.1, false));
        }
        assert_eq!(place.found(&place.wanted()), (plain.0, plain.1, sealed()), "{left:?}");
        assert_eq!(place.names(), [SEALED]);
    }
}

#[test]
fn a_sealed_file_beside_a_plain_one_that_it_is_not_of_counts_for_nothing() {
    let Some(place) = Place::new() else { return };
    let plain = place.found(&Sealing::default());
    let (_other, elsewhere) = place.other();
    for bytes in [&b"torn"[..], b""] {
        fs::write(place.path(SEALED), bytes).unwrap();
        let unasked = place.found(&Sealing { wanted: false, ..place.wanted() });
        assert_eq!((unasked.0, unasked.2.sealed), (plain.0, false));
        assert!(unasked.2.why.unwrap().contains("damaged"));
        assert_eq!(place.found(&place.wanted()), (plain.0, plain.1, sealed()));
        // It is sealed now; begin anew with the plain one.
        let pair = open(&fs::read(place.path(SEALED)).unwrap(), &place.tpm.socket()).ok().unwrap();
        files::remove_file(&place.path(SEALED)).unwrap();
        for (name, key) in [(PLAIN, pair.seed), (TUNNEL, pair.wireguard)] {
            fs::write(place.path(name), hex::encode(key)).unwrap();
        }
    }
    // Sealed by another TPM, it was the disk's last machine that was cut off: this one seals it again.
    let bytes = {
        let state = StateDir::open(&place.node()).unwrap();
        let pair = Pair { seed: state.key(PLAIN).unwrap().unwrap(), wireguard: state.key(TUNNEL).unwrap().unwrap() };
        assert!(state.seal(&pair, &elsewhere.tpm).unwrap().is_ok());
        fs::read(place.path(SEALED)).unwrap()
    };
    assert_eq!(place.found(&place.wanted()), (plain.0, plain.1, sealed()));
    assert_ne!(fs::read(place.path(SEALED)).unwrap(), bytes);
}

#[test]
fn without_a_tpm_the_node_goes_on_with_files_says_so_and_seals_them_once_there_is_one() {
    let Some(place) = Place::new() else { return };
    let plain = place.found(&place.absent());
    assert_eq!(place.names(), [PLAIN, TUNNEL]);
    assert!(!plain.2.sealed && plain.2.wanted && plain.2.why.unwrap().contains("there is no TPM 2.0"));
    assert_eq!(place.found(&place.wanted()), (plain.0, plain.1, sealed()));
}

#[test]
fn a_tpm_that_does_not_answer_never_costs_the_identity() {
    let Some(place) = Place::new() else { return };
    let first = place.found(&place.wanted());
    let deaf = place.dir.path().join("deaf");
    drop(UnixListener::bind(&deaf).unwrap());
    let busy = place.dir.path().join("busy");
    let listener = UnixListener::bind(&busy).unwrap();
    // A TPM that is locked out.
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
        stream.write_all(&[0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x21]).unwrap();
    });
    for (tpm, word) in [(place.absent().tpm, "no TPM 2.0"), (deaf, "cannot be opened"), (busy, "locked out")] {
        let error = place.keys(&Sealing { wanted: true, tpm }).err().unwrap();
        assert!(in_one_line(&error).contains(word) && matches!(error, Error::Unsealed { .. }), "{error:?}");
        let hints = kairn_report::Diagnostic::hints(&error).join("\n");
        assert!(hints.contains("tried again at each start"), "{hints}");
        assert_eq!(kairn_report::Diagnostic::kind(&error), kairn_report::Kind::Environment);
        assert_eq!(place.names(), [SEALED]);
    }
    server.join().unwrap();
    assert_eq!(place.found(&place.wanted()), first);
}

#[test]
fn an_identity_that_the_tpm_disowns_is_put_aside_unless_a_new_one_is_of_no_use() {
    let Some(place) = Place::new() else { return };
    let first = place.found(&place.wanted());
    let bytes = fs::read(place.path(SEALED)).unwrap();
    // A key that an unfinished sealing left is the lost node's.
    fs::write(place.path(TUNNEL), hex::encode([5; 32])).unwrap();
    let (_other, elsewhere) = place.other();
    let error = StateDir::open(&place.node()).unwrap().keys(&elsewhere, true).err().unwrap();
    assert!(in_one_line(&error).contains("sealed by another TPM, or this one was cleared"), "{error:?}");
    assert!(kairn_report::Diagnostic::hints(&error)[0].contains("p2p.allowed_nodes"));
    assert_eq!(place.names(), [SEALED, TUNNEL]);

    let new = place.found(&elsewhere);
    assert!(new.0 != first.0 && new.1 != first.1 && new.1 != TunnelKey::new([5; 32]).public());
    assert_eq!(new.2, IdentityStatus { lost: Some(first.0.to_string()), ..sealed() });
    assert_eq!(place.names(), [SEALED, LOST]);
    assert_eq!(fs::read(place.path(LOST)).unwrap(), bytes);
    assert!(StateDir::open(&place.node()).unwrap().ballots(new.0, &ClusterName::default()).unwrap().is_whole);
    assert_eq!(place.found(&elsewhere), new, "it is drawn once");
    // Back at the first one it is disowned again: the newest that was lost is named.
    let third = place.found(&Sealing { wanted: false, ..place.wanted() });
    assert_eq!(third.2, IdentityStatus { lost: Some(new.0.to_string()), ..IdentityStatus::default() });
    assert_eq!(place.names(), [PLAIN, LOST, TUNNEL]);
}

#[test]
fn a_damaged_file_is_an_error_that_names_it_and_never_a_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    fs::write(dir.path().join(PLAIN), "cut off").unwrap();
    let error = state.identity().unwrap_err();
    assert!(error.to_string().contains("identity: it does not hold a key"), "{error}");
    assert!(state.has_identity().is_err());
    fs::remove_file(dir.path().join(PLAIN)).unwrap();
    assert!(!state.has_identity().unwrap());
    fs::write(dir.path().join(SEALED), "cut off").unwrap();
    let error = state.identity().unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains("identity.sealed: "), "{error}");
    assert!(state.has_identity().is_err());
}

#[test]
fn a_key_that_an_older_system_drew_is_put_aside_for_the_sealed_one() {
    let Some(place) = Place::new() else { return };
    let first = place.found(&place.wanted());
    for (name, key) in [(PLAIN, [7; 32]), (TUNNEL, [8; 32])] {
        fs::write(place.path(name), hex::encode(key)).unwrap();
    }
    assert_eq!(place.found(&place.wanted()), first);
    assert_eq!(place.names(), ["identity.aside", SEALED, "wireguard.aside"]);
}

#[test]
fn a_node_in_recovery_is_unsealed_there() {
    let Some(place) = Place::new() else { return };
    let first = place.found(&place.wanted());
    let here = place.dir.path().join("here");
    assert!(crate::recall(&place.node(), &here, true).unwrap());
    assert!(crate::keeps_node(&here));
    let keys = StateDir::open(&here).unwrap().keys(&place.wanted(), false).unwrap();
    assert_eq!((keys.identity.id(), keys.wireguard.public(), keys.status), first);
}
