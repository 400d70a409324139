//! Who this machine is: what a datasource said of it, with the keys of cloud-init's instance data, and the release that runs.

use crate::{Context, Error, release};
use kairn_config::InstanceData;
use kairn_datasource::{Found, ProviderName};
use kairn_host::files;
use kairn_layout::paths;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What a datasource said in this boot.
const FILE: &str = "/run/kairn/instance.json";
/// What it said once, where user-data outlives the boot and nobody is asked again.
const KEPT: &str = "/oem/.kairn/instance.json";

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
        let said = said(root)?;
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

/// The instance, as a datasource names it by now: one may have been asked since the machine's identity was read.
///
/// # Errors
/// What was said cannot be read or understood.
pub fn current(context: &Context) -> Result<Option<String>, Error> {
    let said = said(&context.root)?;
    let named = said.pointer("/v1/instance_id").and_then(Value::as_str).filter(|word| !word.is_empty());
    Ok(named.map(str::to_owned).or_else(|| context.identity.instance.clone()))
}

/// Keeps what a datasource said of the instance: for this boot, and for the next ones where user-data in `place` is, too. Says
/// whether it is news.
pub fn keep(context: &Context, found: &Found, place: &Path) -> Result<bool, Error> {
    let text = of(found).to_string();
    let write = |path: &str| {
        let path = context.at(path.as_ref());
        if files::read_text_if_any(&path)?.as_deref() == Some(text.as_str()) {
            return Ok(false);
        }
        if let Some(dir) = path.parent() {
            files::make_dir(dir, 0o755)?;
        }
        files::write_whole(&path, text.as_bytes(), 0o600)?;
        Ok::<_, Error>(true)
    };
    if place.starts_with("/oem") {
        write(KEPT)?;
    }
    write(FILE)
}

fn said(root: &Path) -> Result<Value, Error> {
    match json_of(root, FILE)? {
        Value::Null => json_of(root, KEPT),
        said => Ok(said),
    }
}

/// What is known of an instance, for templates of cloud-init: what a datasource said, and beside it what the machine below a root knows
/// of itself.
///
/// # Errors
/// A file is there and cannot be read or understood.
pub fn data(root: &Path) -> Result<InstanceData, Error> {
    let mut said = said(root)?;
    if !said.is_object() {
        said = json!({});
    }
    let release = release::read(root)?;
    let line = |path: &str| {
        let text = files::read_text_if_any(&root.join(path))?.unwrap_or_default();
        Ok::<_, Error>(text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()))
    };
    let kernel = rustix::system::uname();
    let own = [
        // Other words stand there before a first boot (machine-id(5)).
        ("instance_id", line("etc/machine-id")?.filter(|id| id.len() == 32)),
        ("local_hostname", line("etc/hostname")?),
        // What cloud-init says where no datasource answers.
        ("cloud_name", Some("none".to_owned())),
        ("cloud_id", Some("none".to_owned())),
        ("platform", Some("none".to_owned())),
        ("distro", release.get("ID").cloned()),
        ("distro_version", release.get("VERSION_ID").cloned()),
        ("distro_release", release.get("VERSION_CODENAME").cloned()),
        ("variant", release.get("ID").cloned()),
        ("kernel_release", Some(kernel.release().to_string_lossy().into_owned())),
        ("machine", Some(kernel.machine().to_string_lossy().into_owned())),
    ];
    if let Some(fields) = said.as_object_mut() {
        let standard = fields.entry("v1").or_insert_with(|| json!({}));
        for (name, value) in own {
            if let (Some(value), Some(standard)) = (value, standard.as_object_mut())
                && standard.get(name).is_none_or(Value::is_null)
            {
                standard.insert(name.to_owned(), value.into());
            }
        }
    }
    Ok(InstanceData::new(said))
}

