//! The command line as types; help, completions and man pages come from here. Names are a contract (`ARCHITECTURE.md`).

mod agent;
mod config;
mod mesh;
mod register;

use crate::output::Format;
pub use agent::{Agent, AgentConfig, AgentState, AgentVerb};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use config::{
    Apply, Config, Diff, Directories, Explain, Named, Reveal, Stage, StagePlan, StageRun, Template, Validate,
};
use kairn_lifecycle::Source;
pub use mesh::{
    Mesh, MeshDns, MeshKv, MeshLend, MeshOrder, MeshReading, MeshRecord, MeshSecret, MeshShell, MeshTier, MeshUp,
};
pub use register::Register;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tracing::level_filters::LevelFilter;

/// Turns a distribution's container image into an immutable operating system and runs it through its whole life.
#[derive(Debug, Parser)]
#[command(name = "kairn", version, propagate_version = true, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// Returns how much is logged, where that is said.
    pub fn log(&self) -> Option<LevelFilter> {
        match &self.verb {
            Verb::Agent(agent) if agent.global.debug => Some(LevelFilter::DEBUG).max(self.global.log),
            _ => self.global.log,
        }
    }
}

/// Name by which files made for Kairos call this program.
const AGENT: &str = "kairos-agent";

/// Returns the words of the command line: called by the name of kairos-agent, they are those of `kairn agent`.
pub fn words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    if words.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == AGENT)) {
        words.splice(..1, ["kairn".into(), "agent".into()]);
    }
    words
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Writes the events of long work as JSON lines to this open descriptor
    #[arg(long, global = true, value_name = "FD")]
    pub progress_fd: Option<i32>,
    /// Says more: info, debug or trace instead of warn
    #[arg(long, alias = "log-level", global = true, value_name = "LEVEL", env = "KAIRN_LOG")]
    pub log: Option<LevelFilter>,
}

/// What `kairn` can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes releases and media from a distribution or an image
    Build(Build),
    /// Turns a distribution's root file system into a Kairn image, in place
    Convert(Convert),
    /// Seals a converted tree into a release
    Seal(Seal),
    /// Runs machines in QEMU on this workstation
    #[command(subcommand)]
    Lab(Lab),
    /// Installs the running medium's release on a disk of this machine
    Install(Install),
    /// Hands a configuration to a machine that shows a QR code on its live system, and has it installed
    Register(Register),
    /// Brings a new release to this machine as its next deployment
    Upgrade(Upgrade),
    /// Makes a new deployment of the previous good release
    Rollback(Rollback),
    /// Makes this machine as after its installation, from its recovery system
    Reset(Reset),
    /// Shows what this machine runs, boots next and went through
    Status(Reading),
    /// Shows loader entries, or selects one for the next boot only
    #[command(subcommand)]
    BootEntry(BootEntry),
    /// Checks this machine and blesses the deployment that it runs
    Health(Health),
    /// Reads, checks and explains configuration
    #[command(subcommand)]
    Config(Config),
    /// Runs or shows the stages of the configuration
    #[command(subcommand)]
    Stage(Stage),
    /// Tells provider plugins of an event, with the merged configuration
    Notify(Notify),
    /// Joins machines that share a token into one network
    #[command(subcommand)]
    Mesh(Mesh),
    /// Renders a template with the configuration and the state of this machine
    RenderTemplate(Template),
    /// Takes the command line of kairos-agent, as the name `kairos-agent` does
    Agent(Agent),
    /// Writes the completions of a shell to stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes a manual page for every verb
    Manual {
        /// Directory for the pages; made when absent
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
    /// Fits an image written to a disk to that disk, once (run by its unit)
    #[command(hide = true)]
    FirstBoot(Planned),
    /// Puts what kernels said at their end into the records of their boots (run by its unit)
    #[command(hide = true)]
    LastWords,
}

