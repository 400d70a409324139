//! How the kernel's scheduler takes a thread that moves much.
#![allow(unsafe_code, reason = "the scheduler is asked and told by sched(7), for which rustix has no door")]

use std::io;
use std::marker::PhantomData;

/// The policy of the calling thread, which it may change between `SCHED_OTHER` and `SCHED_BATCH`.
///
/// A thread that is woken under `SCHED_BATCH` takes no processor from another that runs, but waits for its turn; its share of the
/// processor is the same (sched(7)). Where threads hand work to each other that makes fewer changes between them and larger portions.
#[derive(Debug)]
pub struct ThreadPolicy {
    batch: bool,
    /// It is that of one thread.
    _here: PhantomData<*const ()>,
}

impl ThreadPolicy {
    /// Returns that of the calling thread; none when the administrator gave it another than the usual one, which stays.
    ///
    /// # Errors
    /// The process may not ask.
    pub fn of_this_thread() -> io::Result<Option<Self>> {
        let usual = policy()? == libc::SCHED_OTHER;
        Ok(usual.then_some(Self { batch: false, _here: PhantomData }))
    }

    /// Whether it is `SCHED_BATCH`.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.batch
    }

    /// Makes it `SCHED_BATCH`, or the usual one again. The nice value stays. No privilege is needed.
    ///
    /// # Errors
    /// A filter of system calls forbids it; it is then as it was.
    pub fn set_batch(&mut self, batch: bool) -> io::Result<()> {
        if self.batch == batch {
            return Ok(());
        }
        let policy = if batch { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
        // The priority, which these policies have to leave at zero (struct sched_param).
        let priority: libc::c_int = 0;
        // Not by libc: musl's sched_setscheduler refuses always, since POSIX means processes by it and Linux threads.
        // SAFETY: zero is the calling thread; the pointer is to this function's own number, which is all that the kernel reads.
        let status = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
        if status == -1 {
            return Err(io::Error::last_os_error());
        }
        self.batch = batch;
        Ok(())
    }
}

fn policy() -> io::Result<libc::c_int> {
    // SAFETY: it takes no pointer; zero is the calling thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    if policy == -1 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(policy).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_becomes_one_for_batches_and_the_usual_one_again() {
        let mut ours = ThreadPolicy::of_this_thread().unwrap().unwrap();
        ours.set_batch(true).unwrap();
        assert!(ours.is_batch());
        assert_eq!(policy().unwrap(), libc::SCHED_BATCH);
        assert!(ThreadPolicy::of_this_thread().unwrap().is_none(), "what is not the usual policy stays");
        ours.set_batch(false).unwrap();
        assert_eq!(policy().unwrap(), libc::SCHED_OTHER);
        assert!(!ours.is_batch());
    }
}
