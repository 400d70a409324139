//! What a node keeps of the shared state over a restart, and what it takes up again: see `archive` for the file.
//!
//! What its own programs wrote is to be on the disk before they are told so; what others wrote some minutes later will do, since
//! they keep it themselves. What is said anew by every run is not kept, or not taken up.

use super::{Event, Node};
use crate::archive::{self, Growth, LARGEST_WHOLE, Record, Write};
use crate::entry::{Bucket, Content, Entry, EntryId};
use crate::error::Error;
use crate::hlc::AHEAD;
use crate::store::Taken;
use crate::time::Now;
use std::collections::BTreeSet;
use std::time::Duration;

/// Who was off for longer may not have heard that something was deleted, and nobody may remember it: deletions are remembered for a
/// week at least.
const FORGETTABLE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A stamp was at most so far ahead of the clock of the run that took it in, and that clock as far from the one of this run.
const FARTHEST: Duration = Duration::from_secs(2 * AHEAD.as_secs());
/// Names of versions that are replaced by now are looked for beyond that many.
const MANY: usize = 1_024;

/// Whose entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// What programs of this machine wrote.
    Own,
    /// Everybody's.
    All,
}

/// What came of taking up what was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// Entries that hold again.
    pub taken: usize,
    /// Entries whose time was over, or that may have been deleted while this node was off for long.
    pub over: usize,
    /// Entries that do not hold any more: their author was put out, for instance.
    pub refused: usize,
    /// Why the first of these.
    pub why: Option<String>,
}

/// The versions that are not on the disk yet.
#[derive(Default)]
pub(super) struct Unkept {
    own: BTreeSet<EntryId>,
    others: BTreeSet<EntryId>,
    /// What was kept was taken up, and not compared with anybody's yet.
    pub(super) is_alone: bool,
}

/// Whether entries of a bucket are kept. Services and barriers hold for minutes, for as long as a program is there that renews them;
/// orders are kept by themselves.
const fn is_kept(bucket: Bucket) -> bool {
    !matches!(bucket, Bucket::Services | Bucket::Barriers | Bucket::Administration)
}

/// Whether programs of a node are told that an entry is on the disk.
const fn is_of_programs(bucket: Bucket) -> bool {
    matches!(bucket, Bucket::Values | Bucket::Dns | Bucket::Secrets | Bucket::Roles)
}

/// Whether each run of a node says anew what stands in a bucket. Its record is taken up all the same: without one nothing of its own is.
const fn is_said_anew(bucket: Bucket) -> bool {
    !is_kept(bucket) || matches!(bucket, Bucket::Candidates | Bucket::Claims)
}

impl Node {
    /// Notes that an entry is not on the disk yet.
    pub(super) fn note_unkept(&mut self, id: EntryId, content: &Content) {
        if !is_kept(content.bucket) {
            return;
        }
        let is_own = content.author == self.id() && is_of_programs(content.bucket);
        let (store, unkept) = (&self.store, &mut self.unkept);
        let ids = if is_own { &mut unkept.own } else { &mut unkept.others };
        if ids.len() >= MANY + 2 * store.len() {
            ids.retain(|id| store.has(id));
        }
        ids.insert(id);
    }

    /// Whether something is not on the disk yet.
    pub fn has_unkept(&self, whose: Whose) -> bool {
        !self.unkept.own.is_empty() || (whose == Whose::All && !self.unkept.others.is_empty())
    }

