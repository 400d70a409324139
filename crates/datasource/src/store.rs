//! Leaves an answer where the stages, the installer and scripts of Kairos' users look for it.
//!
//! What is written is decided first and can be shown. User-data lies there as it came; its parts lie beside it, a configuration under the
//! name that the caller wants, so that the stages read it. Files are written whole, and what an earlier answer left is removed.

use crate::{Decoded, Error, Found};
use kairn_config::Diagnostic;
use kairn_config::user_data::{Content, Include, Part, ScriptFrequency, UserData};
use kairn_host::files;
use kairn_report::{Event, Secret, Sink};
use std::path::{Path, PathBuf};

/// Where upstream leaves what the provider says.
const SIDE: &str = "run/config";
/// Says that user-data was looked for; the installer waits for it.
const SENTINEL: &str = "run/.userdata_load";
/// Readable for everybody.
const OPEN: u32 = 0o644;
/// Readable for root only: user-data has passwords and tokens.
const CLOSED: u32 = 0o600;
const PROGRAM: u32 = 0o700;
/// Name of the first configuration of the vendor; before that of the user, who has the last word.
const VENDOR: &str = "00_vendordata.yaml";

/// Where an answer goes, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Root directory of the machine.
    pub root: PathBuf,
    /// Directory of user-data, in the root.
    pub path: PathBuf,
    /// File name of the first configuration in user-data; it ends in `.yaml`.
    pub userdata_name: String,
    /// What becomes of scripts.
    pub scripts: ScriptPolicy,
    /// Whether the vendor's configuration counts. It is kept in any case.
    pub vendor_data: bool,
}

impl Target {
    /// Describes upstream's places: `/run/config`, `userdata.yaml`; no scripts, the vendor's configuration counts.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            path: Path::new("/").join(SIDE),
            userdata_name: "userdata.yaml".to_owned(),
            scripts: ScriptPolicy::Refuse,
            vendor_data: true,
        }
    }
}

/// What becomes of scripts in user-data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptPolicy {
    /// They stay in the verbatim copy and are reported.
    Refuse,
    /// They are stored as programs and reported, for the caller to run.
    Allow,
}

/// A script of user-data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Where it lies in the root; nowhere when it was refused.
    pub path: Option<PathBuf>,
    /// How diagnostics name it.
    pub source: String,
    /// How often it is to run.
    pub frequency: ScriptFrequency,
}

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Absolute, in the root.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Its bytes.
    pub content: Secret<Vec<u8>>,
}

/// What storing an answer means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorePlan {
    /// Files, in the order in which they are written; the sentinel last.
    pub files: Vec<StoredFile>,
    /// Configurations among them, in the order in which they count.
    pub documents: Vec<PathBuf>,
    /// Scripts, in their order.
    pub scripts: Vec<Script>,
    /// User-data that lies elsewhere and was not fetched ([`Decoded::with_includes`]).
    pub includes: Vec<Include>,
    /// What is to be said about user-data and vendor-data.
    pub diagnostics: Vec<Diagnostic>,
    /// Once it is stored: whether anything was written or removed.
    pub changed: bool,
}

/// Decides what storing an answer means; touches nothing.
///
/// # Errors
/// [`Error::BadName`]: the wanted name is no name of a YAML file.
pub fn plan_store(found: &Found, decoded: &Decoded, target: &Target) -> Result<StorePlan, Error> {
    let name = &target.userdata_name;
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")).unwrap_or_default();
    if stem.is_empty() || stem.contains('/') || stem.starts_with('.') {
        return Err(Error::BadName { name: name.clone() });
    }
    let mut plan = StorePlan::default();
    plan.side_files(found)?;
    let dir = Path::new("/").join(target.path.strip_prefix("/").unwrap_or(&target.path));
    if let Some(vendor) = &found.vendor_data {
        plan.file(dir.join("vendordata"), CLOSED, vendor.reveal().clone());
        if target.vendor_data {
            plan.parts(&dir, VENDOR, &decoded.vendor, target.scripts);
        }
    }
    if let Some(user) = &found.user_data {
        plan.file(dir.join("userdata"), CLOSED, user.reveal().clone());
        plan.parts(&dir, name, &decoded.user, target.scripts);
    }
    plan.file(Path::new("/").join(SENTINEL), OPEN, Vec::new());
    Ok(plan)
}

impl StorePlan {
    fn file(&mut self, path: PathBuf, mode: u32, content: Vec<u8>) {
        self.files.push(StoredFile { path, mode, content: Secret::new(content) });
    }

