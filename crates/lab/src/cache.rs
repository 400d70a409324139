//! Base images and other slow results, kept by the hash of what they were made from.
//!
//! Invariant: an entry is complete or absent. It is built in a directory of its own under a lock and renamed into place.
//!
//! What all entries hold in common, e.g. the programs under test, makes a generation. Who opens one holds a shared lock on it, and a
//! generation that nobody has opened is removed for newer ones.

use crate::Error;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The inputs of an entry, hashed; the order in which they are added counts.
#[derive(Clone)]
pub struct Key {
    name: String,
    hash: Sha256,
}

impl Key {
    /// Begins a key; the name is for people who look into the cache.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), hash: Sha256::new() }
    }

    /// Adds a named text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.field(name, value.as_bytes());
        self
    }

    /// Adds the content of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(mut self, path: &Path) -> Result<Self, Error> {
        let mut content = Sha256::new();
        let mut file = File::open(path).map_err(Error::path("open", path))?;
        io::copy(&mut file, &mut content).map_err(Error::path("read", path))?;
        self.field("file", &content.finalize());
        Ok(self)
    }

    /// Lengths go in too, so that no two lists of inputs give the same bytes.
    fn field(&mut self, name: &str, value: &[u8]) {
        for bytes in [name.as_bytes(), value] {
            self.hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            self.hash.update(bytes);
        }
    }

    /// Returns the name of the entry: the key's name and 16 hex digits.
    #[must_use]
    pub fn entry(&self) -> String {
        let hash = hex::encode(self.hash.clone().finalize());
        format!("{}-{}", self.name, hash.get(..16).unwrap_or(&hash))
    }
}

/// A directory of entries; each entry is a directory.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    /// Locked while this or a clone of it lives; absent where there is but one generation.
    _generation: Option<Arc<Opened>>,
}

/// The shared lock on a generation.
#[derive(Debug)]
struct Opened {
    lock: File,
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Unlocked and not only closed: a program that another thread has started shares the open file until its exec.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "a generation of the cache stays locked until this process ends");
        }
    }
}

impl Cache {
    /// Opens a cache, making its directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(Error::path("create", &dir))?;
        Ok(Self { dir, _generation: None })
    }

    /// Opens the entries of one generation in a cache of several, and removes the others but for the `kept` that were opened last
    /// and those that are open.
    ///
    /// # Errors
    /// The directory cannot be made or listed, or an old generation cannot be removed.
    pub fn open_generation(root: &Path, generation: &Key, kept: usize) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::path("create", root))?;
        let path = lock_path(root, &generation.entry());
        let lock = File::create(&path).map_err(Error::path("create", &path))?;
        lock.lock_shared().map_err(Error::path("lock", &path))?;
        let opened = Opened { lock };
        opened.lock.set_modified(SystemTime::now()).map_err(Error::path("touch", &path))?;
        for old in others(root, &generation.entry())?.into_iter().skip(kept) {
            let lock = lock_path(root, &old);
            // Not truncated: when it was written last is when the generation was opened last.
            let file = File::options().write(true).create(true).truncate(false).open(&lock);
            let file = file.map_err(Error::path("open", &lock))?;
            // Who has it open goes on with it.
            if file.try_lock().is_ok() {
                remove(&root.join(&old))?;
            }
        }
        let mut cache = Self::open(root.join(generation.entry()))?;
        cache._generation = Some(Arc::new(opened));
        Ok(cache)
    }

    /// Returns the entry of a key; when it is absent, `build` fills an empty directory for it. Who asks for the same key
    /// meanwhile, in this or another process, waits for the one who builds.
    ///
    /// # Errors
    /// Those of `build`, whose half-done work is removed; or the cache cannot be written.
    pub fn get_or_build<E: From<Error>>(
        &self,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let entry = self.dir.join(key.entry());
        let lock_path = lock_path(&self.dir, &key.entry());
        let lock = File::create(&lock_path).map_err(Error::path("create", &lock_path))?;
        lock.lock().map_err(Error::path("lock", &lock_path))?;
        if entry.is_dir() {
            return Ok(entry);
        }
        let partial = self.dir.join(format!("{}.partial", key.entry()));
        remove(&partial)?;
        fs::create_dir(&partial).map_err(Error::path("create", &partial))?;
        if let Err(error) = build(&partial) {
            if let Err(left) = remove(&partial) {
                tracing::warn!(error = %left, "half-done work stays in the cache");
            }
            return Err(error);
        }
        fs::rename(&partial, &entry).map_err(Error::path("rename", &partial))?;
        Ok(entry)
    }
}

