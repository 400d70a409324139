//! Makes the machine ready: lists what is missing once, asks once, installs packages and nothing else; unpacks tools that ship
//! daemons into the project's cache; says what stands in the way of user namespaces.

use crate::packages::{self, Distribution, Package};
use crate::run::{Failure, Run, print, root, say};
use crate::tools::{self, Tools};
use std::fs;
use std::io::{self, BufRead, IsTerminal};

/// Sets up the machine; with `yes` without asking. Returns the unpacked tools.
pub fn set_up(yes: bool) -> Result<Tools, Failure> {
    let distribution = Distribution::detect();
    have_packages(&distribution, yes)?;
    let tools = tools::unpack(&distribution)?;
    check_namespaces()?;
    check_space()?;
    say("setup: the machine has all that is needed");
    Ok(tools)
}

/// How often packages are installed until none is missing.
const ROUNDS: usize = 3;

/// Installs what is missing. Where a package came from another archive than the rest, apt may take it away for one that it
/// installs, and says so only in passing; so what is missing is asked anew after each round.
fn have_packages(distribution: &Distribution, yes: bool) -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        let missing = packages::missing(distribution)?;
        if missing.is_empty() {
            return Ok(());
        }
        install(distribution, &missing, yes)?;
    }
    let missing: Vec<&str> = packages::missing(distribution)?.iter().map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::environment(format!(
        "apt-get installed everything, and these are missing: {}. They and others among the packages keep each other out: \
         see what `apt-get install {}` would remove",
        missing.join(", "),
        missing.join(" ")
    )))
}

/// What a whole run of the tests leaves below the checkout at its widest, in gigabytes: programs 5.5, images and disks 10.5.
const SPACE: u64 = 16;
const GIGABYTE: u64 = 1_000_000_000;

/// Says beforehand where the disk may become full: what then fails does not always say so.
fn check_space() -> Result<(), Failure> {
    let place = root().to_string_lossy().into_owned();
    let free = last_number(Run::new("df").args(["--output=avail", "-B1", place.as_str()]).output()?);
    let used = last_number(Run::new("du").args(["-sB1", "--", place.as_str()]).output()?);
    // Where either cannot be asked, the run itself will tell.
    if let (Some(free), Some(used)) = (free, used)
        && free.saturating_add(used) < SPACE * GIGABYTE
    {
        let free = free / GIGABYTE;
        say(&format!(
            "warning: {free} GB are free for {place}; a whole run takes {SPACE} GB, and may fail where they are used up"
        ));
    }
    Ok(())
}

/// The first word of the last line, as a number.
fn last_number(said: Result<String, String>) -> Option<u64> {
    said.ok()?.lines().last()?.split_whitespace().next()?.parse().ok()
}

fn install(distribution: &Distribution, missing: &[&Package], yes: bool) -> Result<(), Failure> {
    let width = missing.iter().map(|package| package.name.len()).max().unwrap_or(0);
    let list: String =
        missing.iter().map(|package| format!("  {:width$}  {}\n", package.name, package.reason)).collect();
    if let Distribution::Other(name) = distribution {
        return Err(Failure::environment(format!(
            "this is `{name}`, not Debian or a child of it; install what holds these programs, then run this again:\n{}",
            missing.iter().map(|p| format!("  {} (Debian: {}): {}\n", p.holds, p.name, p.reason)).collect::<String>()
        )));
    }
    print(&format!("Debian packages that are missing:\n{list}"))?;
    if !yes && !agreed(missing.len())? {
        return Err(Failure::user("nothing was installed, and nothing else was done"));
    }
    apt(&["update", "-q"])?;
    let names = missing.iter().map(|package| package.name);
    apt(&["install", "-q", "-y", "--no-install-recommends"].into_iter().chain(names).collect::<Vec<_>>())
}

