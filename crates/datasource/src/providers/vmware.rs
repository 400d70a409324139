//! VMware's guest information, asked with the programs that come with open-vm-tools.
//!
//! Without them there is only the hypervisor's I/O port, which takes a trap in assembly that no other part of Kairn needs; such a machine
//! is told to install the package.

use super::{Datasource, Machine, nocloud};
use crate::http::DATA;
use crate::{Error, Found};
use base64::Engine as _;
use kairn_host::Invocation;

pub(super) struct VMware;

impl Datasource for VMware {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            let reason = "VMware has no such machines".to_owned();
            return Err(Error::NotSupported { provider: machine.provider, reason });
        }
        let mut found = machine.found();
        let meta = item(machine, &mut found, "metadata")?;
        let user = item(machine, &mut found, "userdata")?;
        let vendor = item(machine, &mut found, "vendordata")?;
        if meta.is_none() && user.is_none() && vendor.is_none() {
            return Err(machine.not_here("the guest information has neither metadata, userdata nor vendordata"));
        }
        found.user(user);
        found.vendor(vendor);
        if let Some(bytes) = meta {
            nocloud::meta_data(&mut found, &bytes);
            // The network is a part of the same document.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if kairn_config::yaml::read("metadata", &text).root.is_some_and(|root| root.get("network").is_some()) {
                found.network(crate::NetworkFormat::NetworkConfig, Some(text.into_bytes()));
            }
        }
        if found.instance_id.is_none() && !machine.hints.dmi.product_uuid.is_empty() {
            found.instance_id = Some(machine.hints.dmi.product_uuid.to_ascii_lowercase());
        }
        Ok(found)
    }
}

/// One item, decoded as its neighbour says. gzip stays: whoever decodes user-data knows it.
fn item(machine: &Machine<'_>, found: &mut Found, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(value) = ask(machine, &format!("guestinfo.{name}"))? else { return Ok(None) };
    let encoding = ask(machine, &format!("guestinfo.{name}.encoding"))?.unwrap_or_default();
    let encoding = String::from_utf8_lossy(&encoding).trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" => Ok(Some(value)),
        "base64" | "b64" | "gzip+base64" | "gz+b64" => {
            let letters: Vec<u8> = value.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
            let decoded = base64::engine::general_purpose::STANDARD.decode(letters);
            let malformed = |_| Error::Malformed { origin: format!("guestinfo.{name}"), wanted: "base64" };
            decoded.map(Some).map_err(malformed)
        }
        other => {
            found
                .warnings
                .push(format!("guestinfo.{name}.encoding is `{other}`, which is not known; it is taken as it is"));
            Ok(Some(value))
        }
    }
}

/// Asks for one item; both programs fail for one that is not set.
fn ask(machine: &Machine<'_>, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let command = format!("info-get {name}");
    let rpctool = Invocation::new("vmware-rpctool").arg(&command);
    let toolsd = Invocation::new("vmtoolsd").arg("--cmd").arg(&command);
    for invocation in [rpctool, toolsd] {
        let invocation = invocation.deadline(machine.patience.answer.max(std::time::Duration::from_secs(5)));
        match machine.options.runner.run_unchecked(&invocation) {
            Err(kairn_host::Error::NoProgram { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(finished) if !finished.status.success() => return Ok(None),
            Ok(finished) => {
                let limit = DATA;
                if finished.stdout.len() as u64 > limit {
                    return Err(Error::TooLarge { origin: name.to_owned(), limit });
                }
                // The programs end what they print with a line break of their own.
                let mut value = finished.stdout;
                if value.last() == Some(&b'\n') {
                    value.pop();
                }
                return Ok(Some(value).filter(|value| !value.is_empty()));
            }
        }
    }
    let reason = "neither `vmware-rpctool` nor `vmtoolsd` is installed (package open-vm-tools)".to_owned();
    Err(Error::NotSupported { provider: machine.provider, reason })
}
