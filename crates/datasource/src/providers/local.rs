//! Seeds on the machine itself: CD-ROMs and sticks, config drives, a file.

use super::{Datasource, Machine, nocloud, openstack};
use crate::drive::{self, Medium};
use crate::http::DATA;
use crate::{Error, Found, ProviderName};
use kairn_host::files;

/// A seed labelled `cidata`, or a CD-ROM with the files of one.
pub(super) struct Cdrom;

impl Datasource for Cdrom {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let label = "cidata";
        first(machine, label, true, &mut |medium, found| {
            let there = nocloud::files(found, &mut |name| medium.read(name, DATA))?;
            nocloud::name(found, machine.hints);
            Ok(there)
        })
    }
}

/// OpenStack's medium.
pub(super) struct ConfigDrive;

impl Datasource for ConfigDrive {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        first(machine, "config-2", false, &mut |medium, found| {
            if openstack::own(found, &mut |name| medium.read(name, DATA))? {
                return Ok(true);
            }
            // Media that were made by hand have nothing else.
            found.user(medium.read("openstack/latest/user_data", DATA)?);
            Ok(found.user_data.is_some())
        })
    }
}

/// Reads the first medium that has what is looked for; one that cannot be read does not hide the next.
fn first(
    machine: &Machine<'_>,
    label: &str,
    unlabelled: bool,
    read: &mut dyn FnMut(&mut Medium, &mut Found) -> Result<bool, Error>,
) -> Result<Found, Error> {
    let provider = machine.provider;
    if let Some(dir) = machine.options.mounted.get(&provider) {
        let mut found = machine.found();
        let there = read(&mut Medium::Dir(dir.clone()), &mut found)?;
        return if there { Ok(found) } else { Err(machine.not_here(format!("`{}` has no seed", dir.display()))) };
    }
    let mut fault = None;
    for drive in drive::chosen(&machine.hints.drives, label, unlabelled) {
        let mut found = machine.found();
        let there = Medium::open(&machine.options.root, drive).and_then(|mut medium| read(&mut medium, &mut found));
        match there {
            Ok(true) => {
                found.meta("device", &drive.device.display().to_string());
                return Ok(found);
            }
            Ok(false) => {}
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    Err(fault.unwrap_or_else(|| drive::absent(provider, label)))
}

/// A file whose path the configuration names.
pub(super) struct Path;

impl Datasource for Path {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let Some(path) = &machine.options.file else { return Err(machine.not_here("no path is named")) };
        let bytes = files::read_in_tree(&machine.options.root, path, DATA)?;
        let mut found = Found::new(ProviderName::File);
        found.user(Some(bytes.ok_or_else(|| machine.not_here(format!("there is no file `{}`", path.display())))?));
        Ok(found)
    }
}
