//! The commands of package managers: what they are given for what a step wants. Pure: who runs them asks first what is installed.

use std::collections::BTreeMap;

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageManager {
    /// Debian and what descends from it.
    Apt,
    /// Fedora, RHEL and what descends from them.
    Dnf,
    /// SUSE.
    Zypper,
    /// Alpine.
    Apk,
    /// Arch.
    Pacman,
}

/// The managers by the names that a configuration may give them.
pub(crate) const MANAGERS: [&str; 6] = ["apt", "dnf", "yum", "zypper", "apk", "pacman"];

/// What a step wants, with its templates expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageWishes {
    /// Lists are fetched first.
    pub refresh: bool,
    /// All that is installed is brought up to date.
    pub upgrade: bool,
    /// These are there.
    pub install: Vec<String>,
    /// These are not.
    pub remove: Vec<String>,
}

/// How packages are kept at their versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// These files have these contents.
    Files(Vec<(&'static str, String)>),
    /// These lines are in a file, each in place of the lines about the same package.
    World {
        /// The file.
        path: &'static str,
        /// Name of the package and line.
        lines: Vec<(String, String)>,
    },
    /// These commands run.
    Commands(Vec<Vec<String>>),
    /// There is no way, for this reason.
    Impossible(&'static str),
}

impl PackageManager {
    /// Finds the manager of a distribution by `ID` and then `ID_LIKE` of os-release(5).
    #[must_use]
    pub fn of(id: &str, id_like: &str) -> Option<Self> {
        std::iter::once(id).chain(id_like.split_whitespace()).find_map(|id| match id {
            "debian" | "ubuntu" => Some(Self::Apt),
            "fedora" | "rhel" | "redhat" | "centos" | "rocky" | "almalinux" | "ol" => Some(Self::Dnf),
            "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "sles" | "sle-micro" => Some(Self::Zypper),
            "alpine" => Some(Self::Apk),
            "arch" => Some(Self::Pacman),
            _ => None,
        })
    }

    /// Says whether a configuration means this manager by a name.
    #[must_use]
    pub fn is_called(self, name: &str) -> bool {
        match self {
            Self::Apt => name == "apt",
            // yum is dnf's old name.
            Self::Dnf => name == "dnf" || name == "yum",
            Self::Zypper => name == "zypper",
            Self::Apk => name == "apk",
            Self::Pacman => name == "pacman",
        }
    }

    /// Returns how one version of a package is asked for.
    #[must_use]
    pub fn versioned(self, package: &str, version: &str) -> String {
        match self {
            Self::Dnf => format!("{package}-{version}"),
            Self::Apt | Self::Zypper | Self::Apk | Self::Pacman => format!("{package}={version}"),
        }
    }

    /// Returns the environment that keeps the manager from asking questions.
    #[must_use]
    pub const fn environment(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Apt => Some(("DEBIAN_FRONTEND", "noninteractive")),
            _ => None,
        }
    }

    /// Returns the command that exits with zero when a package is installed. For apt its output must be `installed` besides.
    #[must_use]
    pub fn query(self, package: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Apt => &["dpkg-query", "--show", "--showformat=${db:Status-Status}"],
            Self::Dnf | Self::Zypper => &["rpm", "--query", "--quiet", "--whatprovides"],
            Self::Apk => &["apk", "info", "--installed"],
            Self::Pacman => &["pacman", "--query", "--quiet"],
        };
        owned(words.iter().copied().chain([package]))
    }

    /// Returns the commands, in their order: lists, upgrade, installation, removal.
    #[must_use]
    pub fn commands(self, wishes: &PackageWishes) -> Vec<Vec<String>> {
        type Words = &'static [&'static str];
        let (refresh, upgrade, install, remove): (Words, Words, Words, Words) = match self {
            Self::Apt => (
                &["apt-get", "-y", "update"],
                &["apt-get", "-y", "upgrade"],
                &["apt-get", "-y", "--no-install-recommends", "install"],
                &["apt-get", "-y", "remove"],
            ),
            Self::Dnf => (
                &["dnf", "-y", "makecache"],
                &["dnf", "-y", "upgrade"],
                &["dnf", "-y", "--setopt=install_weak_deps=False", "install"],
                &["dnf", "-y", "remove"],
            ),
            Self::Zypper => (
                &["zypper", "--non-interactive", "refresh"],
                &["zypper", "--non-interactive", "update"],
                &["zypper", "--non-interactive", "install", "--no-recommends"],
                &["zypper", "--non-interactive", "remove"],
            ),
            Self::Apk => (
                &["apk", "update"],
                &["apk", "upgrade", "--no-cache"],
                &["apk", "add", "--no-cache"],
                &["apk", "del", "--no-cache"],
            ),
            // Lists that are newer than what is installed are how Arch breaks, so they come with the upgrade.
            Self::Pacman => (
                &["pacman", "-Sy", "--noconfirm"],
                &["pacman", "-Syu", "--noconfirm"],
                &["pacman", "-S", "--noconfirm", "--needed"],
                &["pacman", "-R", "--noconfirm"],
            ),
        };
        let mut commands = Vec::new();
        if wishes.refresh && !(self == Self::Pacman && wishes.upgrade) {
            commands.push(owned(refresh.iter().copied()));
        }
        if wishes.upgrade {
            commands.push(owned(upgrade.iter().copied()));
        }
        for (command, packages) in [(install, &wishes.install), (remove, &wishes.remove)] {
            if !packages.is_empty() {
                commands.push(owned(command.iter().copied().chain(packages.iter().map(String::as_str))));
            }
        }
        commands
    }

    /// Says how packages are kept at versions.
    #[must_use]
    pub fn pinning(self, pins: &BTreeMap<String, String>) -> Pinning {
        let pairs = || pins.iter();
        match self {
            // apt_preferences(5): above 1000 a package goes back to an older version, too.
            Self::Apt => {
                let record = |(name, version)| format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n");
                let records: Vec<String> = pairs().map(record).collect();
                Pinning::Files(vec![("/etc/apt/preferences.d/99-yip-pins", records.join("\n"))])
            }
            // dnf-versionlock(8): the list has patterns of name and version.
            Self::Dnf => {
                let list = "/etc/dnf/plugins/versionlock.list";
                let lines: String = pairs().map(|(name, version)| format!("{name}-{version}*\n")).collect();
                let settings = format!("[main]\nenabled=1\nlocklist={list}\n");
                Pinning::Files(vec![("/etc/dnf/plugins/versionlock.conf", settings), (list, lines)])
            }
            Self::Zypper => Pinning::Commands(
                pairs()
                    .map(|(name, version)| {
                        let lock = format!("{name}={version}");
                        owned(["zypper", "--non-interactive", "addlock", lock.as_str()])
                    })
                    .collect(),
            ),
            // apk-world(5): one constraint per line; the others there are what the system is made of.
            Self::Apk => Pinning::World {
                path: "/etc/apk/world",
                lines: pairs().map(|(name, version)| (name.clone(), format!("{name}={version}"))).collect(),
            },
            Self::Pacman => Pinning::Impossible("pacman cannot keep a package at a version"),
        }
    }
}