    /// The names are those of upstream's providers, which copied them from linuxkit.
    fn side_files(&mut self, found: &Found) -> Result<(), Error> {
        let side = Path::new("/").join(SIDE);
        let four = |addresses: &[std::net::IpAddr]| addresses.iter().find(|ip| ip.is_ipv4()).map(ToString::to_string);
        let values = [
            ("provider", Some(found.provider.to_string())),
            ("instance_id", found.instance_id.clone()),
            ("hostname", found.hostname.clone()),
            ("local_hostname", found.meta.get("local-hostname").cloned()),
            ("local_ipv4", four(&found.local_addresses)),
            ("public_ipv4", four(&found.public_addresses)),
            ("region", found.region.clone()),
            ("availability_zone", found.zone.clone()),
            ("instance_type", found.instance_type.clone()),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                self.file(side.join(name), OPEN, value.into_bytes());
            }
        }
        if !found.ssh_keys.is_empty() {
            self.file(side.join("ssh/authorized_keys"), CLOSED, (found.ssh_keys.join("\n") + "\n").into_bytes());
        }
        if let Some(network) = &found.network_config {
            let name = match network.format {
                crate::NetworkFormat::NetworkConfig => "network-config",
                crate::NetworkFormat::OpenStack => "network_data.json",
            };
            self.file(side.join(name), CLOSED, network.text.reveal().clone().into_bytes());
        }
        let origin = || "meta-data".to_owned();
        let meta = serde_json::to_vec_pretty(&found.meta)
            .map_err(|_| Error::Malformed { origin: origin(), wanted: "a mapping of texts" })?;
        self.file(side.join("meta.json"), CLOSED, meta);
        Ok(())
    }

    fn parts(&mut self, dir: &Path, name: &str, data: &UserData, policy: ScriptPolicy) {
        self.diagnostics.extend(data.diagnostics.iter().cloned());
        let mut documents = 0;
        for Part { source, file_name, content, .. } in &data.parts {
            match content {
                Content::CloudConfig(text) => {
                    documents += 1;
                    let path = dir.join(numbered(name, documents));
                    self.file(path.clone(), CLOSED, text.reveal().clone().into_bytes());
                    self.documents.push(path);
                }
                Content::Script { body, frequency } => {
                    let number = self.scripts.len() + 1;
                    let path = (policy == ScriptPolicy::Allow).then(|| {
                        let path = dir.join("scripts").join(format!("{number:03}-{}", plain(file_name.as_deref())));
                        self.file(path.clone(), PROGRAM, body.reveal().clone());
                        path
                    });
                    self.scripts.push(Script { path, source: source.clone(), frequency: *frequency });
                }
                Content::Include(includes) => self.includes.extend(includes.iter().cloned()),
            }
        }
    }
}

/// `userdata.yaml`, `userdata_002.yaml`: names that sort in the order of the parts (`.` comes before `_`).
fn numbered(name: &str, number: usize) -> String {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "yaml"));
    if number == 1 { name.to_owned() } else { format!("{stem}_{number:03}.{extension}") }
}

/// A file name of letters that need no care, of what somebody named a script.
fn plain(name: Option<&str>) -> String {
    let kept = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let name: String = name.unwrap_or("script").chars().filter(kept).take(64).collect();
    if name.trim_matches('.').is_empty() { "script".to_owned() } else { name }
}

/// Stores an answer: writes what differs, removes what an earlier answer left, and returns what it did.
///
/// # Errors
/// As [`plan_store`], and a file that cannot be written is named; then the sentinel is not there.
pub fn store(found: &Found, decoded: &Decoded, target: &Target, sink: &mut dyn Sink) -> Result<StorePlan, Error> {
    let mut plan = plan_store(found, decoded, target)?;
    let at = |path: &Path| target.root.join(path.strip_prefix("/").unwrap_or(path));
    sink.event(Event::start("datasource-store", format!("storing what {} says", found.provider)));
    let stored = || {
        let stale = stale(&plan, target)?;
        let mut changed = !stale.is_empty();
        for old in stale {
            files::remove_file(&old)?;
        }
        for file in &plan.files {
            let path = at(&file.path);
            if let Some(parent) = path.parent() {
                files::make_dir(parent, if file.mode == PROGRAM { PROGRAM } else { 0o755 })?;
            }
            changed |= write(&path, file)?;
        }
        Ok(changed)
    };
    match stored() {
        Ok(changed) => plan.changed = changed,
        Err(error) => {
            let error: Error = error;
            sink.event(Event::failed("datasource-store", kairn_report::in_one_line(&error)));
            return Err(error);
        }
    }
    for script in plan.scripts.iter().filter(|script| script.path.is_none()) {
        let text = format!("{} is a script and is not run: the policy does not allow it", script.source);
        sink.event(Event::warning(text));
    }
    sink.event(Event::done("datasource-store"));
    Ok(plan)
}

