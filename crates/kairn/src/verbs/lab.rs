//! `kairn lab`: machines in QEMU.

use crate::cli::{LAB_USER, Lab, LabUp};
use crate::output::{self, Format};
use kairn_host::Runner;
use kairn_lab::store::{Store, default_root};
use kairn_lab::{Disk, Format as DiskFormat, Running, Spec};
use kairn_report::{Kind, Report};
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// How long a guest may take to power off when asked.
const POWER_OFF: Duration = Duration::from_secs(180);

pub fn run(verb: Lab) -> Result<ExitCode, Report> {
    let store = store()?;
    match verb {
        Lab::Up(up) => start(&store, &up)?,
        Lab::Ssh { name, user, command } => return ssh(&store, &name, &user, &command),
        Lab::Console { name } => {
            output::say("Ctrl-] leaves the console; the machine goes on.");
            kairn_lab::attach(&store.get(&name)?, &std::io::stdin(), &mut std::io::stdout())?;
        }
        Lab::List(reading) => list(&store, reading.output)?,
        Lab::Stop { name, force } => {
            let ran = store.stop(&name, force, POWER_OFF)?;
            output::line(&format!("{name} {}", if ran { "stopped" } else { "did not run" }))?;
        }
        Lab::Rm { name } => {
            store.remove(&name, false)?;
            output::line(&format!("{name} removed"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn store() -> Result<Store, Report> {
    let root = std::env::var_os("KAIRN_LAB").map(PathBuf::from);
    let root = root.or_else(|| default_root(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME")));
    let Some(root) = root else {
        return Err(Report::new(Kind::User, "there is no place to keep machines in")
            .hint("set KAIRN_LAB, XDG_STATE_HOME or HOME to a directory"));
    };
    Ok(Store::open(root)?)
}

fn start(store: &Store, up: &LabUp) -> Result<(), Report> {
    if let Ok(machine) = store.get(&up.name) {
        if machine.running()?.is_some() {
            return Err(Report::new(Kind::User, format!("the machine `{}` runs already", up.name)));
        }
        drop(machine.start()?.detach());
    } else {
        create(store, up)?;
    }
    let running = store.running(&up.name)?;
    let started = Started::of(&up.name, &running);
    drop(running.detach());
    output::result(up.reading.output, &started?)
}

/// How a machine that runs is entered.
#[derive(Serialize)]
struct Started {
    name: String,
    /// Port of the host's loopback.
    ssh_port: u16,
    /// Program and arguments.
    ssh: Vec<String>,
    /// Line for `ssh_authorized_keys` of a user on the machine: the lab puts nothing on what it starts.
    authorized_key: String,
}

impl Started {
    fn of(name: &str, running: &Running) -> Result<Self, Report> {
        let ssh = running.ssh()?.user(LAB_USER);
        let (ssh_port, authorized_key) = (ssh.port(), ssh.key().public()?);
        Ok(Self { name: name.to_owned(), ssh_port, ssh: ssh.session(&[]), authorized_key })
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ssh_port, ssh, authorized_key } = self;
        let ssh: Vec<_> = ssh.iter().map(|word| quoted(word)).collect();
        writeln!(
            f,
            "{name} runs; `kairn lab console {name}` shows its console, `kairn lab ssh {name}` enters it (port {ssh_port}), as does"
        )?;
        writeln!(f, "    {}", ssh.join(" "))?;
        writeln!(
            f,
            "where the user `{LAB_USER}` has the lab's key. In the configuration that a machine is made from:"
        )?;
        write!(f, "    ssh_authorized_keys:\n      - {authorized_key}")
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:@,+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn create(store: &Store, up: &LabUp) -> Result<(), Report> {
    let too_much = |what: &str| Report::new(Kind::User, format!("{what} is out of range"));
    let mut spec = Spec::new(&up.name);
    spec.memory_mib = u32::try_from(up.memory).map_err(|_| too_much("--memory"))?;
    spec.cpus = u8::try_from(up.cpus).map_err(|_| too_much("--cpus"))?;
    let size = up.disk_size.checked_mul(1 << 30).ok_or_else(|| too_much("--disk-size"))?;
    let base = up.disk.as_deref().map(absolute).transpose()?;
    spec.tpm = up.tpm;
    spec.watchdog = true;
    spec.durable = true;
    let dir = store.machine_dir(&up.name);
    let disk = Disk::qcow2(dir.join("disk.qcow2"));
    spec.disks.push(disk.clone());
    spec.disks.extend(up.iso.as_deref().map(|iso| absolute(iso).map(Disk::cdrom)).transpose()?);
    spec.disks.extend(up.usb.as_deref().map(|iso| absolute(iso).map(Disk::usb_stick)).transpose()?);
    let builder = store.builder(spec)?;
    std::fs::create_dir_all(&dir)
        .map_err(|error| Report::new(Kind::Environment, format!("cannot create `{}`: {error}", dir.display())))?;
    let runner = Runner::default();
    match &base {
        Some(base) => disk.create_over(&runner, base, format_of(base), Some(size))?,
        None => disk.create(&runner, size)?,
    }
    drop(builder.create()?.start()?.detach());
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, Report> {
    path.canonicalize().map_err(|error| Report::new(Kind::User, format!("cannot use `{}`: {error}", path.display())))
}

fn format_of(path: &Path) -> DiskFormat {
    match path.extension() {
        Some(extension) if extension == "qcow2" => DiskFormat::Qcow2,
        _ => DiskFormat::Raw,
    }
}

/// Becomes `ssh`.
fn ssh(store: &Store, name: &str, user: &str, command: &[String]) -> Result<ExitCode, Report> {
    let session = store.running(name)?.ssh()?.user(user).session(command);
    let Some((program, arguments)) = session.split_first() else {
        return Err(Report::new(Kind::Bug, "an empty ssh command"));
    };
    let error = Command::new(program).args(arguments).exec();
    Err(Report::new(Kind::Environment, format!("cannot run `{program}`: {error}"))
        .hint("install the package openssh-client"))
}

fn list(store: &Store, format: Format) -> Result<(), Report> {
    let machines = store.list()?;
    if format == Format::Json {
        return output::json(&machines);
    }
    let mut text = String::new();
    for machine in &machines {
        let state = machine.pid.map_or("stopped".to_owned(), |pid| format!("running, pid {pid}"));
        let ssh = machine.ports.get(&22).map(|port| format!(", ssh on port {port}")).unwrap_or_default();
        let written =
            writeln!(text, "{}  {} MiB, {} cpus, {state}{ssh}", machine.name, machine.memory_mib, machine.cpus);
        written.map_err(|error| Report::new(Kind::Bug, error.to_string()))?;
    }
    if text.is_empty() {
        text.push_str("no machines");
    }
    output::line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_only_where_it_needs_that() {
        for (word, shown) in
            [("-p", "-p"), ("a@127.0.0.1", "a@127.0.0.1"), ("", "''"), ("my lab", "'my lab'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(word), shown);
        }
    }
}
