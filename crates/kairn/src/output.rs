//! How `kairn` talks: results on stdout, everything else on stderr or, for machines, as JSON lines on a descriptor.

use indicatif::{ProgressBar, ProgressStyle};
use kairn_report::{Event, Kind, Outcome, Report, Sink};
use serde::Serialize;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How much is logged where nobody said it.
const USUAL_LOG: LevelFilter = LevelFilter::WARN;

/// Changes how much is logged from now on; absent where the command line said how much.
static LOG: OnceLock<Box<dyn Fn(LevelFilter) + Send + Sync>> = OnceLock::new();

/// Begins to log on stderr.
pub fn start_log(asked: Option<LevelFilter>) {
    let filter = |level: LevelFilter| EnvFilter::default().add_directive(level.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter(asked.unwrap_or(USUAL_LOG)));
    let log = log.with_writer(io::stderr).without_time().with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    if asked.is_none() {
        let change = move |level| {
            if let Err(error) = handle.reload(filter(level)) {
                tracing::warn!(%error, "as much is logged as before");
            }
        };
        // Nothing else sets it.
        LOG.get_or_init(|| Box::new(change));
    }
}

/// Logs so much from now on unless the command line said how much.
pub fn log_unless_said(level: LevelFilter) {
    if let Some(change) = LOG.get() {
        change(level);
    }
}

/// Format of a reading verb's result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Prints a result: a value that displays itself and serialises.
///
/// # Errors
/// Stdout is closed or full.
pub fn result<T: Serialize + std::fmt::Display>(format: Format, value: &T) -> Result<(), Report> {
    match format {
        Format::Human => line(&value.to_string()),
        Format::Json => json(value),
    }
}

/// Prints a value as indented JSON.
///
/// # Errors
/// Stdout is closed or full.
pub fn json(value: &impl Serialize) -> Result<(), Report> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Report::new(Kind::Bug, format!("cannot write the result as JSON: {error}")))?;
    line(&text)
}

/// Prints a text and ends its last line.
///
/// # Errors
/// Stdout is full. A closed pipe is the reader's choice and no error.
pub fn line(text: &str) -> Result<(), Report> {
    raw(&format!("{}\n", text.trim_end_matches('\n')))
}

/// Prints a text as it stands.
///
/// # Errors
/// Stdout is full. A closed pipe is the reader's choice and no error.
pub fn raw(text: &str) -> Result<(), Report> {
    bytes(text.as_bytes())
}

/// Prints bytes as they are.
///
/// # Errors
/// Stdout is full. A closed pipe is the reader's choice and no error.
pub fn bytes(bytes: &[u8]) -> Result<(), Report> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes);
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Report::new(Kind::Environment, format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says something on stderr. A closed stderr leaves nobody to tell.
pub fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    if writeln!(stderr, "{text}").is_err() {
        tracing::trace!("stderr is closed");
    }
}

/// Takes the events of long work and shows them.
pub struct Progress {
    bar: Option<ProgressBar>,
    machine: Option<File>,
    lost: Option<io::Error>,
    begun: Instant,
    step: Instant,
    /// The step that begun last, and what it does.
    current: Option<(String, String)>,
}

impl Progress {
    /// Shows events on stderr: a bar on a terminal, lines elsewhere; and as JSON lines on `progress_fd`, which the caller opened.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn new(progress_fd: Option<RawFd>) -> Result<Self, Report> {
        let machine = match progress_fd {
            None => None,
            Some(fd) => Some(descriptor(fd)?),
        };
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let now = Instant::now();
        Ok(Self { bar, machine, lost: None, begun: now, step: now, current: None })
    }

    /// Ends the display.
    ///
    /// # Errors
    /// Events could not be written to the descriptor.
    pub fn finish(self) -> Result<(), Report> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        tracing::debug!(seconds = self.begun.elapsed().as_secs_f32(), "finished");
        match self.lost {
            None => Ok(()),
            Some(error) => Err(Report::new(Kind::Environment, format!("cannot write progress events: {error}"))),
        }
    }

    /// Does some work, such as asking, that the display must not write into.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Start { step, text } => {
                self.step = Instant::now();
                self.current = Some((step.clone(), text.clone()));
                if let Some(bar) = &self.bar {
                    bar.set_style(ProgressStyle::default_spinner());
                    bar.set_message(text.clone());
                }
            }
            Event::Progress { done, total, .. } => {
                if let Some(bar) = &self.bar {
                    if *total > 0 {
                        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {percent}%") {
                            bar.set_style(style);
                        }
                        bar.set_length(*total);
                    }
                    bar.set_position(*done);
                }
            }
            Event::End { step, outcome } => {
                // Within a step, such as a stage, others may end.
                let own = self.current.take_if(|(current, _)| current == step);
                let text = own.as_ref().map_or(step, |(_, text)| text);
                let seconds = self.step.elapsed().as_secs_f32();
                match outcome {
                    Outcome::Done => self.print(&format!("  done     {text} ({seconds:.1} s)")),
                    Outcome::Skipped(why) => self.print(&format!("  skipped  {text}: {why}")),
                    Outcome::Failed(why) => self.print(&format!("  FAILED   {text}: {why}")),
                }
            }
            Event::Warning { text } => self.print(&format!("  warning  {text}")),
        }
    }
}

impl Sink for Progress {
    fn event(&mut self, event: Event) {
        self.show(&event);
        if let (Some(machine), None) = (&mut self.machine, &self.lost) {
            let written =
                serde_json::to_string(&event).map_err(io::Error::other).and_then(|line| writeln!(machine, "{line}"));
            self.lost = written.err();
        }
    }
}

/// Says warnings on stderr, for verbs that only read and have no progress to show.
#[derive(Debug)]
pub struct Voice;

impl Sink for Voice {
    fn event(&mut self, event: Event) {
        if let Event::Warning { text } = event {
            say(&format!("warning: {text}"));
        }
    }
}

/// Opens an inherited descriptor through `/proc`, which needs no trust in its number.
fn descriptor(fd: RawFd) -> Result<File, Report> {
    std::fs::OpenOptions::new().append(true).open(format!("/proc/self/fd/{fd}")).map_err(|error| {
        Report::new(Kind::User, format!("--progress-fd {fd} is not open for writing: {error}"))
            .hint("open it in the shell, e.g. `--progress-fd 3 3>events.jsonl`")
    })
}