/// Options of a verb that reads.
#[derive(Clone, Copy, Debug, Args)]
pub struct Reading {
    /// Format of the result
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// Options of a verb that changes the machine.
#[derive(Clone, Copy, Debug, Args)]
pub struct Planned {
    /// Prints every action and touches nothing
    #[arg(long)]
    pub plan: bool,
    /// Format of the plan
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// Which kernel of the distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Drivers for all hardware.
    #[default]
    Generic,
    /// Drivers for virtual machines only, smaller.
    Cloud,
}

/// `kairn build`.
#[derive(Debug, Args)]
pub struct Build {
    /// oci:REF[@DIGEST], ocifile:PATH, dir:PATH, tar:PATH, release:DIR or debian:SUITE
    pub source: Source,
    /// Directory for the results; made when absent, refused when not empty
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Makes an installation medium (UEFI; CD-ROM or USB stick)
    #[arg(long)]
    pub iso: bool,
    /// Makes a disk image of an installed machine
    #[arg(long)]
    pub raw: bool,
    /// Makes the converted image as an OCI layout
    #[arg(long)]
    pub oci: bool,
    /// Pushes the converted image
    #[arg(long, value_name = "oci:REF")]
    pub push: Option<Source>,
    /// Puts this configuration on the media
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kernel of a debian: source
    #[arg(long, value_enum, default_value_t)]
    pub kernel: Kernel,
    /// More packages for a debian: source
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub package: Vec<String>,
    /// Version that the image states
    #[arg(long, value_name = "VERSION", default_value = "0.1.0")]
    pub image_version: String,
    /// Kernel command-line words in addition
    #[arg(long, value_name = "WORD")]
    pub cmdline: Vec<String>,
    /// Compressor of the root with its level, e.g. lz4hc,9 or zstd,9; default: lz4, of a squashfs root the best that its kernel reads
    #[arg(long, value_name = "NAME[,LEVEL]")]
    pub compressor: Option<String>,
    /// Registry that speaks plain HTTP
    #[arg(long, value_name = "HOST[:PORT]")]
    pub allow_insecure_registry: Vec<String>,
    /// kairn-init to put into the image; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
}

/// `kairn convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The root file system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Version that the image states
    #[arg(long, value_name = "VERSION", default_value = "0.1.0")]
    pub image_version: String,
    /// Kernel release to use; default: the newest in /lib/modules
    #[arg(long, value_name = "RELEASE")]
    pub kernel_release: Option<String>,
    /// Kernel command-line words in addition
    #[arg(long, value_name = "WORD")]
    pub cmdline: Vec<String>,
    /// Compressor of the root with its level, e.g. lz4hc,9 or zstd,9; default: lz4, of a squashfs root the best that its kernel reads
    #[arg(long, value_name = "NAME[,LEVEL]")]
    pub compressor: Option<String>,
    /// kairn-init to put into the image; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Plan only, and its format
    #[command(flatten)]
    pub planned: Planned,
}

/// `kairn seal`.
#[derive(Debug, Args)]
pub struct Seal {
    /// The converted tree
    pub tree: PathBuf,
    /// Directory for the release; made when absent, refused when not empty
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
}

/// User that lab machines are entered as unless said otherwise.
pub const LAB_USER: &str = "kairos";

/// `kairn lab`.
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Starts a machine
    Up(LabUp),
    /// Runs a command on a machine, or a shell
    Ssh {
        /// Its name
        name: String,
        /// User to log in as
        #[arg(long, short, default_value = LAB_USER)]
        user: String,
        /// Command and arguments
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Attaches to a machine's serial console; Ctrl-] leaves
    Console {
        /// Its name
        name: String,
    },
    /// Shows machines
    List(Reading),
    /// Shuts a machine down
    Stop {
        /// Its name
        name: String,
        /// Cuts its power instead
        #[arg(long)]
        force: bool,
    },
    /// Removes a stopped machine and its disks
    Rm {
        /// Its name
        name: String,
    },
}

/// `kairn lab up`.
#[derive(Debug, Args)]
pub struct LabUp {
    /// Its name
    pub name: String,
    /// ISO in its CD-ROM drive
    #[arg(long, value_name = "FILE")]
    pub iso: Option<PathBuf>,
    /// ISO as a USB stick
    #[arg(long, value_name = "FILE", conflicts_with = "iso")]
    pub usb: Option<PathBuf>,
    /// Disk image to start from; it is not changed
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
    /// Size of its disk in GiB
    #[arg(long, value_name = "GIB", default_value_t = 20)]
    pub disk_size: u64,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub memory: u64,
    /// Processors
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: u32,
    /// With a TPM
    #[arg(long)]
    pub tpm: bool,
    /// How it is entered
    #[command(flatten)]
    pub reading: Reading,
}

