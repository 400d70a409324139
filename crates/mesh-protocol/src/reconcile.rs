//! Finding out what two states differ in, by comparing fingerprints of ranges (the negentropy protocol, version 1), so that two
//! equal states exchange some three hundred bytes and two different ones little more than the names that differ.

use crate::entry::EntryId;
use crate::error::Error;
use crate::store::Store;
use crate::time::Moment;
use negentropy::{Id, Negentropy, NegentropyStorageVector, Storage};

/// The largest message, in bytes; a difference that does not fit takes more rounds.
pub const LARGEST_MESSAGE: usize = 64 * 1024;

/// What the asking side learnt of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Versions that only this side has.
    pub have: Vec<EntryId>,
    /// Versions that only the other side has.
    pub need: Vec<EntryId>,
    /// What to send next; nothing at the end.
    pub next: Option<Vec<u8>>,
}

/// The side that asks. The state is looked at once, at the beginning.
pub struct Asking(Negentropy<'static, NegentropyStorageVector>);

impl Asking {
    /// Begins; hands out the first message.
    ///
    /// # Errors
    /// Two entries have one name, which only a broken hash can make.
    pub fn begin(store: &Store, now: Moment) -> Result<(Self, Vec<u8>), Error> {
        let mut asking = side(store, now)?;
        let first = asking.initiate().map_err(malformed)?;
        Ok((Self(asking), first))
    }

    /// Takes the other side's answer in.
    ///
    /// # Errors
    /// The answer is too long or does not parse.
    pub fn answered(&mut self, answer: &[u8]) -> Result<Difference, Error> {
        check(answer)?;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = self.0.reconcile_with_ids(answer, &mut have, &mut need).map_err(malformed)?;
        Ok(Difference { have: sorted(have), need: sorted(need), next })
    }
}

/// Answers a message of the asking side; nothing is remembered between two.
///
/// # Errors
/// The message is too long or does not parse.
pub fn answer(store: &Store, now: Moment, message: &[u8]) -> Result<Vec<u8>, Error> {
    check(message)?;
    side(store, now)?.reconcile(message).map_err(malformed)
}

fn side(store: &Store, now: Moment) -> Result<Negentropy<'static, NegentropyStorageVector>, Error> {
    let mut names = NegentropyStorageVector::with_capacity(store.len());
    for (stamp, id) in store.names(now) {
        names.insert(stamp.number(), Id::from_byte_array(*id.as_bytes())).map_err(malformed)?;
    }
    names.seal().map_err(malformed)?;
    Negentropy::new(Storage::Owned(names), LARGEST_MESSAGE as u64 - 1_024).map_err(malformed)
}

fn check(message: &[u8]) -> Result<(), Error> {
    let (length, limit) = (message.len(), LARGEST_MESSAGE);
    if length > limit { Err(Error::TooLarge { kind: "comparison", length, limit }) } else { Ok(()) }
}

/// The library gives them in the order of a hash table, which is another in each process: a simulation would not follow from its seed.
fn sorted(ids: Vec<Id>) -> Vec<EntryId> {
    let mut names: Vec<EntryId> = ids.into_iter().map(|id| EntryId::new(id.to_bytes())).collect();
    names.sort_unstable();
    names
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn malformed(error: negentropy::Error) -> Error {
    Error::Malformed("comparison", error.to_string())
}