/// Merges lines of `/etc/apk/world`: a line about a package takes the place of the one that is there, the others stay.
#[must_use]
pub fn merge_world(before: &str, lines: &[(String, String)]) -> String {
    let name_of = |line: &str| line.split(['=', '<', '>', '~', '@']).next().unwrap_or_default().trim().to_owned();
    let mut merged = String::new();
    let mut placed = vec![false; lines.len()];
    for line in before.lines().filter(|line| !line.trim().is_empty()) {
        let name = name_of(line);
        match lines.iter().zip(&mut placed).find(|((package, _), _)| *package == name) {
            None => merged.push_str(line),
            Some((_, placed)) if *placed => continue,
            Some(((_, line), placed)) => {
                *placed = true;
                merged.push_str(line);
            }
        }
        merged.push('\n');
    }
    for ((_, line), _) in lines.iter().zip(&placed).filter(|(_, placed)| !**placed) {
        merged.push_str(line);
        merged.push('\n');
    }
    merged
}

/// Says what keeps a text from being an argument of a package manager: it must be no option and one word.
#[must_use]
pub fn package_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.starts_with('-') {
        return Some("it begins with `-`, as options do");
    }
    name.contains(|c: char| c.is_whitespace() || c.is_control()).then_some("it is not one word")
}

