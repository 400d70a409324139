//! All sources of a machine's configuration, lowest precedence first: the directories, those that `cloud-init-paths` adds, documents
//! that a `config_url` points at, answers of providers, and the kernel command line.
//!
//! Invariants: a document that cannot be fetched is told at the place that points at it and stops nothing; its last good copy counts
//! until there is a better one; what is no configuration (no header, no YAML, another digest) never takes its place.

mod copies;
#[cfg(test)]
mod tests;

use crate::fetch::{self, Fetch, Patience, Request};
use crate::{Context, instance, load_on, providers};
use copies::{Copies, Kept};
use kairn_config::{
    Address, Code, CommandLine, DIRECTORIES, Diagnostic, Document, InstanceData, Remote, Severity, TemplateValues,
    address, directories, yaml,
};
use kairn_host::files;
use kairn_report::{Event, Sink, Span, in_one_line};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many documents may point at one another in a row.
const DEEPEST: usize = 8;
/// How many documents are fetched in all.
const MOST: usize = 32;
/// How long all of that may take.
const DEADLINE: Duration = Duration::from_secs(180);
/// The kernel command line of the running system.
const COMMAND_LINE: &str = "/proc/cmdline";

/// Finds and fetches the sources of a machine.
#[derive(Debug)]
pub struct Sources {
    root: PathBuf,
    values: TemplateValues,
    /// What templates of cloud-init stand for.
    instance: Option<InstanceData>,
    /// By what documents are fetched; without it only copies of earlier times count.
    fetch: Option<Arc<dyn Fetch>>,
    deadline: Duration,
    patience: Patience,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// All documents, lowest precedence first.
    pub documents: Vec<Document>,
    /// Which of them came just now: earlier stages of this boot ran without them, or with other copies.
    pub late: Vec<usize>,
    /// Whether the last one is the kernel command line.
    pub line: bool,
}

impl Gathered {
    /// Adds answers of providers in their place: above everything else but the kernel command line.
    pub fn answer(&mut self, answers: impl IntoIterator<Item = Document>) {
        let at = self.documents.len().saturating_sub(usize::from(self.line));
        self.documents.splice(at..at, answers);
    }
}

impl Sources {
    /// Looks below a root, and at copies only: nothing is fetched.
    #[must_use]
    pub fn at_hand(root: &Path, values: TemplateValues) -> Self {
        let (deadline, patience) = (Duration::ZERO, Patience::USUAL);
        Self { root: root.to_owned(), values, instance: known(root), fetch: None, deadline, patience }
    }

    /// Looks below the root of a context, and fetches as it says.
    #[must_use]
    pub fn online(context: &Context) -> Self {
        Self {
            root: context.root.clone(),
            values: context.values.clone(),
            instance: known(&context.root),
            fetch: Some(Arc::clone(&context.fetch)),
            deadline: context.fetch_deadline,
            patience: context.patience,
        }
    }

    /// Gathers all sources of the machine.
    pub fn machine(&self, sink: &mut dyn Sink) -> Gathered {
        let below = |path: &Path| self.root.join(path.strip_prefix("/").unwrap_or(path));
        let present = |path: &Path| Some(below(path)).filter(|path| path.exists());
        let known: Vec<PathBuf> = DIRECTORIES.iter().filter_map(|path| present(path.as_ref())).collect();
        let mut documents = load_on(&known, self.instance.as_ref());
        let mut looked: BTreeSet<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
        let mut at = 0;
        // A directory that is added may add others.
        while let Some(document) = documents.get(at) {
            at += 1;
            for path in directories(document) {
                if looked.insert(path.clone())
                    && let Some(path) = present(&path)
                {
                    documents.append(&mut load_on(&[path], self.instance.as_ref()));
                }
            }
        }
        let mut gathered = self.complete(documents, self.command_line(), sink);
        gathered.answer(providers::documents(&self.root, self.instance.as_ref()));
        gathered
    }

