//! Clones of repositories, by the `git` program of the root.
//!
//! Invariants: no secret is an argument, which every user of the machine could read; the files that hold them are gone when the work
//! ends. Nothing that lies in the clone is run.

use crate::{Context, Error, tool};
use base64::Engine as _;
use kairn_config::{Git, GitLogin};
use kairn_host::{Invocation, files};
use kairn_report::{Event, Sink};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// What ssh is given, whatever the login: nobody is there to answer, and a server that fell silent is left.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=60 -o ServerAliveInterval=15 -o ServerAliveCountMax=4";

/// Brings a clone to where its branch is; says whether anything changed. What was changed in its files by hand is lost.
pub fn ensure(context: &Context, git: &Git, sink: &mut dyn Sink) -> Result<bool, Error> {
    let program = tool::program(context, "git")?;
    let path = context.at(&git.path);
    let is_clone = path.join(".git").exists();
    if !is_clone && path.exists() {
        let names = if path.is_dir() { files::names(&path)? } else { vec!["a file".into()] };
        if !names.is_empty() {
            let found = if path.is_dir() { "a directory with other files" } else { "a file" };
            return Err(Error::InTheWay { path: git.path.clone(), found, wanted: "a clone" });
        }
    }
    warn(git, sink);
    let keys = Keys::put(context, git)?;
    let program = with_settings(program, git, &keys);
    let worked = Clone { git, program, context }.converge(is_clone, sink);
    let cleared = keys.clear();
    let changed = worked?;
    cleared?;
    Ok(changed)
}

struct Clone<'a> {
    git: &'a Git,
    program: Invocation,
    context: &'a Context,
}

impl Clone<'_> {
    fn converge(&self, is_clone: bool, sink: &mut dyn Sink) -> Result<bool, Error> {
        let (git, branch) = (self.git, &self.git.branch);
        if !is_clone {
            let init = self.program.clone().args(["init", "--quiet", "--"]).arg(git.path.to_string_lossy());
            tool::run(&init, self.context, sink)?;
        }
        let (refs, tags) = if git.branch_only {
            (format!("+refs/heads/{branch}:refs/remotes/origin/{branch}"), "--no-tags")
        } else {
            ("+refs/heads/*:refs/remotes/origin/*".to_owned(), "--tags")
        };
        self.run(&["config", "remote.origin.url", &git.url], sink)?;
        self.run(&["config", "--replace-all", "remote.origin.fetch", &refs], sink)?;
        self.run(&["fetch", "--quiet", "--force", tags, "--no-recurse-submodules", "origin", &refs], sink)?;
        let target = format!("refs/remotes/origin/{branch}");
        let Some(wanted) = self.commit(&target, sink)? else {
            return Err(Error::NoBranch { url: git.url.clone(), branch: branch.clone() });
        };
        let head = self.commit("HEAD", sink)?;
        let on = self.ask(&["symbolic-ref", "--quiet", "HEAD"], sink)?;
        if head.as_ref() == Some(&wanted)
            && on.lines == [format!("refs/heads/{branch}")]
            && self.run(&["status", "--porcelain", "--untracked-files=no"], sink)?.is_empty()
        {
            return Ok(false);
        }
        self.run(&["checkout", "--quiet", "--force", "-B", branch, &target, "--"], sink)?;
        Ok(true)
    }

    fn inside(&self, args: &[&str]) -> Invocation {
        self.program.clone().arg("-C").arg(self.git.path.to_string_lossy()).args(args.iter().copied())
    }

    fn run(&self, args: &[&str], sink: &mut dyn Sink) -> Result<Vec<String>, Error> {
        tool::run(&self.inside(args), self.context, sink)
    }

    fn ask(&self, args: &[&str], sink: &mut dyn Sink) -> Result<tool::Answer, Error> {
        tool::ask(&self.inside(args), self.context, sink)
    }

    /// The commit that a name means; `None` when there is no such name.
    fn commit(&self, name: &str, sink: &mut dyn Sink) -> Result<Option<String>, Error> {
        let answer = self.ask(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")], sink)?;
        Ok(answer.lines.into_iter().next().filter(|_| answer.status.success()))
    }
}

fn warn(git: &Git, sink: &mut dyn Sink) {
    if git.login.insecure {
        sink.event(Event::warning(format!("{}: the server is not verified, since `insecure` is set", git.url)));
    }
    if git.url.starts_with("http://") && git.login.password.is_some() {
        sink.event(Event::warning(format!("{}: the password crosses the network in clear", git.url)));
    }
}

