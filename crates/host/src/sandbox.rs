//! Running a program of a foreign tree inside that tree: own mounts, processes, host name, IPC and network, an environment of
//! its own, and few capabilities, so that what it makes is a function of the tree alone.
//!
//! It works as root and as root of a user namespace. The child is set up by a list of steps that is made before the fork,
//! since between fork and exec of a program with threads only system calls are allowed, no allocation. Mounts from
//! outside are cloned as detached trees first and attached after the root was changed, so no link in the tree can lead them
//! astray.
#![allow(unsafe_code, reason = "a child sets up its namespaces between fork and exec")]

use crate::program::{checked, end_with, finish};
use crate::{Error, Finished, Invocation};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsmount, fsopen, mount, mount_change, move_mount, open_tree, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, UnshareFlags};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// Where [`Sandbox::for_sealing`] shows the tree once more, as it is: without the mounts that the sandbox lays over it.
pub const SEAL_TREE: &str = "/run/seal/tree";
/// Where [`Sandbox::for_sealing`] takes the results.
pub const SEAL_OUTPUT: &str = "/run/seal/out";

/// The child could not be set up; the pipe says why.
const SETUP_FAILED: i32 = 125;

/// Devices that programs expect and that give away nothing of the machine.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What a program that makes images does not need, and an untrusted tree must not have when the caller is the machine's root.
const DROPPED: [CapabilitySet; 15] = [
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYS_PTRACE,
    CapabilitySet::SYS_PACCT,
    CapabilitySet::SYSLOG,
    CapabilitySet::MKNOD,
    CapabilitySet::NET_ADMIN,
    CapabilitySet::LINUX_IMMUTABLE,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::BPF,
    CapabilitySet::PERFMON,
];

struct Bind {
    from: PathBuf,
    to: PathBuf,
    read_only: bool,
}

/// A tree to run programs in.
pub struct Sandbox {
    tree: PathBuf,
    binds: Vec<Bind>,
    network: bool,
    writable: bool,
}

impl Sandbox {
    /// Names the tree. It is its program's root, read-only; `/proc`, `/dev`, `/run` and `/tmp` in it are fresh, `/sys` is as
    /// the tree has it: empty.
    pub fn new(tree: impl Into<PathBuf>) -> Self {
        Self { tree: tree.into(), binds: Vec::new(), network: false, writable: false }
    }

    /// Prepares for sealing: the tree at [`SEAL_TREE`], writable since sealing sets its file times, an output directory at
    /// [`SEAL_OUTPUT`].
    pub fn for_sealing(tree: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        let tree = tree.into();
        Self::new(&tree).bind(tree, SEAL_TREE, false).bind(output, SEAL_OUTPUT, false)
    }

    /// Shows a file or directory of the machine, without what is mounted below it. Mount points are made below `/run` and
    /// `/tmp`; elsewhere they must exist unless the tree is writable.
    #[must_use]
    pub fn bind(mut self, from: impl Into<PathBuf>, to: impl Into<PathBuf>, read_only: bool) -> Self {
        self.binds.push(Bind { from: from.into(), to: to.into(), read_only });
        self
    }

    /// Leaves the program in the caller's network; without this it has none, not even loopback.
    #[must_use]
    pub const fn network(mut self, network: bool) -> Self {
        self.network = network;
        self
    }

    /// Lets the program write to the tree.
    #[must_use]
    pub const fn writable(mut self, writable: bool) -> Self {
        self.writable = writable;
        self
    }

    /// Runs a program of the tree to its end and fails unless it exits with zero. Its name is looked up in the tree; it gets
    /// `PATH`, `HOME`, `LANG` and what the invocation adds, nothing of the caller's environment. When it ends, all
    /// processes that it left behind are killed.
    ///
    /// # Errors
    /// The sandbox could not be set up (names the path and what was tried), or those of [`crate::Runner::run`].
    pub fn run(&self, invocation: &Invocation) -> Result<Finished, Error> {
        checked(invocation, self.run_unchecked(invocation)?)
    }

