//! Sealing and unsealing: the order of the commands, and that nothing stays behind in the TPM.

use crate::answer::{self, Sessioned, StorageKey, name};
use crate::channel::Transport;
use crate::command::{self, COORDINATE};
use crate::error::Error;
use crate::sealed::{MOST_ABOUT, Sealed};
use crate::session::{Call, DIGEST, Hidden, Session, kdf_e};
use kairn_report::Secret;
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::time::Duration;

/// The most bytes of a secret: every TPM 2.0 seals as many (`MAX_SYM_DATA`, Part 2, section 5).
pub const MOST_SECRET: usize = 128;

/// How long a busy TPM is let alone before it is asked again, in milliseconds; after the last it is given up for now.
const PAUSES: [u64; 8] = [10, 20, 50, 100, 200, 500, 1_000, 2_000];

/// A TPM, by whatever way it is reached.
#[derive(Debug)]
pub struct Tpm<T> {
    transport: T,
    random: SystemRandom,
    /// What is open in the TPM, in the order of its opening.
    open: Vec<u32>,
}

impl<T: Transport> Tpm<T> {
    /// A TPM at the end of this way. Nothing is asked yet.
    pub fn new(transport: T) -> Self {
        Self { transport, random: SystemRandom::new(), open: Vec::new() }
    }

    /// Seals 1 to [`MOST_SECRET`] bytes. `about` stays readable.
    ///
    /// # Errors
    /// The TPM does not do it.
    pub fn seal(&mut self, secret: &Secret<Vec<u8>>, about: &[u8]) -> Result<Sealed, Error> {
        let (secret, about) = (secret.reveal(), about.to_vec());
        match (secret.len(), about.len()) {
            (1..=MOST_SECRET, 0..=MOST_ABOUT) => {}
            (1..=MOST_SECRET, count) => return Err(Error::About { count }),
            (count, _) => return Err(Error::Length { count }),
        }
        self.within(|tpm| {
            let (key, handle, mut session) = tpm.begin(None)?;
            let doing = "seal a secret";
            let (code, name, parameters) = (command::CREATE, key.name.as_slice(), command::create(secret));
            let call = Call { code, handle, name, parameters, hidden: Hidden::Command };
            let parameters = tpm.call(doing, &mut session, &call)?;
            let (private, public) = answer::created(doing, &parameters)?;
            Ok(Sealed { about, parent: key.name.clone(), public: public.to_vec(), private: private.to_vec() })
        })
    }

    /// Gives out what was sealed.
    ///
    /// # Errors
    /// The TPM does not do it; [`Error::Foreign`] where it never will.
    pub fn unseal(&mut self, sealed: &Sealed) -> Result<Secret<Vec<u8>>, Error> {
        self.within(|tpm| {
            let (key, handle, mut session) = tpm.begin(Some(&sealed.parent))?;
            let doing = "load what is sealed";
            let parameters = command::load(&sealed.private, &sealed.public);
            let call = Call { code: command::LOAD, handle, name: &key.name, parameters, hidden: Hidden::None };
            let (loaded, _) = tpm.call_for_handle(doing, &mut session, &call).map_err(|error| match error {
                Error::Refused { code, .. } if code.is_foreign() => Error::Foreign,
                other => other,
            })?;
            let doing = "unseal a secret";
            let (name, parameters) = (name(&sealed.public), Vec::new());
            let call = Call { code: command::UNSEAL, handle: loaded, name: &name, parameters, hidden: Hidden::Answer };
            let parameters = tpm.call(doing, &mut session, &call)?;
            answer::unsealed(doing, &parameters).map(Secret::new)
        })
    }

