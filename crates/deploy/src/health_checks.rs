//! Files of health checks: `/usr/lib/kairn/health.d/*.yaml` of the image, `/etc/kairn/health.d/*.yaml` of the machine's owner.
//!
//! ```yaml
//! deadline: 5m                # for all checks together; the longest of all files counts
//! checks:
//!   - unit: ssh.service       # must be active
//!   - name: database answers
//!     command: [/usr/bin/pg_isready]      # or a line for the shell
//!     timeout: 10s
//! ```
//! A file of the owner hides one of the image with the same name; an empty file thus takes its checks away.

use kairn_config::{Node, yaml};
use kairn_host::files;
use kairn_layout::paths;
use kairn_lifecycle::health::{COMMAND_TIMEOUT, Check, DEADLINE, Probe};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Directories below the root, the later hides the earlier file by file.
const DIRS: [&str; 2] = ["usr/lib/kairn/health.d", "etc/kairn/health.d"];

/// The check that every machine has.
const STAGES: &str = "stages of the configuration";

/// All checks of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The checks in the order of their files' names.
    pub checks: Vec<Check>,
    /// How long they may take together.
    pub deadline: Duration,
}

/// Reads the checks below `root`. What cannot be understood becomes a check that does not pass and says why, so that a release that ships
/// a damaged file is not blessed.
#[must_use]
pub fn read(root: &Path) -> Checks {
    let mut found = Checks { checks: Vec::new(), deadline: Duration::ZERO };
    let mut paths: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for dir in DIRS.map(|dir| root.join(dir)) {
        match files::names(&dir) {
            Ok(names) => paths.extend(names.into_iter().map(|name| (name.clone(), dir.join(name)))),
            Err(error) => found.checks.push(impossible(&dir, error.to_string())),
        }
    }
    for path in paths.into_values() {
        if !path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            continue;
        }
        match files::read_text(&path) {
            Ok(text) => {
                let (checks, deadline) = parse(&path, &text);
                found.checks.extend(checks);
                found.deadline = found.deadline.max(deadline.unwrap_or_default());
            }
            Err(error) => found.checks.push(impossible(&path, error.to_string())),
        }
    }
    if found.deadline == Duration::ZERO {
        found.deadline = DEADLINE;
    }
    let results = root.join(paths::run::STAGES.trim_start_matches('/'));
    found.checks.push(Check { name: STAGES.into(), probe: Probe::Stages(results) });
    found
}

/// Parses one file.
#[must_use]
pub fn parse(path: &Path, text: &str) -> (Vec<Check>, Option<Duration>) {
    let source = path.display().to_string();
    let parsed = yaml::read(&source, text);
    let mut checks: Vec<Check> =
        parsed.diagnostics.iter().map(|diagnostic| impossible(path, diagnostic.to_string())).collect();
    let Some(root) = parsed.root else { return (checks, None) };
    let wrong = |node: &Node, what: String| {
        impossible(path, format!("{source}:{}:{}: {what}", node.place.line, node.place.column))
    };
    let Some(entries) = root.entries() else {
        checks.push(wrong(&root, format!("a file of checks is a mapping, this is {}", root.kind())));
        return (checks, None);
    };
    let mut deadline = None;
    for entry in entries {
        match entry.key.as_str() {
            "deadline" => match duration(&entry.value) {
                Some(duration) => deadline = Some(duration),
                None => checks.push(wrong(&entry.value, "`deadline` is a time such as 90s or 5m".to_owned())),
            },
            "checks" if entry.value.is_null() => {}
            "checks" => match entry.value.items() {
                Some(items) => {
                    checks.extend(items.iter().map(|item| check(item).unwrap_or_else(|why| wrong(item, why))))
                }
                None => checks.push(wrong(&entry.value, "`checks` is a list".to_owned())),
            },
            key if key.starts_with("x-") => {}
            key => checks.push(wrong(&entry.value, format!("`{key}` is not a key of a file of checks"))),
        }
    }
    (checks, deadline)
}

fn check(node: &Node) -> Result<Check, String> {
    let entries = node.entries().ok_or_else(|| format!("a check is a mapping, this is {}", node.kind()))?;
    let (mut name, mut unit, mut command, mut timeout) = (None, None, None, COMMAND_TIMEOUT);
    for entry in entries {
        let text = || entry.value.scalar().map(|scalar| scalar.text.clone()).filter(|text| !text.is_empty());
        match entry.key.as_str() {
            "name" => name = Some(text().ok_or("`name` is a text")?),
            "unit" => unit = Some(text().ok_or("`unit` is the name of a unit")?),
            "command" => {
                command = Some(argv(&entry.value).ok_or("`command` is a list of words, or a line for the shell")?)
            }
            "timeout" => timeout = duration(&entry.value).ok_or("`timeout` is a time such as 90s or 5m")?,
            "http" | "kubernetes" => return Err(format!("checks by `{}` are not supported yet", entry.key)),
            key => return Err(format!("`{key}` is not a key of a check")),
        }
    }
    let (probe, described) = match (unit, command) {
        // A name without a type means a service, as for systemctl.
        (Some(unit), None) => {
            let unit = if unit.contains('.') { unit } else { format!("{unit}.service") };
            (Probe::Unit(unit.clone()), unit)
        }
        (None, Some(argv)) => {
            let described = argv.last().filter(|_| argv.first().is_some_and(|program| program == "/bin/sh"));
            let described = described.cloned().unwrap_or_else(|| argv.join(" "));
            (Probe::Command { argv, timeout }, described)
        }
        _ => return Err("a check has either `unit` or `command`".to_owned()),
    };
    Ok(Check { name: name.unwrap_or(described), probe })
}

