//! The command line of kairos-agent, for files and habits that call it.
//!
//! What Kairn does not do yet is listed all the same: such a call is understood, ends with 4 and says so.

use super::{Directories, Reveal};
use clap::{Args, Subcommand};
use kairn_lifecycle::Source;
use std::path::PathBuf;

/// `kairos-agent`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Agent {
    /// Options of every verb.
    #[command(flatten)]
    pub global: AgentGlobal,
    /// What to do.
    #[command(subcommand)]
    pub verb: AgentVerb,
}

/// Options of every verb of `kairos-agent`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct AgentGlobal {
    /// Says more
    #[arg(long, global = true, env = "KAIROS_AGENT_DEBUG", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub debug: bool,
    /// Refuses a configuration with errors
    #[arg(long, global = true, env = "STRICT_VALIDATIONS", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub strict_validation: bool,
}

/// Words that are taken and not looked at.
#[derive(Clone, Debug, Default, Args)]
pub struct Anything {
    /// Taken and not looked at
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}

/// What `kairos-agent` can do.
#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// Shows the merged configuration: `kairn config show`
    Config {
        /// Something else than all of it
        #[command(subcommand)]
        verb: Option<AgentConfig>,
        /// Whether secrets are shown
        #[command(flatten)]
        reveal: Reveal,
    },
    /// Shows what this machine is
    State {
        /// Something else than all of it
        #[command(subcommand)]
        verb: Option<AgentState>,
    },
    /// Checks a file: `kairn config validate`
    Validate {
        /// File, directory, - for stdin, or the configuration itself
        source: String,
    },
    /// Writes the JSON Schema of the configuration: `kairn config schema`
    PrintSchema(Anything),
    /// Renders a template: `kairn render-template`
    RenderTemplate {
        /// The template
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Runs a stage: `kairn stage run`
    RunStage {
        /// Its name
        stage: String,
        /// Ends with an error when a step failed
        #[arg(long)]
        strict: bool,
        /// Where its steps come from
        #[command(flatten)]
        directories: Directories,
        /// Shows what would run, and runs nothing: `kairn stage plan`
        #[arg(long, short)]
        analyze: bool,
    },
    /// Installs if the configuration says `install.auto`: `kairn install --unattended`
    Install {
        /// Disk to install on
        #[arg(long)]
        device: Option<String>,
        /// Reboots afterwards
        #[arg(long)]
        reboot: bool,
        /// Powers off afterwards
        #[arg(long)]
        poweroff: bool,
        /// Image to install instead of the medium's: accepted, and said not to be done
        #[arg(long, hide = true)]
        source: Option<String>,
        /// Console, which old init tables name behind the command
        #[arg(hide = true)]
        console: Option<String>,
    },
    /// Installs with a configuration: `kairn install --config`
    ManualInstall {
        /// The configuration
        config: PathBuf,
        /// Disk to install on
        #[arg(long)]
        device: Option<String>,
        /// Reboots afterwards
        #[arg(long)]
        reboot: bool,
        /// Powers off afterwards
        #[arg(long)]
        poweroff: bool,
        /// Image to install instead of the medium's: accepted, and said not to be done
        #[arg(long, hide = true)]
        source: Option<String>,
        /// Reads this machine's configuration too: accepted, and said not to be done
        #[arg(long, hide = true)]
        use_default_dirs: bool,
    },
    /// Brings a new release: `kairn upgrade`
    Upgrade {
        /// Where it comes from
        #[arg(long, alias = "image")]
        source: Option<Source>,
        /// Upgrades the recovery release instead
        #[arg(long)]
        recovery: bool,
        /// Goes on although a deployment is on trial
        #[arg(long)]
        force: bool,
        /// Reboots afterwards
        #[arg(long)]
        reboot: bool,
    },
    /// Tells provider plugins of an event: `kairn notify`
    Notify {
        /// Its name
        event: String,
        /// Directories whose configuration is sent; default: that of this machine
        #[arg(value_name = "DIR")]
        paths: Vec<PathBuf>,
    },
    /// Tells provider plugins that this machine is up, if its configuration asks for a cluster (run by its unit)
    Start {
        /// Taken and not looked at: it is told at every start
        #[arg(long, hide = true)]
        restart: bool,
        /// Taken and not looked at
        #[arg(long, hide = true)]
        force: bool,
        /// Address that plugins are told
        #[arg(long, default_value = crate::verbs::API)]
        api: String,
        /// Directories whose configuration is sent; default: that of this machine
        #[arg(value_name = "DIR")]
        paths: Vec<PathBuf>,
    },
    /// Serves the installer's pages: accepted, and said not to be done
    #[command(hide = true)]
    Webui(Anything),
    /// Waits for a remote recovery: accepted, and said not to be done
    #[command(hide = true)]
    Recovery(Anything),
    /// Asks what to install: accepted, and said not to be done
    #[command(hide = true)]
    InteractiveInstall(Anything),
    /// Makes the machine as after its installation: `kairn reset`
    Reset {
        /// Formats COS_OEM too
        #[arg(long)]
        reset_oem: bool,
        /// Does not ask
        #[arg(long)]
        unattended: bool,
        /// Reboots afterwards
        #[arg(long)]
        reboot: bool,
        /// Console, which old init tables name behind the command
        #[arg(hide = true)]
        console: Option<String>,
    },
}

/// `kairos-agent config`.
#[derive(Debug, Subcommand)]
pub enum AgentConfig {
    /// Answers a jq query: `kairn config get`
    Get {
        /// Key path in jq
        query: String,
    },
}

/// `kairos-agent state`.
#[derive(Debug, Subcommand)]
pub enum AgentState {
    /// Answers a jq query
    Get {
        /// Key path in jq
        query: String,
    },
}
