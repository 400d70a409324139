//! The ESP from the initramfs: mounted for the moment of a look or a change, synced, unmounted.

use crate::Error;
use crate::devices::Modules;
use crate::journal::Journal;
use kairn_firmware::{Esp, apply};
use kairn_host::efivars::{EfiVars, Variable};
use kairn_host::mount::{Access, FileSystem, unmount};
use kairn_host::{Effect, Error as HostError, Machine, files};
use std::path::Path;

/// What mounting a FAT file system takes; nothing announces it.
pub const MODULES: [&str; 5] = ["vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859_1"];
const MOUNT_POINT: &str = "/run/kairn-esp";

/// Applies the effects that init needs: small files on the ESP, and EFI variables. The whole of them would bring programs, copies and
/// partition tables into the initramfs.
#[derive(Clone, Copy, Debug)]
pub struct InitMachine;

impl Machine for InitMachine {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        match effect {
            Effect::MakeDir { path, mode } => files::make_dir(path, *mode),
            Effect::CreateFile { path, content } => files::create_new(path, &content.0, 0o644),
            Effect::Rename { from, to } => files::rename_new(from, to),
            Effect::RemoveFile { path } => files::remove_file(path),
            Effect::SyncTree { path } => files::sync_file_system(path),
            Effect::SetVariable { name, attributes, content } => {
                EfiVars::below(Path::new("/")).set(name, &Variable { attributes: *attributes, data: content.0.clone() })
            }
            _ => Err(HostError::errno("apply in the initramfs", "an effect")(rustix::io::Errno::NOSYS)),
        }
    }
}

/// Reads the ESP on a device.
///
/// # Errors
/// It cannot be mounted or read.
pub fn read(device: &Path, modules: &mut Modules, journal: &mut Journal) -> Result<Esp, Error> {
    with(device, Access::ReadOnly, modules, journal, &mut Ok)
}

/// Changes the ESP on a device by effects that are decided from what is there.
///
/// # Errors
/// It cannot be mounted or read, or a change fails; those before it are durable.
pub fn change(
    device: &Path,
    modules: &mut Modules,
    journal: &mut Journal,
    decide: &dyn Fn(&Esp) -> Result<Vec<Effect>, Error>,
) -> Result<(), Error> {
    with(device, Access::ReadWrite, modules, journal, &mut |esp| {
        let effects = decide(&esp)?;
        Ok(apply(&mut InitMachine, &effects)?)
    })
}

fn with<T>(
    device: &Path,
    access: Access,
    modules: &mut Modules,
    journal: &mut Journal,
    work: &mut dyn FnMut(Esp) -> Result<T, Error>,
) -> Result<T, Error> {
    modules.load(MODULES, journal);
    let root = Path::new(MOUNT_POINT);
    files::make_dir(root, 0o700)?;
    FileSystem::new("vfat", access).data_only().mount(device, root)?;
    let done = Esp::read(root).map_err(Error::from).and_then(work);
    // The last thing of a failed boot may be that the kernel does not let go of the mount; what was done is synced already.
    match (done, unmount(root)) {
        (Ok(done), Ok(())) => Ok(done),
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), _) => Err(error),
    }
}