fn argv(node: &Node) -> Option<Vec<String>> {
    if let Some(line) = node.scalar() {
        // A line is the owner's, for the shell by his own wish.
        return Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.text.clone()]);
    }
    let words = node.items()?.iter().map(|item| item.scalar().map(|scalar| scalar.text.clone()));
    words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty())
}

/// `30`, `30s`, `5m`, `1h`; more than a day is a mistake.
fn duration(node: &Node) -> Option<Duration> {
    let text = node.scalar()?.text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
}

fn impossible(path: &Path, why: String) -> Check {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Check { name, probe: Probe::Impossible(why) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checks_are_units_and_commands_with_their_times() {
        let text = "deadline: 2m\nchecks:\n  - unit: ssh\n  - unit: multi-user.target\n  - command: [/bin/test, -e, /x]\n    timeout: 5s\n  - name: shell\n    command: test -e /x && true\n";
        let (checks, deadline) = parse(Path::new("/x/a.yaml"), text);
        assert_eq!(deadline, Some(Duration::from_secs(120)));
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            checks,
            [
                Check { name: "ssh.service".into(), probe: Probe::Unit("ssh.service".into()) },
                Check { name: "multi-user.target".into(), probe: Probe::Unit("multi-user.target".into()) },
                Check {
                    name: "/bin/test -e /x".into(),
                    probe: Probe::Command { argv: argv(&["/bin/test", "-e", "/x"]), timeout: Duration::from_secs(5) }
                },
                Check {
                    name: "shell".into(),
                    probe: Probe::Command {
                        argv: argv(&["/bin/sh", "-c", "test -e /x && true"]),
                        timeout: COMMAND_TIMEOUT
                    }
                },
            ]
        );
    }

    #[test]
    fn what_cannot_be_understood_does_not_pass_and_says_where_and_why() {
        for (text, place, word) in [
            ("checks:\n  - http: http://x\n", "a.yaml:2:", "not supported yet"),
            ("checks:\n  - unit: a\n    command: b\n", "a.yaml:2:", "either"),
            ("checks: 3\n", "a.yaml:1:", "list"),
            ("chekcs: []\n", "a.yaml:1:", "chekcs"),
            ("deadline: soon\n", "a.yaml:1:", "90s"),
            ("- unit: x\n", "a.yaml:1:1", "mapping"),
            ("checks: [\n", "a.yaml:", ""),
        ] {
            let (checks, _) = parse(Path::new("/x/a.yaml"), text);
            let [Check { probe: Probe::Impossible(why), .. }] = checks.as_slice() else { panic!("{text}: {checks:?}") };
            assert!(why.contains(place) && why.contains(word), "{text}: {why}");
        }
        assert_eq!(parse(Path::new("a.yaml"), "checks:\n"), (vec![], None));
    }

    #[test]
    fn a_file_of_the_owner_hides_that_of_the_image_with_its_name() {
        let root = tempfile::tempdir().unwrap();
        let put = |dir: &str, name: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
            std::fs::write(root.path().join(dir).join(name), text).unwrap();
        };
        put(DIRS[0], "10-base.yaml", "deadline: 10m\nchecks:\n  - unit: a\n");
        put(DIRS[0], "20-more.yaml", "checks:\n  - unit: b\n");
        put(DIRS[0], "README", "no checks");
        put(DIRS[1], "20-more.yaml", "");
        let checks = read(root.path());
        assert_eq!(checks.deadline, Duration::from_secs(600));
        let names: Vec<_> = checks.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["a.service", STAGES]);
        put(DIRS[1], "10-base.yaml", "checks:\n  - unit: c\n");
        assert_eq!(read(root.path()).deadline, DEADLINE);
        let nothing = read(Path::new("/no/such/root"));
        assert_eq!((nothing.checks.len(), nothing.deadline), (1, DEADLINE));
    }

    #[test]
    fn the_checks_that_images_ship_are_understood() {
        let text = include_str!("../../factory/files/image/usr/lib/kairn/health.d/10-system.yaml");
        let (checks, deadline) = parse(Path::new("10-system.yaml"), text);
        let name = "the system has started".to_owned();
        assert_eq!(checks, [Check { name, probe: Probe::Unit("multi-user.target".into()) }]);
        assert_eq!(deadline, Some(DEADLINE));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ -~\n]{0,200}") {
            drop(parse(Path::new("a.yaml"), &text));
        }
    }
}
