//! Where Debian's packages come from: the mirror that apt on this machine uses.

use crate::Error;
use kairn_host::{Invocation, Runner};

/// Fields of `apt-get indextargets`, in the order in which [`parse`] reads them. Origin and label are known to apt only
/// after an update.
const FORMAT: &str = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(ORIGIN)|$(LABEL)";

/// Suites that a machine may name in its sources; one of them marks a source without known origin as Debian's.
const SUITES: &[&str] =
    &["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];

/// The mirrors of a Debian system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrors {
    /// Of the suites themselves, with a slash at its end.
    pub(crate) main: String,
    /// Of security updates, when the machine uses one.
    pub(crate) security: Option<String>,
}

/// One line of a Debian system's sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) uri: String,
    pub(crate) suite: String,
}

impl Mirrors {
    /// Asks apt.
    pub(crate) fn of_this_machine(runner: &Runner) -> Result<Self, Error> {
        let ask = Invocation::new("apt-get").args(["indextargets", "--format", FORMAT]);
        parse(&runner.run(&ask).map_err(Error::needs("apt"))?.text()).ok_or(Error::NoMirror)
    }

    /// Returns the archives of a suite: itself, and its updates where it has any.
    pub(crate) fn archives(&self, suite: &str) -> Vec<Archive> {
        let of = |uri: &str, suite: String| Archive { uri: uri.to_owned(), suite };
        let mut archives = vec![of(&self.main, suite.to_owned())];
        if !matches!(suite, "sid" | "unstable") {
            archives.push(of(&self.main, format!("{suite}-updates")));
            archives.extend(self.security.as_deref().map(|uri| of(uri, format!("{suite}-security"))));
        }
        archives
    }
}

impl Archive {
    /// Returns the URI of its signed index.
    pub(crate) fn in_release(&self) -> String {
        format!("{}dists/{}/InRelease", self.uri, self.suite)
    }
}

fn parse(text: &str) -> Option<Mirrors> {
    let mut main = None;
    let mut security = None;
    for line in text.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let ["Packages", uri, release, origin, label] = fields.as_slice() else { continue };
        let known = SUITES.iter().any(|suite| {
            *release == *suite || release.strip_prefix(suite).is_some_and(|rest| rest.starts_with(['-', '/']))
        });
        // apt prints a field that it does not know as it was asked for.
        let unknown = |field: &str| field.is_empty() || field.starts_with("$(");
        if *origin != "Debian" && !(unknown(origin) && known) {
            continue;
        }
        let uri = if uri.ends_with('/') { (*uri).to_owned() } else { format!("{uri}/") };
        if *label == "Debian-Security" || release.contains("-security") || release.ends_with("/updates") {
            security.get_or_insert(uri);
        } else if !release.contains("backports") {
            main.get_or_insert(uri);
        }
    }
    Some(Mirrors { main: main?, security })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_apt_names() {
        let text = "Packages|https://packages.example/apt/|cloud-bookworm|Example|Example\n\
            Packages|http://mirror.example/debian-security/|bookworm-security|Debian|Debian-Security\n\
            Translations|http://no.example/|bookworm|Debian|Debian\n\
            Packages|http://mirror.example/debian|bookworm|Debian|Debian\n";
        let mirrors = parse(text).unwrap();
        assert_eq!(mirrors.main, "http://mirror.example/debian/");
        assert_eq!(mirrors.security.as_deref(), Some("http://mirror.example/debian-security/"));
        let suites: Vec<String> = mirrors.archives("trixie").into_iter().map(|archive| archive.suite).collect();
        assert_eq!(suites, ["trixie", "trixie-updates", "trixie-security"]);
        assert_eq!(mirrors.archives("sid").len(), 1);
    }

    #[test]
    fn before_the_first_update_the_suite_tells() {
        let text =
            "Packages|http://mirror.example/debian/|bookworm|$(ORIGIN)|$(LABEL)\nPackages|http://x/|nodistro||\n";
        assert_eq!(parse(text).unwrap().main, "http://mirror.example/debian/");
        assert_eq!(parse("Packages|http://x/|jammy|Ubuntu|Ubuntu\n"), None);
    }
}
