//! Keys in homes.
//!
//! Invariant: a home belongs to its user, who may put a link anywhere in it at any time. So below it nothing is opened through a link, and
//! what is given away is what was opened, not what has its name by then: a link would make root hand `/etc` over, or copy
//! `/etc/shadow` to where the user reads it.

use crate::accounts::{Home, home};
use crate::{Context, Error};
use kairn_config::SshKey;
use kairn_host::files;
use kairn_report::{Event, Sink};
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

/// Adds keys to a user's `authorized_keys`; says whether any was missing.
pub fn ensure(context: &Context, name: &str, keys: &[SshKey], sink: &mut dyn Sink) -> Result<bool, Error> {
    let home = home(context, name)?;
    let place = Place { home: context.at(&home.path) };
    let dir = place.open_dir()?;
    let before = match &dir {
        Some(dir) => place.read(dir)?,
        None => String::new(),
    };
    let text = added(&before, name, keys, sink);
    if text == before {
        return Ok(false);
    }
    let dir = match dir {
        Some(dir) => dir,
        None => place.make_dir()?,
    };
    place.write(&dir, &text, &home)?;
    Ok(true)
}

/// The text with the keys that it lacks.
fn added(before: &str, name: &str, keys: &[SshKey], sink: &mut dyn Sink) -> String {
    let mut text = before.to_owned();
    for key in keys {
        match key {
            SshKey::Remote(from) => {
                sink.event(Event::warning(format!(
                    "keys of `{name}` from `{from}`: fetching keys is not supported yet"
                )));
            }
            SshKey::Line(line) if text.lines().any(|present| present == line) => {}
            SshKey::Line(line) => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
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
