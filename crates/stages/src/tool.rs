//! Programs that modules call: found by their names in the root that is changed, with arguments and never a line for a shell.

use crate::shell::{PATH, execute};
use crate::{Context, Error};
use kairn_host::Invocation;
use kairn_report::Sink;
use std::process::ExitStatus;

/// How many of its last lines the error of a failed program shows.
const LINES_SHOWN: usize = 3;
/// Lines of a program that are kept; what comes after them is dropped.
const LINES_KEPT: usize = 100_000;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// Its lines, of both streams.
    pub lines: Vec<String>,
}

/// Names a program by its place in the root, with the environment and the deadline that commands have.
///
/// # Errors
/// It is not there.
pub fn program(context: &Context, name: &str) -> Result<Invocation, Error> {
    match find(context, name) {
        Some(path) => Ok(Invocation::new(path)
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .deadline(context.command_deadline)),
        None => Err(kairn_host::Error::NoProgram { program: name.to_owned() }.into()),
    }
}

/// Finds a program in the root: its path there. A link counts, wherever it leads: the root is another than the one seen here.
pub fn find(context: &Context, name: &str) -> Option<String> {
    let is_there = |path: &String| context.at(path.as_ref()).symlink_metadata().is_ok_and(|found| !found.is_dir());
    PATH.split(':').map(|dir| format!("{dir}/{name}")).find(is_there)
}

/// Runs a program to its end, however that is.
pub fn ask(invocation: &Invocation, context: &Context, sink: &mut dyn Sink) -> Result<Answer, Error> {
    let mut lines = Vec::new();
    let mut keep = |line: &str| {
        tracing::debug!(line, "output of a program");
        if lines.len() < LINES_KEPT {
            lines.push(line.to_owned());
        }
    };
    let status = execute(invocation, context, &mut keep, sink)?;
    Ok(Answer { status, lines })
}

/// Runs a program and returns its lines; an exit status other than zero is an error with the last of them.
pub fn run(invocation: &Invocation, context: &Context, sink: &mut dyn Sink) -> Result<Vec<String>, Error> {
    let Answer { status, lines } = ask(invocation, context, sink)?;
    if status.success() {
        return Ok(lines);
    }
    let name = invocation.program.rsplit('/').next().unwrap_or_default();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    let said = lines.get(from..).unwrap_or_default().join(" / ");
    let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
    Err(Error::Tool { program: name.to_owned(), ended: format!("{status}{said}") })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    /// A root that has a shell and its tools, for stand-ins of programs; `None`, with the reason printed, where it cannot be made.
    pub fn root_with_shell() -> Option<tempfile::TempDir> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: programs of another root need root");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        for dir in ["usr/bin", "usr/sbin", "etc", "run", "tmp", "dev"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for program in ["/bin/sh", "/bin/cat"] {
            let place = |path: &str| root.path().join(path.trim_start_matches('/'));
            let copy = |path: &str| {
                fs::create_dir_all(place(path).parent().unwrap()).unwrap();
                fs::copy(path, place(path)).unwrap();
            };
            copy(program);
            let listed = Command::new("ldd").arg(program).output().ok()?;
            for word in
                String::from_utf8(listed.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/'))
            {
                copy(word);
            }
        }
        Some(root)
    }

    /// Puts a script where a program is looked for. It writes its arguments to `/log` before it does `body`.
    pub fn stand_in(root: &Path, name: &str, body: &str) {
        let path = root.join("usr/sbin").join(name);
        fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >> /log\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the stand-ins were called with since the last time.
    pub fn calls(root: &Path) -> Vec<String> {
        let text = fs::read_to_string(root.join("log")).unwrap_or_default();
        if !text.is_empty() {
            fs::remove_file(root.join("log")).unwrap();
        }
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_program_is_found_in_the_root_and_its_absence_and_its_failure_are_told() {
        let Some(root) = root_with_shell() else { return };
        let context = crate::context::tests::context(root.path());
        let absent = program(&context, "frob").unwrap_err().to_string();
        assert!(absent.contains("frob"), "{absent}");
        stand_in(root.path(), "frob", "echo one; echo two >&2; exit $1");
        let found = program(&context, "frob").unwrap();
        assert_eq!(found.program, "/usr/sbin/frob");
        assert_eq!(run(&found.clone().arg("0"), &context, &mut Vec::new()).unwrap(), ["one", "two"]);
        let failed = run(&found.arg("3"), &context, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(failed, "`frob` ended with exit status: 3; it said: one / two");
        assert_eq!(calls(root.path()), ["frob 0", "frob 3"]);
    }
}
