//! Keys in homes.
//!
//! Invariant: a home belongs to its user, who may put a link anywhere in it at any time. So below it nothing is opened through a link, and
//! what is given away is what was opened, not what has its name by then: a link would make root hand `/etc` over, or copy
//! `/etc/shadow` to where the user reads it.

use crate::accounts::{Home, home};
use crate::fetch::{self, Request};
use crate::{Context, Error};
use kairn_config::{KeySource, SshKey};
use kairn_host::files;
use kairn_report::{Event, Report, Sink};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = ".ssh";
const FILE: &str = "authorized_keys";
/// The file until it is whole.
const PARTIAL: &str = ".authorized_keys.kairn-new";
/// Largest file that is added to, in bytes.
const LIMIT: u64 = 1 << 20;

/// Largest list of keys that is fetched, in bytes.
const FETCHED: u64 = 256 << 10;

/// Adds keys to a user's `authorized_keys`; says whether any was missing. None is ever taken out: who takes a key out of the
/// configuration, or out of where it was fetched from, has to take it out of the file as well.
///
/// # Errors
/// Of several sources that cannot be fetched each is named, once the other keys are in their place.
pub fn ensure(context: &Context, name: &str, keys: &[SshKey], sink: &mut dyn Sink) -> Result<bool, Error> {
    let home = home(context, name)?;
    let mut lines = Vec::new();
    let mut missing = Vec::new();
    for key in keys {
        match key {
            SshKey::Line(line) => lines.push(line.clone()),
            SshKey::Remote(source) => match fetch(context, source, sink) {
                Ok(fetched) => lines.extend(fetched),
                Err(why) => missing.push(why),
            },
        }
    }
    let changed = add(context, &home, &lines)?;
    if missing.is_empty() { Ok(changed) } else { Err(Error::Keys { name: name.to_owned(), why: missing.join("; ") }) }
}

/// Fetches the lines of a source; what is no key is left out, so that a page of words never gets into the file.
fn fetch(context: &Context, source: &KeySource, sink: &mut dyn Sink) -> Result<Vec<String>, String> {
    let request = Request::new(source.url.reveal().clone(), FETCHED, context.fetch_deadline);
    let (_, body) = fetch::bytes(context.fetch.as_ref(), &request, context.patience, sink)
        .map_err(|error| Report::from(error).chain.join(": "))?;
    let text = String::from_utf8(body).map_err(|_| format!("what `{}` sends is no text", source.name))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (keys, other): (Vec<_>, Vec<_>) = lines.map(str::to_owned).partition(|line| is_key(line));
    if keys.is_empty() {
        return Err(format!("`{}` has no keys", source.name));
    }
    if !other.is_empty() {
        let what = format!("{} lines of `{}` are no keys and were left out", other.len(), source.name);
        sink.event(Event::warning(what));
    }
    Ok(keys)
}

/// What is fetched has its type first: options before it, such as a command, are not for somebody else to say.
fn is_key(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"].iter().any(|known| kind.starts_with(known));
    let base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    known && words.next().is_some_and(|key| key.bytes().all(base64)) && !line.contains('\0')
}

/// Adds the lines that the file lacks; says whether there were any.
fn add(context: &Context, home: &Home, lines: &[String]) -> Result<bool, Error> {
    if lines.is_empty() {
        return Ok(false);
    }
    let place = Place { home: context.at(&home.path) };
    let dir = place.open_dir()?;
    let before = match &dir {
        Some(dir) => place.read(dir)?,
        None => String::new(),
    };
    let mut text = before.clone();
    for line in lines {
        if text.lines().any(|present| present == line) {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    if text == before {
        return Ok(false);
    }
    let dir = match dir {
        Some(dir) => dir,
        None => place.make_dir()?,
    };
    place.write(&dir, &text, home)?;
    Ok(true)
}

/// Where a user's keys lie.
struct Place {
    home: PathBuf,
}

impl Place {
    fn dir(&self) -> PathBuf {
        self.home.join(DIRECTORY)
    }

    fn failed(&self, action: &'static str, errno: Errno) -> Error {
        Error::path(action, self.dir().join(FILE))(errno.into())
    }

    /// Opens the directory; `None` when it is absent.
    fn open_dir(&self) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let home = match rustix::fs::open(&self.home, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(|errno| Error::path("open", &self.home)(errno.into()))?,
        };
        match openat(&home, DIRECTORY, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            // Linux says ENOTDIR for a link that is not followed where a directory is wanted.
            Err(Errno::LOOP | Errno::NOTDIR) => Err(in_the_way(&home, DIRECTORY, self.dir(), "a directory")),
            opened => opened.map(Some).map_err(|errno| Error::path("open", self.dir())(errno.into())),
        }
    }

    fn make_dir(&self) -> Result<OwnedFd, Error> {
        files::make_dir(&self.home, 0o755)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let home = rustix::fs::open(&self.home, flags, Mode::empty());
        let home = home.map_err(|errno| Error::path("open", &self.home)(errno.into()))?;
        match mkdirat(&home, DIRECTORY, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::path("make", self.dir())(errno.into())),
        }
        let gone = || Error::path("open", self.dir())(Errno::NOENT.into());
        self.open_dir()?.ok_or_else(gone)
    }

    fn read(&self, dir: &OwnedFd) -> Result<String, Error> {
        let path = self.dir().join(FILE);
        // A pipe without a writer would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(dir, FILE, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(String::new()),
            Err(Errno::LOOP) => return Err(in_the_way(dir, FILE, path, "a file")),
            opened => File::from(opened.map_err(|errno| self.failed("read", errno))?),
        };
        if !file.metadata().map_err(Error::path("read", &path))?.is_file() {
            return Err(Error::InTheWay { path, found: "no regular file", wanted: "a file" });
        }
        let mut text = String::new();
        file.take(LIMIT + 1).read_to_string(&mut text).map_err(Error::path("read", &path))?;
        if text.len() as u64 > LIMIT {
            return Err(Error::InTheWay { path, found: "larger than a mebibyte", wanted: "a file of keys" });
        }
        Ok(text)
    }

    /// Replaces the file whole and gives it and its directory to the user.
    fn write(&self, dir: &OwnedFd, text: &str, home: &Home) -> Result<(), Error> {
        let failed = |errno| self.failed("write", errno);
        give(dir, 0o700, home).map_err(failed)?;
        match unlinkat(dir, PARTIAL, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(dir, PARTIAL, flags, Mode::from_raw_mode(0o600)).map_err(failed)?);
        file.write_all(text.as_bytes()).map_err(Error::path("write", self.dir().join(FILE)))?;
        give(&file, 0o600, home).map_err(failed)?;
        fsync(&file).map_err(failed)?;
        renameat(dir, PARTIAL, dir, FILE).map_err(failed)?;
        fsync(dir).map_err(failed)
    }
}

