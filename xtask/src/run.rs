//! Running programs, and talking: results on stdout, talk on stderr.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task ended, with the exit code of the program.
#[derive(Debug)]
pub struct Failure {
    /// Exit code: 1 a check or test failed, 2 wrong request, 4 the machine lacks something.
    pub code: u8,
    text: String,
}

impl Failure {
    /// A check or test failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// The request was wrong.
    pub fn user(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    /// The machine lacks something.
    pub fn environment(text: impl Into<String>) -> Self {
        Self { code: 4, text: text.into() }
    }

    /// Makes a function for `map_err` that says what could not be done.
    pub fn io(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |error| Self::environment(format!("cannot {what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Says a line on stderr. A stderr that is closed leaves nobody to tell.
pub fn say(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

/// Prints a text on stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::io("write to stdout"))
}

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Returns the project's cache, which git ignores.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// A program to run at the root of the checkout.
pub struct Run {
    command: Command,
    shown: String,
}

impl Run {
    /// Names a program. Its PATH also has the directories of system tools, which a user's often lacks on Debian.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.current_dir(root());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let with_system = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        if let Ok(path) = std::env::join_paths(with_system) {
            command.env("PATH", path);
        }
        Self { command, shown: program.display().to_string() }
    }

    /// Names the cargo that runs this.
    pub fn cargo() -> Self {
        let mut run = Self::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        run.shown = "cargo".into();
        run
    }

    /// Adds arguments.
    pub fn args<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(argument.as_ref());
            self.command.arg(argument.as_ref());
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it before the user's eyes; says whether it succeeded.
    pub fn succeeds(mut self) -> Result<bool, Failure> {
        let shown = self.shown;
        self.command.status().map(|status| status.success()).map_err(Failure::io(format!("run `{shown}`")))
    }

    /// Runs it before the user's eyes; it must succeed.
    pub fn check(self) -> Result<(), Failure> {
        let shown = self.shown.clone();
        if self.succeeds()? { Ok(()) } else { Err(Failure::failed(format!("`{shown}` failed"))) }
    }

    /// Runs it unseen and returns its stdout when it succeeded, else what it said.
    pub fn output(mut self) -> Result<Result<String, String>, Failure> {
        let shown = &self.shown;
        let output = self.command.stdin(Stdio::null()).output().map_err(Failure::io(format!("run `{shown}`")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
        })
    }

    /// Runs it with each line of its stdout and stderr handed over as it comes; says whether it succeeded.
    pub fn lines(mut self, mut take: impl FnMut(&str)) -> Result<bool, Failure> {
        let shown = self.shown;
        let broken = || Failure::io(format!("run `{shown}`"));
        let (mut read, write) = io::pipe().map_err(broken())?;
        self.command.stdin(Stdio::null()).stdout(write.try_clone().map_err(broken())?).stderr(write);
        let mut child = self.command.spawn().map_err(broken())?;
        // The command holds the pipe's other end; without this the reading would never end.
        drop(self.command);
        let mut reader = io::BufReader::new(&mut read);
        let mut line = Vec::new();
        while io::BufRead::read_until(&mut reader, b'\n', &mut line).map_err(broken())? > 0 {
            take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            line.clear();
        }
        child.wait().map(|status| status.success()).map_err(broken())
    }
}