    /// The same; the exit status is the caller's to judge.
    ///
    /// # Errors
    /// As [`Sandbox::run`], without those of the exit status.
    pub fn run_unchecked(&self, invocation: &Invocation) -> Result<Finished, Error> {
        let steps = self.steps(invocation)?;
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::errno("talk to", &self.tree))?;
        // Read only after the end, so it must not wait for a descriptor that another thread's child holds for a moment.
        rustix::io::ioctl_fionbio(&report, true).map_err(Error::errno("talk to", &self.tree))?;
        let mut command = Command::new(&invocation.program);
        command.args(&invocation.args).env_clear().process_group(0);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LANG", "C.UTF-8");
        command.envs(&invocation.env).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ops: Vec<Op> = steps.iter().map(|step| step.op.clone()).collect();
        let mut child_side = Child {
            parent: rustix::process::getpid(),
            ops,
            trees: (0..steps.len()).map(|_| None).collect(),
            reporter,
            network: self.network,
        };
        // SAFETY: `enter` makes system calls only, on memory that was made here; it neither allocates nor frees.
        unsafe { command.pre_exec(move || child_side.enter()) };
        tracing::debug!(command = %invocation, tree = %self.tree.display(), "running in a sandbox");
        let spawned = command.spawn();
        drop(command);
        let child = spawned.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoProgram { program: invocation.program.clone() },
            _ => Error::Path { action: "run", path: invocation.program.clone().into(), source },
        })?;
        let finished = finish(child, invocation)?;
        if finished.status.code() == Some(SETUP_FAILED)
            && let Some((index, errno)) = read_report(&report)
        {
            let unknown = ("set up a sandbox for", self.tree.as_path());
            let (action, path) = steps.get(index).map_or(unknown, |step| (step.action, step.path.as_path()));
            return Err(Error::errno(action, path)(errno));
        }
        Ok(finished)
    }

    /// Lists what the child has to do before it executes the program.
    fn steps(&self, invocation: &Invocation) -> Result<Vec<Step>, Error> {
        let tree = self.tree.canonicalize().map_err(Error::path("enter", &self.tree))?;
        if tree == Path::new("/") {
            return Err(Error::errno("use as a sandbox", tree)(Errno::INVAL));
        }
        let mut list = Steps::default();
        list.add("make private", "/".as_ref(), |_| Op::Private)?;
        let mut attach = Vec::new();
        for name in DEVICES {
            let device = Path::new("/dev").join(name);
            if device.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device()) {
                let slot = list.clone_tree(&device, false, false)?;
                attach.push((slot, device, false));
            }
        }
        let mut binds = Vec::new();
        for bind in &self.binds {
            let from = bind.from.canonicalize().map_err(Error::path("bind", &bind.from))?;
            let slot = list.clone_tree(&from, bind.read_only, true)?;
            binds.push((slot, plain(&bind.to)?, from.is_dir()));
        }
        // A user namespace may mount /proc only while it sees another whole one: before the old root is gone.
        let proc = list.slot("mount in the sandbox on", "/proc".as_ref(), |_| Op::Proc)?;
        let root = list.clone_tree(&tree, !self.writable, true)?;
        list.add("enter", &tree, |path| Op::Root(root, path))?;

        list.add("mount in the sandbox on", "/proc".as_ref(), |path| Op::Attach(proc, path))?;
        list.tmpfs("/dev", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=755")?;
        list.tmpfs("/run", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755")?;
        list.tmpfs("/tmp", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
        for (name, target) in [
            ("fd", c"/proc/self/fd"),
            ("stdin", c"/proc/self/fd/0"),
            ("stdout", c"/proc/self/fd/1"),
            ("stderr", c"/proc/self/fd/2"),
        ] {
            list.add("link", &Path::new("/dev").join(name), |path| Op::Link(target, path))?;
        }
        list.add("make", "/dev/shm".as_ref(), Op::Directory)?;
        for (slot, to, directory) in attach.into_iter().chain(binds) {
            let mut above: Vec<&Path> = to.ancestors().skip(1).filter(|path| *path != Path::new("/")).collect();
            above.reverse();
            for path in above {
                list.add("make", path, Op::Directory)?;
            }
            list.add("make", &to, if directory { Op::Directory } else { Op::File })?;
            list.add("bind", &to, |path| Op::Attach(slot, path))?;
        }
        list.add("restrict", &tree, |_| Op::Restrict)?;
        let dir = invocation.dir.as_deref().unwrap_or(Path::new("/"));
        list.add("enter", dir, Op::Enter)?;
        Ok(list.0)
    }
}

/// Mount points are named plainly, so that each directory above them can be made.
fn plain(to: &Path) -> Result<PathBuf, Error> {
    let is_plain = to.is_absolute()
        && to.components().skip(1).all(|component| matches!(component, Component::Normal(_)))
        && to.components().count() > 1;
    if is_plain { Ok(to.to_owned()) } else { Err(Error::errno("bind on", to)(Errno::INVAL)) }
}

struct Step {
    action: &'static str,
    path: PathBuf,
    op: Op,
}

#[derive(Clone)]
enum Op {
    Private,
    Clone { from: CString, read_only: bool, no_devices: bool },
    Root(usize, CString),
    Proc,
    Tmpfs { on: CString, flags: MountFlags, options: &'static CStr },
    Directory(CString),
    File(CString),
    Link(&'static CStr, CString),
    Attach(usize, CString),
    Restrict,
    Enter(CString),
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, action: &'static str, path: &Path, op: impl FnOnce(CString) -> Op) -> Result<(), Error> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::errno(action, path)(Errno::INVAL))?;
        self.0.push(Step { action, path: path.to_owned(), op: op(name) });
        Ok(())
    }

    /// Adds a step that makes a detached mount, and returns the slot in which it will lie: the number of the step.
    fn slot(&mut self, action: &'static str, path: &Path, op: impl FnOnce(CString) -> Op) -> Result<usize, Error> {
        self.add(action, path, op)?;
        Ok(self.0.len() - 1)
    }

    fn clone_tree(&mut self, from: &Path, read_only: bool, no_devices: bool) -> Result<usize, Error> {
        self.slot("bind", from, |from| Op::Clone { from, read_only, no_devices })
    }

    fn tmpfs(&mut self, on: &str, flags: MountFlags, options: &'static CStr) -> Result<(), Error> {
        self.add("mount in the sandbox on", Path::new(on), |on| Op::Tmpfs { on, flags, options })
    }
}

/// What the child owns. Nothing of it may be dropped in the child: freeing is not allowed there.
struct Child {
    parent: Pid,
    ops: Vec<Op>,
    trees: Vec<Option<OwnedFd>>,
    reporter: OwnedFd,
    network: bool,
}

impl Child {
    /// Runs in the forked child; returns in the process that will execute the program.
    fn enter(&mut self) -> std::io::Result<()> {
        // Whoever stands by dies with the caller, and the program with who stands by.
        end_with(self.parent)?;
        let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
        if !self.network {
            flags |= UnshareFlags::NEWNET;
        }
        // SAFETY: this process has one thread and does not share its descriptors.
        if let Err(errno) = unsafe { rustix::thread::unshare_unsafe(flags) } {
            self.fail(usize::MAX, errno);
        }
        let clone_flags = libc::CLONE_NEWPID | libc::SIGCHLD;
        // SAFETY: without CLONE_VM and without a new stack, clone(2) is fork; the C library's own fork would run handlers.
        match unsafe { libc::syscall(libc::SYS_clone, clone_flags, 0, 0, 0, 0) } {
            0 => {}
            pid @ 1.. => self.stand_by(i32::try_from(pid).ok().and_then(Pid::from_raw)),
            _ => self.fail(usize::MAX, last_errno()),
        }
        // The program is process 1 of its namespace and must not outlive the process that stands by.
        if let Err(errno) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
            self.fail(usize::MAX, errno);
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        for index in 0..self.ops.len() {
            if let Err(errno) = self.apply(index) {
                self.fail(index, errno);
            }
        }
        Ok(())
    }

    fn apply(&mut self, index: usize) -> rustix::io::Result<()> {
        let tree = |slot: usize| self.trees.get(slot).and_then(Option::as_ref).ok_or(Errno::BADF);
        match self.ops.get(index).ok_or(Errno::INVAL)? {
            Op::Private => mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
            Op::Clone { from, read_only, no_devices } => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                let clone = open_tree(CWD, from.as_c_str(), flags)?;
                set_attributes(&clone, *read_only, *no_devices)?;
                self.keep(index, clone)
            }
            Op::Proc => {
                let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
                fsconfig_create(&context)?;
                let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                self.keep(index, fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
            }
            Op::Root(slot, on) => {
                attach(tree(*slot)?, on)?;
                rustix::process::chdir(on.as_c_str())?;
                // With the same path twice the old root comes to lie on the new one, from where it is unmounted (pivot_root(2)).
                rustix::process::pivot_root(c".", c".")?;
                unmount(c".", UnmountFlags::DETACH)?;
                rustix::process::chdir(c"/")
            }
            Op::Tmpfs { on, flags, options } => mount(c"tmpfs", on.as_c_str(), c"tmpfs", *flags, *options),
            // What cannot be made is missed by the mount that comes next, or is there.
            Op::Directory(path) => match rustix::fs::mkdir(path.as_c_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST | Errno::ROFS) => Ok(()),
                Err(errno) => Err(errno),
            },
            Op::File(path) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
                match rustix::fs::open(path.as_c_str(), flags, Mode::from_raw_mode(0o644)) {
                    Ok(_) | Err(Errno::EXIST | Errno::ROFS) => Ok(()),
                    Err(errno) => Err(errno),
                }
            }
            Op::Link(target, path) => rustix::fs::symlink(*target, path.as_c_str()),
            Op::Attach(slot, on) => attach(tree(*slot)?, on),
            Op::Restrict => restrict(),
            Op::Enter(dir) => rustix::process::chdir(dir.as_c_str()),
        }
    }

    fn keep(&mut self, index: usize, tree: OwnedFd) -> rustix::io::Result<()> {
        *self.trees.get_mut(index).ok_or(Errno::INVAL)? = Some(tree);
        Ok(())
    }

    /// Waits for the program and ends as it did. Its pipes to the caller are closed, or the caller would wait for them.
    fn stand_by(&self, program: Option<Pid>) -> ! {
        // SAFETY: close_range and _exit touch no memory; nothing here uses a descriptor afterwards.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        let status = loop {
            match rustix::process::waitpid(program, WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                Ok(Some((_, status))) => break Some(status),
                Ok(None) | Err(_) => break None,
            }
        };
        let exit = status.and_then(|status| status.exit_status());
        let signal = status.and_then(|status| status.terminating_signal());
        if let Some(signal) = signal {
            // SAFETY: these calls touch no memory of ours. Without a core file the second death leaves no second core.
            unsafe {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
                libc::signal(signal, libc::SIG_DFL);
                libc::kill(libc::getpid(), signal);
            }
        }
        // SAFETY: ends the process without running anything of the C library.
        unsafe { libc::_exit(exit.unwrap_or_else(|| 128 + signal.unwrap_or(0))) }
    }

    fn fail(&self, step: usize, errno: Errno) -> ! {
        let mut report = [0_u8; 12];
        let [a, b, c, d, e, f, g, h, rest @ ..] = &mut report;
        for (place, byte) in [a, b, c, d, e, f, g, h].into_iter().zip((step as u64).to_ne_bytes()) {
            *place = byte;
        }
        *rest = errno.raw_os_error().to_ne_bytes();
        // If even this fails, the exit code remains.
        let exit = rustix::io::write(&self.reporter, &report).map_or(SETUP_FAILED, |_| SETUP_FAILED);
        // SAFETY: ends the process without running anything of the C library.
        unsafe { libc::_exit(exit) }
    }
}

