//! Files fetched by HTTP.
//!
//! Invariants: a file has its name only when it is whole; what was fetched of one version of it is never joined to another. A large
//! file comes in slices, so that what broke off goes on where it was, also after a restart, as long as the server says that it
//! still has the same (RFC 9110, "If-Range").

use crate::fetch::{FetchError, Request};
use crate::files::{follow, owners, settle};
use crate::{Context, Effect, Error};
use kairn_config::{Download, Mode};
use kairn_host::files;
use kairn_report::{Event, Secret, Sink};
use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mode of a file that states none.
const MODE: u32 = 0o644;
/// Bytes that are asked for at once.
const SLICE: u64 = 8 << 20;
/// Largest file that is fetched, in bytes.
const LIMIT: u64 = 64 << 30;
/// Largest note of an unfinished file that is read, in bytes.
const NOTE_LIMIT: u64 = 64 << 10;
/// Where a file keeps what it is; an attribute that only root sees, and that no copy by others carries on.
const ATTRIBUTE: &str = "trusted.kairn.download";

/// Which version of what a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// SHA-256 of the address, which may hold a token.
    source: String,
    /// The server's tag of the version.
    etag: String,
    /// SHA-256 of the content; empty while it is not whole.
    sha256: String,
    /// Bytes that are there for certain.
    bytes: u64,
}

/// Fetches a file unless it is there.
pub fn ensure(context: &Context, download: &Download, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let path = follow(context, context.at(&download.path))?;
    if path.is_dir() {
        return Err(Error::InTheWay { path: download.path.clone(), found: "a directory", wanted: "a file" });
    }
    let (uid, gid) = owners(context, download.owner.as_ref(), download.group.as_ref())?;
    let mut work = Work::new(context, download, path.clone())?;
    let fetched = work.fetch(sink)?;
    let settled = settle(&path, download.mode, uid, gid)?;
    Ok(if fetched || settled { Effect::Changed } else { Effect::Unchanged })
}

struct Work<'a> {
    context: &'a Context,
    download: &'a Download,
    path: PathBuf,
    /// What is there of it.
    partial: PathBuf,
    /// Which version that is of.
    partial_note: PathBuf,
    source: String,
    begun: Instant,
}

