//! A client of QEMU's machine protocol: one JSON object per line, replies in order, events in between
//! (QEMU `docs/interop/qmp-spec.rst`).

use crate::{Error, socket};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long QEMU may take to answer a command; it answers at once unless it is stuck.
const ANSWER: Duration = Duration::from_secs(60);
/// After so long without one, no event that QEMU has announced is still on its way.
const SILENCE: Duration = Duration::from_millis(200);

/// Something that QEMU announced.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct QmpEvent {
    /// Its name, e.g. `RESET`, `SHUTDOWN`, `WATCHDOG`.
    #[serde(rename = "event")]
    pub name: String,
    /// What comes with it.
    #[serde(default)]
    pub data: Value,
}

/// A connection to a monitor. QEMU serves one at a time on each socket; a second one waits.
#[derive(Debug)]
pub struct Qmp {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    /// A line that a timeout cut.
    partial: Vec<u8>,
    events: VecDeque<QmpEvent>,
}

impl Qmp {
    /// Connects to a socket in a directory, reads the greeting and enters command mode.
    ///
    /// # Errors
    /// Nobody listens, or what answers is not QEMU.
    pub fn connect(dir: &Path, name: &str) -> Result<Self, Error> {
        let stream = BufReader::new(socket::connect(dir, name)?);
        let mut qmp = Self { path: dir.join(name), stream, partial: Vec::new(), events: VecDeque::new() };
        let greeting = qmp.message(Instant::now() + ANSWER)?;
        match greeting {
            Some(greeting) if greeting.get("QMP").is_some() => {}
            Some(other) => return Err(qmp.broken(format!("greeted with {other}"))),
            None => return Err(qmp.broken("no greeting; is another client connected?")),
        }
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Runs a command; arguments are an object or null.
    ///
    /// # Errors
    /// QEMU refused it, did not answer within a minute, or ended.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let mut request = json!({"execute": command});
        if let (Some(object), false) = (request.as_object_mut(), arguments.is_null()) {
            object.insert("arguments".into(), arguments);
        }
        let line = format!("{request}\n");
        self.stream.get_mut().write_all(line.as_bytes()).map_err(Error::path("write to", &self.path))?;
        let end = Instant::now() + ANSWER;
        loop {
            let Some(message) = self.message(end)? else {
                return Err(self.broken(format!("no answer to `{command}` within {} s", ANSWER.as_secs())));
            };
            if let Some(value) = message.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = message.get("error") {
                let field = |name| error.get(name).and_then(Value::as_str).unwrap_or("unknown").to_owned();
                return Err(Error::Refused { command: command.into(), class: field("class"), reason: field("desc") });
            }
            self.keep_event(message)?;
        }
    }