/// `kairn install`.
#[derive(Debug, Args)]
pub struct Install {
    /// Disk to install on, or `auto`; default: what the configuration says, else `auto`
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Configuration of the new machine; default: what this medium carries, else what a provider plugin answers or `kairn register` sends
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Shows a QR code, waits for `kairn register`, and installs what that hands over and nothing else. On a terminal this is done
    /// unasked where nothing says what to install; with --unattended it is done there only
    #[arg(long, conflicts_with = "config")]
    pub pair: bool,
    /// Replaces what the disk holds
    #[arg(long)]
    pub force: bool,
    /// Acts on `install.auto` of the configuration, as its unit does, instead of installing in any case
    #[arg(long)]
    pub unattended: bool,
    /// Reboots afterwards
    #[arg(long, conflicts_with = "poweroff")]
    pub reboot: bool,
    /// Powers off afterwards
    #[arg(long)]
    pub poweroff: bool,
    /// Plan only, and its format
    #[command(flatten)]
    pub planned: Planned,
}

/// `kairn upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// oci:REF[@DIGEST], ocifile:PATH, dir:PATH, tar:PATH or release:DIR
    #[arg(long)]
    pub source: Source,
    /// Upgrades the recovery release instead
    #[arg(long)]
    pub recovery: bool,
    /// Checks everything that can be checked before, and stops there
    #[arg(long)]
    pub check: bool,
    /// Goes on although a deployment is on trial
    #[arg(long)]
    pub force: bool,
    /// Registry that speaks plain HTTP
    #[arg(long, value_name = "HOST[:PORT]")]
    pub allow_insecure_registry: Vec<String>,
    /// Reboots afterwards
    #[arg(long)]
    pub reboot: bool,
    /// Plan only, and its format
    #[command(flatten)]
    pub planned: Planned,
}

/// `kairn rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Reboots afterwards
    #[arg(long)]
    pub reboot: bool,
    /// Plan only, and its format
    #[command(flatten)]
    pub planned: Planned,
}

/// `kairn reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// Formats COS_OEM too, which holds the configuration; default: what the configuration says
    #[arg(long)]
    pub reset_oem: bool,
    /// Does not ask
    #[arg(long)]
    pub unattended: bool,
    /// Reboots afterwards
    #[arg(long, conflicts_with = "poweroff")]
    pub reboot: bool,
    /// Powers off afterwards
    #[arg(long)]
    pub poweroff: bool,
    /// Plan only, and its format
    #[command(flatten)]
    pub planned: Planned,
}

/// `kairn notify`.
#[derive(Debug, Args)]
pub struct Notify {
    /// Name of the event, e.g. agent.boot
    pub event: String,
    /// Files, directories or addresses whose configuration is sent; default: that of this machine
    #[arg(value_name = "DIR")]
    pub paths: Vec<PathBuf>,
    /// Format of the answers
    #[command(flatten)]
    pub reading: Reading,
}

/// `kairn boot-entry`.
#[derive(Debug, Subcommand)]
pub enum BootEntry {
    /// Shows the entries in the order in which the loader tries them
    List(Reading),
    /// Selects an entry for the next boot only
    Select {
        /// active, passive, recovery or the name of an entry
        name: String,
    },
}

/// `kairn health`.
#[derive(Debug, Args)]
pub struct Health {
    /// Acts on the verdict: blesses, or records the reason and reboots (as its unit does)
    #[arg(long)]
    pub act: bool,
    /// The trial's time is over: acts as on a failed check
    #[arg(long, hide = true)]
    pub deadline_passed: bool,
    /// Format of the result
    #[command(flatten)]
    pub reading: Reading,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_name_kairos_agent_means_its_verb() {
        for (name, expected) in [
            ("/usr/bin/kairos-agent", "kairn agent state"),
            ("kairos-agent", "kairn agent state"),
            ("/usr/bin/kairn", "/usr/bin/kairn state"),
        ] {
            let words = words([name, "state"].map(OsString::from));
            assert_eq!(words.join(std::ffi::OsStr::new(" ")), expected);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_every_verb_is_as_reviewed() {
        fn collect(command: &mut clap::Command, path: &str, out: &mut String) {
            out.push_str(&format!("=== {path}\n{}\n", command.render_long_help()));
            for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                collect(sub, &path, out);
            }
        }
        let mut command = Cli::command().term_width(110);
        command.build();
        let mut out = String::new();
        collect(&mut command, "kairn", &mut out);
        insta::assert_snapshot!(out);
    }
}