impl<'a> Work<'a> {
    fn new(context: &'a Context, download: &'a Download, path: PathBuf) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = |ending: &str| path.with_file_name(format!(".{name}.{ending}"));
        let (partial, partial_note) = (beside("kairn-partial"), beside("kairn-partial.json"));
        let source = files::sha256_of(&mut download.url.reveal().as_bytes());
        let source = source.map_err(Error::path("name", &path))?;
        Ok(Self { context, download, partial, partial_note, source, path, begun: Instant::now() })
    }

    /// Says whether the file is another now.
    fn fetch(&mut self, sink: &mut dyn Sink) -> Result<bool, Error> {
        let mut known = None;
        if self.path.exists() {
            let sha256 = files::sha256(&self.path)?;
            if self.download.sha256.as_ref() == Some(&sha256) {
                return Ok(false);
            }
            known = self.note_of(&self.path).filter(|note| note.source == self.source && note.sha256 == sha256);
        }
        if self.download.sha256.is_some() {
            // It is another than what is wanted, whatever the server says of it.
            known = None;
        }
        if let Some(parent) = self.path.parent() {
            files::make_dir(parent, 0o755)?;
        }
        match self.slices(known.as_ref(), sink) {
            Ok(None) => Ok(false),
            Ok(Some(etag)) => {
                self.finish(etag)?;
                Ok(true)
            }
            // A boot without network keeps what it has.
            Err(Error::Fetch(error)) if known.is_some() && error.is_passing() => {
                let text = format!("{}: it stays as it was fetched before: {error}", self.download.path.display());
                sink.event(Event::warning(text));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches slice by slice. `None`: the version that is there still counts. Else the server's tag of what lies in the partial file.
    fn slices(&mut self, known: Option<&Note>, sink: &mut dyn Sink) -> Result<Option<Option<String>>, Error> {
        let mut file = self.open_partial()?;
        let (mut etag, mut at) = match self.partial_note(&file) {
            Some(note) => (Some(note.etag), note.bytes),
            None => (None, 0),
        };
        let mut sliced = true;
        let mut tries = 0;
        loop {
            // What broke off may have left more, and of who knows which version.
            let placed = file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at)));
            placed.map_err(Error::path("write", &self.partial))?;
            let request = self.request(at, etag.as_deref(), known, sliced)?;
            let answer = match self.context.fetch.get(&request, &mut file) {
                Ok(answer) => answer,
                // The version is the same, and there is no more of it.
                Err(FetchError::Status { status: 416, .. }) if at > 0 => return Ok(Some(etag)),
                // Of nothing there are no slices.
                Err(FetchError::Status { status: 416, .. }) if sliced => {
                    sliced = false;
                    continue;
                }
                Err(error) => {
                    tries += 1;
                    let hopeless = !error.is_passing() || tries >= self.context.patience.tries;
                    if hopeless || self.left() <= self.context.patience.pause {
                        return Err(Error::Fetch(error));
                    }
                    if tries == 1 {
                        sink.event(Event::warning(format!("{error}; it is tried again")));
                    }
                    std::thread::sleep(self.context.patience.pause);
                    continue;
                }
            };
            tries = 0;
            if answer.is_unmodified() {
                self.discard(file)?;
                return Ok(None);
            }
            if answer.status != 206 {
                // The whole file: the server knows no slices, or the version is another than that of those that are there.
                if at > 0 {
                    self.shift(&mut file, at)?;
                }
                return Ok(Some(answer.etag));
            }
            // Without a tag nobody could say that the next slice is of the same version.
            let Some(tag) = answer.etag.filter(|tag| is_strong(tag)) else {
                (at, etag, sliced) = (0, None, false);
                continue;
            };
            at = at.saturating_add(answer.bytes);
            if answer.bytes == 0 || at > LIMIT {
                return Err(Error::Fetch(FetchError::TooLarge { url: request.name(), limit: at }));
            }
            file.sync_all().map_err(Error::path("sync", &self.partial))?;
            self.write_partial_note(&tag, at)?;
            etag = Some(tag);
        }
    }

    fn request(&self, at: u64, etag: Option<&str>, known: Option<&Note>, sliced: bool) -> Result<Request, Error> {
        let left = self.left();
        let deadline =
            if self.download.timeout.is_some() || !sliced { left } else { left.min(self.context.fetch_deadline) };
        let mut request = Request::new(self.download.url.reveal(), LIMIT, deadline);
        if left.is_zero() {
            let url = request.name();
            return Err(Error::Fetch(FetchError::Deadline { url, deadline: self.whole() }));
        }
        request.headers.extend(self.download.headers.iter().cloned());
        let mut header = |name: &str, value: String| request.headers.push((name.to_owned(), Secret::new(value)));
        if sliced {
            header("Range", format!("bytes={at}-{}", at.saturating_add(SLICE - 1)));
            if let Some(etag) = etag.filter(|_| at > 0) {
                header("If-Range", etag.to_owned());
            }
        }
        if at == 0 {
            request.etag = known.map(|note| note.etag.clone());
        }
        Ok(request)
    }

    /// Time for the whole.
    fn whole(&self) -> Duration {
        self.download.timeout.unwrap_or(self.context.command_deadline)
    }

    fn left(&self) -> Duration {
        self.whole().saturating_sub(self.begun.elapsed())
    }

    /// Opens what an earlier run left of the file, or makes it.
    fn open_partial(&self) -> Result<File, Error> {
        // A link would lead who knows where.
        if fs::symlink_metadata(&self.partial).is_ok_and(|found| !found.is_file()) {
            files::remove_file(&self.partial)?;
        }
        let mut options = OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.read(true).write(true).create(true).truncate(false).open(&self.partial);
        opened.map_err(Error::path("open", &self.partial))
    }

    /// What the partial file is for certain.
    fn partial_note(&self, file: &File) -> Option<Note> {
        let bytes = files::read_regular(&self.partial_note, NOTE_LIMIT).ok().flatten()?;
        let note: Note = serde_json::from_slice(&bytes).ok()?;
        let is_there = file.metadata().ok()?.len() >= note.bytes;
        (is_there && note.source == self.source && is_strong(&note.etag)).then_some(note)
    }

    fn write_partial_note(&self, etag: &str, bytes: u64) -> Result<(), Error> {
        let note = Note { source: self.source.clone(), etag: etag.to_owned(), sha256: String::new(), bytes };
        let json = serde_json::to_vec(&note).map_err(|error| Error::path("write", &self.partial_note)(error.into()))?;
        Ok(files::write_whole(&self.partial_note, &json, 0o600)?)
    }

    /// Drops what stands before a place.
    fn shift(&self, file: &mut File, at: u64) -> Result<(), Error> {
        let failed = || Error::path("write", &self.partial);
        let mut reader = File::open(&self.partial).map_err(Error::path("open", &self.partial))?;
        reader.seek(SeekFrom::Start(at)).map_err(failed())?;
        file.seek(SeekFrom::Start(0)).map_err(failed())?;
        let length = std::io::copy(&mut reader, file).map_err(failed())?;
        file.set_len(length).map_err(failed())
    }

    fn discard(&self, file: File) -> Result<(), Error> {
        drop(file);
        files::remove_file(&self.partial)?;
        Ok(files::remove_file(&self.partial_note)?)
    }

    /// Checks the whole file and gives it its name.
    fn finish(&self, etag: Option<String>) -> Result<(), Error> {
        let found = files::sha256(&self.partial)?;
        if let Some(wanted) = self.download.sha256.as_ref().filter(|wanted| **wanted != found) {
            files::remove_file(&self.partial)?;
            files::remove_file(&self.partial_note)?;
            return Err(Error::Digest { path: self.download.path.clone(), wanted: wanted.clone(), found });
        }
        if let Some(etag) = etag {
            let bytes = fs::metadata(&self.partial).map_err(Error::path("read", &self.partial))?.len();
            self.keep_note(&Note { source: self.source.clone(), etag, sha256: found, bytes });
        }
        // The mode of the one that it replaces, as with files that are written.
        let before = fs::metadata(&self.path).ok();
        let mode = before.map_or(MODE, |before| std::os::unix::fs::MetadataExt::mode(&before) & 0o7777);
        settle(&self.partial, Some(self.download.mode.unwrap_or(Mode(mode))), None, None)?;
        File::open(&self.partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .map_err(Error::path("name", &self.path))?;
        Ok(files::remove_file(&self.partial_note)?)
    }

    /// Keeps with the file what it is. Where the file system cannot, it is fetched anew next time.
    fn keep_note(&self, note: &Note) {
        let kept = serde_json::to_vec(note).map_err(std::io::Error::from).and_then(|bytes| {
            let set = rustix::fs::setxattr(&self.partial, ATTRIBUTE, &bytes, XattrFlags::empty());
            set.map_err(std::io::Error::from)
        });
        if let Err(error) = kept {
            tracing::debug!(path = %self.path.display(), %error, "the version of a download is not kept");
        }
    }

    fn note_of(&self, path: &Path) -> Option<Note> {
        let mut bytes = vec![0; 4096];
        let length = rustix::fs::getxattr(path, ATTRIBUTE, &mut bytes[..]).ok()?;
        serde_json::from_slice(bytes.get(..length)?).ok()
    }
}