/// The lock of a directory lies beside it, and stays when that goes: so nobody can lock what another has unlinked.
fn lock_path(root: &Path, name: &str) -> PathBuf {
    root.join(format!("{name}.lock"))
}

/// Returns the names of all generations but one, the one opened last first.
fn others(root: &Path, but: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::path("list", root))? {
        let entry = entry.map_err(Error::path("list", root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != but && entry.path().is_dir() {
            let opened = lock_path(root, &name).metadata().and_then(|lock| lock.modified());
            found.push((opened.unwrap_or(SystemTime::UNIX_EPOCH), name));
        }
    }
    found.sort();
    Ok(found.into_iter().rev().map(|(_, name)| name).collect())
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn an_entry_is_built_once_however_many_ask() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache")).unwrap();
        let (key, built) = (Key::new("base").text("suite", "bookworm"), AtomicUsize::new(0));
        let ask = || {
            cache.get_or_build(&key, |dir| {
                built.fetch_add(1, Ordering::SeqCst);
                fs::write(dir.join("image"), "x").map_err(Error::path("write", dir))
            })
        };
        std::thread::scope(|scope| {
            let askers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            for asker in askers {
                assert!(asker.join().unwrap().unwrap().join("image").is_file());
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let key = Key::new("base");
        let failed = cache.get_or_build(&key, |dir| {
            fs::write(dir.join("half"), "x").unwrap();
            Err(Error::NotRunning { name: "x".into() })
        });
        assert!(failed.is_err());
        let entry =
            cache.get_or_build(&key, |dir| fs::write(dir.join("whole"), "x").map_err(Error::path("write", dir)));
        let names: Vec<_> = fs::read_dir(entry.unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["whole"]);
    }

    #[test]
    fn old_generations_go_but_for_those_opened_last_and_those_that_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Cache::open_generation(dir.path(), &Key::new(name), 1).unwrap();
        let there = || {
            let all = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap());
            let dirs = all.filter(|file| file.path().is_dir()).map(|file| file.file_name().into_string().unwrap());
            let mut names: Vec<String> = dirs.map(|name| name.split('-').next().unwrap().to_owned()).collect();
            names.sort();
            names.concat()
        };
        let first = open("a");
        first.get_or_build(&Key::new("x"), |_| Ok::<(), Error>(())).unwrap();
        drop(open("b"));
        assert_eq!(there(), "ab");
        drop(open("c"));
        assert_eq!(there(), "abc", "`a` is open");
        drop(first.clone());
        drop(open("d"));
        assert_eq!(there(), "acd", "a clone of it closes nothing");
        drop(first);
        drop(open("c"));
        assert_eq!(there(), "cd");
    }

    #[test]
    fn a_generation_is_closed_although_a_program_on_its_way_shares_its_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Cache::open_generation(dir.path(), &Key::new(name), 0).unwrap();
        let old = open("old");
        let shared = old._generation.as_ref().unwrap().lock.try_clone().unwrap();
        let path = old.dir.clone();
        drop(old);
        drop(open("new"));
        assert!(!path.exists(), "{shared:?} keeps it");
    }

    #[test]
    fn keys_differ_when_any_input_differs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let entry = |key: Key| key.entry();
        fs::write(&file, "1").unwrap();
        let one = entry(Key::new("k").file(&file).unwrap());
        fs::write(&file, "2").unwrap();
        assert_ne!(one, entry(Key::new("k").file(&file).unwrap()));
        assert_ne!(entry(Key::new("k").text("a", "bc")), entry(Key::new("k").text("ab", "c")));
        assert_eq!(entry(Key::new("k").text("a", "b")), entry(Key::new("k").text("a", "b")));
    }
}
