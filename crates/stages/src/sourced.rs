//! Files whose content an address gives; where it does not, what the configuration holds takes its place.

use crate::fetch::{self, Request};
use crate::files::{ensure_appended, ensure_file};
use crate::{Context, Effect, Error, downloads};
use kairn_config::{Download, Sourced};
use kairn_host::files;
use kairn_report::{Event, Report, Sink};

/// Largest text that is added to a file, in bytes.
const LIMIT: u64 = 16 << 20;

/// Has a file hold what its address gives, else `content`, which is told.
pub fn ensure(
    context: &Context,
    wanted: &Sourced,
    content: Option<&[u8]>,
    sink: &mut dyn Sink,
) -> Result<Effect, Error> {
    let error = match fetched(context, wanted, sink) {
        Err(error @ (Error::Fetch(_) | Error::Digest { .. })) => error,
        other => return other,
    };
    let Some(content) = content else { return Err(error) };
    let why = Report::from(error).chain.join(": ");
    let text = format!("{}: {why}; it gets its `content` instead", wanted.file.path.display());
    sink.event(Event::warning(text));
    let changed = match wanted.append {
        true => ensure_appended(context, &wanted.file, content)?,
        false => ensure_file(context, &wanted.file, content)?,
    };
    Ok(Effect::of(changed))
}

fn fetched(context: &Context, wanted: &Sourced, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let file = &wanted.file;
    if !wanted.append {
        let download = Download {
            path: file.path.clone(),
            url: wanted.url.clone(),
            headers: wanted.headers.clone(),
            sha256: wanted.sha256.clone(),
            timeout: None,
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
        };
        return downloads::ensure(context, &download, sink);
    }
    let mut request = Request::new(wanted.url.reveal(), LIMIT, context.fetch_deadline);
    request.headers.clone_from(&wanted.headers);
    let (_, bytes) = fetch::bytes(&*context.fetch, &request, context.patience, sink)?;
    let found = files::sha256_of(&mut bytes.as_slice()).map_err(Error::path("read", &file.path))?;
    match wanted.sha256.as_ref().filter(|wanted| **wanted != found) {
        Some(wanted) => Err(Error::Digest { path: file.path.clone(), wanted: wanted.clone(), found }),
        None => Ok(Effect::of(ensure_appended(context, file, &bytes)?)),
    }
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::fetch::tests::Pages;
    use crate::{Context, Effect, run};
    use kairn_config::Document;
    use kairn_report::Event;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    fn written(root: &Path, file: &str, pages: &[(&str, &str)]) -> (Effect, String, Vec<Event>) {
        let text = format!("#cloud-config\nwrite_files:\n- {{path: /f, {file}}}\n");
        let context = Context { fetch: Arc::new(Pages::new(pages)), ..context(root) };
        let documents = [Document::parse("t", &text)];
        let mut events = Vec::new();
        assert!(run(&documents, "boot", &context, &mut events).steps.is_empty());
        let result = run(&documents, "network", &context, &mut events);
        assert_eq!(result.diagnostics, []);
        let content = fs::read_to_string(root.join("f")).unwrap_or_default();
        (result.steps[0].actions[0].effect.clone(), content, events)
    }

    #[test]
    fn a_file_has_what_its_address_gives_or_else_its_content() {
        let page = [("https://h/f?token=s3cret", "from afar\n")];
        let digest = "1e2b7ef1d3f4c2bca3a1ea3ccb4ac2ef5e3ae3ebd2a7e4f44d4c9a3f76a20d5c";
        let source = "source: {uri: 'https://h/f?token=s3cret', headers: {X-Token: s3cret}}";
        let other = format!("source: {{uri: 'https://h/f?token=s3cret', sha256: {digest}}}");
        for (file, pages, expected, content, told) in [
            (source.to_owned(), &page[..], Some(Effect::Changed), "from afar\n", false),
            (format!("{source}, content: own"), &page[..], Some(Effect::Changed), "from afar\n", false),
            (format!("{source}, content: own"), &[], Some(Effect::Changed), "own", true),
            (format!("{source}, content: b3du, encoding: b64"), &[], Some(Effect::Changed), "own", true),
            (format!("{other}, content: own"), &page[..], Some(Effect::Changed), "own", true),
            (format!("{source}, append: true"), &page[..], Some(Effect::Changed), "from afar\n", false),
            (format!("{other}, append: true, content: own"), &page[..], Some(Effect::Changed), "own", true),
            (source.to_owned(), &[], None, "", false),
            (other, &page[..], None, "", false),
        ] {
            let root = tempfile::tempdir().unwrap();
            let (effect, found, events) = written(root.path(), &file, pages);
            match expected {
                Some(expected) => assert_eq!(effect, expected, "{file}"),
                None => assert!(matches!(effect, Effect::Failed(_)), "{file}: {effect:?}"),
            }
            assert_eq!(found, content, "{file}");
            let said = |event: &Event| matches!(event, Event::Warning { text } if text.contains("`content` instead"));
            assert_eq!(events.iter().any(said), told, "{file}: {events:?}");
            assert!(!format!("{events:?}").contains("s3cret"));
        }
    }

    #[test]
    fn what_is_appended_from_an_address_is_there_once() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("f"), "before\n").unwrap();
        let page = [("https://h/f", "after\n")];
        for effect in [Effect::Changed, Effect::Unchanged] {
            let written = written(root.path(), "append: true, source: {uri: 'https://h/f'}", &page);
            assert_eq!((written.0, written.1.as_str()), (effect, "before\nafter\n"));
        }
    }
}