fn owned<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use PackageManager::{Apk, Apt, Dnf, Pacman, Zypper};

    fn lines(commands: Vec<Vec<String>>) -> Vec<String> {
        commands.iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn a_manager_is_found_by_the_distribution_or_what_it_is_like() {
        for (id, like, manager) in [
            ("debian", "", Some(Apt)),
            ("raspbian", "debian", Some(Apt)),
            ("pop", "ubuntu debian", Some(Apt)),
            ("fedora", "", Some(Dnf)),
            ("rocky", "rhel centos fedora", Some(Dnf)),
            ("amzn", "centos rhel fedora", Some(Dnf)),
            ("opensuse-microos", "suse opensuse", Some(Zypper)),
            ("alpine", "", Some(Apk)),
            ("manjaro", "arch", Some(Pacman)),
            ("hadron", "", None),
            ("", "", None),
        ] {
            assert_eq!(PackageManager::of(id, like), manager, "{id} {like}");
        }
    }

    #[test]
    fn every_name_is_that_of_one_manager() {
        for name in MANAGERS {
            let found = [Apt, Dnf, Zypper, Apk, Pacman].into_iter().filter(|manager| manager.is_called(name));
            assert_eq!(found.count(), 1, "{name}");
        }
        assert_eq!(Dnf.versioned("curl", "8.1"), "curl-8.1");
        assert_eq!(Apt.versioned("curl", "8.1"), "curl=8.1");
    }

    #[test]
    fn each_manager_gets_its_commands_in_one_order() {
        let words = |text: &str| owned(text.split_whitespace());
        let all = PackageWishes { refresh: true, upgrade: true, install: words("a b"), remove: words("c") };
        for (manager, expected) in [
            (
                Apt,
                &[
                    "apt-get -y update",
                    "apt-get -y upgrade",
                    "apt-get -y --no-install-recommends install a b",
                    "apt-get -y remove c",
                ][..],
            ),
            (
                Dnf,
                &[
                    "dnf -y makecache",
                    "dnf -y upgrade",
                    "dnf -y --setopt=install_weak_deps=False install a b",
                    "dnf -y remove c",
                ],
            ),
            (
                Zypper,
                &[
                    "zypper --non-interactive refresh",
                    "zypper --non-interactive update",
                    "zypper --non-interactive install --no-recommends a b",
                    "zypper --non-interactive remove c",
                ],
            ),
            (Apk, &["apk update", "apk upgrade --no-cache", "apk add --no-cache a b", "apk del --no-cache c"]),
            (Pacman, &["pacman -Syu --noconfirm", "pacman -S --noconfirm --needed a b", "pacman -R --noconfirm c"]),
        ] {
            assert_eq!(lines(manager.commands(&all)), expected);
            assert_eq!(manager.commands(&PackageWishes::default()), Vec::<Vec<String>>::new());
            let upgrade = PackageWishes { upgrade: true, ..PackageWishes::default() };
            assert_eq!(manager.commands(&upgrade).len(), 1);
        }
    }

    #[test]
    fn pins_are_files_or_locks() {
        let pins = [("curl".to_owned(), "8.1".to_owned()), ("jq".to_owned(), "1.7".to_owned())].into();
        let Pinning::Files(files) = Apt.pinning(&pins) else { panic!() };
        let expected = "Package: curl\nPin: version 8.1\nPin-Priority: 1001\n\nPackage: jq\nPin: version 1.7\nPin-Priority: 1001\n";
        assert_eq!(files, [("/etc/apt/preferences.d/99-yip-pins", expected.to_owned())]);
        let Pinning::Files(files) = Dnf.pinning(&pins) else { panic!() };
        assert_eq!(files[1].1, "curl-8.1*\njq-1.7*\n");
        let Pinning::Commands(commands) = Zypper.pinning(&pins) else { panic!() };
        assert_eq!(lines(commands)[0], "zypper --non-interactive addlock curl=8.1");
        assert!(matches!(Pacman.pinning(&pins), Pinning::Impossible(_)));
    }

    #[test]
    fn pins_are_merged_into_what_alpine_is_made_of() {
        let pins = [("curl".to_owned(), "8.1".to_owned()), ("jq".to_owned(), "1.7".to_owned())].into();
        let Pinning::World { lines, .. } = Apk.pinning(&pins) else { panic!() };
        let merged = merge_world("alpine-base\ncurl~8\ncurl-doc\n\ncurl\n", &lines);
        assert_eq!(merged, "alpine-base\ncurl=8.1\ncurl-doc\njq=1.7\n");
        assert_eq!(merge_world(&merged, &lines), merged);
    }

    #[test]
    fn an_option_is_no_package() {
        for bad in ["", "-y", "--allow-unauthenticated", "a b", "a\nb"] {
            assert!(package_fault(bad).is_some(), "{bad}");
        }
        for good in ["curl", "curl=8.1-2", "@development", "libc6:arm64", "https://example.org/a.rpm"] {
            assert_eq!(package_fault(good), None);
        }
    }
}
