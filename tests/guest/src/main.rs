//! What the entries of the loader conformance suite boot: PID 1 of an initramfs that tells on the console what the loader left in
//! EFI variables, takes orders, and restarts. It looks at no disk, so that whatever changed on the ESP was changed by the loader.
//!
//! It writes `guest: NAME=TEXT` for each variable that is set, then `guest: ready`; and obeys lines `set NAME-GUID HEX` and `restart`.
#![forbid(unsafe_code)]

use kairn_firmware::variables;
use kairn_host::efivars::{EfiVars, LOADER, NON_VOLATILE_BOOT_RUNTIME, Variable};
use kairn_host::kmod::{self, Probe};
use kairn_host::mount::{Access, FileSystem};
use rustix::system::RebootCommand;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::Path;

/// Where the suite puts the kernel's module for EFI variables.
const MODULE: &str = "/efivarfs.ko";
const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// What the loader is asked about.
const TOLD: [&str; 3] = ["LoaderInfo", "LoaderEntrySelected", "LoaderBootCountPath"];

fn main() {
    if std::process::id() != 1 {
        // Run by hand: nothing of this is meant for a running system.
        std::process::exit(2);
    }
    if let Err(error) = serve() {
        // The suite waits for another line and shows this one when that does not come.
        say(&format!("failed: {error}")).unwrap_or_default();
    }
    rustix::system::reboot(RebootCommand::Restart).unwrap_or_default();
}

fn serve() -> Result<(), Box<dyn Error>> {
    FileSystem::new("sysfs", Access::ReadWrite).data_only().mount(Path::new("sysfs"), Path::new("/sys"))?;
    kmod::load(Path::new(MODULE), Probe::Now)?;
    FileSystem::new("efivarfs", Access::ReadWrite).mount(Path::new("efivarfs"), Path::new(EFIVARS))?;
    let variables = EfiVars::at(EFIVARS);
    for name in TOLD {
        if let Some(found) = variables.get(&format!("{name}-{LOADER}"))? {
            let text = variables::decode_text(&found.data).ok_or("a variable of the loader is not UTF-16")?;
            say(&format!("{name}={text}"))?;
        }
    }
    say("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["set", name, data] => {
                let variable = Variable { attributes: NON_VOLATILE_BOOT_RUNTIME, data: hex::decode(data)? };
                variables.set(name, &variable)?;
                say("set")?;
            }
            ["restart"] => return Ok(()),
            _ => say("not understood")?,
        }
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "guest: {text}")?;
    out.flush()
}
