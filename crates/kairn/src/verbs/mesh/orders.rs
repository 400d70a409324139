//! `kairn mesh rotate` and `revoke`, and the administrator's key that they are signed with.

use crate::cli::MeshOrder;
use crate::output::{self, Format};
use kairn_host::files;
use kairn_mesh::{Client, Wish, random};
use kairn_mesh_protocol::{AdminKey, Identity};
use kairn_report::{Kind, Report};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

pub fn run(revoke: &[String], verb: &MeshOrder) -> Result<ExitCode, Report> {
    let key = read(&verb.admin_key)?.ok_or_else(|| {
        Report::new(Kind::User, format!("{} does not exist", verb.admin_key.display()))
            .hint("`kairn mesh token --admin-key FILE` makes a token with an administrator; one that has none cannot be rotated")
    })?;
    let client = Client::new(&verb.asking.state_dir);
    let wish = Wish { administrator: key.id().to_string(), revoke: revoke.to_vec() };
    let prepared = client.prepare(&wish)?;
    client.order(&prepared.sign(&key).map_err(Report::from)?)?;
    for node in &prepared.revoke {
        output::say(&format!("put out: {node}"));
    }
    let members = prepared.members;
    output::say(&format!(
        "{members} members have a share in the new secret; new machines need this token, and the one before lets nobody new in"
    ));
    match verb.asking.reading.output {
        Format::Json => {
            output::json(&json!({ "token": prepared.token, "revoked": prepared.revoke, "members": members }))?;
        }
        Format::Human => output::line(&prepared.token)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The administrator's private key.
pub fn key_of(path: &Path) -> Result<Identity, Report> {
    read(path)?.ok_or_else(|| Report::new(Kind::User, format!("{} does not exist", path.display())))
}

/// The administrator's public key for a new token; the private one is drawn where the file is absent.
pub fn administrator(path: &Path) -> Result<AdminKey, Report> {
    let key = match read(path)? {
        Some(key) => key,
        None => {
            let seed: [u8; 32] = random().map_err(|error| {
                Report::new(Kind::Environment, format!("the kernel gives no random bytes: {error}"))
            })?;
            files::write_whole(path, format!("{}\n", hex::encode(seed)).as_bytes(), 0o600)?;
            output::say(&format!(
                "{} is the administrator's key now: keep it off the machines, and safe; without it nobody can be put out",
                path.display()
            ));
            Identity::from_seed(&seed)
        }
    };
    output::say(&format!("administrator: {}", key.id()));
    AdminKey::new(*key.id().as_bytes()).map_err(|fault| Report::new(Kind::Bug, fault.to_string()))
}

fn read(path: &Path) -> Result<Option<Identity>, Report> {
    let Some(text) = files::read_text_if_any(path)? else { return Ok(None) };
    let seed = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Report::new(Kind::User, format!("{} does not hold an administrator's key", path.display()))
            .hint("such a file holds 64 hexadecimal digits, as `kairn mesh token --admin-key` writes them")
    })?;
    let is_open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if is_open {
        output::say(&format!("warning: others on this machine can read {}: chmod 600 it", path.display()));
    }
    Ok(Some(Identity::from_seed(&seed)))
}