/// Gives git its settings by its environment (git-config(1), `GIT_CONFIG_COUNT`), which only root can read.
fn with_settings(program: Invocation, git: &Git, keys: &Keys) -> Invocation {
    let login = &git.login;
    let mut settings = vec![
        // The clone may belong to whom a step gave it.
        ("safe.directory".to_owned(), git.path.to_string_lossy().into_owned()),
        ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
        ("credential.helper".to_owned(), String::new()),
        ("http.lowSpeedLimit".to_owned(), "1".to_owned()),
        ("http.lowSpeedTime".to_owned(), "60".to_owned()),
    ];
    if let Some(server) = server_of(&git.url) {
        if login.username.is_some() || login.password.is_some() {
            let password = login.password.as_ref().map(|password| password.reveal().as_str()).unwrap_or_default();
            let pair = format!("{}:{password}", login.username.as_deref().unwrap_or_default());
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            settings.push((format!("http.{server}/.extraHeader"), format!("Authorization: Basic {pair}")));
        }
        if login.insecure {
            settings.push((format!("http.{server}/.sslVerify"), "false".to_owned()));
        }
    }
    let ssh = match &keys.seen {
        Some(dir) => format!("{SSH} -F {dir}/config"),
        None => SSH.to_owned(),
    };
    let mut program = program
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        .env("GIT_SSH_COMMAND", ssh)
        .env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (number, (key, value)) in settings.into_iter().enumerate() {
        program = program.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    program
}

/// Scheme and host of an address of HTTP.
fn server_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    if matches!(scheme, "http" | "https") { url.get(..scheme.len() + 3 + end) } else { None }
}

/// The files by which ssh logs in, in a directory that only root may enter.
struct Keys {
    dir: Option<TempDir>,
    /// The directory as programs of the root see it.
    seen: Option<String>,
}