/// Owner first: changing it drops set-id bits.
fn give(object: &impl AsFd, mode: u32, home: &Home) -> rustix::io::Result<()> {
    fchown(object, Some(Uid::from_raw(home.uid)), Some(Gid::from_raw(home.gid)))?;
    fchmod(object, Mode::from_raw_mode(mode))
}

fn in_the_way(dir: &OwnedFd, name: &str, path: PathBuf, wanted: &'static str) -> Error {
    let is_link = rustix::fs::readlinkat(dir, Path::new(name), Vec::new()).is_ok();
    Error::InTheWay { path, found: if is_link { "a link" } else { "something else" }, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::fetch::tests::Pages;
    use std::fs;
    use std::sync::Arc;

    /// A root with one user, whose number is ours, and pages that can be fetched.
    fn root(pages: &[(&str, &str)]) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let me = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        fs::write(dir.path().join("etc/passwd"), format!("ann:x:{me}:{group}::/home/ann:/bin/sh\n")).unwrap();
        let context = Context { fetch: Arc::new(Pages::new(pages)), ..context(dir.path()) };
        (dir, context)
    }

    fn remote(text: &str) -> SshKey {
        SshKey::Remote(KeySource::parse(text).unwrap())
    }

    #[test]
    fn keys_are_fetched_once_each_and_none_is_taken_out() {
        let (dir, context) = root(&[("https://github.com/ann.keys", "ssh-ed25519 AAAA\r\n\nssh-rsa BBBB x\n")]);
        let file = dir.path().join("home/ann/.ssh/authorized_keys");
        let keys = [SshKey::Line("ssh-ed25519 CCCC ann".into()), remote("github:ann")];
        assert!(ensure(&context, "ann", &keys, &mut Vec::new()).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "ssh-ed25519 CCCC ann\nssh-ed25519 AAAA\nssh-rsa BBBB x\n");
        assert!(!ensure(&context, "ann", &keys, &mut Vec::new()).unwrap());
        let (_, other) = root(&[("https://github.com/ann.keys", "ssh-ed25519 DDDD\n")]);
        let context = Context { root: dir.path().to_owned(), ..other };
        assert!(ensure(&context, "ann", &keys, &mut Vec::new()).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 4);
    }

    #[test]
    fn a_source_that_fails_is_named_and_the_other_keys_are_in_place() {
        let page = "<html>ssh-rsa none</html>\ncommand=\"evil\" ssh-rsa AAAA\n";
        let (dir, context) = root(&[("https://h/page", page), ("https://h/both", "ssh-rsa EEEE\nwords\n")]);
        let keys = [
            remote("https://me:s3cret@h/gone?token=s3cret"),
            remote("https://h/page"),
            remote("https://h/both"),
            SshKey::Line("ssh-ed25519 CCCC".into()),
        ];
        let mut events = Vec::new();
        let error = ensure(&context, "ann", &keys, &mut events).unwrap_err().to_string();
        let expected =
            "keys of `ann` cannot be fetched: `https://h/gone?…` answers with status 404; `https://h/page` has no keys";
        assert_eq!(error, expected);
        let text = fs::read_to_string(dir.path().join("home/ann/.ssh/authorized_keys")).unwrap();
        assert_eq!(text, "ssh-rsa EEEE\nssh-ed25519 CCCC\n");
        assert!(
            matches!(&events[..], [Event::Warning { text }] if text == "1 lines of `https://h/both` are no keys and were left out")
        );
        assert!(!format!("{events:?}").contains("s3cret"));
    }
}
