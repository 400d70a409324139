//! ext4 file systems in files, without root and the same bytes every time.
//!
//! `mke2fs -d` would fill them too, but takes change times from the source directory, which nobody can set. `debugfs` makes
//! every inode with the time that it is told and with owner root.

use crate::Error;
use kairn_host::{Invocation, Runner};
use kairn_layout::Bytes;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Features, named one by one so that no `mke2fs.conf` decides. `metadata_csum_seed` lets the first boot of a disk image give
/// a mounted file system a UUID of its own: without it the UUID is part of every checksum.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
    huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed";

/// A file system to make.
#[derive(Clone, Debug)]
pub(crate) struct Ext4 {
    /// Its label.
    pub(crate) label: String,
    /// Its size.
    pub(crate) size: Bytes,
    /// Its UUID, from which the seed of directory hashes is derived.
    pub(crate) uuid: Uuid,
    /// Time of everything, in seconds since 1970.
    pub(crate) epoch: u64,
    /// Directories, parents first.
    pub(crate) dirs: Vec<String>,
    /// Files, in the order in which they get their blocks.
    pub(crate) files: Vec<FileIn>,
}

/// A file in it.
#[derive(Clone, Debug)]
pub(crate) struct FileIn {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Source,
}

/// Where a file's content is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

impl Ext4 {
    /// Makes the file system in a new file; `work` is an empty directory for scratch files.
    pub(crate) fn write(&self, image: &Path, work: &Path, runner: &Runner) -> Result<(), Error> {
        let file = File::create(image).map_err(Error::path("create", image))?;
        file.set_len(self.size.0).map_err(Error::path("extend", image))?;
        drop(file);
        let image = fs::canonicalize(image).map_err(Error::path("find", image))?.to_string_lossy().into_owned();
        let time = self.epoch.to_string();
        // `lazy_itable_init` would leave the inode
        // tables to a kernel thread; on a sparse file they are zero already.
        let format = Invocation::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0"])
            .args(["-O", FEATURES, "-L", &self.label])
            // Checksums that do not contain the UUID: the first boot of a disk image changes it while the file system is mounted.
            .args(["-O", "metadata_csum_seed"])
            .args(["-U", &self.uuid.to_string(), "-e", "remount-ro", "-E"])
            .arg(format!("hash_seed={},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", self.hash_seed()))
            .arg(&image)
            .env("MKE2FS_CONFIG", "/dev/null")
            .env("E2FSPROGS_FAKE_TIME", &time)
            .env("SOURCE_DATE_EPOCH", &time);
        runner.run(&format).map_err(Error::needs("e2fsprogs"))?;
        let commands = self.commands(work)?;
        let fill = Invocation::new("debugfs")
            .args(["-w", "-f", "-", &image])
            .dir(work)
            .stdin(commands)
            .env("E2FSPROGS_FAKE_TIME", &time)
            .env("DEBUGFS_PAGER", "cat")
            .deadline(Duration::from_secs(1800));
        let filled = runner.run(&fill).map_err(Error::needs("e2fsprogs"))?;
        // debugfs exits with zero whatever happened; its only banner is its name and version.
        let said = filled.stderr.lines().filter(|line| !line.starts_with("debugfs ")).collect::<Vec<_>>().join("; ");
        if !said.is_empty() {
            return Err(Error::FileSystem { label: self.label.clone(), said });
        }
        let check = Invocation::new("e2fsck").args(["-f", "-n", &image]);
        let checked = runner.run_unchecked(&check).map_err(Error::needs("e2fsprogs"))?;
        if checked.status.success() {
            return Ok(());
        }
        Err(Error::FileSystem { label: self.label.clone(), said: checked.text().trim().replace('\n', "; ") })
    }

    fn hash_seed(&self) -> Uuid {
        Uuid::from_u128(self.uuid.as_u128().rotate_left(64))
    }

    /// Renders what debugfs reads. Sources are linked under plain names in `work`, since debugfs splits at blanks.
    fn commands(&self, work: &Path) -> Result<Vec<u8>, Error> {
        let mut text = format!("set_current_time @{}\n", self.epoch);
        // Writing to a String cannot fail.
        let mut line = |command: String| writeln!(text, "{command}").unwrap_or_default();
        for dir in &self.dirs {
            line(format!("mkdir \"{dir}\""));
        }
        for (number, file) in self.files.iter().enumerate() {
            let name = format!("f{number}");
            let staged = work.join(&name);
            match &file.content {
                Source::Path(path) => {
                    let path = fs::canonicalize(path).map_err(Error::path("find", path))?;
                    symlink(path, &staged).map_err(Error::path("link", &staged))?;
                }
                Source::Bytes(bytes) => fs::write(&staged, bytes).map_err(Error::path("write", &staged))?,
            }
            line(format!("write {name} \"{}\"", file.path));
            line(format!("set_inode_field \"{}\" mode 0{:o}", file.path, 0o100_000 | file.mode));
        }
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dir: &Path) -> Ext4 {
        let large = dir.join("large file");
        fs::write(&large, [vec![7; 100_000], vec![0; 300_000], b"end".to_vec()].concat()).unwrap();
        Ext4 {
            label: "COS_TEST".to_owned(),
            size: Bytes::mib(64),
            uuid: Uuid::from_u128(7),
            epoch: 1_700_000_000,
            dirs: vec!["kairn".to_owned(), "kairn/x".to_owned()],
            files: vec![
                FileIn { path: "kairn/x/large".to_owned(), mode: 0o644, content: Source::Path(large) },
                FileIn {
                    path: "90_custom.yaml".to_owned(),
                    mode: 0o600,
                    content: Source::Bytes(b"#cloud-config\n".to_vec()),
                },
            ],
        }
    }

    fn made(spec: &Ext4, dir: &Path, name: &str) -> Option<PathBuf> {
        let (image, work) = (dir.join(name), dir.join(format!("{name}.work")));
        fs::create_dir(&work).unwrap();
        match spec.write(&image, &work, &Runner::default()) {
            Ok(()) => Some(image),
            Err(Error::MissingProgram { program, .. }) => {
                eprintln!("skipped: {program} is not installed");
                None
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn two_file_systems_of_the_same_files_are_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let spec = sample(dir.path());
        let Some(first) = made(&spec, dir.path(), "first") else { return };
        // A second that differs would show in a time stamp.
        std::thread::sleep(Duration::from_millis(1100));
        let second = made(&spec, dir.path(), "second").unwrap();
        assert!(fs::read(&first).unwrap() == fs::read(second).unwrap());
        let image = first.to_string_lossy().into_owned();
        let cat = Invocation::new("debugfs").args(["-R", "cat kairn/x/large", &image]);
        let content = Runner::default().run(&cat).unwrap().stdout;
        assert!(content == fs::read(dir.path().join("large file")).unwrap());
        let stat = Invocation::new("debugfs").args(["-R", "stat 90_custom.yaml", &image]);
        let text = Runner::default().run(&stat).unwrap().text();
        assert!(text.contains("Mode:  0600") && text.contains("User:     0"), "{text}");
    }

    #[test]
    fn what_debugfs_only_mutters_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = sample(dir.path());
        spec.dirs.clear();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        match spec.write(&dir.path().join("image"), &work, &Runner::default()) {
            Err(Error::FileSystem { said, .. }) => assert!(said.contains("not found"), "{said}"),
            Err(Error::MissingProgram { program, .. }) => eprintln!("skipped: {program} is not installed"),
            other => panic!("{other:?}"),
        }
    }
}
