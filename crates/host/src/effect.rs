//! Changes of the machine as values.
//!
//! Invariant: an operation changes the machine through [`Machine::apply`] only. Other programs write only objects that nothing
//! refers to yet ([`Effect::Run`]); a [`Effect::SyncTree`] or [`Effect::SyncDevice`] and a verification follow before the
//! effect that refers to them.

use crate::{Error, Invocation};
use serde::Serialize;
use std::path::PathBuf;

/// Bytes of an effect: in the journal as length and digest only.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use sha2::Digest as _;
        serializer.serialize_str(&format!(
            "{} bytes sha256:{}",
            self.0.len(),
            hex::encode(sha2::Sha256::digest(&self.0))
        ))
    }
}

/// One change of the machine. Paths are those of the running system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// Makes a directory and its parents; existing ones stay.
    MakeDir {
        /// The directory.
        path: PathBuf,
        /// Permission bits of the last one.
        mode: u32,
    },
    /// Writes a file whole: temporary name in the same directory, write, fsync, rename, fsync directory.
    WriteFile {
        /// The file.
        path: PathBuf,
        /// What it will hold.
        content: Content,
        /// Permission bits.
        mode: u32,
    },
    /// Copies a file whole in the same way and compares the digest of what was read back past the page cache.
    CopyFile {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
        /// Expected SHA-256 of the content, hex.
        sha256: String,
    },
    /// Writes a file under a name that did not exist, fsyncs it and its directory; never replaces (FAT: see `firmware`).
    CreateFile {
        /// The file.
        path: PathBuf,
        /// What it will hold.
        content: Content,
    },
    /// Renames and fsyncs the directory; refuses to replace.
    Rename {
        /// From.
        from: PathBuf,
        /// To, in the same file system.
        to: PathBuf,
    },
    /// Removes a file and fsyncs the directory; absent is fine.
    RemoveFile {
        /// The file.
        path: PathBuf,
    },
    /// Removes a tree without following links or crossing mounts; absent is fine.
    RemoveTree {
        /// The directory.
        path: PathBuf,
    },
    /// Writes bytes to a block device or image file at an offset and fsyncs it.
    WriteDevice {
        /// The device.
        path: PathBuf,
        /// Offset in bytes.
        offset: u64,
        /// The bytes.
        content: Content,
    },
    /// Tells the kernel that the partition table changed and waits for the partitions named.
    RereadPartitions {
        /// The disk.
        disk: PathBuf,
        /// Partition devices that must exist afterwards.
        expect: Vec<PathBuf>,
    },
    /// Runs another program that writes `object`, to which nothing refers yet; after a crash the object may be partial. Or one that grows,
    /// names or repairs the file system on it, which can be run again.
    Run {
        /// The staging file, tree or unformatted partition.
        object: PathBuf,
        /// The program.
        program: Invocation,
    },
    /// Announces that something other than effects (an unpacker, a program in a sandbox) writes `object` from here on, to which nothing
    /// refers yet; after a crash the object may be partial. Applying it changes nothing.
    Fill {
        /// The staging file or tree.
        object: PathBuf,
        /// Who writes, in words.
        by: String,
    },
    /// Announces that the steps of a stage of the configuration run, which change whatever their owner wants. Applying it changes nothing.
    Stage {
        /// Its name.
        name: String,
    },
    /// Syncs the file system that holds a path (`syncfs`).
    SyncTree {
        /// Any path in it.
        path: PathBuf,
    },
    /// Flushes a block device.
    SyncDevice {
        /// The device.
        path: PathBuf,
    },
    /// Mounts a block device.
    Mount {
        /// The device.
        device: PathBuf,
        /// The mount point, which exists.
        target: PathBuf,
        /// File system type.
        fs_type: String,
        /// Read-only.
        read_only: bool,
    },
    /// Changes a mount between read-only and read-write.
    Remount {
        /// The mount point.
        target: PathBuf,
        /// Read-only.
        read_only: bool,
    },
    /// Unmounts.
    Unmount {
        /// The mount point.
        target: PathBuf,
    },
    /// Unmounts for the machine as a whole, not only in the operation's own mount namespace: what is mounted there can be formatted.
    UnmountForAll {
        /// The mount point.
        target: PathBuf,
    },
    /// Mounts a block device for the machine as a whole and in the operation's own mount namespace, read-write.
    MountForAll {
        /// The device.
        device: PathBuf,
        /// The mount point, which exists.
        target: PathBuf,
        /// File system type.
        fs_type: String,
    },
    /// Sets an EFI variable.
    SetVariable {
        /// `<name>-<guid>` as in efivarfs.
        name: String,
        /// Attributes, UEFI specification section 8.2.
        attributes: u32,
        /// The data.
        content: Content,
    },
    /// Removes an EFI variable; absent is fine.
    RemoveVariable {
        /// `<name>-<guid>`.
        name: String,
    },
    /// Reboots or powers off.
    Restart {
        /// Power off instead.
        power_off: bool,
    },
}

/// Applies effects.
pub trait Machine {
    /// Applies one effect; when it returns, the effect is durable.
    ///
    /// # Errors
    /// The error names the object. The effect may then be partly applied only where its description says so.
    fn apply(&mut self, effect: &Effect) -> Result<(), Error>;
}

/// Records effects before it hands them on; with `None` behind it, a dry run.
#[derive(Default)]
pub struct Recorder<'a> {
    /// What was applied, in order.
    pub effects: Vec<Effect>,
    /// Who applies them.
    pub behind: Option<&'a mut dyn Machine>,
}

impl Machine for Recorder<'_> {
    fn apply(&mut self, effect: &Effect) -> Result<(), Error> {
        self.effects.push(effect.clone());
        match &mut self.behind {
            Some(machine) => machine.apply(effect),
            None => Ok(()),
        }
    }
}

/// Stops the machine after a number of effects, as a power cut would: every further effect is refused with
/// [`Error::PowerCut`] and leaves no trace. For tests that cut an operation before each of its effects, look at what is
/// left, and run the operation again.
///
/// Effects are whole or absent here. What is torn within one (a partial object of [`Effect::Run`], lost cache of a disk) is
/// the business of tests on the disk's own write log.
pub struct StopAfter<'a> {
    /// Who applies those that pass.
    pub behind: &'a mut dyn Machine,
    /// How many still pass.
    pub left: usize,
    /// How many passed; the operation is finished when it ends with `left` still above zero.
    pub passed: usize,
}

impl<'a> StopAfter<'a> {
    /// Lets `left` effects pass.
    pub fn new(behind: &'a mut dyn Machine, left: usize) -> Self {
        Self { behind, left, passed: 0 }
    }
}

impl Machine for StopAfter<'_> {
    fn apply(&mut self, effect: &Effect) -> Result<(), Error> {
        self.left = self.left.checked_sub(1).ok_or(Error::PowerCut(self.passed + 1))?;
        self.behind.apply(effect)?;
        self.passed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_lets_exactly_the_effects_before_it_pass_and_then_none() {
        let effect = |name: &str| Effect::RemoveFile { path: name.into() };
        let mut recorder = Recorder::default();
        let mut stop = StopAfter::new(&mut recorder, 2);
        stop.apply(&effect("a")).unwrap();
        stop.apply(&effect("b")).unwrap();
        assert!(matches!(stop.apply(&effect("c")), Err(Error::PowerCut(3))));
        assert!(matches!(stop.apply(&effect("d")), Err(Error::PowerCut(3))));
        assert_eq!((stop.left, stop.passed), (0, 2));
        assert_eq!(recorder.effects, [effect("a"), effect("b")]);
    }
}