    /// What is to be written so that nothing of these is lost; nothing where all of it is there. It counts as written from then on: where
    /// it cannot be, [`Growth::failed`] has everything written next time.
    ///
    /// # Errors
    /// Memory ran out.
    pub fn to_keep(&mut self, now: Now, whose: Whose, growth: &Growth) -> Result<Option<Write>, Error> {
        if growth.is_sound() && !self.has_unkept(whose) {
            return Ok(None);
        }
        let mut ids = std::mem::take(&mut self.unkept.own);
        if whose == Whose::All {
            ids.append(&mut self.unkept.others);
        }
        let saved = self.time.kept(now);
        let mut bytes = Vec::new();
        for (entry, age) in ids.iter().filter_map(|id| self.store.aged(id, now.0)) {
            bytes.extend(archive::encode(entry, age, saved)?);
        }
        if growth.takes(bytes.len()) {
            return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Write::Append));
        }
        self.unkept.others.clear();
        self.whole(now).map(Some)
    }

    /// All that is kept, as a new file.
    fn whole(&self, now: Now) -> Result<Write, Error> {
        let (own, saved) = (self.id(), self.time.kept(now));
        let ids = self.store.names(now.0).map(|(_, id)| id);
        let held = ids.filter_map(|id| self.store.aged(&id, now.0));
        let mut held: Vec<(&Entry, Duration)> = held.filter(|(entry, _)| is_kept(entry.content().bucket)).collect();
        // Where there is no room for all, what others have as well is left out.
        held.sort_by_key(|(entry, _)| (rank(entry.content()), entry.content().author != own));
        let (mut records, mut count, mut left_out) = (Vec::new(), 0, 0);
        for (entry, age) in held {
            let record = archive::encode(entry, age, saved)?;
            if records.len() + record.len() > LARGEST_WHOLE - 1_024 {
                left_out += 1;
                continue;
            }
            records.extend(record);
            count += 1;
        }
        let mut bytes = archive::head(self.store.network(), count);
        bytes.extend(records);
        Ok(Write::Whole { bytes, left_out })
    }

    /// Takes up what this node kept: through the same checks as what members send, but for the clock's, since it did hold once. Members
    /// are known by it, and not taken to be there. To be done before the node introduces itself.
    pub fn recall(&mut self, now: Now, mut records: Vec<Record>) -> Recalled {
        let (mut recalled, before) = (Recalled::default(), self.store.len());
        records.sort_by_key(|record| rank(record.entry.content()));
        for record in &records {
            let (content, age) = (record.entry.content(), self.age(now, record));
            if self.is_to_be_left(record, age) {
                recalled.over += usize::from(!is_said_anew(content.bucket));
                // What this node writes from now on must go before it all the same.
                if content.author == self.id() && record.entry.verify(self.store.network()).is_ok() {
                    self.see(now, content);
                }
                continue;
            }
            match self.store.restore(record.entry.clone(), age, now.0) {
                Ok(Taken::New(id)) => {
                    self.see(now, content);
                    self.is_back(now, id, content);
                }
                Ok(Taken::Known) => {}
                Err(why) => {
                    recalled.refused += 1;
                    recalled.why.get_or_insert_with(|| why.to_string());
                }
            }
        }
        recalled.taken = self.store.len().saturating_sub(before);
        self.unkept.is_alone = recalled.taken > 0;
        recalled
    }

    /// How old an entry is now. What passed while the node was off is known where the clock was sure at both ends.
    fn age(&self, now: Now, record: &Record) -> Duration {
        let off = record.saved.zip(self.time.kept(now)).map_or(Duration::ZERO, |(saved, wall)| wall.ahead_of(saved));
        record.age.saturating_add(off)
    }

    fn is_to_be_left(&self, record: &Record, age: Duration) -> bool {
        let content = record.entry.content();
        let is_own = content.author == self.id();
        let is_over = content.lifetime > 0 && age >= Duration::from_secs(content.lifetime.into());
        let off = age.saturating_sub(record.age);
        let may_be_deleted = matches!(content.bucket, Bucket::Values | Bucket::Dns | Bucket::Secrets);
        is_over || (is_own && is_said_anew(content.bucket)) || (!is_own && may_be_deleted && off >= FORGETTABLE)
    }

    /// Has this node's own stamps go before one that was kept, unless its clock says that nobody would take them then.
    fn see(&mut self, now: Now, content: &Content) {
        let stamp = content.stamp;
        if self.time.kept(now).is_none_or(|wall| stamp.wall().ahead_of(wall) <= FARTHEST) {
            self.store.remember(stamp);
        }
    }

    fn is_back(&mut self, now: Now, id: EntryId, content: &Content) {
        if content.bucket == Bucket::Members && content.author != self.id() {
            if content.value.is_some() {
                self.opener.admit(content.author);
                self.swim.remember(now.0, content.author);
                self.members_changed();
            } else {
                self.forget(now, &content.author);
            }
        }
        self.took(now, id, content);
        // Once is enough for the members: whoever follows them looks at all.
        let is_told = |event: &Event| matches!(event, Event::Changed(Bucket::Members, _));
        if content.bucket != Bucket::Members || !self.events.iter().any(is_told) {
            self.events.push(Event::Changed(content.bucket, id));
        }
    }

    /// Compares what was taken up with the first member that is heard, whoever it is.
    pub(super) fn meet_first(&mut self, now: Now, from: crate::identity::NodeId) {
        if self.unkept.is_alone && self.comparison.is_none() && now.0 >= self.next_early {
            self.next_early = now.0 + super::EARLY;
            self.compare(now, from);
        }
    }
}

/// Orders first, then records of members, then the rest: each is checked by what stands before it.
const fn rank(content: &Content) -> u8 {
    match content.bucket {
        Bucket::Administration => 0,
        Bucket::Members => 1,
        _ => 2,
    }
}
