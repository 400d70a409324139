//! Being root of one's own user namespace: the caller's subordinate ids, mapped by `newuidmap` and `newgidmap`, so that trees
//! keep their owners and mounts work without root.
//!
//! The program executes itself anew inside, since a process with threads cannot enter a user namespace. What is missing is
//! looked for before anything is tried and reported by name.
#![allow(unsafe_code, reason = "a child enters a user namespace between fork and exec")]

use crate::{Error, Invocation, Runner, files, identity};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, geteuid, getgid, getuid};
use rustix::thread::UnshareFlags;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// Set for the program inside; it would else try again and again where being root inside does not work out.
const INSIDE: &str = "KAIRN_USER_NAMESPACE";

/// What Debian's packages own lies below 65536; fewer subordinate ids cannot hold a distribution.
const ENOUGH: u32 = 65_536;

/// Whom this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Root of the machine (or of a container that maps no ids).
    Root,
    /// Root of a user namespace.
    UserNamespace,
    /// Neither; the program ran once more inside a user namespace, with the same arguments, and ended so. The caller has
    /// nothing left to do but to end in the same way.
    Ran(ExitStatus),
}

/// Makes sure that the program runs as root, of the machine or of a user namespace. Call it before anything else is done:
/// without root the whole program runs again, inside.
///
/// # Errors
/// [`Error::NoUserNamespace`] names what is missing: a package, an entry in `/etc/subuid` or `/etc/subgid`, a sysctl.
pub fn ensure_root_or_userns() -> Result<Standing, Error> {
    let root = Path::new("/");
    if geteuid().is_root() {
        let map = files::read_text(Path::new("/proc/self/uid_map"))?;
        return Ok(if maps_everything(&map) { Standing::Root } else { Standing::UserNamespace });
    }
    let caller = Caller::find(root, getuid().as_raw(), getgid().as_raw())?;
    if std::env::var_os(INSIDE).is_some() {
        return Err(caller.lacks(
            "the ids were mapped, but the process is not root inside",
            "unset the variable KAIRN_USER_NAMESPACE",
        ));
    }
    if let Some(obstacle) = caller.obstacle(root)? {
        return Err(obstacle);
    }
    let uids = caller.range(root, "subuid", caller.uid)?;
    let gids = caller.range(root, "subgid", caller.uid)?;
    caller.run_inside(uids, gids).map(Standing::Ran)
}

