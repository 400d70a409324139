//! Which accelerator QEMU can use here. `/dev/kvm` says nothing: nested or para-virtual hosts offer one that runs the first
//! instructions and fails at the first that it cannot emulate. So the firmware itself is booted on it.

use crate::{Error, Firmware, Machine, Pattern, store};
use kairn_host::Runner;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// On KVM the firmware writes to the console within one second or two.
const PROBE: Duration = Duration::from_secs(5);

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// By translation, one thread per guest processor.
    Tcg,
}

impl Accel {
    /// Returns QEMU's `-accel` argument.
    #[must_use]
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// Finds out what works here: KVM only when UEFI really comes up on it. The answer is kept for this process, and in a file of
    /// the lab until the host boots again.
    ///
    /// # Errors
    /// QEMU or its firmware is missing, or a scratch directory cannot be made.
    pub fn detect(runner: &Runner) -> Result<Self, Error> {
        static FOUND: Mutex<Option<Accel>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(accel) = *found {
            return Ok(accel);
        }
        let memory = Memory::of_this_boot();
        let accel = match memory.as_ref().and_then(Memory::recall) {
            Some(accel) => accel,
            None => {
                let accel = if kvm_boots(runner)? { Self::Kvm } else { Self::Tcg };
                if let Some(memory) = memory {
                    memory.keep(accel);
                }
                accel
            }
        };
        *found = Some(accel);
        Ok(accel)
    }
}

/// Boots UEFI on KVM and says whether it wrote to its console.
fn kvm_boots(runner: &Runner) -> Result<bool, Error> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let dir = std::env::temp_dir().join(format!("kairn-lab-kvm-probe-{}", std::process::id()));
    let machine = Machine::builder("kvm-probe", &dir)
        .firmware(Firmware::Uefi)
        .network(None)
        .memory_mib(256)
        .cpus(1)
        .accel(Accel::Kvm)
        .runner(runner.clone())
        .create()?;
    let boots = boots(&machine);
    fs::remove_dir_all(&dir).map_err(Error::path("remove", dir))?;
    boots
}

fn boots(machine: &Machine) -> Result<bool, Error> {
    let refused = |error: Error| match error {
        missing @ Error::NoPackage { .. } => Err(missing),
        // No permission, no virtualisation, a broken nested one: each is a reason for TCG and none to stop.
        other => {
            tracing::info!(error = %other, "KVM does not work here");
            Ok(false)
        }
    };
    let running = match machine.start() {
        Ok(running) => running,
        Err(error) => return refused(error),
    };
    let Ok(printable) = Regex::new("[[:print:]]") else { return Ok(false) };
    match running.console().wait_for(Pattern::from(printable), PROBE) {
        Ok(_) => Ok(true),
        Err(error) => refused(error),
    }
}

/// The file that remembers what was found since the host booted.
struct Memory {
    file: PathBuf,
    boot_id: String,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    boot_id: String,
    accel: Accel,
}

impl Memory {
    fn of_this_boot() -> Option<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let root = store::default_root(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))?;
        Some(Self { file: root.join("accel.json"), boot_id })
    }

    fn recall(&self) -> Option<Accel> {
        let text = fs::read(&self.file).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        (remembered.boot_id == self.boot_id).then_some(remembered.accel)
    }

    /// Keeps the answer; when that fails, the next process probes again, which costs seconds and nothing else.
    fn keep(&self, accel: Accel) {
        let remembered = Remembered { boot_id: self.boot_id.clone(), accel };
        let write = || -> Result<(), Box<dyn std::error::Error>> {
            if let Some(dir) = self.file.parent() {
                fs::create_dir_all(dir)?;
            }
            Ok(fs::write(&self.file, serde_json::to_vec(&remembered)?)?)
        };
        if let Err(error) = write() {
            tracing::debug!(%error, file = %self.file.display(), "cannot remember the accelerator");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_remembered_until_the_host_boots_again() {
        let dir = tempfile::tempdir().unwrap();
        let memory = |boot: &str| Memory { file: dir.path().join("lab/accel.json"), boot_id: boot.into() };
        assert_eq!(memory("a").recall(), None);
        memory("a").keep(Accel::Tcg);
        assert_eq!(memory("a").recall(), Some(Accel::Tcg));
        assert_eq!(memory("b").recall(), None);
    }
}