/// Notes that there is no answer, so that nobody waits for one.
///
/// # Errors
/// The sentinel cannot be written.
pub fn store_nothing(root: &Path) -> Result<(), Error> {
    let sentinel = root.join(SENTINEL);
    if let Some(parent) = sentinel.parent() {
        files::make_dir(parent, 0o755)?;
    }
    Ok(files::write_whole(&sentinel, b"", OPEN)?)
}

/// Says whether the file was another.
fn write(path: &Path, file: &StoredFile) -> Result<bool, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let same = path.symlink_metadata().is_ok_and(|old| {
        old.is_file()
            && old.permissions().mode() & 0o7777 == file.mode
            && old.len() == file.content.reveal().len() as u64
    });
    if same && files::read(path)? == *file.content.reveal() {
        return Ok(false);
    }
    files::write_whole(path, file.content.reveal(), file.mode)?;
    Ok(true)
}

/// Files that only an earlier answer explains, in the places that are ours.
fn stale(plan: &StorePlan, target: &Target) -> Result<Vec<PathBuf>, Error> {
    let dir = target.path.strip_prefix("/").unwrap_or(&target.path);
    let (stem, _) = target.userdata_name.rsplit_once('.').unwrap_or((&target.userdata_name, ""));
    let side = Path::new(SIDE);
    let values = [
        "provider",
        "instance_id",
        "hostname",
        "local_hostname",
        "local_ipv4",
        "public_ipv4",
        "region",
        "availability_zone",
        "instance_type",
        "network-config",
        "network_data.json",
        "meta.json",
    ];
    let mut found = Vec::new();
    let mut look = |dir: &Path, ours: &dyn Fn(&str) -> bool| {
        for name in files::names(&target.root.join(dir))? {
            let path = dir.join(&name);
            let kept = plan.files.iter().any(|file| file.path.strip_prefix("/") == Ok(&path));
            if !kept && name.to_str().is_some_and(ours) {
                found.push(target.root.join(path));
            }
        }
        Ok::<_, Error>(())
    };
    let part = |name: &str, stem: &str| {
        let number =
            name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('_')).and_then(|rest| rest.rsplit_once('.'));
        number.is_some_and(|(number, _)| number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    look(dir, &|name| {
        ["userdata", "vendordata", VENDOR, &target.userdata_name].contains(&name)
            || part(name, stem)
            || part(name, "00_vendordata")
    })?;
    look(&dir.join("scripts"), &|name| name.get(3..4) == Some("-"))?;
    look(side, &|name| values.contains(&name))?;
    look(&side.join("ssh"), &|name| name == "authorized_keys")?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkFormat, ProviderName};
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn store(found: &Found, target: &Target, sink: &mut dyn Sink) -> Result<StorePlan, Error> {
        super::store(found, &Decoded::of(found), target, sink)
    }

    fn plan_store(found: &Found, target: &Target) -> Result<StorePlan, Error> {
        super::plan_store(found, &Decoded::of(found), target)
    }

    fn found(user: &[u8]) -> Found {
        let mut found = Found::new(ProviderName::Aws);
        found.instance_id = Some("i-1".into());
        found.hostname = Some("node".into());
        found.keys("ssh-ed25519 A a");
        found.public(Some("192.0.2.1"));
        found.user(Some(user.to_vec()));
        found
    }

    const MESSAGE: &[u8] = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n#cloud-config\na: {{ b }}\n--b\n\n#cloud-config\nb: 2\n\
--b\nContent-Type: text/x-shellscript; name=\"../x y.sh\"\n\n#!/bin/sh\n--b\n\n#include\nhttps://a/b\n--b--\n";

    fn target(root: &Path, scripts: ScriptPolicy) -> Target {
        Target { path: "/oem/95_userdata".into(), scripts, ..Target::new(root) }
    }

    #[test]
    fn an_answer_lies_where_upstream_leaves_it_and_as_it_came() {
        let root = tempfile::tempdir().unwrap();
        let mut answer = found(MESSAGE);
        answer.network(NetworkFormat::NetworkConfig, Some(b"version: 2\n".to_vec()));
        let mut events = Vec::new();
        let plan = store(&answer, &target(root.path(), ScriptPolicy::Allow), &mut events).unwrap();
        let read = |path: &str| fs::read(root.path().join(path)).unwrap();
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!(read("oem/95_userdata/userdata"), MESSAGE);
        assert_eq!(read("oem/95_userdata/userdata.yaml"), b"#cloud-config\na: {{ b }}");
        assert_eq!(read("oem/95_userdata/userdata_002.yaml"), b"#cloud-config\nb: 2");
        assert_eq!(read("oem/95_userdata/scripts/001-..xy.sh"), b"#!/bin/sh");
        assert_eq!(read("run/config/hostname"), b"node");
        assert_eq!(read("run/config/public_ipv4"), b"192.0.2.1");
        assert_eq!(read("run/config/network-config"), b"version: 2\n");
        assert_eq!(read("run/.userdata_load"), b"");
        for (path, expected) in [
            ("oem/95_userdata/userdata", 0o600),
            ("oem/95_userdata/userdata.yaml", 0o600),
            ("oem/95_userdata/scripts", 0o700),
            ("oem/95_userdata/scripts/001-..xy.sh", 0o700),
            ("run/config/ssh/authorized_keys", 0o600),
            ("run/config/network-config", 0o600),
            ("run/config/hostname", 0o644),
        ] {
            assert_eq!(mode(path), expected, "{path}");
        }
        assert_eq!(
            plan.documents,
            ["/oem/95_userdata/userdata.yaml", "/oem/95_userdata/userdata_002.yaml"].map(PathBuf::from)
        );
        assert_eq!(plan.scripts[0].path.as_deref(), Some(Path::new("/oem/95_userdata/scripts/001-..xy.sh")));
        assert_eq!(plan.includes[0].url.reveal(), "https://a/b");
        assert_eq!(events.last(), Some(&Event::done("datasource-store")));
    }

    #[test]
    fn a_new_answer_takes_the_place_of_the_old_one_and_the_same_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let target = target(root.path(), ScriptPolicy::Allow);
        assert!(store(&found(MESSAGE), &target, &mut Vec::new()).unwrap().changed);
        fs::write(root.path().join("oem/95_userdata/mine.yaml"), "x").unwrap();
        let inode = |path: &str| fs::metadata(root.path().join(path)).unwrap().ino();
        let before = inode("oem/95_userdata/userdata.yaml");
        assert!(!store(&found(MESSAGE), &target, &mut Vec::new()).unwrap().changed);
        assert_eq!(inode("oem/95_userdata/userdata.yaml"), before);

        let mut second = found(b"");
        second.ssh_keys.clear();
        assert!(store(&second, &target, &mut Vec::new()).unwrap().changed);
        let names = |path: &str| files::names(&root.path().join(path)).unwrap();
        assert_eq!(names("oem/95_userdata"), ["mine.yaml", "scripts", "userdata"]);
        assert!(names("oem/95_userdata/scripts").is_empty() && names("run/config/ssh").is_empty());
    }

    #[test]
    fn a_script_is_refused_unless_the_policy_allows_it() {
        let root = tempfile::tempdir().unwrap();
        let mut events = Vec::new();
        let plan =
            store(&found(b"#!/bin/sh\ntrue\n"), &target(root.path(), ScriptPolicy::Refuse), &mut events).unwrap();
        assert_eq!((plan.scripts.len(), &plan.scripts[0].path), (1, &None));
        assert_eq!(files::names(&root.path().join("oem/95_userdata")).unwrap(), ["userdata"]);
        assert!(events.iter().any(|event| matches!(event, Event::Warning { text } if text.contains("is not run"))));
    }

    #[test]
    fn the_vendors_configuration_comes_before_the_users_and_can_be_refused() {
        let mut answer = found(b"#cloud-config\n");
        answer.vendor(Some(b"#cloud-config\nvendor: 1\n".to_vec()));
        let mut target = Target::new("/r");
        let names = |target: &Target| plan_store(&answer, target).unwrap().documents;
        assert_eq!(names(&target), ["/run/config/00_vendordata.yaml", "/run/config/userdata.yaml"].map(PathBuf::from));
        target.vendor_data = false;
        assert_eq!(names(&target), ["/run/config/userdata.yaml"].map(PathBuf::from));
        assert!(plan_store(&answer, &target).unwrap().files.iter().any(|file| file.path.ends_with("vendordata")));
    }

    #[test]
    fn a_name_that_leaves_its_directory_is_refused() {
        for name in ["", "x", "../x.yaml", ".yaml", "/etc/x.yaml", ".x.yaml"] {
            let target = Target { userdata_name: name.into(), ..Target::new("/r") };
            assert!(matches!(plan_store(&found(b""), &target), Err(Error::BadName { .. })), "{name}");
        }
    }

    #[test]
    fn that_there_is_nothing_is_noted_too() {
        let root = tempfile::tempdir().unwrap();
        store_nothing(root.path()).unwrap();
        assert!(root.path().join("run/.userdata_load").exists());
    }

    #[test]
    fn a_plan_prints_no_secret() {
        let plan = plan_store(&found(b"#cloud-config\npasswd: hunter2\n"), &Target::new("/r")).unwrap();
        assert!(!format!("{plan:?}").contains("hunter2"));
    }
}