/// The initial namespace maps all ids to themselves (user_namespaces(7)).
fn maps_everything(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubordinateIds {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Finds the largest range of a user, by name or by id, in the text of `/etc/subuid` or `/etc/subgid` (subuid(5)).
#[must_use]
pub fn subordinate_ids(text: &str, name: &str, uid: u32) -> Option<SubordinateIds> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = SubordinateIds { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        (owner == name || owner == number).then_some(range)
    };
    text.lines().filter_map(range).max_by_key(|range| range.count)
}

struct Caller {
    name: String,
    uid: u32,
    gid: u32,
}

impl Caller {
    fn find(root: &Path, uid: u32, gid: u32) -> Result<Self, Error> {
        let name = identity::user_of_id(root, uid)?.map_or_else(|| uid.to_string(), |user| user.name);
        Ok(Self { name, uid, gid })
    }

    fn lacks(&self, reason: impl Into<String>, way_out: impl Into<String>) -> Error {
        Error::NoUserNamespace { user: self.name.clone(), reason: reason.into(), way_out: way_out.into() }
    }

    /// Looks for what would make the attempt fail, below a root directory.
    fn obstacle(&self, root: &Path) -> Result<Option<Error>, Error> {
        let sysctl = |name: &str| {
            let value = files::read_text_if_any(&root.join("proc/sys").join(name))?;
            Ok::<_, Error>(value.and_then(|value| value.trim().parse::<u64>().ok()))
        };
        let refused = |setting: &str, value: &str| {
            self.lacks(format!("the sysctl {setting} forbids it"), format!("sudo sysctl -w {setting}={value}"))
        };
        if sysctl("kernel/unprivileged_userns_clone")? == Some(0) {
            return Ok(Some(refused("kernel.unprivileged_userns_clone", "1")));
        }
        if sysctl("user/max_user_namespaces")? == Some(0) {
            return Ok(Some(refused("user.max_user_namespaces", "15000")));
        }
        // With this setting an unconfined program gets a namespace in which it may do nothing; one with a profile may.
        if sysctl("kernel/apparmor_restrict_unprivileged_userns")? == Some(1) {
            let profile = files::read_text_if_any(&root.join("proc/self/attr/apparmor/current"))?.unwrap_or_default();
            if profile.trim().is_empty() || profile.starts_with("unconfined") {
                return Ok(Some(refused("kernel.apparmor_restrict_unprivileged_userns", "0")));
            }
        }
        let absent = |program: &&str| {
            !["usr/bin", "bin", "usr/local/bin"].iter().any(|dir| root.join(dir).join(program).exists())
        };
        if let Some(program) = ["newuidmap", "newgidmap"].into_iter().find(|program| absent(program)) {
            return Ok(Some(
                self.lacks(format!("the program `{program}` is not installed"), "sudo apt install uidmap"),
            ));
        }
        Ok(None)
    }

    fn range(&self, root: &Path, file: &str, uid: u32) -> Result<SubordinateIds, Error> {
        let text = files::read_text_if_any(&root.join("etc").join(file))?.unwrap_or_default();
        let option = if file == "subuid" { "--add-subuids" } else { "--add-subgids" };
        let way_out = format!("sudo usermod {option} 100000-165535 {}", self.name);
        match subordinate_ids(&text, &self.name, uid) {
            Some(range) if range.count >= ENOUGH => Ok(range),
            Some(range) => {
                let reason = format!("/etc/{file} gives only {} ids, and {ENOUGH} are needed", range.count);
                Err(self.lacks(reason, way_out))
            }
            None => Err(self.lacks(format!("/etc/{file} has no entry"), way_out)),
        }
    }

    fn run_inside(&self, uids: SubordinateIds, gids: SubordinateIds) -> Result<ExitStatus, Error> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::errno("prepare", "a user namespace"));
        let ((hello, says_hello), (may_go, lets_go)) = (pipe()?, pipe()?);
        let mut arguments = std::env::args_os();
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env(INSIDE, "1");
        // SAFETY: the closure makes system calls only, on memory that was made before; it neither allocates nor frees.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)?;
                rustix::io::write(&says_hello, &rustix::process::getpid().as_raw_nonzero().get().to_ne_bytes())?;
                let mut answer = [0_u8];
                if rustix::io::read(&may_go, &mut answer)? != 1 || answer != [1] {
                    return Err(Errno::CANCELED.into());
                }
                let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                rustix::thread::set_thread_groups(&[])?;
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
                Ok(())
            });
        }
        let (spawned, mapped) = std::thread::scope(|scope| {
            // The spawn returns when the child has executed the program, which waits for its ids: they are mapped beside.
            let mapping = scope.spawn(|| self.map(File::from(hello), File::from(lets_go), uids, gids));
            let spawned = command.spawn();
            // Ends the wait for a child that never said hello.
            drop(command);
            (spawned, mapping.join())
        });
        match (spawned, mapped) {
            (_, Ok(Err(error))) => Err(error),
            (Ok(mut child), Ok(Ok(()))) => {
                child.wait().map_err(Error::path("wait for", "the program in its user namespace"))
            }
            (Err(source), _) => Err(self.refusal(source)),
            (Ok(_), Err(_)) => Err(self.lacks("the thread that maps ids died", "report this")),
        }
    }

    fn map(&self, mut hello: File, mut lets_go: File, uids: SubordinateIds, gids: SubordinateIds) -> Result<(), Error> {
        let mut pid = [0_u8; 4];
        match hello.read_exact(&mut pid) {
            Ok(()) => {}
            // The child failed before; the spawn says why.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(source) => return Err(Error::Path { action: "talk to", path: "a user namespace".into(), source }),
        }
        let pid = i32::from_ne_bytes(pid).to_string();
        let map = |program: &str, own: u32, range: SubordinateIds| {
            let [own, start, count] = [own, range.start, range.count].map(|number| number.to_string());
            Runner::default().run(&Invocation::new(program).args([&pid, "0", &own, "1", "1", &start, &count]))
        };
        let mapped = map("newuidmap", self.uid, uids).and_then(|_| map("newgidmap", self.gid, gids));
        let answer = [u8::from(mapped.is_ok())];
        lets_go.write_all(&answer).map_err(Error::path("talk to", "a user namespace"))?;
        mapped.map(drop)
    }

    fn refusal(&self, error: std::io::Error) -> Error {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS) => self.lacks(
                "the kernel refuses user namespaces to this process (a container's seccomp profile or a security module)",
                "run the container with user namespaces allowed, for example with --security-opt seccomp=unconfined",
            ),
            Some(Errno::NOSPC | Errno::USERS) => {
                self.lacks("there are too many user namespaces", "sudo sysctl -w user.max_user_namespaces=15000")
            }
            Some(Errno::INVAL) => self.lacks("this kernel has no user namespaces", "use a kernel with CONFIG_USER_NS"),
            _ => Error::Path { action: "run in a user namespace", path: "/proc/self/exe".into(), source: error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("usr/bin/newuidmap", ""), ("usr/bin/newgidmap", ""), ("etc/passwd", "ada:x:1000:1000::/:\n")]
                .iter()
                .chain(files)
        {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    fn obstacle(files: &[(&str, &str)]) -> Option<String> {
        let dir = machine(files);
        let caller = Caller::find(dir.path(), 1000, 1000).unwrap();
        let found = caller.obstacle(dir.path()).unwrap()?;
        let hints = kairn_report::Diagnostic::hints(&found).join("; ");
        Some(format!("{found}; {hints}"))
    }

    #[test]
    fn each_setting_that_stands_in_the_way_is_named_with_its_way_out() {
        assert_eq!(obstacle(&[]), None);
        for (file, named) in [
            ("proc/sys/kernel/unprivileged_userns_clone", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
            ("proc/sys/user/max_user_namespaces", "sudo sysctl -w user.max_user_namespaces=15000"),
        ] {
            let said = obstacle(&[(file, "0\n")]).unwrap();
            assert!(said.contains(named) && said.contains("`ada`"), "{said}");
            assert_eq!(obstacle(&[(file, "1\n")]), None);
        }
        let restricted = ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert!(obstacle(&[restricted]).unwrap().contains("kernel.apparmor_restrict_unprivileged_userns=0"));
        assert!(obstacle(&[restricted, ("proc/self/attr/apparmor/current", "unconfined\n")]).is_some());
        assert_eq!(obstacle(&[restricted, ("proc/self/attr/apparmor/current", "kairn (enforce)\n")]), None);
    }

    #[test]
    fn an_absent_program_is_named_with_its_package() {
        let dir = machine(&[]);
        std::fs::remove_file(dir.path().join("usr/bin/newgidmap")).unwrap();
        let caller = Caller::find(dir.path(), 1000, 1000).unwrap();
        let found = caller.obstacle(dir.path()).unwrap().unwrap();
        assert!(found.to_string().contains("newgidmap"));
        assert!(kairn_report::Diagnostic::hints(&found).contains(&"sudo apt install uidmap".to_owned()));
    }

    #[test]
    fn ranges_are_found_by_name_or_id_and_small_ones_refused() {
        let text = "# note\nada:100000:10\n1000:200000:65536\nbob:300000:99999\nada:bad:1\n";
        assert_eq!(subordinate_ids(text, "ada", 1000), Some(SubordinateIds { start: 200_000, count: 65_536 }));
        assert_eq!(subordinate_ids(text, "ada", 7), Some(SubordinateIds { start: 100_000, count: 10 }));
        assert_eq!(subordinate_ids(text, "eve", 7), None);
        let dir = machine(&[("etc/subuid", "ada:100000:10\n")]);
        let caller = Caller::find(dir.path(), 1000, 1000).unwrap();
        assert!(caller.range(dir.path(), "subuid", 1000).unwrap_err().to_string().contains("only 10 ids"));
        let error = caller.range(dir.path(), "subgid", 1000).unwrap_err();
        assert!(error.to_string().contains("/etc/subgid has no entry"), "{error}");
        assert!(kairn_report::Diagnostic::hints(&error)[0].contains("--add-subgids 100000-165535 ada"));
    }

    #[test]
    fn only_a_map_of_all_ids_is_the_machines_own() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0       1000          1\n         1     100000      65536\n"));
        assert!(!maps_everything(""));
    }
}
