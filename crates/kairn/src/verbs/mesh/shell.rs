//! `kairn mesh shell`, and what serves it on the other side.

use super::{orders, settings};
use crate::cli::{MeshLend, MeshShell, MeshUp};
use crate::output;
use kairn_config::{MeshSettings, ShellLending};
use kairn_host::{files, terminal};
use kairn_mesh::{Attendance, Client, SHELL_SOCKET, ShellAsked, ShellEnd, ShellPolicy, ShellSettings, attend};
use kairn_mesh_protocol::shell::{Code, Request, Shell, Size, Terminal};
use kairn_report::{Kind, Report, in_one_line};
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

/// The mark of a machine that is in recovery.
const RECOVERY: &str = "/run/cos/recovery_mode";
/// The verb that runs what is asked for.
const ATTEND: [&str; 2] = ["mesh", "attend"];
/// The exit status of what a signal ended, less the signal: as shells have it.
const BY_SIGNAL: u8 = 128;

pub fn run(verb: &MeshShell) -> Result<ExitCode, Report> {
    let key = verb.admin_key.as_deref().map(orders::key).transpose()?;
    let given = verb.code_file.as_deref().map(|path| code_of(&files::read_text(path)?, path)).transpose()?;
    let mut code = |shell: &Shell| match &given {
        Some(code) => Ok(code.clone()),
        None => ask_for_code(shell),
    };
    let request = Request { terminal: terminal_of(verb), command: verb.command.clone() };
    request.check().map_err(Report::from)?;
    let asked = ShellAsked { request, key: key.as_ref(), code: &mut code };
    Ok(match Client::new(&verb.state_dir).shell(&verb.node, asked)? {
        ShellEnd::Code(code) => code.into(),
        ShellEnd::Signal(number) => BY_SIGNAL.saturating_add(number).into(),
    })
}

/// The terminal of this process, for a shell that a person types at.
fn terminal_of(verb: &MeshShell) -> Option<Terminal> {
    let is_typed = verb.command.is_empty() && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let size = terminal::own_size().filter(|_| is_typed)?;
    let name = std::env::var("TERM").unwrap_or_default();
    let name = if name.chars().all(|c| c.is_ascii_graphic() && c != '/') { name } else { String::new() };
    Some(Terminal { name, size: Size { columns: size.columns, rows: size.rows } })
}

fn code_of(text: &str, path: &Path) -> Result<Code, Report> {
    text.parse::<Code>().map_err(|fault| Report::new(Kind::User, fault.to_string()).context(path.display().to_string()))
}

fn ask_for_code(shell: &Shell) -> Result<Code, String> {
    let typed = terminal::ask(&format!("code on the console of node {}: ", shell.server.short()));
    let typed = typed.map_err(|error| {
        format!("there is no terminal to ask for the code at ({}): use --code-file or --admin-key", in_one_line(&error))
    })?;
    typed.parse::<Code>().map_err(|fault| fault.to_string())
}

/// When and how the node of this machine lends its shell.
pub fn settings_of(verb: &MeshUp, said: &MeshSettings) -> ShellSettings {
    let policy = match verb.shell {
        Some(MeshLend::Recovery) => ShellPolicy::Recovery,
        Some(MeshLend::Always) => ShellPolicy::Always,
        Some(MeshLend::Never) => ShellPolicy::Never,
        None => policy_of(said),
    };
    // The node has looked whether it may lend one; the service manager's attendant looks for itself.
    let arguments = ATTEND.iter().chain(&["--trusting"]).map(|word| (*word).to_owned()).collect();
    ShellSettings {
        policy,
        is_recovery: is_recovery(),
        consoles: verb.console.clone(),
        attendance: Attendance { socket: SHELL_SOCKET.into(), arguments },
    }
}

const fn policy_of(said: &MeshSettings) -> ShellPolicy {
    match said.shell {
        ShellLending::Recovery => ShellPolicy::Recovery,
        ShellLending::Always => ShellPolicy::Always,
        ShellLending::Never => ShellPolicy::Never,
    }
}

pub fn is_recovery() -> bool {
    Path::new(RECOVERY).exists()
}

/// Serves one connection, which is this process' standard input.
pub fn serve(trusting: bool) -> Result<ExitCode, Report> {
    output::log_unless_said(LevelFilter::INFO);
    let failed = |error: std::io::Error| Report::new(Kind::Environment, format!("no connection to serve: {error}"));
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    stream.local_addr().map_err(failed)?;
    stream.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let served = runtime.block_on(async {
        attend(tokio::net::UnixStream::from_std(stream)?, Path::new("/"), || permit(trusting)).await
    });
    runtime.shutdown_background();
    served.map_err(|error| Report::new(Kind::Environment, format!("a shell broke off: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether this machine lends a shell at all, whatever its node says.
fn permit(trusting: bool) -> Result<(), String> {
    let (code, key) = policy_of(&settings::of_machine().0).doors(is_recovery());
    if trusting || code || key { Ok(()) } else { Err("p2p.shell of its configuration does not permit it".to_owned()) }
}
