//! Work in a mount namespace other than the thread's own.

use crate::Error;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// The mount namespace of the machine's first process: what the machine as a whole sees.
pub const OF_MACHINE: &str = "/proc/1/ns/mnt";

/// Does some work on a thread of its own in a mount namespace, named by its link in `/proc`; the calling thread stays where it is. Paths
/// mean there what they mean in that namespace.
///
/// # Errors
/// The namespace cannot be entered, or the work's own.
pub fn within<T: Send>(link: &Path, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let namespace = File::open(link).map_err(Error::path("open", link))?;
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            #[expect(unsafe_code, reason = "rustix cannot know whether the descriptor table is shared")]
            // SAFETY: FS leaves the descriptor table shared; what it unshares (root, cwd, umask) breaks no memory safety.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::FS) };
            // A thread that shares its root with others cannot go (setns(2)).
            unshared.map_err(Error::errno("leave the root of", "/"))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
                .map_err(Error::errno("enter the mount namespace", link))?;
            work()
        });
        match there.join() {
            Ok(done) => done,
            // A panic of the work is the caller's, as if it had been done here.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{mount_tmpfs, private_namespace, unmount};
    use crate::mount_info::mounts;
    use crate::root_for_test;
    use std::sync::mpsc::channel;

    #[test]
    fn what_is_unmounted_in_another_namespace_stays_here_and_goes_there() {
        if !root_for_test("mount namespaces") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let canonical = dir.path().canonicalize().unwrap();
        let path = canonical.as_path();
        let shown = |path: &Path| mounts(Path::new("/")).unwrap().iter().any(|mount| mount.target == path);
        let ((told, hears), (done, waits)) = (channel(), channel());
        std::thread::scope(|scope| {
            let other = scope.spawn(move || {
                private_namespace().unwrap();
                mount_tmpfs(path, 0o755, None).unwrap();
                told.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                waits.recv().unwrap();
                assert!(!shown(path), "it was unmounted from outside");
            });
            let there = format!("/proc/self/task/{}/ns/mnt", hears.recv().unwrap());
            private_namespace().unwrap();
            mount_tmpfs(path, 0o755, None).unwrap();
            within(Path::new(&there), || unmount(path)).unwrap();
            assert!(shown(path), "this namespace is another");
            let again = within(Path::new(&there), || unmount(path)).unwrap_err();
            assert!(again.to_string().contains(&*path.to_string_lossy()), "{again}");
            unmount(path).unwrap();
            done.send(()).unwrap();
            other.join().unwrap();
        });
        assert!(within(&path.join("none"), || Ok(())).is_err());
    }
}