/// What a datasource said, as cloud-init's instance data.
fn of(found: &Found) -> Value {
    let cloud = match found.provider {
        // By these names cloud-init's users know them.
        ProviderName::Gcp => "gce",
        ProviderName::Cdrom => "nocloud",
        ProviderName::ConfigDrive => "configdrive",
        other => other.name(),
    };
    let mut meta = Map::new();
    for (key, value) in &found.meta {
        insert(&mut meta, key, value);
    }
    let mut meta = Value::Object(meta);
    lists(&mut meta);
    json!({
        "v1": {
            "cloud_id": cloud,
            "cloud_name": cloud,
            "platform": cloud,
            "instance_id": found.instance_id,
            "local_hostname": found.hostname,
            "region": found.region,
            "availability_zone": found.zone,
            "public_ssh_keys": found.ssh_keys,
        },
        "ds": { "meta_data": meta },
    })
}

/// Puts a value at a path of keys joined by dots.
fn insert(tree: &mut Map<String, Value>, key: &str, value: &str) {
    match key.split_once('.') {
        None => {
            tree.entry(key).or_insert_with(|| value.into());
        }
        Some((first, rest)) => {
            let inner = tree.entry(first).or_insert_with(|| json!({}));
            match inner.as_object_mut() {
                Some(inner) => insert(inner, rest, value),
                // A single value has this name already; the long name stays whole.
                None => {
                    tree.entry(key).or_insert_with(|| value.into());
                }
            }
        }
    }
}

/// Makes lists of mappings whose keys count from zero.
fn lists(value: &mut Value) {
    let Value::Object(fields) = value else { return };
    fields.values_mut().for_each(lists);
    let items: Option<Vec<Value>> = (0..fields.len()).map(|number| fields.get(&number.to_string()).cloned()).collect();
    if let Some(items) = items.filter(|items| !items.is_empty()) {
        *value = items.into();
    }
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
        fs::remove_file(dir.path().join("run/kairn/boot.json")).unwrap();
        // A datasource that was asked once, in an earlier boot.
        fs::remove_file(dir.path().join("run/kairn/instance.json")).unwrap();
        fs::create_dir_all(dir.path().join("oem/.kairn")).unwrap();
        fs::write(dir.path().join("oem/.kairn/instance.json"), text).unwrap();
        assert_eq!(read().unwrap().instance.as_deref(), Some("i-2"));
    }

    #[test]
    fn a_template_of_cloud_init_sees_what_was_said_and_what_the_machine_knows() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (path, text) in [
            ("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n"),
            ("etc/hostname", "own\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            (
                "oem/a.yaml",
                "## template: jinja\n#cloud-config\nwrite_files:\n- path: /said\n  content: '{{ v1.instance_id }} {{ local_hostname }} \
                 {{ v1.cloud_name }} {{ ds.meta_data.tags[1] }} {{ distro }} {{ v1.distro_version }}'\n- {path: /not, content: '{{ \
                 v1.absent }}'}\n",
            ),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        let said = |root: &Path| {
            let documents = crate::load_on(&[root.join("oem")], Some(&data(root).unwrap()));
            let context = crate::context::tests::context(root);
            let result = crate::run(&documents, "boot", &context, &mut Vec::new());
            (fs::read_to_string(root.join("said")).unwrap_or_default(), result.failures())
        };
        // The files of which something is not known are left out, each by itself.
        assert_eq!(said(root), (String::new(), 2));
        let meta = [("tags.0", "a"), ("tags.1", "b"), ("x", "1"), ("x.y", "2")];
        let mut whole = json!({});
        if let Some(tree) = whole.as_object_mut() {
            meta.iter().for_each(|(key, value)| insert(tree, key, value));
        }
        lists(&mut whole);
        assert_eq!(whole, json!({"tags": ["a", "b"], "x": "1", "x.y": "2"}));
        let text = json!({"v1": {"instance_id": "i-2", "cloud_name": "aws"}, "ds": {"meta_data": whole}}).to_string();
        fs::create_dir_all(root.join("run/kairn")).unwrap();
        fs::write(root.join("run/kairn/instance.json"), text).unwrap();
        assert_eq!(said(root), ("i-2 own aws b debian 13".to_owned(), 1));
        assert!(!root.join("not").exists());
    }
}