    /// Adds to documents what they point at, and a command line, which wins over all of them, with what it points at.
    pub fn complete(&self, documents: Vec<Document>, line: Option<CommandLine>, sink: &mut dyn Sink) -> Gathered {
        let copies = Copies::below(&self.root);
        let local = documents.len();
        let mut work = Work {
            sources: self,
            copies: &copies,
            gathered: Gathered { documents, ..Gathered::default() },
            seen: BTreeSet::new(),
            begun: Instant::now(),
            sink,
        };
        for at in 0..local {
            work.follow_document(at, 0);
        }
        let line = line.map(|CommandLine { mut document, urls }| {
            for (url, span) in urls {
                document.diagnostics.extend(work.follow(&Address::new(url, span), 0));
            }
            document
        });
        let Work { mut gathered, seen, .. } = work;
        let line = line.filter(|line| line.root.is_some() || !line.diagnostics.is_empty());
        gathered.line = line.is_some();
        gathered.documents.extend(line);
        if self.fetch.is_some()
            && let Err(error) = copies.keep_only(&seen)
        {
            sink.event(Event::warning(format!("a copy that nothing points at any more stays: {error}")));
        }
        gathered
    }

    /// What the kernel command line sets; another root has none.
    #[must_use]
    pub fn command_line(&self) -> Option<CommandLine> {
        let path = self.root.join(COMMAND_LINE.trim_start_matches('/'));
        match files::read_text_if_any(&path).transpose()? {
            Ok(text) => Some(kairn_config::cmdline(&text)),
            Err(error) => {
                let document = Document::unreadable(path.display().to_string(), error);
                Some(CommandLine { document, urls: Vec::new() })
            }
        }
    }
}

struct Work<'a> {
    sources: &'a Sources,
    copies: &'a Copies,
    gathered: Gathered,
    /// Addresses that were followed.
    seen: BTreeSet<String>,
    begun: Instant,
    sink: &'a mut dyn Sink,
}

/// A document that was fetched, or a copy of it.
struct Arrived {
    document: Document,
    late: bool,
}

