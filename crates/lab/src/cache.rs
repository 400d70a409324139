//! Base images and other slow results, kept by the hash of what they were made from.
//!
//! Invariant: an entry is complete or absent. It is built in a directory of its own under a lock and renamed into place.

use crate::Error;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

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
}

impl Cache {
    /// Opens a cache, making its directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(Error::path("create", &dir))?;
        Ok(Self { dir })
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
        let lock_path = self.dir.join(format!("{}.lock", key.entry()));
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
