//! Commands. A step ends when its process exits, not when its pipes close: daemons that it left are kept.

use crate::{Context, Error};
use kairn_host::{Invocation, run_in_root};
use kairn_report::{Event, Sink};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many of its last lines the error of a failed command shows.
const LINES_SHOWN: usize = 3;

/// How long a condition may take.
const CONDITION_DEADLINE: Duration = Duration::from_secs(60);
/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a line by the shell. Always a change: nobody knows what it did.
pub fn run_line(line: &str, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    finish(&self::line(line, context.command_deadline), context, sink)
}

/// Runs a program without a shell. A name without a slash is looked up by `env`, inside the root.
pub fn run_words(words: &[String], context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    finish(&self::words(words, context.command_deadline), context, sink)
}

/// A line for the shell, to be run.
pub fn line(line: &str, deadline: Duration) -> Invocation {
    invocation(["-c", line], "/bin/sh", deadline)
}

/// A program and its arguments, to be run. A name without a slash is looked up by `env`, inside the root.
pub fn words(words: &[String], deadline: Duration) -> Invocation {
    let words = words.iter().map(String::as_str);
    invocation(["--"].into_iter().chain(words), "/usr/bin/env", deadline)
}

/// Says whether a line of the shell exits with zero.
pub fn holds(line: &str, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    let invocation = invocation(["-c", line], "/bin/sh", CONDITION_DEADLINE);
    Ok(execute(&invocation, context, &mut |_| {}, sink)?.success())
}

/// Says whether a program exits with zero. A name without a slash is looked up by `env`, inside the root.
pub fn words_hold(words: &[String], context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    let words = words.iter().map(String::as_str);
    let invocation = invocation(["--"].into_iter().chain(words), "/usr/bin/env", CONDITION_DEADLINE);
    Ok(execute(&invocation, context, &mut |_| {}, sink)?.success())
}

fn invocation<'a>(words: impl IntoIterator<Item = &'a str>, program: &str, deadline: Duration) -> Invocation {
    Invocation::new(program)
        .args(words)
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .deadline(deadline)
}

fn finish(invocation: &Invocation, context: &Context, sink: &mut dyn Sink) -> Result<bool, Error> {
    let mut last = VecDeque::new();
    let mut keep = |line: &str| {
        tracing::debug!(line, "output of a command");
        if last.len() == LINES_SHOWN {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    };
    let status = execute(invocation, context, &mut keep, sink)?;
    if status.success() {
        return Ok(true);
    }
    let said: Vec<String> = last.into();
    let said = if said.is_empty() { String::new() } else { format!("; it said: {}", said.join(" / ")) };
    Err(Error::Command(format!("{status}{said}")))
}

/// Runs to the end of the process. The error of a missed deadline names no argument: a command may hold secrets.
pub fn execute(
    invocation: &Invocation,
    context: &Context,
    line: &mut dyn FnMut(&str),
    sink: &mut dyn Sink,
) -> Result<std::process::ExitStatus, Error> {
    let begun = Instant::now();
    let mut told = begun;
    let mut tick = || {
        if told.elapsed() >= context.notice {
            told = Instant::now();
            sink.event(Event::warning(format!("a command still runs after {} s", begun.elapsed().as_secs())));
        }
    };
    match run_in_root(&context.root, invocation, context.notice, line, &mut tick) {
        Err(kairn_host::Error::Deadline { deadline, .. }) => {
            Err(Error::Command(format!("its deadline of {} s", deadline.as_secs())))
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(deadline: Duration) -> Context {
        Context { command_deadline: deadline, ..Context::this(kairn_config::TemplateValues::default()) }
    }

    #[test]
    fn commands_run_conditions_hold_and_failures_say_the_status() {
        let here = context(Duration::from_secs(20));
        let mut events = Vec::new();
        assert!(run_line("echo seen; true", &here, &mut events).unwrap());
        assert!(run_words(&["test".into(), "a".into(), "=".into(), "a".into()], &here, &mut events).unwrap());
        assert!(!holds("exit 1", &here, &mut events).unwrap());
        let error = run_line("echo no such disk; exit 3 # s3cret", &here, &mut events).unwrap_err().to_string();
        assert_eq!(error, "it ended with exit status: 3; it said: no such disk");
    }

    #[test]
    fn a_daemon_that_a_command_leaves_does_not_hold_it() {
        let begun = Instant::now();
        run_line("sleep 30 & echo left", &context(Duration::from_secs(20)), &mut Vec::new()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_command_past_its_deadline_is_killed_and_not_quoted() {
        let error = run_line("sleep 600 # s3cret", &context(Duration::from_millis(50)), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("deadline") && !error.to_string().contains("s3cret"), "{error}");
    }
}