impl Work<'_> {
    /// Follows the address of a document; what is to be said about that is said there.
    fn follow_document(&mut self, at: usize, depth: usize) {
        let Some(found) = self.gathered.documents.get(at).and_then(address) else { return };
        let said = self.follow(&found, depth);
        if let Some(document) = self.gathered.documents.get_mut(at) {
            document.diagnostics.extend(said);
        }
    }

    /// Adds the document of an address and what it points at; returns what is to be said about the address.
    fn follow(&mut self, found: &Address, depth: usize) -> Option<Diagnostic> {
        let remote = match found.resolve(&self.sources.values) {
            Ok(remote) => remote,
            // What a machine says of itself it may not know yet, such as its id in the first stage of its first boot.
            Err(mut said) if self.sources.fetch.is_none() && said.code == Code::Template => {
                said.severity = Severity::Note;
                said.hint = Some("it is looked at again in stage `network`".to_owned());
                return Some(*said);
            }
            Err(said) => return Some(*said),
        };
        // Twice named is once read; that ends circles, too.
        if self.seen.contains(remote.url.reveal()) {
            return None;
        }
        let refuse = |why: String| Some(Diagnostic::new(Severity::Error, Code::Limit, found.span.clone(), why));
        if depth >= DEEPEST {
            return refuse(format!("more than {DEEPEST} configurations point at one another in a row"));
        }
        if self.seen.len() >= MOST {
            return refuse(format!("more than {MOST} configurations are fetched"));
        }
        self.seen.insert(remote.url.reveal().to_owned());
        let (arrived, said) = self.arrive(&remote, &found.span);
        if let Some(Arrived { document, late }) = arrived {
            let at = self.gathered.documents.len();
            self.gathered.documents.push(document);
            if late {
                self.gathered.late.push(at);
            }
            self.follow_document(at, depth + 1);
        }
        said
    }

    /// Fetches a document, or takes the copy that is at hand.
    fn arrive(&mut self, remote: &Remote, span: &Span) -> (Option<Arrived>, Option<Diagnostic>) {
        let kept = match self.copies.find(remote) {
            Ok(kept) => kept,
            Err(error) => {
                self.sink.event(Event::warning(format!("the copy of a configuration cannot be used: {error}")));
                None
            }
        };
        let name = Request::new(remote.url.reveal().as_str(), 0, Duration::ZERO).name();
        let instance = self.sources.instance.as_ref();
        let from_copy =
            |kept: &Kept| Arrived { document: Document::parse_on(&name, &kept.text, instance), late: false };
        let Some(fetch) = &self.sources.fetch else {
            let waits = || {
                let message = "there is no copy of this configuration yet: it is fetched in stage `network`";
                Diagnostic::new(Severity::Note, Code::Remote, span.clone(), message)
            };
            return match &kept {
                Some(kept) => (Some(from_copy(kept)), None),
                None => (None, Some(waits())),
            };
        };
        // What is pinned can be no other.
        if let (Some(_), Some(kept)) = (&remote.sha256, &kept) {
            return (Some(from_copy(kept)), None);
        }
        match self.fetch(fetch.as_ref(), remote, kept.as_ref(), &name) {
            Ok(None) => (kept.as_ref().map(from_copy), None),
            Ok(Some((fresh, document))) => {
                let late = kept.is_none_or(|kept| kept.sha256 != fresh.sha256);
                if let Err(error) = self.copies.keep(remote, &fresh) {
                    let what = format!("{name}: the next boot will have no copy of this configuration: {error}");
                    self.sink.event(Event::warning(what));
                }
                (Some(Arrived { document, late }), None)
            }
            Err(why) => match &kept {
                Some(kept) => {
                    let message = format!("{why}; its copy of {} counts", kept.date());
                    let said = Diagnostic::new(Severity::Warning, Code::Remote, span.clone(), message);
                    (Some(from_copy(kept)), Some(said))
                }
                None => {
                    let said = Diagnostic::new(Severity::Error, Code::Remote, span.clone(), why);
                    (
                        None,
                        Some(said.hint("the configuration is read without it; stage `network` tries it at each boot")),
                    )
                }
            },
        }
    }

    /// Asks the server; nothing where the copy still counts.
    fn fetch(
        &mut self,
        fetch: &dyn Fetch,
        remote: &Remote,
        kept: Option<&Kept>,
        name: &str,
    ) -> Result<Option<(Kept, Document)>, String> {
        let left = DEADLINE.saturating_sub(self.begun.elapsed()).min(self.sources.deadline);
        let limit = u64::try_from(yaml::LIMITS.bytes).unwrap_or(u64::MAX);
        let mut request = Request::new(remote.url.reveal().as_str(), limit, left);
        request.etag = kept.and_then(|kept| kept.etag.clone());
        let (answer, body) =
            fetch::bytes(fetch, &request, self.sources.patience, self.sink).map_err(|error| in_one_line(&error))?;
        if answer.is_unmodified() {
            return Ok(None);
        }
        let fresh = Kept::new(body, answer.etag, self.sources.values.now).map_err(|why| format!("`{name}` {why}"))?;
        if let Some(wanted) = remote.sha256.as_ref().filter(|wanted| **wanted != fresh.sha256) {
            return Err(format!("`{name}` has the SHA-256 {}, not {wanted}", fresh.sha256));
        }
        let document = Document::parse_on(name, &fresh.text, self.sources.instance.as_ref());
        if document.header.is_none() {
            return Err(format!("`{name}` is no configuration: it has no header line such as `#cloud-config`"));
        }
        let fault = document.diagnostics.iter().find(|said| said.severity == Severity::Error);
        match (&document.root, fault) {
            (None, Some(fault)) => {
                Err(format!("`{name}` is no configuration: line {}: {}", fault.span.place.line, fault.message))
            }
            _ => Ok(Some((fresh, document))),
        }
    }
}

/// What is known of the instance below a root. Where that cannot be read, no step runs either, and says why.
fn known(root: &Path) -> Option<InstanceData> {
    match instance::data(root) {
        Ok(data) => Some(data),
        Err(error) => {
            tracing::warn!(%error, "what is known of this instance cannot be read");
            None
        }
    }
}
