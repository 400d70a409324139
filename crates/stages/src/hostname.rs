//! The machine's name: the kernel's, `/etc/hostname`, and the line of `/etc/hosts` that resolves it.

use crate::files::{follow, write_if_other};
use crate::{Context, Error};
use kairn_host::files;
use std::fs;

/// Sets the name; says whether anything changed.
pub fn set(context: &Context, name: &str) -> Result<bool, Error> {
    if let Some(fault) = kairn_config::hostname_fault(name) {
        return Err(Error::HostName { name: name.to_owned(), fault });
    }
    let mut changed = false;
    if context.live && rustix::system::uname().nodename().to_bytes() != name.as_bytes() {
        let refused = |errno: rustix::io::Errno| Error::path("set", "the host name")(errno.into());
        rustix::system::sethostname(name.as_bytes()).map_err(refused)?;
        changed = true;
    }
    let path = follow(context, context.at("/etc/hostname".as_ref()))?;
    changed |= write_if_other(&path, format!("{name}\n").as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())?;
    let path = follow(context, context.at("/etc/hosts".as_ref()))?;
    let hosts = resolve(&files::read_text_if_any(&path)?.unwrap_or_default(), name);
    changed |= write_if_other(&path, hosts.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())?;
    Ok(changed)
}

/// Puts the name on the address that Debian reserves for it (127.0.1.1), leaving every other line as it is.
fn resolve(hosts: &str, name: &str) -> String {
    let mut out = String::new();
    let has_localhost = hosts.lines().any(|line| line.split_whitespace().any(|word| word == "localhost"));
    if !has_localhost {
        out.push_str("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    }
    for line in hosts.lines().filter(|line| line.split_whitespace().next() != Some("127.0.1.1")) {
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(&format!("127.0.1.1 {name}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_machine_once_and_keeps_the_rest() {
        let first = resolve("127.0.0.1 localhost\n10.0.0.1 gate\n127.0.1.1 old\n", "new");
        assert_eq!(first, "127.0.0.1 localhost\n10.0.0.1 gate\n127.0.1.1 new\n");
        assert_eq!(resolve(&first, "new"), first);
        assert!(resolve("", "n").starts_with("127.0.0.1 localhost\n"));
    }
}
