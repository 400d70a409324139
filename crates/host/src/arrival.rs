//! Waiting for files to appear, woken by inotify instead of looking again and again.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Waits until all paths exist: device nodes, which the kernel or udev makes.
///
/// # Errors
/// [`Error::Waited`] names the first that did not appear within `deadline`.
pub fn wait_for_paths(paths: &[PathBuf], deadline: Duration) -> Result<(), Error> {
    let end = Instant::now() + deadline;
    for path in paths {
        wait_for_path(path, end, deadline)?;
    }
    Ok(())
}

fn wait_for_path(path: &Path, end: Instant, deadline: Duration) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    let failed = |errno: Errno| Error::errno("wait for", path)(errno);
    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    loop {
        // The directory itself may have to appear first; watching one anew is no error. First watch, then look.
        let above = path.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        match add_watch(&inotify, above, made) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if path.exists() {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Waited { what: format!("`{}` to appear", path.display()), deadline });
        }
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&inotify, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        drain(&inotify).map_err(failed)?;
    }
}

/// What happened does not matter, only that something did.
fn drain(inotify: &std::os::fd::OwnedFd) -> rustix::io::Result<()> {
    let mut events = [0_u8; 4096];
    loop {
        match rustix::io::read(inotify, &mut events) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_awaited_also_when_its_directory_has_yet_to_appear() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("by-label/COS_STATE");
        std::thread::scope(|scope| {
            let made = scope.spawn(|| wait_for_paths(std::slice::from_ref(&path), Duration::from_secs(20)));
            std::fs::create_dir(dir.path().join("by-label")).unwrap();
            std::os::unix::fs::symlink("/dev/null", &path).unwrap();
            made.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_does_not_appear_is_named_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let error = wait_for_paths(&[dir.path().join("sda9")], Duration::from_millis(30)).unwrap_err();
        assert!(matches!(&error, Error::Waited { what, .. } if what.contains("/sda9")), "{error}");
    }
}
