//! Verbs of the configuration: `config`, `stage`, `render-template`.

use super::Reading;
use crate::output::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `kairn config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Checks files and points at every mistake
    Validate(Validate),
    /// Shows the merged configuration of this machine or of files
    Show {
        /// Which files
        #[command(flatten)]
        named: Named,
        /// Whether secrets are shown
        #[command(flatten)]
        reveal: Reveal,
        /// Format of the result
        #[command(flatten)]
        reading: Reading,
    },
    /// Answers a jq query about the merged configuration, secrets included
    Get {
        /// Key path in jq, e.g. install.device or '"k3s-agent".args'
        query: String,
        /// Which files
        #[command(flatten)]
        named: Named,
        /// Format of the result; YAML for people
        #[command(flatten)]
        reading: Reading,
    },
    /// Says which file and line set a value and what it overrode
    Explain(Explain),
    /// Shows in order what a stage would run
    Plan {
        /// Name of the stage
        stage: String,
        /// Which files
        #[command(flatten)]
        named: Named,
        /// Format of the result
        #[command(flatten)]
        reading: Reading,
    },
    /// Takes a file into the configuration of this machine and runs what can run now
    Apply(Apply),
    /// Shows what sets the merged configurations of two files or directories apart
    Diff(Diff),
    /// Prints the JSON Schema of a configuration, by which editors complete and check it
    Schema,
}

/// Files that take the place of this machine's.
#[derive(Clone, Debug, Default, Args)]
pub struct Named {
    /// Files, directories or addresses instead of this machine's; - is stdin
    pub paths: Vec<PathBuf>,
}

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Reveal {
    /// Shows passwords, tokens and keys instead of ***
    #[arg(long)]
    pub reveal: bool,
}

/// `kairn config validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files, directories or addresses of http or https; - is stdin
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Counts unknown keys and unreadable templates as errors (default)
    #[arg(long)]
    pub strict: bool,
    /// Warns of unknown keys and unreadable templates, as a node does
    #[arg(long, conflicts_with = "strict")]
    pub lenient: bool,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}

/// `kairn config explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Key path, e.g. install.device or users.0.name
    pub key: String,
    /// Count a value as not set that is null or an empty text
    #[arg(long)]
    pub not_empty: bool,
    /// Which files
    #[command(flatten)]
    pub named: Named,
    /// Whether secrets are shown
    #[command(flatten)]
    pub reveal: Reveal,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}

/// `kairn config apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// File or address of http or https; - is stdin. It is kept below /oem
    #[arg(required_unless_present_any = ["confirm", "revert", "watch"])]
    pub file: Option<PathBuf>,
    /// Shows what would change, run now and wait, and touches nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Takes it back after this time (90s, 5m, 1h30m) unless it is confirmed, also over a restart
    #[arg(long = "try", value_name = "TIME", value_parser = window, conflicts_with = "dry_run")]
    pub trial: Option<Duration>,
    /// Tries also what cannot be taken back: commands, users, software, settings of the kernel
    #[arg(long, requires = "trial")]
    pub allow_irreversible: bool,
    /// Name of the file below /oem; default: its own
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Keeps the configuration that is on trial
    #[arg(long, conflicts_with_all = ["file", "revert", "dry_run", "trial", "name"])]
    pub confirm: bool,
    /// Takes the configuration that is on trial back at once
    #[arg(long, conflicts_with_all = ["file", "dry_run", "trial", "name"])]
    pub revert: bool,
    /// Waits until the trial is over, as its unit does
    #[arg(long, hide = true, conflicts_with_all = ["file", "confirm", "revert", "dry_run", "trial", "name"])]
    pub watch: bool,
    /// Format of the result
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = kairn_config::duration(text).filter(|window| !window.is_zero());
    window.ok_or_else(|| "it is a time such as `90s`, `5m` or `1h30m`".to_owned())
}

/// `kairn config diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// File or directory before; - is stdin
    pub a: PathBuf,
    /// File or directory after; - is stdin
    pub b: PathBuf,
    /// Whether secrets are shown
    #[command(flatten)]
    pub reveal: Reveal,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}

/// `kairn render-template`.
#[derive(Debug, Args)]
pub struct Template {
    /// Template: .Config is the merged configuration, .State what `kairn status --output json` shows; - is stdin
    #[arg(long, short, value_name = "FILE")]
    pub file: PathBuf,
    /// Which files
    #[command(flatten)]
    pub named: Named,
}

/// Which directories a stage is read from.
#[derive(Clone, Debug, Default, Args)]
pub struct Directories {
    /// Further directories or files with configuration
    #[arg(long, value_name = "PATH")]
    pub cloud_init_paths: Vec<PathBuf>,
    /// Directories or files with configuration instead of this machine's
    #[arg(long, value_name = "PATH")]
    pub override_cloud_init_paths: Vec<PathBuf>,
}

/// `kairn stage`.
#[derive(Debug, Subcommand)]
pub enum Stage {
    /// Runs a stage with its .before and .after
    Run(StageRun),
    /// Shows in order what a stage would run
    Plan(StagePlan),
}

/// `kairn stage run`.
#[derive(Debug, Args)]
pub struct StageRun {
    /// Its name
    pub name: String,
    /// Root of the system that it changes, and below which configuration is looked for
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Where its steps come from
    #[command(flatten)]
    pub directories: Directories,
    /// Ends with an error when a step failed
    #[arg(long)]
    pub strict: bool,
}

/// `kairn stage plan`.
#[derive(Debug, Args)]
pub struct StagePlan {
    /// Its name
    pub name: String,
    /// Where its steps come from
    #[command(flatten)]
    pub directories: Directories,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}