impl Keys {
    fn put(context: &Context, git: &Git) -> Result<Self, Error> {
        let login = &git.login;
        if server_of(&git.url).is_some() || *login == GitLogin::default() {
            return Ok(Self { dir: None, seen: None });
        }
        let run = context.at("/run".as_ref());
        files::make_dir(&run, 0o755)?;
        let dir = tempfile::Builder::new()
            .prefix("kairn-git-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&run)
            .map_err(Error::path("make a directory in", &run))?;
        let seen = format!("/run/{}", dir.path().file_name().unwrap_or_default().to_string_lossy());
        let put = |name: &str, text: &str| files::create_new(&dir.path().join(name), text.as_bytes(), 0o600);
        put("config", &ssh_config(git, Path::new(&seen)))?;
        if let Some(key) = &login.private_key {
            put("key", &format!("{}\n", key.reveal().trim_end()))?;
        }
        if let Some(key) = &login.host_key {
            put("known_hosts", &format!("* {key}\n"))?;
        }
        Ok(Self { dir: Some(dir), seen: Some(seen) })
    }

    fn clear(self) -> Result<(), Error> {
        match self.dir {
            None => Ok(()),
            Some(dir) => {
                let path = dir.path().to_owned();
                dir.close().map_err(Error::path("remove", path))
            }
        }
    }
}

/// The settings of ssh_config(5) for a login.
fn ssh_config(git: &Git, dir: &Path) -> String {
    let login = &git.login;
    let dir = dir.display();
    let mut text = String::new();
    // One in the address wins, as in git.
    if let Some(user) = login.username.as_ref().filter(|user| !git.url.contains('@') && !user.contains(['"', '\n'])) {
        text.push_str(&format!("User \"{user}\"\n"));
    }
    if login.private_key.is_some() {
        text.push_str(&format!("IdentityFile {dir}/key\nIdentitiesOnly yes\n"));
    }
    if login.host_key.is_some() {
        let hosts = format!("UserKnownHostsFile {dir}/known_hosts\nGlobalKnownHostsFile /dev/null\n");
        text.push_str(&format!("{hosts}StrictHostKeyChecking yes\n"));
    } else if login.insecure {
        text.push_str("UserKnownHostsFile /dev/null\nStrictHostKeyChecking no\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::tool::tests::{calls, root_with_shell, stand_in};
    use kairn_report::Secret;
    use std::process::Command;

    fn of(url: &str, path: &Path) -> Git {
        Git {
            url: url.to_owned(),
            path: path.to_owned(),
            branch: "main".into(),
            branch_only: false,
            login: GitLogin::default(),
        }
    }

    /// Runs git in a repository whose author is fixed.
    fn git(dir: &Path, args: &[&str]) {
        let status = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .status();
        assert!(status.unwrap().success(), "{args:?}");
    }

    fn upstream() -> Option<TempDir> {
        let can = rustix::process::geteuid().is_root() && Command::new("git").arg("--version").output().is_ok();
        if !can {
            eprintln!("skipped: a clone in a root of its own needs root and git");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet", "-b", "main"]);
        fs::write(dir.path().join("a"), "one").unwrap();
        git(dir.path(), &["add", "a"]);
        git(dir.path(), &["commit", "--quiet", "-m", "one"]);
        Some(dir)
    }

    #[test]
    fn a_clone_follows_its_branch_and_loses_changes_by_hand() {
        let Some(upstream) = upstream() else { return };
        let here = context(Path::new("/"));
        let place = tempfile::tempdir().unwrap();
        let clone = place.path().join("clone");
        let wanted = of(&upstream.path().display().to_string(), &clone);
        let ensure = || ensure(&here, &wanted, &mut Vec::new()).unwrap();
        assert!(ensure());
        assert_eq!(fs::read_to_string(clone.join("a")).unwrap(), "one");
        assert!(!ensure());
        fs::write(upstream.path().join("a"), "two").unwrap();
        git(upstream.path(), &["commit", "--quiet", "--all", "--amend", "-m", "two"]);
        assert!(ensure());
        assert_eq!(fs::read_to_string(clone.join("a")).unwrap(), "two");
        fs::write(clone.join("a"), "by hand").unwrap();
        fs::write(clone.join("other"), "stays").unwrap();
        assert!(ensure());
        assert_eq!(fs::read_to_string(clone.join("a")).unwrap(), "two");
        assert!(!ensure() && clone.join("other").exists());
    }

    #[test]
    fn one_branch_alone_is_fetched_where_that_is_wanted() {
        let Some(upstream) = upstream() else { return };
        git(upstream.path(), &["branch", "other"]);
        let place = tempfile::tempdir().unwrap();
        let here = context(Path::new("/"));
        let clone = place.path().join("clone");
        let wanted = Git { branch_only: true, ..of(&format!("file://{}", upstream.path().display()), &clone) };
        assert!(ensure(&here, &wanted, &mut Vec::new()).unwrap());
        assert!(!clone.join(".git/refs/remotes/origin/other").exists());
        let all = Git { branch: "other".into(), branch_only: false, ..wanted };
        assert!(ensure(&here, &all, &mut Vec::new()).unwrap());
        let absent = Git { branch: "none".into(), ..all };
        let error = ensure(&here, &absent, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("no branch `none`"), "{error}");
    }

    #[test]
    fn other_files_are_not_cloned_over_and_an_absent_git_is_named() {
        let Some(upstream) = upstream() else { return };
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("mine"), "").unwrap();
        let url = upstream.path().display().to_string();
        let error = ensure(&context(Path::new("/")), &of(&url, place.path()), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::InTheWay { .. }) && place.path().join("mine").exists());
        let error = ensure(&context(place.path()), &of(&url, Path::new("/clone")), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::Host(kairn_host::Error::NoProgram { program }) if program == "git"));
    }

    #[test]
    fn secrets_are_in_the_environment_and_in_files_that_go_and_never_in_arguments() {
        let Some(root) = root_with_shell() else { return };
        stand_in(
            root.path(),
            "git",
            "echo \"$GIT_CONFIG_VALUE_5|$GIT_SSH_COMMAND\" >> /seen\nfor f in /run/kairn-git-*/*; do [ -e $f ] && cat $f >> /files; done\nexit 1",
        );
        let https = Git {
            login: GitLogin {
                username: Some("u".into()),
                password: Some(Secret::new("hunter2".into())),
                ..GitLogin::default()
            },
            ..of("https://example.org/a.git", Path::new("/clone"))
        };
        assert!(ensure(&context(root.path()), &https, &mut Vec::new()).is_err());
        let ssh = Git {
            login: GitLogin {
                private_key: Some(Secret::new("-----KEY-----".into())),
                host_key: Some("ssh-ed25519 AAAA".into()),
                ..GitLogin::default()
            },
            ..of("git@example.org:a.git", Path::new("/clone"))
        };
        assert!(ensure(&context(root.path()), &ssh, &mut Vec::new()).is_err());
        assert_eq!(calls(root.path()), ["git init --quiet -- /clone"; 2]);
        let seen = fs::read_to_string(root.path().join("seen")).unwrap();
        // The pair `u:hunter2`.
        assert!(seen.contains("Authorization: Basic dTpodW50ZXIy|"), "{seen}");
        assert!(seen.contains("-F /run/kairn-git-"), "{seen}");
        let files = fs::read_to_string(root.path().join("files")).unwrap();
        assert!(files.contains("-----KEY-----") && files.contains("* ssh-ed25519 AAAA") && !files.contains("hunter2"));
        assert_eq!(fs::read_dir(root.path().join("run")).unwrap().count(), 0);
    }

    #[test]
    fn an_unverified_server_is_warned_of() {
        let mut events = Vec::new();
        let login = GitLogin { insecure: true, ..GitLogin::default() };
        let git = Git { login, ..of("https://example.org:8443/a.git", Path::new("/clone")) };
        warn(&git, &mut events);
        assert_eq!(events.len(), 1);
        let program = with_settings(Invocation::new("git"), &git, &Keys { dir: None, seen: None });
        assert_eq!(program.env.get("GIT_CONFIG_KEY_5").unwrap(), "http.https://example.org:8443/.sslVerify");
    }
}
