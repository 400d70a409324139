//! Who leads for a while. Leadership is advisory: what protects the state is the term in every entry that a leader writes, since
//! an entry of a lower term never takes the place of one of a higher. It is exclusive only while a majority of the
//! sealed electorate has granted it.
//!
//! A grant is signed with the purpose `ballot` over: 16 (one byte), the frame of the electorate (32 bytes), the term (8 bytes,
//! big-endian), the holder (32 bytes) and the length in milliseconds (4 bytes, big-endian).

use super::roll::{Frame, Roll, Scope};
use crate::error::Error;
use crate::identity::{Identity, NodeId, Purpose, Signature};
use crate::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest lease: how long a voter that comes back without knowing when it granted has to wait.
const LONGEST: Duration = Duration::from_secs(60);
/// The highest term, far from where counting on would fail.
const LAST_TERM: u64 = 1 << 48;

/// The number of a leadership: every new leader has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    /// The term that a node asks for which has seen this one; nothing where there is none.
    pub fn next(self) -> Option<Self> {
        (self.0 < LAST_TERM).then(|| Self(self.0.saturating_add(1)))
    }

    /// Whether an entry of this term may take the place of one of another.
    pub fn may_replace(self, other: Self) -> bool {
        self >= other
    }
}

/// A voter's word that it grants nobody else a lease until this one has run out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The leader's term.
    pub term: Term,
    /// The leader.
    pub holder: NodeId,
    /// How long, counted by the voter from its grant and by the holder from its request.
    pub milliseconds: u32,
    /// Who grants.
    pub voter: NodeId,
    signature: Signature,
}

fn grant_text(frame: &Frame, term: Term, holder: &NodeId, milliseconds: u32) -> Vec<u8> {
    let (term, length) = (term.0.to_be_bytes(), milliseconds.to_be_bytes());
    [[16].as_slice(), frame.as_bytes(), &term, holder.as_bytes(), &length].concat()
}

/// A voter's memory of its grants. Term and holder are stored before the grant is said; the time is not, so a voter that comes
/// back waits as long as any lease lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseVoter {
    granted: Option<(Term, NodeId)>,
    /// Until when it grants nobody else anything.
    until: Moment,
}

impl LeaseVoter {
    /// A voter that comes up now with what it stored: the 40 bytes of term (big-endian) and holder, or nothing where it never granted.
    ///
    /// # Errors
    /// The stored bytes are not 40.
    pub fn restore(stored: Option<&[u8]>, now: Moment) -> Result<Self, Error> {
        let Some(bytes) = stored else { return Ok(Self { granted: None, until: now }) };
        let refused = || Error::Malformed("record of a lease", format!("{} bytes", bytes.len()));
        let (term, holder) = bytes.split_first_chunk::<8>().ok_or_else(refused)?;
        let holder = <[u8; 32]>::try_from(holder).map_err(|_| refused())?;
        Ok(Self { granted: Some((Term(u64::from_be_bytes(*term)), NodeId::new(holder))), until: now + LONGEST })
    }

    /// Grants a lease, or renews one that the holder has: the bytes are stored first. Nothing where another's lease may still run, the
    /// term is too low for a new holder, or the lease would be longer than a minute.
    ///
    /// # Errors
    /// Those of `write`; then nothing is granted.
    pub fn grant<E>(
        &mut self,
        now: Moment,
        (frame, identity): (&Frame, &Identity),
        (term, holder, milliseconds): (Term, NodeId, u32),
        write: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<Option<Grant>, E> {
        let length = Duration::from_millis(u64::from(milliseconds));
        if length > LONGEST || term.0 > LAST_TERM || !self.admits(now, term, holder) {
            return Ok(None);
        }
        if self.granted != Some((term, holder)) {
            write(&[term.0.to_be_bytes().as_slice(), holder.as_bytes()].concat())?;
        }
        self.granted = Some((term, holder));
        self.until = self.until.max(now + length);
        let signature = identity.sign(Purpose::Ballot, &grant_text(frame, term, &holder, milliseconds));
        Ok(Some(Grant { term, holder, milliseconds, voter: identity.id(), signature }))
    }

    fn admits(&self, now: Moment, term: Term, holder: NodeId) -> bool {
        match self.granted {
            None => true,
            Some((last, same)) if same == holder => term >= last,
            Some((last, _)) => term > last && now >= self.until,
        }
    }
}

/// How firmly a node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Not at all: the lease has run out.
    Lapsed,
    /// As far as the nodes that it reaches know; another part of the network may have a leader too.
    Advisory,
    /// No other node holds a lease of a majority.
    Exclusive,
}

/// A lease that a node asks for or holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    frame: Frame,
    electorate: Roll,
    holder: NodeId,
    term: Term,
    milliseconds: u32,
    asked: Moment,
    grants: BTreeSet<NodeId>,
}

impl Lease {
    /// A lease that its future holder asks for now, of the roll of the ballot's decision, which
    /// all that know it have in common. To renew it, it is asked for anew.
    pub fn ask(
        scope: &Scope,
        electorate: Roll,
        holder: NodeId,
        (term, milliseconds): (Term, u32),
        now: Moment,
    ) -> Self {
        let frame = scope.frame(&electorate);
        Self { frame, electorate, holder, term, milliseconds, asked: now, grants: BTreeSet::new() }
    }

    /// Takes a grant in.
    ///
    /// # Errors
    /// It is for another lease, of somebody outside the electorate, or not signed by its voter.
    pub fn take(&mut self, grant: &Grant) -> Result<(), Error> {
        let same = (grant.term, grant.holder, grant.milliseconds) == (self.term, self.holder, self.milliseconds);
        if !same || !self.electorate.has(&grant.voter) {
            return Err(Error::Malformed("grant of this lease", "it is of another lease or electorate".to_owned()));
        }
        let text = grant_text(&self.frame, grant.term, &grant.holder, grant.milliseconds);
        grant.voter.verify(Purpose::Ballot, &text, &grant.signature)?;
        self.grants.insert(grant.voter);
        Ok(())
    }

    /// The term that the holder's entries carry.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// How firmly it is held. The holder counts a tenth less than the voters, and from when it asked: their clocks may run apart by
    /// that much.
    pub fn hold(&self, now: Moment) -> Hold {
        let length = Duration::from_millis(u64::from(self.milliseconds.saturating_sub(self.milliseconds / 10)));
        if now >= self.asked + length {
            return Hold::Lapsed;
        }
        if self.grants.len() > self.electorate.voters().len() / 2 { Hold::Exclusive } else { Hold::Advisory }
    }
}
