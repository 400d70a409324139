//! The one stream into which every step of long work reports.

use serde::{Deserialize, Serialize};

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "lowercase")]
pub enum Outcome {
    /// The step did what it says.
    Done,
    /// The step was not needed; the reason says why.
    Skipped(String),
    /// The step failed; the reason is the error's chain.
    Failed(String),
}

/// One line of the event stream; serialises as a line of JSON for `--progress-fd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A step begins.
    Start {
        /// Stable name, e.g. `write-root`.
        step: String,
        /// What a person reads, e.g. `writing root.erofs (412 MiB)`.
        text: String,
    },
    /// Work within the step; bytes or items as the step's text says.
    Progress {
        /// Name of the step.
        step: String,
        /// Done so far.
        done: u64,
        /// All of it; zero when unknown.
        total: u64,
    },
    /// A step ends.
    End {
        /// Name of the step.
        step: String,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Something the user should know that stops nothing.
    Warning {
        /// The sentence.
        text: String,
    },
}

impl Event {
    /// Begins a step.
    pub fn start(step: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Start { step: step.into(), text: text.into() }
    }

    /// Ends a step that did its work.
    pub fn done(step: impl Into<String>) -> Self {
        Self::End { step: step.into(), outcome: Outcome::Done }
    }

    /// Ends a step that was not needed.
    pub fn skipped(step: impl Into<String>, why: impl Into<String>) -> Self {
        Self::End { step: step.into(), outcome: Outcome::Skipped(why.into()) }
    }

    /// Ends a step that failed.
    pub fn failed(step: impl Into<String>, why: impl Into<String>) -> Self {
        Self::End { step: step.into(), outcome: Outcome::Failed(why.into()) }
    }

    /// Warns.
    pub fn warning(text: impl Into<String>) -> Self {
        Self::Warning { text: text.into() }
    }
}

/// Takes events; a terminal, a JSON stream, a journal or a test's recorder. Must not fail: a sink that cannot write keeps
/// that to itself until the program asks it at the end.
pub trait Sink {
    /// Takes one event.
    fn event(&mut self, event: Event);
}

impl Sink for Vec<Event> {
    fn event(&mut self, event: Event) {
        self.push(event);
    }
}

/// A sink for callers that have nobody to tell, such as unit tests of something else.
pub struct Silent;

impl Sink for Silent {
    fn event(&mut self, _: Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_line_of_json() {
        let line = serde_json::to_string(&Event::skipped("esp", "same bytes")).unwrap();
        assert_eq!(line, r#"{"event":"end","step":"esp","outcome":"skipped","reason":"same bytes"}"#);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), Event::skipped("esp", "same bytes"));
    }
}