    /// Does something, and closes what it opened, whatever came of it.
    fn within<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R, Error>) -> Result<R, Error> {
        let done = work(self);
        while let Some(handle) = self.open.pop() {
            let doing = "forget what it was given";
            let flushed = self.exchange(doing, &command::flush(handle)).and_then(|answer| {
                answer::open(doing, &answer)?;
                Ok(())
            });
            if let Err(error) = flushed {
                // The secret is well; the kernel forgets it when the device is closed.
                tracing::warn!(%error, handle, "something stays open in the TPM");
            }
        }
        done
    }

    /// The storage key, and a session that only it understands. Besides telling TPMs apart, its name keeps one that somebody on the bus
    /// slips in from being trusted.
    fn begin(&mut self, name: Option<&[u8]>) -> Result<(StorageKey, u32, Session), Error> {
        let doing = "derive its storage key";
        let bytes = self.exchange(doing, &command::create_primary())?;
        let (tag, body) = answer::open(doing, &bytes)?;
        let handle = self.opened(doing, body)?;
        let key = StorageKey::decode(doing, Sessioned::decode(doing, tag, body, true)?.parameters)?;
        if name.is_some_and(|name| name != key.name) {
            return Err(Error::Foreign);
        }
        let session = self.session(&key, handle)?;
        Ok((key, handle, session))
    }

    /// Begins a session whose secret is the point that a key of this moment shares with the TPM's (Part 1, section C.6.1).
    fn session(&mut self, key: &StorageKey, handle: u32) -> Result<Session, Error> {
        let doing = "begin a session";
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &self.random).map_err(|_| Error::Random)?;
        let public = own.compute_public_key().map_err(|_| Error::Random)?;
        let (x, y) = coordinates(public.as_ref()).ok_or(Error::Random)?;
        let (theirs, _) = coordinates(&key.point).ok_or(Error::Malformed { doing, what: "the key's point" })?;
        let salt =
            agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, &key.point), |z| kdf_e(z, b"SECRET", x, theirs));
        let salt = salt.map_err(|_| Error::Malformed { doing, what: "the key's point" })?;
        let nonce = self.nonce()?;
        let bytes = self.exchange(doing, &command::start_session(handle, &nonce, (x, y)))?;
        let (_, body) = answer::open(doing, &bytes)?;
        self.opened(doing, body)?;
        let (session, tpm) = answer::session(doing, body)?;
        Session::new(session, &salt, tpm, nonce)
    }

    fn nonce(&self) -> Result<[u8; DIGEST], Error> {
        let mut nonce = [0; DIGEST];
        self.random.fill(&mut nonce).map_err(|_| Error::Random)?;
        Ok(nonce)
    }

    /// Notes what an answer says to be open, before anything else in it is looked at.
    fn opened(&mut self, doing: &'static str, body: &[u8]) -> Result<u32, Error> {
        let handle = answer::handle(body).ok_or(Error::Malformed { doing, what: "the handle" })?;
        self.open.push(handle);
        Ok(handle)
    }

    fn call(&mut self, doing: &'static str, session: &mut Session, call: &Call<'_>) -> Result<Vec<u8>, Error> {
        let bytes = self.exchange(doing, &session.command(call, self.nonce()?)?)?;
        let (tag, body) = answer::open(doing, &bytes)?;
        session.answer(doing, call, &Sessioned::decode(doing, tag, body, false)?)
    }

    fn call_for_handle(
        &mut self,
        doing: &'static str,
        session: &mut Session,
        call: &Call<'_>,
    ) -> Result<(u32, Vec<u8>), Error> {
        let bytes = self.exchange(doing, &session.command(call, self.nonce()?)?)?;
        let (tag, body) = answer::open(doing, &bytes)?;
        let handle = self.opened(doing, body)?;
        Ok((handle, session.answer(doing, call, &Sessioned::decode(doing, tag, body, true)?)?))
    }

    /// Sends a command, again and again while the TPM is busy: one that says so has done nothing.
    fn exchange(&mut self, doing: &'static str, command: &[u8]) -> Result<Vec<u8>, Error> {
        let mut pauses = PAUSES.iter();
        loop {
            let answer = self.transport.exchange(command).map_err(|source| Error::Io { doing, source })?;
            match answer::code(&answer) {
                Some(code) if code.is_to_be_repeated() => match pauses.next() {
                    Some(pause) => self.transport.pause(Duration::from_millis(*pause)),
                    None => return Ok(answer),
                },
                _ => return Ok(answer),
            }
        }
    }
}