fn agreed(count: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::user("nobody can be asked here; --yes installs them without asking"));
    }
    print(&format!("Install these {count} packages with apt-get? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::io("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Runs apt-get as root: directly, or by sudo, which may ask for a password.
pub fn apt(arguments: &[&str]) -> Result<(), Failure> {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let run =
        if is_root()? { Run::new("env").args(environment.iter().skip(1)) } else { Run::new("sudo").args(environment) };
    let done = run.args(arguments).succeeds();
    match done {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Failure::environment(format!("`apt-get {}` failed; its output stands above", arguments.join(" "))))
        }
        Err(failure) if is_root()? => Err(failure),
        Err(_) => Err(Failure::environment(format!(
            "packages are installed by root; `sudo` does not run here, so run this as root: apt-get {}",
            arguments.join(" ")
        ))),
    }
}

fn is_root() -> Result<bool, Failure> {
    let said = Run::new("id").args(["-u"]).output()?;
    Ok(said.is_ok_and(|id| id == "0"))
}

/// Tries what base systems and builds need of namespaces, and names the switch that is off. It only looks: kernel settings and
/// user ids are the owner's to change.
fn check_namespaces() -> Result<(), Failure> {
    if is_root()? {
        let tried = Run::new("unshare").args(["--mount", "true"]).output()?;
        return tried.map(drop).map_err(|said| {
            Failure::environment(format!(
                "root may not make mount namespaces here ({}); a container needs the capability SYS_ADMIN (--privileged)",
                said.trim()
            ))
        });
    }
    let tried = Run::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output()?;
    if let Err(said) = tried {
        let mut reasons: Vec<String> = SWITCHES.iter().filter_map(Switch::stands_in_the_way).collect();
        if reasons.is_empty() {
            reasons.push(format!("no known switch is off; the system says: {}", said.trim()));
        }
        return Err(Failure::environment(format!(
            "user namespaces do not work for you, and building without root needs them:\n  {}",
            reasons.join("\n  ")
        )));
    }
    let user = Run::new("id").args(["-un"]).output()?.unwrap_or_default();
    let id = Run::new("id").args(["-u"]).output()?.unwrap_or_default();
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !has_range(&fs::read_to_string(file).unwrap_or_default(), &user, &id) {
            return Err(Failure::environment(format!(
                "{file} gives no range of 65536 ids to `{user}`, and building without root needs one; \
                 give it: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            )));
        }
    }
    Ok(())
}

/// A kernel setting that forbids user namespaces.
struct Switch {
    name: &'static str,
    forbids: &'static str,
    cure: &'static str,
}

const SWITCHES: &[Switch] = &[
    Switch { name: "kernel.unprivileged_userns_clone", forbids: "0", cure: "1" },
    Switch { name: "kernel.apparmor_restrict_unprivileged_userns", forbids: "1", cure: "0" },
    Switch { name: "user.max_user_namespaces", forbids: "0", cure: "10000" },
];

impl Switch {
    fn stands_in_the_way(&self) -> Option<String> {
        let value = fs::read_to_string(format!("/proc/sys/{}", self.name.replace('.', "/"))).ok()?;
        let Self { name, forbids, cure } = self;
        (value.trim() == *forbids).then(|| format!("{name} is {forbids}: sudo sysctl -w {name}={cure}"))
    }
}

/// Says whether subuid(5) lines give a user, by name or number, at least 65536 ids.
fn has_range(lines: &str, user: &str, id: &str) -> bool {
    lines.lines().any(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().unwrap_or_default();
        let count: u64 = fields.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        (owner == user || owner == id) && !owner.is_empty() && count >= 65_536
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_subordinate_ids_belongs_to_its_user_and_is_large_enough() {
        let lines = "ann:100000:65536\nbob:165536:1000\n1003:200000:65536\n";
        for (user, id, has) in
            [("ann", "1001", true), ("bob", "1002", false), ("cid", "1003", true), ("dan", "9", false)]
        {
            assert_eq!(has_range(lines, user, id), has, "{user}");
        }
    }
}
