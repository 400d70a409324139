//! The machine's name: the kernel's, `/etc/hostname`, and the line of `/etc/hosts` that resolves it.

use crate::files::{follow, write_if_other};
use crate::{Context, Error};
use kairn_config::{HostsFile, MachineName, Template, TemplateData};
use kairn_host::files;
use std::fs;

/// Sets the name; says whether anything changed.
pub fn set(context: &Context, name: &str) -> Result<bool, Error> {
    check(name)?;
    let mut changed = set_own(context, name)?;
    changed |= set_hosts(context, &|hosts| resolve(hosts, name))?;
    Ok(changed)
}

/// Sets the names that top-level keys give; says whether anything changed.
pub fn set_names(context: &Context, names: &MachineName, data: &TemplateData) -> Result<bool, Error> {
    let render = |template: &Template| -> Result<String, Error> {
        let name = template.render(data)?.whole()?;
        check(&name)?;
        Ok(name)
    };
    let fqdn = names.fqdn.as_ref().map(render).transpose()?;
    let hostname = match (&names.hostname, &fqdn) {
        (Some(template), _) => render(template)?,
        (None, Some(fqdn)) => first_part(fqdn).to_owned(),
        (None, None) => current(context)?,
    };
    let own = fqdn.as_ref().filter(|_| names.prefer_fqdn).unwrap_or(&hostname);
    let mut changed = false;
    if !names.preserve {
        changed |= set_own(context, own)?;
    }
    // The canonical name comes first (hosts(5)).
    let mut known = vec![fqdn.as_deref().unwrap_or(&hostname)];
    for name in [hostname.as_str(), first_part(&hostname)] {
        let wanted = name == hostname || names.hosts != HostsFile::Follows;
        if wanted && !known.contains(&name) {
            known.push(name);
        }
    }
    let known = known.join(" ");
    changed |= match names.hosts {
        HostsFile::Whole => set_hosts(context, &|_| whole(&known))?,
        HostsFile::Line => set_hosts(context, &|hosts| resolve(hosts, &known))?,
        HostsFile::Follows if names.preserve => false,
        HostsFile::Follows => set_hosts(context, &|hosts| resolve(hosts, &known))?,
    };
    Ok(changed)
}

fn check(name: &str) -> Result<(), Error> {
    match kairn_config::hostname_fault(name) {
        Some(fault) => Err(Error::HostName { name: name.to_owned(), fault }),
        None => Ok(()),
    }
}

fn first_part(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The name that the machine has: that of its file, since another root than the running one has no other.
fn current(context: &Context) -> Result<String, Error> {
    let path = follow(context, context.at("/etc/hostname".as_ref()))?;
    let text = files::read_text_if_any(&path)?.unwrap_or_default();
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(name.unwrap_or("localhost").to_owned())
}

/// Tells the kernel and `/etc/hostname`.
fn set_own(context: &Context, name: &str) -> Result<bool, Error> {
    let mut changed = false;
    if context.live && rustix::system::uname().nodename().to_bytes() != name.as_bytes() {
        let refused = |errno: rustix::io::Errno| Error::path("set", "the host name")(errno.into());
        rustix::system::sethostname(name.as_bytes()).map_err(refused)?;
        changed = true;
    }
    let path = follow(context, context.at("/etc/hostname".as_ref()))?;
    changed |= write_if_other(&path, format!("{name}\n").as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())?;
    Ok(changed)
}

fn set_hosts(context: &Context, edit: &dyn Fn(&str) -> String) -> Result<bool, Error> {
    let path = follow(context, context.at("/etc/hosts".as_ref()))?;
    let hosts = edit(&files::read_text_if_any(&path)?.unwrap_or_default());
    write_if_other(&path, hosts.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())
}

/// The whole file of a machine with these names.
fn whole(names: &str) -> String {
    let rest = "fe00::0 ip6-localnet\nff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n";
    format!("# Written by the configuration (manage_etc_hosts).\n{}{rest}", resolve("", names))
}

/// Puts the name, or names, on the address that Debian reserves for them (127.0.1.1), leaving every other line as it is.
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

    #[test]
    fn the_names_of_a_machine_stand_where_they_belong() {
        let template = |text: &str| Some(Template::parse(text).unwrap());
        let names = |hostname: Option<&str>, fqdn: Option<&str>, prefer_fqdn, preserve, hosts| MachineName {
            hostname: hostname.and_then(template),
            fqdn: fqdn.and_then(template),
            prefer_fqdn,
            preserve,
            hosts,
        };
        use HostsFile::{Follows, Line, Whole};
        for (names, own, line) in [
            (names(None, Some("n.example.org"), false, false, Follows), "n", "127.0.1.1 n.example.org n\n"),
            (names(None, Some("n.example.org"), true, false, Follows), "n.example.org", "127.0.1.1 n.example.org n\n"),
            (names(Some("x"), Some("n.example.org"), false, false, Line), "x", "127.0.1.1 n.example.org x\n"),
            (names(Some("x.example.org"), None, false, false, Line), "x.example.org", "127.0.1.1 x.example.org x\n"),
            (names(Some("x"), None, false, true, Line), "old", "127.0.1.1 x\n"),
            (names(None, None, false, false, Line), "old", "127.0.1.1 old\n"),
            (names(Some("{{ .a }}"), None, false, false, Whole), "made", "127.0.1.1 made\nfe00"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let context = crate::context::tests::context(dir.path());
            fs::create_dir(dir.path().join("etc")).unwrap();
            fs::write(dir.path().join("etc/hostname"), "old\n").unwrap();
            let data = TemplateData::from(serde_json::json!({"a": "made"}));
            set_names(&context, &names, &data).unwrap();
            assert!(!set_names(&context, &names, &data).unwrap());
            assert_eq!(fs::read_to_string(dir.path().join("etc/hostname")).unwrap(), format!("{own}\n"));
            let hosts = fs::read_to_string(dir.path().join("etc/hosts")).unwrap();
            assert!(hosts.contains(line) && hosts.contains("127.0.0.1 localhost\n"), "{names:?}: {hosts}");
        }
    }
}
