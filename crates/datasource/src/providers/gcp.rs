//! Google Compute Engine (cloud.google.com, "VM metadata").

use super::{Datasource, LINK_LOCAL, Machine};
use crate::{Error, Found};
use base64::Engine as _;

pub(super) struct Gcp;

impl Datasource for Gcp {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        // The service answers at the address as well as by name, and an address needs no name server.
        let mut service = machine.service(LINK_LOCAL);
        service.headers.push(("Metadata-Flavor", "Google".to_owned()));
        let value = |path: &str| service.value(&format!("computeMetadata/v1/{path}"));
        let mut found = machine.found();
        found.instance_id = Some(service.required("computeMetadata/v1/instance/id", "id")?);
        found.hostname = value("instance/hostname")?;
        // `projects/123/zones/europe-west1-b`, `projects/123/machineTypes/e2-small`
        let last = |path: Option<String>| path.and_then(|path| path.rsplit('/').next().map(str::to_owned));
        found.zone = last(value("instance/zone")?);
        found.region = found.zone.as_ref().and_then(|zone| zone.rsplit_once('-')).map(|(region, _)| region.to_owned());
        found.instance_type = last(value("instance/machine-type")?);
        found.local(value("instance/network-interfaces/0/ip")?.as_deref());
        found.public(value("instance/network-interfaces/0/access-configs/0/external-ip")?.as_deref());
        for path in ["instance/attributes/ssh-keys", "project/attributes/ssh-keys"] {
            let blocked = path.starts_with("project")
                && value("instance/attributes/block-project-ssh-keys")?
                    .is_some_and(|text| text.eq_ignore_ascii_case("true"));
            if !blocked {
                keys(&mut found, &value(path)?.unwrap_or_default());
            }
        }
        let user_data = service.data("computeMetadata/v1/instance/attributes/user-data")?;
        let encoding = value("instance/attributes/user-data-encoding")?;
        let user_data = match (user_data, encoding.as_deref()) {
            (Some(bytes), Some("base64")) => Some(decode(bytes, &mut found)),
            (bytes, _) => bytes,
        };
        found.user(user_data);
        Ok(found)
    }
}

/// Lines of `user:key`; upstream gives all of them to whoever logs in as root.
fn keys(found: &mut Found, text: &str) {
    for line in text.lines() {
        let key = line.split_once(':').filter(|(user, _)| !user.contains(' ')).map_or(line, |(_, key)| key);
        found.keys(key);
    }
}

fn decode(bytes: Vec<u8>, found: &mut Found) -> Vec<u8> {
    let letters: Vec<u8> = bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    base64::engine::general_purpose::STANDARD.decode(letters).unwrap_or_else(|_| {
        found.warnings.push("user-data-encoding is base64, and user-data is not; it is taken as it is".to_owned());
        bytes
    })
}