/// Both coordinates of a point that is written as 4, x, y.
fn coordinates(point: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, coordinates) = point.split_first()?;
    (coordinates.len() == 2 * COORDINATE).then(|| coordinates.split_at(COORDINATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    /// Answers with what it was given, then not at all, and counts what it is asked to forget.
    struct Scripted {
        answers: Vec<Vec<u8>>,
        asked: usize,
        paused: Duration,
        forgotten: Vec<u32>,
    }

    impl Scripted {
        fn new(mut answers: Vec<Vec<u8>>) -> Self {
            answers.reverse();
            Self { answers, asked: 0, paused: Duration::ZERO, forgotten: Vec::new() }
        }
    }

    impl Transport for &mut Scripted {
        fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
            if command.get(6..10) == Some(&[0, 0, 1, 0x65]) {
                self.forgotten.push(u32::from_be_bytes(command[10..14].try_into().unwrap()));
                return Ok(answered(0, &[]));
            }
            self.asked += 1;
            self.answers.pop().ok_or_else(|| io::ErrorKind::ConnectionReset.into())
        }

        fn pause(&mut self, time: Duration) {
            self.paused += time;
        }
    }

    fn answered(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 10).unwrap();
        [&0x8001_u16.to_be_bytes()[..], &length.to_be_bytes(), &code.to_be_bytes(), body].concat()
    }

    fn secret() -> Secret<Vec<u8>> {
        Secret::new(b"secret".to_vec())
    }

    #[test]
    fn a_busy_tpm_is_asked_again_for_a_while() {
        let mut script = Scripted::new(vec![answered(0x922, &[]); 20]);
        let error = Tpm::new(&mut script).seal(&secret(), b"").unwrap_err();
        assert_eq!(error.to_string(), "the TPM was asked to derive its storage key: it is busy (code 0x922)");
        assert_eq!((script.asked, script.paused), (9, Duration::from_millis(3_880)));
        let mut script = Scripted::new(vec![answered(0x922, &[]), answered(0x185, &[])]);
        let error = Tpm::new(&mut script).seal(&secret(), b"").unwrap_err();
        assert!(error.to_string().contains("switched off"), "{error}");
        assert_eq!(script.asked, 2);
        // Nothing is repeated that would not go better.
        let mut script = Scripted::new(vec![answered(0x921, &[]); 2]);
        assert!(Tpm::new(&mut script).seal(&secret(), b"").is_err());
        assert_eq!((script.asked, script.paused), (1, Duration::ZERO));
    }

    #[test]
    fn what_an_answer_that_cannot_be_read_opened_is_closed() {
        let mut script = Scripted::new(vec![answered(0, &[0x80, 0, 0, 3, 1, 2])]);
        assert!(matches!(Tpm::new(&mut script).seal(&secret(), b""), Err(Error::Malformed { .. })));
        assert_eq!(script.forgotten, [0x8000_0003]);
    }

    #[test]
    fn what_no_tpm_takes_is_not_sent() {
        for (secret, about) in [(0, 0), (MOST_SECRET + 1, 0), (1, MOST_ABOUT + 1)] {
            let mut script = Scripted::new(Vec::new());
            assert!(Tpm::new(&mut script).seal(&Secret::new(vec![1; secret]), &vec![0; about]).is_err());
            assert_eq!(script.asked, 0);
        }
    }

    proptest! {
        #[test]
        fn no_answers_make_it_panic(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
            let answers: Vec<_> = bodies.iter().map(|body| answered(0, body)).collect();
            prop_assert!(Tpm::new(&mut Scripted::new(answers)).seal(&secret(), b"").is_err());
        }
    }
}
