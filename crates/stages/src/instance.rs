//! Who this machine is: what a datasource said of it (`/run/kairn/instance.json`, with the keys of cloud-init's instance data), and
//! the release that runs.

use crate::{Context, Error};
use kairn_datasource::Found;
use kairn_host::files;
use kairn_layout::paths;
use serde_json::{Value, json};
use std::path::Path;

/// What a datasource said.
const FILE: &str = "/run/kairn/instance.json";

/// What a machine is to steps that run once for each of something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The instance, as a datasource names it, else the machine's own id.
    pub instance: Option<String>,
    /// The datasource that said so.
    pub datasource: Option<String>,
    /// The release that runs.
    pub image: Option<String>,
}

impl Identity {
    /// Reads what is known of the machine below a root; `machine_id` is its own name.
    ///
    /// # Errors
    /// A file is there and cannot be read or understood: taken for another machine, it would do again what is to be done once.
    pub fn read(root: &Path, machine_id: Option<&str>) -> Result<Self, Error> {
        let said = json_of(root, FILE)?;
        let boot = json_of(root, paths::run::BOOT_REPORT)?;
        let word = |value: &Value, pointer: &str| {
            value.pointer(pointer).and_then(Value::as_str).filter(|word| !word.is_empty()).map(str::to_owned)
        };
        Ok(Self {
            instance: word(&said, "/v1/instance_id").or_else(|| machine_id.map(str::to_owned)),
            datasource: word(&said, "/v1/cloud_name"),
            image: word(&boot, "/release"),
        })
    }
}

/// Keeps what a datasource said of the instance.
pub fn keep(context: &Context, found: &Found) -> Result<(), Error> {
    let data = json!({"v1": {
        "cloud_name": found.provider.name(),
        "instance_id": found.instance_id,
        "local_hostname": found.hostname,
        "region": found.region,
        "availability_zone": found.zone,
    }});
    let path = context.at(FILE.as_ref());
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o755)?;
    }
    Ok(files::write_whole(&path, data.to_string().as_bytes(), 0o600)?)
}

fn json_of(root: &Path, path: &str) -> Result<Value, Error> {
    let path = root.join(path.trim_start_matches('/'));
    match files::read_text_if_any(&path)? {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| Error::Record(format!("`{}` cannot be understood: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_datasource_names_the_instance_before_the_machine_does() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Identity::read(dir.path(), Some("abc"));
        assert_eq!(read().unwrap(), Identity { instance: Some("abc".into()), ..Identity::default() });
        fs::create_dir_all(dir.path().join("run/kairn")).unwrap();
        let text = r#"{"v1": {"instance_id": "i-2", "cloud_name": "aws"}}"#;
        fs::write(dir.path().join("run/kairn/instance.json"), text).unwrap();
        fs::write(dir.path().join("run/kairn/boot.json"), r#"{"release": "0123"}"#).unwrap();
        let expected =
            Identity { instance: Some("i-2".into()), datasource: Some("aws".into()), image: Some("0123".into()) };
        assert_eq!(read().unwrap(), expected);
        fs::write(dir.path().join("run/kairn/boot.json"), "{").unwrap();
        assert!(read().unwrap_err().to_string().contains("boot.json"));
    }
}
