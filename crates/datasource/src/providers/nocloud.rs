//! NoCloud (cloud-init's documentation, "NoCloud"): four files, on a medium or below a URL.

use super::{Datasource, Files, Machine};
use crate::drive::Medium;
use crate::http::{DATA, Question, shown};
use crate::{Error, Found, Hints, NetworkFormat};
use kairn_config::{Node, yaml};
use std::path::PathBuf;

/// Redirects that a seed's server may send.
const REDIRECTS: u32 = 3;

/// A seed whose place was named.
pub(super) struct Seeded;

impl Datasource for Seeded {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let named = machine.hints.seed.as_ref().and_then(|seed| seed.from.as_ref()).map(|from| from.reveal().as_str());
        let base = machine.options.bases.get(&machine.provider).map(String::as_str).or(named);
        let base = base.ok_or_else(|| machine.not_here("no seed is named with `ds=nocloud;s=...`"))?;
        let base = base.strip_prefix("file://").unwrap_or(base);
        let mut found = machine.found();
        let there = if base.starts_with('/') {
            let dir = PathBuf::from(base.trim_start_matches('/'));
            let mut medium = Medium::Dir(machine.options.root.join(dir));
            files(&mut found, &mut |name| medium.read(name, DATA))?
        } else {
            files(&mut found, &mut |name| file(machine, base, name))?
        };
        if !there {
            return Err(machine.not_here(format!("`{}` has neither user-data nor meta-data", shown(base))));
        }
        name(&mut found, machine.hints);
        Ok(found)
    }
}

/// The names of the files are added to the end of the URL as it is, so that they may become part of its query.
fn file(machine: &Machine<'_>, base: &str, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let url = format!("{base}{name}");
    let answer = machine.client.ask(&Question { limit: DATA, redirects: REDIRECTS, ..Question::get(&url, &[]) })?;
    match answer.status {
        200 => Ok(Some(answer.body)),
        204 | 404 | 410 => Ok(None),
        status => Err(Error::Status { url: shown(&url), status }),
    }
}

/// Reads the four files; false when neither user-data nor meta-data is there.
pub(super) fn files(found: &mut Found, read: &mut Files<'_>) -> Result<bool, Error> {
    let meta = read("meta-data")?;
    found.user(match read("user-data")? {
        Some(bytes) => Some(bytes),
        // What upstream's users have on their media.
        None => read("config")?,
    });
    if meta.is_none() && found.user_data.is_none() {
        return Ok(false);
    }
    found.vendor(read("vendor-data")?);
    found.network(NetworkFormat::NetworkConfig, read("network-config")?);
    if let Some(bytes) = meta {
        meta_data(found, &bytes);
    }
    Ok(true)
}

/// Reads the YAML of `meta-data`; what is wrong with it leaves user-data alone.
pub(super) fn meta_data(found: &mut Found, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = yaml::read("meta-data", &text);
    found.warnings.extend(parsed.diagnostics.iter().map(ToString::to_string));
    let Some(root) = parsed.root else { return };
    let text = |keys: &[&str]| keys.iter().find_map(|key| root.get(key)?.scalar().map(|scalar| scalar.text.clone()));
    found.instance_id = text(&["instance-id", "instance_id"]).or(found.instance_id.take());
    found.hostname = text(&["local-hostname", "hostname", "local_hostname"]).or(found.hostname.take());
    found.region = text(&["region"]).or(found.region.take());
    found.zone = text(&["availability-zone", "availability_zone"]).or(found.zone.take());
    found.instance_type = text(&["instance-type"]).or(found.instance_type.take());
    for key in ["public-keys", "public_keys"] {
        if let Some(node) = root.get(key) {
            keys(found, node);
        }
    }
    // The interfaces(5) text of old seeds has no reader here.
    if root.get("network-interfaces").is_some() {
        found.warnings.push("`network-interfaces` of meta-data is not read; use network-config".to_owned());
    }
    for entry in root.entries().unwrap_or_default() {
        if let Some(scalar) = entry.value.scalar() {
            found.meta(&entry.key, &scalar.text);
        }
    }
}

/// One key, a list of them, or a mapping of names to them.
fn keys(found: &mut Found, node: &Node) {
    let nodes = match (node.items(), node.entries()) {
        (Some(items), _) => items.iter().collect(),
        (_, Some(entries)) => entries.iter().map(|entry| &entry.value).collect(),
        _ => vec![node],
    };
    for scalar in nodes.into_iter().filter_map(Node::scalar) {
        found.keys(&scalar.text);
    }
}

/// Identity and name as the kernel command line gives them, where the seed does not.
pub(super) fn name(found: &mut Found, hints: &Hints) {
    let Some(seed) = &hints.seed else { return };
    found.instance_id = found.instance_id.take().or_else(|| seed.instance_id.clone());
    found.hostname = found.hostname.take().or_else(|| seed.hostname.clone());
}