fn attach(tree: &OwnedFd, on: &CStr) -> rustix::io::Result<()> {
    move_mount(tree, c"", CWD, on, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Takes away what is not needed; what the process does not have or may not drop (no `SETPCAP`) is as good as gone.
fn restrict() -> rustix::io::Result<()> {
    rustix::system::sethostname(b"localhost")?;
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    for capability in DROPPED {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Older kernels do not know the newer ones.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::thread::set_no_new_privs(true)
}

/// `struct mount_attr` (`linux/mount.h`), Linux 5.12.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn set_attributes(tree: &OwnedFd, read_only: bool, no_devices: bool) -> rustix::io::Result<()> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const MOUNT_ATTR_NODEV: u64 = 4;
    let set = if read_only { MOUNT_ATTR_RDONLY } else { 0 } | if no_devices { MOUNT_ATTR_NODEV } else { 0 };
    let attributes = MountAttributes { set, clear: 0, propagation: 0, userns: 0 };
    let (size, fd) = (size_of::<MountAttributes>(), tree.as_fd().as_raw_fd());
    // SAFETY: the kernel reads an empty path and a structure of the size that is given.
    let answer = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), libc::AT_EMPTY_PATH, &raw const attributes, size)
    };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    // `Error` from a code is a plain number; it allocates nothing.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// What the child said before it gave up: the number of its step, and why.
fn read_report(report: &OwnedFd) -> Option<(usize, Errno)> {
    let mut bytes = [0_u8; 12];
    match rustix::io::read(report, &mut bytes) {
        Ok(12) => {}
        Ok(_) | Err(_) => return None,
    }
    let step = u64::from_ne_bytes(*bytes.first_chunk()?);
    let errno = i32::from_ne_bytes(*bytes.last_chunk()?);
    Some((usize::try_from(step).unwrap_or(usize::MAX), Errno::from_raw_os_error(errno)))
}
