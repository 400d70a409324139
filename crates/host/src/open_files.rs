//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Lets this process, and those that it starts, have as many files open as it may give itself (getrlimit(2), `RLIMIT_NOFILE`): service
/// managers and logins begin with 1,024, for the sake of programs that use select(2). Says how many; nothing where there is no limit.
///
/// # Errors
/// The kernel refuses.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(limit.maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_are_permitted_may_be_open() {
        let before = getrlimit(Resource::Nofile);
        let low = before.maximum.map_or(1_024, |most| most.min(1_024));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), ..before }).unwrap();
        assert_eq!(raise_open_files().unwrap(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
