//! Comparing the whole state with one member's: what gossip missed is found and handed over here.

use super::{Node, Outgoing};
use crate::entry::{Bucket, Entry, EntryId};
use crate::error::Error;
use crate::identity::NodeId;
use crate::message::{self, Answer, Encoded, LARGEST, MOST_NAMES, Question};
use crate::reconcile::{self, Asking};
use crate::time::Now;
use std::time::Duration;

/// A comparison that is not answered for this long is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A comparison is given up after this long even if it is still answered: a member that names something new for ever must not keep a node
/// from comparing with others.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// The most entries that one comparison finds to differ; those beyond are found by the next.
const MOST_DIFFERENT: usize = 1 << 18;

/// A comparison that this node began.
pub(super) struct Comparison {
    pub(super) peer: NodeId,
    /// The question that is open.
    number: u64,
    pub(super) since: crate::time::Moment,
    began: crate::time::Moment,
    step: Step,
    have: Vec<EntryId>,
    need: Vec<EntryId>,
    /// Lists of entries that are yet to be handed over.
    pushes: Vec<Encoded>,
}

enum Step {
    Comparing(Box<Asking>),
    Fetching,
    Pushing,
}

impl Node {
    /// Begins to compare states with a member, unless one comparison is at work that is still answered.
    pub(super) fn compare(&mut self, now: Now, peer: NodeId) {
        let is_at_work = |comparison: &Comparison| {
            now.0.since(comparison.since) < PATIENCE && now.0.since(comparison.began) < LONGEST
        };
        if self.comparison.as_ref().is_some_and(is_at_work) {
            return;
        }
        match Asking::begin(&self.store, now.0) {
            Ok((asking, first)) => {
                let step = Step::Comparing(Box::new(asking));
                let (have, need, pushes) = (Vec::new(), Vec::new(), Vec::new());
                let (since, began) = (now.0, now.0);
                self.comparison = Some(Comparison { peer, number: 0, since, began, step, have, need, pushes });
                self.ask(now, &Question::Compare(first));
            }
            Err(error) => self.refuse(self.id(), &error.to_string()),
        }
    }