/// Says whether a tag stands for the very same bytes (RFC 9110 section 8.8.1), as slices want it.
fn is_strong(etag: &str) -> bool {
    etag.starts_with('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::fetch::{Answer, Fetch};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    /// A server that knows slices and tags, as RFC 9110 has them.
    #[derive(Debug, Default)]
    struct Server {
        content: Mutex<Vec<u8>>,
        etag: Mutex<Option<&'static str>>,
        /// Requests after which it says that there is no such file.
        enough: Mutex<Option<usize>>,
        log: Mutex<Vec<String>>,
    }

    impl Server {
        fn new(content: Vec<u8>, etag: Option<&'static str>) -> Arc<Self> {
            Arc::new(Self { content: Mutex::new(content), etag: Mutex::new(etag), ..Self::default() })
        }

        fn log(&self) -> Vec<String> {
            std::mem::take(&mut self.log.lock().unwrap())
        }
    }

    impl Fetch for Server {
        fn get(&self, request: &Request, body: &mut dyn Write) -> Result<Answer, FetchError> {
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.reveal().clone())
            };
            let (range, if_range) = (header("Range"), header("If-Range"));
            let told = [range.clone(), if_range.clone(), request.etag.clone().map(|etag| format!("unless {etag}"))];
            self.log.lock().unwrap().push(told.into_iter().flatten().collect::<Vec<_>>().join(" "));
            let status = |status| Err(FetchError::Status { url: request.name(), status });
            if let Some(left) = self.enough.lock().unwrap().as_mut() {
                match left.checked_sub(1) {
                    None => return status(404),
                    Some(less) => *left = less,
                }
            }
            let content = self.content.lock().unwrap();
            let etag = self.etag.lock().unwrap().map(str::to_owned);
            if request.etag.is_some() && request.etag == etag {
                return Ok(Answer { status: 304, etag, bytes: 0 });
            }
            let range = range.filter(|_| if_range.is_none() || if_range == etag);
            let (code, part) = match range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
                None => (200, &content[..]),
                Some((from, to)) => {
                    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                    if from >= content.len() {
                        return status(416);
                    }
                    (206, &content[from..content.len().min(to + 1)])
                }
            };
            body.write_all(part).unwrap();
            Ok(Answer { status: code, etag, bytes: part.len() as u64 })
        }
    }

    fn served(root: &Path, server: &Arc<Server>) -> Context {
        Context { fetch: server.clone(), ..context(root) }
    }

    fn download() -> Download {
        Download {
            path: "/opt/tool".into(),
            url: Secret::new("https://u:hunter2@example.org/tool".into()),
            headers: Vec::new(),
            sha256: None,
            timeout: None,
            mode: Some(Mode(0o755)),
            owner: None,
            group: None,
        }
    }

    fn large(filling: u8) -> Vec<u8> {
        (0..SLICE + 1000).map(|number| (number % 251) as u8 ^ filling).collect()
    }

    #[test]
    fn a_large_file_comes_in_slices_and_is_asked_for_once() {
        let root = tempfile::tempdir().unwrap();
        let server = Server::new(large(0), Some("\"one\""));
        let here = served(root.path(), &server);
        assert_eq!(ensure(&here, &download(), &mut Vec::new()).unwrap(), Effect::Changed);
        let path = root.path().join("opt/tool");
        assert!(fs::read(&path).unwrap() == large(0));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(files::names(&root.path().join("opt")).unwrap(), ["tool"]);
        let ends = [SLICE - 1, SLICE + 999 + 1, SLICE + 999 + SLICE];
        let second = format!("bytes={SLICE}-{} \"one\"", 2 * SLICE - 1);
        let third = format!("bytes={}-{} \"one\"", ends[1], ends[2]);
        assert_eq!(server.log(), [format!("bytes=0-{}", ends[0]), second, third]);
        if rustix::fs::getxattr(&path, ATTRIBUTE, &mut [0; 4096][..]).is_err() {
            eprintln!("skipped: the file system keeps no trusted attributes, so the version is not known");
            return;
        }
        assert_eq!(ensure(&here, &download(), &mut Vec::new()).unwrap(), Effect::Unchanged);
        assert_eq!(server.log(), [format!("bytes=0-{} unless \"one\"", SLICE - 1)]);
        // What was changed by hand is another file, whatever the note says.
        fs::write(&path, "by hand").unwrap();
        assert_eq!(ensure(&here, &download(), &mut Vec::new()).unwrap(), Effect::Changed);
        assert!(fs::read(&path).unwrap() == large(0));
    }

    #[test]
    fn what_broke_off_goes_on_where_it_was_unless_the_version_is_another() {
        for (etag, content) in [("\"one\"", large(0)), ("\"two\"", large(7))] {
            let root = tempfile::tempdir().unwrap();
            let server = Server::new(large(0), Some("\"one\""));
            *server.enough.lock().unwrap() = Some(1);
            let here = served(root.path(), &server);
            let error = ensure(&here, &download(), &mut Vec::new()).unwrap_err();
            assert!(matches!(error, Error::Fetch(FetchError::Status { status: 404, .. })), "{error:?}");
            assert!(!format!("{error:?}").contains("hunter2") && !root.path().join("opt/tool").exists());
            server.log();
            *server.enough.lock().unwrap() = None;
            *server.etag.lock().unwrap() = Some(etag);
            *server.content.lock().unwrap() = content.clone();
            assert_eq!(ensure(&here, &download(), &mut Vec::new()).unwrap(), Effect::Changed);
            assert_eq!(server.log()[0], format!("bytes={SLICE}-{} \"one\"", 2 * SLICE - 1));
            assert!(fs::read(root.path().join("opt/tool")).unwrap() == content);
            assert_eq!(files::names(&root.path().join("opt")).unwrap(), ["tool"]);
        }
    }

    #[test]
    fn a_file_of_a_server_without_tags_comes_whole() {
        for etag in [None, Some("W/\"weak\"")] {
            let root = tempfile::tempdir().unwrap();
            let server = Server::new(large(3), etag);
            let here = served(root.path(), &server);
            assert_eq!(ensure(&here, &download(), &mut Vec::new()).unwrap(), Effect::Changed);
            assert!(fs::read(root.path().join("opt/tool")).unwrap() == large(3));
            assert_eq!(server.log(), [format!("bytes=0-{}", SLICE - 1), String::new()]);
        }
        let root = tempfile::tempdir().unwrap();
        let empty = Server::new(Vec::new(), Some("\"e\""));
        assert_eq!(ensure(&served(root.path(), &empty), &download(), &mut Vec::new()).unwrap(), Effect::Changed);
        assert_eq!(fs::read(root.path().join("opt/tool")).unwrap(), b"");
    }

    #[test]
    fn a_file_with_another_digest_takes_no_name_and_one_with_the_right_one_is_not_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let server = Server::new(b"hello\n".to_vec(), Some("\"one\""));
        let here = served(root.path(), &server);
        let right = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        fs::create_dir(root.path().join("opt")).unwrap();
        fs::write(root.path().join("opt/tool"), "before").unwrap();
        let wrong = Download { sha256: Some("0".repeat(64)), ..download() };
        assert!(matches!(ensure(&here, &wrong, &mut Vec::new()), Err(Error::Digest { found, .. }) if found == right));
        assert_eq!(fs::read(root.path().join("opt/tool")).unwrap(), b"before");
        assert_eq!(files::names(&root.path().join("opt")).unwrap(), ["tool"]);
        let wanted = Download { sha256: Some(right.into()), ..download() };
        assert_eq!(ensure(&here, &wanted, &mut Vec::new()).unwrap(), Effect::Changed);
        server.log();
        assert_eq!(ensure(&here, &wanted, &mut Vec::new()).unwrap(), Effect::Unchanged);
        assert_eq!(server.log(), Vec::<String>::new());
    }
}