    /// Runs a command of the human monitor and returns what it prints.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn human(&mut self, command: &str) -> Result<String, Error> {
        let reply = self.execute("human-monitor-command", json!({"command-line": command}))?;
        Ok(reply.as_str().unwrap_or_default().replace("\r\n", "\n"))
    }

    /// Waits for an event of one of the names, also one that came since the connection was made and was not asked for yet;
    /// earlier events of other names are dropped. `None` when the deadline passed.
    ///
    /// # Errors
    /// QEMU ended or broke the protocol.
    pub fn wait_event(&mut self, names: &[&str], deadline: Duration) -> Result<Option<QmpEvent>, Error> {
        let end = Instant::now() + deadline;
        loop {
            while let Some(event) = self.events.pop_front() {
                if names.contains(&event.name.as_str()) {
                    return Ok(Some(event));
                }
            }
            let Some(message) = self.message(end)? else { return Ok(None) };
            self.keep_event(message)?;
        }
    }

    /// Ends the connection; returns the events that came over it and nobody took.
    pub(crate) fn into_events(mut self) -> Result<VecDeque<QmpEvent>, Error> {
        while let Some(message) = self.message(Instant::now() + SILENCE)? {
            self.keep_event(message)?;
        }
        Ok(self.events)
    }

    /// Puts events of an earlier connection before its own.
    pub(crate) fn after(mut self, mut before: VecDeque<QmpEvent>) -> Self {
        before.append(&mut self.events);
        Self { events: before, ..self }
    }

    fn keep_event(&mut self, message: Value) -> Result<(), Error> {
        match serde_json::from_value(message) {
            Ok(event) => self.events.push_back(event),
            Err(error) => return Err(self.broken(format!("neither reply nor event: {error}"))),
        }
        Ok(())
    }

    /// Reads one message. `None` when the deadline passed; what came of a line until then is kept.
    fn message(&mut self, end: Instant) -> Result<Option<Value>, Error> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.get_ref().set_read_timeout(Some(left)).map_err(Error::path("read from", &self.path))?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Err(self.broken("QEMU closed the connection")),
                Ok(_) if !self.partial.ends_with(b"\n") => return Err(self.broken("QEMU ended within a message")),
                Ok(_) => {
                    let line = std::mem::take(&mut self.partial);
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    return serde_json::from_slice(&line)
                        .map(Some)
                        .map_err(|error| self.broken(format!("not JSON: {error}")));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::path("read from", &self.path)(error)),
            }
        }
    }

    fn broken(&self, reason: impl Into<String>) -> Error {
        Error::Protocol { socket: self.path.clone(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Serves one client: sends the pieces in turn, each after a line from the client when it says so.
    fn monitor(script: &'static [(bool, &'static str)]) -> (tempfile::TempDir, thread::JoinHandle<Vec<String>>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("q")).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let (mut reader, mut lines) = (BufReader::new(stream), Vec::new());
            for (after_line, send) in script {
                if *after_line {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    lines.push(line.trim().to_owned());
                }
                reader.get_mut().write_all(send.as_bytes()).unwrap();
            }
            lines
        });
        (dir, server)
    }

    const GREETING: (bool, &str) = (false, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");

    #[test]
    fn commands_are_answered_and_events_in_between_are_kept() {
        let (dir, server) = monitor(&[
            GREETING,
            (true, "{\"return\": {}}\r\n"),
            (
                true,
                "{\"timestamp\": {}, \"event\": \"RESET\", \"data\": {\"guest\": true}}\r\n{\"return\": {\"status\"",
            ),
            (false, ": \"running\"}}\r\n"),
        ]);
        let mut qmp = Qmp::connect(dir.path(), "q").unwrap();
        assert_eq!(qmp.execute("query-status", Value::Null).unwrap(), json!({"status": "running"}));
        let event = qmp.wait_event(&["SHUTDOWN", "RESET"], Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!(event, QmpEvent { name: "RESET".into(), data: json!({"guest": true}) });
        let lines = server.join().unwrap();
        assert_eq!(lines, [r#"{"execute":"qmp_capabilities"}"#, r#"{"execute":"query-status"}"#]);
        assert!(matches!(qmp.wait_event(&["RESET"], Duration::from_secs(5)), Err(Error::Protocol { .. })));
    }

    #[test]
    fn a_refusal_names_the_command_and_qemus_reason() {
        let (dir, _server) = monitor(&[
            GREETING,
            (true, "{\"return\": {}}\n"),
            (true, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such thing\"}}\n"),
        ]);
        let mut qmp = Qmp::connect(dir.path(), "q").unwrap();
        let error = qmp.execute("fly", Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused `fly`: CommandNotFound: no such thing");
    }

    #[test]
    fn a_deadline_without_an_event_is_not_an_error() {
        let (dir, _server) = monitor(&[GREETING, (true, "{\"return\": {}}\n"), (true, "")]);
        let mut qmp = Qmp::connect(dir.path(), "q").unwrap();
        assert_eq!(qmp.wait_event(&["RESET"], Duration::from_millis(20)).unwrap(), None);
    }

    #[test]
    fn something_that_is_not_qemu_is_refused() {
        let (dir, _server) = monitor(&[(false, "{\"hello\": 1}\n")]);
        assert!(Qmp::connect(dir.path(), "q").unwrap_err().to_string().contains("greeted with"));
    }
}