    fn ask(&mut self, now: Now, question: &Question) {
        self.number += 1;
        let number = self.number;
        let Some(comparison) = &mut self.comparison else { return };
        (comparison.number, comparison.since) = (number, now.0);
        let to = comparison.peer;
        match message::encode("question", question) {
            Ok(bytes) => self.outgoing.push(Outgoing::Question { to, number, bytes }),
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    fn give_up(&mut self, why: &str) {
        if let Some(comparison) = self.comparison.take() {
            self.refuse(comparison.peer, why);
        }
    }

    /// Takes the answer to a question in, or why there is none.
    pub fn answered(&mut self, now: Now, number: u64, answer: Result<&[u8], String>) {
        if self.comparison.as_ref().is_none_or(|comparison| comparison.number != number) {
            return;
        }
        let answer = answer.and_then(|bytes| message::decode("answer", bytes).map_err(|error| error.to_string()));
        match answer.and_then(|answer| self.go_on(now, answer).map_err(|error| error.to_string())) {
            Ok(()) => {}
            Err(why) => self.give_up(&why),
        }
    }

    fn go_on(&mut self, now: Now, answer: Answer) -> Result<(), Error> {
        let Some(mut comparison) = self.comparison.take() else { return Ok(()) };
        let peer = comparison.peer;
        match (&mut comparison.step, answer) {
            (Step::Comparing(asking), Answer::Compared(answer)) => {
                let difference = asking.answered(&answer)?;
                comparison.have.extend(difference.have);
                comparison.need.extend(difference.need);
                let is_enough = comparison.have.len() + comparison.need.len() >= MOST_DIFFERENT;
                if let Some(next) = difference.next.filter(|_| !is_enough) {
                    self.comparison = Some(comparison);
                    self.ask(now, &Question::Compare(next));
                    return Ok(());
                }
            }
            (Step::Fetching, Answer::Entries(entries)) => {
                let before = comparison.need.len();
                for bytes in &entries {
                    let id = Entry::decode_aged(bytes).and_then(|(entry, _)| entry.id(self.store.network()));
                    comparison.need.retain(|needed| id.as_ref() != Ok(needed));
                    self.take_encoded(now, peer, bytes);
                }
                // A member that hands over nothing of what it named would be asked for ever.
                if comparison.need.len() == before {
                    comparison.need.clear();
                }
            }
            (Step::Pushing, Answer::Taken(_)) => {}
            (_, Answer::Refused(why)) => return Err(Error::Malformed("question, the other side says", why)),
            _ => return Err(Error::Malformed("answer", "to another question".to_owned())),
        }
        // One that is over here may be younger in truth: see `Store::take`.
        comparison.need.retain(|id| self.store.entry(id, now.0).is_none());
        self.continue_with(now, comparison)
    }

    /// Fetches what is lacking, then hands over what the other lacks, then is done.
    fn continue_with(&mut self, now: Now, mut comparison: Comparison) -> Result<(), Error> {
        if !comparison.need.is_empty() {
            let names: Vec<EntryId> = comparison.need.iter().take(MOST_NAMES).copied().collect();
            comparison.step = Step::Fetching;
            self.comparison = Some(comparison);
            self.ask(now, &Question::Fetch(names));
            return Ok(());
        }
        if !comparison.have.is_empty() {
            comparison.pushes = self.lists(now, &std::mem::take(&mut comparison.have))?;
        }
        match comparison.pushes.pop() {
            Some(list) => {
                comparison.step = Step::Pushing;
                self.comparison = Some(comparison);
                self.ask(now, &Question::Push(list));
            }
            None => {
                self.counters.comparisons += 1;
                self.unkept.is_alone = false;
            }
        }
        Ok(())
    }

    /// Entries in lists that fit a message, the last to be sent first: orders come first, since records are checked by the secrets
    /// that they bring, and members' records before what the members wrote.
    fn lists(&self, now: Now, names: &[EntryId]) -> Result<Vec<Encoded>, Error> {
        let mut entries: Vec<(EntryId, (&Entry, Duration))> =
            names.iter().filter_map(|id| Some((*id, self.store.aged(id, now.0)?))).collect();
        entries.sort_by_key(|(_, (entry, _))| match entry.content().bucket {
            Bucket::Administration => 0,
            Bucket::Members => 1,
            _ => 2,
        });
        let (mut lists, _) = message::pack(entries, LARGEST)?;
        lists.reverse();
        Ok(lists)
    }

    /// Answers a question that came in a session with a node that has proven itself.
    pub fn question(&mut self, now: Now, from: NodeId, question: &[u8]) -> Vec<u8> {
        let answer = message::decode("question", question).and_then(|question| self.answer(now, from, question));
        let answer = answer.unwrap_or_else(|error| {
            self.refuse(from, &error.to_string());
            Answer::Refused(error.to_string())
        });
        message::encode("answer", &answer).unwrap_or_default()
    }

    fn answer(&mut self, now: Now, from: NodeId, question: Question) -> Result<Answer, Error> {
        Ok(match question {
            Question::Compare(message) => Answer::Compared(reconcile::answer(&self.store, now.0, &message)?),
            Question::Fetch(names) => {
                let names = names.get(..names.len().min(MOST_NAMES)).unwrap_or_default();
                Answer::Entries(self.lists(now, names)?.pop().unwrap_or_default())
            }
            Question::Push(entries) => {
                let before = self.counters.entries;
                entries.iter().for_each(|entry| self.take_encoded(now, from, entry));
                Answer::Taken(u32::try_from(self.counters.entries - before).unwrap_or(u32::MAX))
            }
            Question::Ballot(letter) => {
                self.letter_came(from, letter);
                Answer::Heard
            }
        })
    }
}
