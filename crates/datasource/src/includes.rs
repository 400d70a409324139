//! User-data that names further user-data: fetched, taken apart in its turn, and put in its place.

use crate::http::{Client, DATA, Patience, Question, shown};
use crate::{Found, Options};
use kairn_config::user_data::{self, Content, Include, UserData};
use kairn_config::{Code, Diagnostic, Severity};
use kairn_host::files;
use kairn_report::{Event, Sink};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Lists in lists that are followed.
const DEPTH: usize = 4;
/// URLs that are fetched in all.
const URLS: usize = 64;
/// Bytes that are fetched in all.
const BYTES: usize = 16 << 20;
/// Redirects that are followed for each.
const REDIRECTS: u32 = 3;

/// User-data and vendor-data, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The user's.
    pub user: UserData,
    /// The provider's.
    pub vendor: UserData,
}

impl Decoded {
    /// Takes apart what was found; lists of URLs stay lists.
    #[must_use]
    pub fn of(found: &Found) -> Self {
        let decode = |source, data: &Option<kairn_report::Secret<Vec<u8>>>| {
            data.as_ref().map(|data| user_data::decode(source, data.reveal())).unwrap_or_default()
        };
        Self { user: decode("user-data", &found.user_data), vendor: decode("vendor-data", &found.vendor_data) }
    }

    /// Puts what lists of URLs name in their place. What cannot be fetched is said where its line stands, and its neighbours stay.
    ///
    /// What `#include-once` names is kept in `cache`, a directory for root only, and taken from there the next time.
    #[must_use]
    pub fn with_includes(self, options: &Options, cache: Option<&Path>, sink: &mut dyn Sink) -> Self {
        let end = Instant::now() + options.deadline;
        let patience = Patience { answer: options.answer, end, attempts: options.attempts };
        let client = Client::new(&options.root, patience);
        let mut gathering = Gathering { client, cache, sink, seen: BTreeSet::new(), bytes: 0 };
        let vendor = gathering.expand(self.vendor, 0);
        Self { user: gathering.expand(self.user, 0), vendor }
    }
}

struct Gathering<'a> {
    client: Client,
    cache: Option<&'a Path>,
    sink: &'a mut dyn Sink,
    seen: BTreeSet<String>,
    bytes: usize,
}

impl Gathering<'_> {
    fn expand(&mut self, data: UserData, depth: usize) -> UserData {
        let mut whole = UserData { parts: Vec::new(), diagnostics: data.diagnostics };
        for part in data.parts {
            let Content::Include(list) = &part.content else {
                whole.parts.push(part);
                continue;
            };
            for include in list {
                let name = shown(include.url.reveal());
                self.sink.event(Event::start("user-data-include", format!("fetching {name}")));
                match self.fetch(include, depth) {
                    Ok(bytes) => {
                        self.sink.event(Event::done("user-data-include"));
                        let inner = self.expand(user_data::decode(&name, &bytes), depth + 1);
                        whole.parts.extend(inner.parts);
                        whole.diagnostics.extend(inner.diagnostics);
                    }
                    Err((code, why)) => {
                        self.sink.event(Event::failed("user-data-include", why.clone()));
                        let message = format!("{why}; what it names is left out");
                        whole.diagnostics.push(Diagnostic::new(Severity::Error, code, include.span.clone(), message));
                    }
                }
            }
        }
        if whole.parts.len() > user_data::LIMITS.parts {
            whole.parts.truncate(user_data::LIMITS.parts);
            let span = kairn_report::Span {
                source: "user-data".to_owned(),
                place: kairn_report::Place { line: 1, column: 1 },
            };
            let message = format!("there are more than {} parts; the rest is left out", user_data::LIMITS.parts);
            whole.diagnostics.push(Diagnostic::new(Severity::Error, Code::Limit, span, message));
        }
        whole
    }

    fn fetch(&mut self, include: &Include, depth: usize) -> Result<Vec<u8>, (Code, String)> {
        let url = include.url.reveal();
        let name = shown(url);
        if depth >= DEPTH {
            return Err((Code::Limit, format!("`{name}` is in the {DEPTH}th list within a list")));
        }
        if self.seen.len() >= URLS {
            return Err((Code::Limit, format!("`{name}` is one of more than {URLS} URLs")));
        }
        if !self.seen.insert(url.clone()) {
            return Err((Code::BadValue, format!("`{name}` is included a second time")));
        }
        let digest = files::sha256_of(&mut url.as_bytes()).map_err(|error| (Code::BadValue, error.to_string()))?;
        let kept = self.cache.filter(|_| include.once).map(|cache| cache.join(digest));
        if let Some(kept) = &kept {
            match files::read_regular(kept, DATA) {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a kept include is fetched again"),
            }
        }
        let question = Question { limit: DATA, redirects: REDIRECTS, ..Question::get(url, &[]) };
        let answer = self.client.ask(&question).map_err(|error| (Code::BadValue, kairn_report::in_one_line(&error)))?;
        if answer.status != 200 {
            return Err((Code::BadValue, format!("`{name}` answers with status {}", answer.status)));
        }
        self.bytes = self.bytes.saturating_add(answer.body.len());
        if self.bytes > BYTES {
            return Err((Code::Limit, format!("with `{name}`, more than {BYTES} bytes are included")));
        }
        if let Some(kept) = kept {
            let stored = self.cache.map_or(Ok(()), |cache| files::make_dir(cache, 0o700));
            if let Err(error) = stored.and_then(|()| files::write_whole(&kept, &answer.body, 0o600)) {
                self.sink.event(Event::warning(format!("`{name}` is not kept for the next time: {error}")));
            }
        }
        Ok(answer.body)
    }
}
