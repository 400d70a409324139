//! What the root is made of, as stage `rootfs` left it in the layout files of `/run/cos`.
//!
//! Invariant: every path in a [`Layout`] is absolute, normalised, not `/` and without `..`; no path stands twice in a list.

use kairn_lifecycle::Role;

/// Where the persistent paths are bound from when no layout says so.
const STATE_TARGET: &str = "/usr/local/.state";
/// Size of the overlays' tmpfs when nothing says so.
const OVERLAY_SIZE: &str = "25%";
/// Overlays of an installed system whose layout files are absent.
const INSTALLED_RW: &str = "/var /etc /srv";
/// Overlays when `RW_PATHS` is empty; nothing persistent will cover these.
const VOLATILE_RW: &str = "/etc /root /home /opt /srv /usr/local /var";
/// Persistent paths of an installed system whose layout files are absent. Without /etc/systemd, /etc/ssl/certs and
/// /usr/libexec, which would hide the units, certificates and programs of the next image.
const INSTALLED_BINDS: &str = "/etc/cni /etc/init.d /etc/iscsi /etc/k0s /etc/kubernetes /etc/modprobe.d /etc/pwx /etc/rancher \
    /etc/runlevels /etc/ssh /etc/sysconfig /etc/zfs /home /opt /root /var/cores /var/lib/ca-certificates /var/lib/cni \
    /var/lib/containerd /var/lib/calico /var/lib/dbus /var/lib/etcd /var/lib/extensions /var/lib/confexts /var/lib/k0s \
    /var/lib/kubelet /var/lib/longhorn /var/lib/osd /var/lib/rancher /var/lib/rook /var/lib/tailscale /var/lib/wicked \
    /var/lib/kairos /var/log";

/// How a volume is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeName {
    /// By file-system label.
    Label(String),
    /// By file-system UUID.
    Uuid(String),
}

impl std::fmt::Display for VolumeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(label) => write!(f, "LABEL={label}"),
            Self::Uuid(uuid) => write!(f, "UUID={uuid}"),
        }
    }
}

/// A file system to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub name: VolumeName,
    /// Where.
    pub path: String,
}

/// What the root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// File systems, `VOLUMES`.
    pub volumes: Vec<Volume>,
    /// Paths with an overlay that starts afresh, `RW_PATHS`.
    pub overlays: Vec<String>,
    /// Paths bound from the persistent volume, `PERSISTENT_STATE_PATHS`.
    pub binds: Vec<String>,
    /// Where they are bound from, `PERSISTENT_STATE_TARGET`.
    pub target: String,
    /// Size of the overlays' tmpfs as the kernel takes it, `OVERLAY`.
    pub overlay_size: String,
}

/// The layout files of one boot, in the order in which they count.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayoutFiles<'a> {
    /// `/run/cos/cos-layout.env`.
    pub main: Option<&'a str>,
    /// `/run/cos/extra-layout.env`.
    pub extra: Option<&'a str>,
    /// `/run/cos/custom-layout.env`.
    pub custom: Option<&'a str>,
}

impl Layout {
    /// Reads the layout files; `overlay` and `mounts` are the command line's. Returns what was not understood, too.
    #[must_use]
    pub fn read(role: Role, files: LayoutFiles<'_>, overlay: Option<&str>, mounts: &[&str]) -> (Self, Vec<String>) {
        let mut notes = Vec::new();
        let installed = matches!(role, Role::Deployment { .. });
        let main = files.main.map(variables).unwrap_or_default();
        let extra = files.extra.map(variables).unwrap_or_default();
        let custom = files.custom.map(variables).unwrap_or_default();
        if files.main.is_none() {
            notes.push("stage rootfs left no layout; the built-in one is used".to_owned());
        }
        let absent = files.main.is_none() && installed;
        let words = |vars: &[(String, String)], key: &str| -> Vec<String> {
            let mut values = vars.iter().filter(|(name, _)| name == key);
            values.next_back().map_or_else(Vec::new, |(_, value)| value.split_whitespace().map(str::to_owned).collect())
        };
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();

        let mut volumes = words(&main, "VOLUMES");
        let mut overlays = words(&main, "RW_PATHS");
        let mut binds = words(&main, "PERSISTENT_STATE_PATHS");
        if absent {
            volumes = split("LABEL=COS_PERSISTENT:/usr/local");
            overlays = split(INSTALLED_RW);
            binds = split(INSTALLED_BINDS);
        } else if overlays.is_empty() {
            overlays = split(VOLATILE_RW);
        }
        volumes.extend(mounts.iter().map(|&mount| mount.to_owned()));
        binds.extend(words(&main, "CUSTOM_BIND_MOUNTS"));
        binds.extend(words(&extra, "PERSISTENT_STATE_PATHS"));
        binds.extend(words(&custom, "CUSTOM_BIND_MOUNTS"));
        overlays.extend(words(&main, "CUSTOM_EPHEMERAL_MOUNTS"));
        overlays.extend(words(&custom, "CUSTOM_EPHEMERAL_MOUNTS"));

        let target = words(&main, "PERSISTENT_STATE_TARGET").pop();
        let target = target.and_then(|text| clean(&text, &mut notes)).unwrap_or_else(|| STATE_TARGET.to_owned());
        let mut read_volumes: Vec<Volume> = Vec::new();
        for text in &volumes {
            match volume(text, &mut notes) {
                // A repeated mount point is the same line twice (stage and command line); the first counts.
                Some(volume) if read_volumes.iter().any(|other| other.path == volume.path) => {
                    notes.push(format!("`{text}`: something is mounted on {} already", volume.path));
                }
                Some(volume) => read_volumes.push(volume),
                None => {}
            }
        }
        // Nothing persistent is bound where nothing persistent is mounted.
        let binds = if role == Role::Live { Vec::new() } else { paths(&binds, &mut notes) };
        let size = words(&main, "OVERLAY").pop().or_else(|| overlay.map(str::to_owned));
        let overlay_size = size.and_then(|text| tmpfs_size(&text, &mut notes)).unwrap_or_else(|| OVERLAY_SIZE.into());
        let layout =
            Self { volumes: read_volumes, overlays: paths(&overlays, &mut notes), binds, target, overlay_size };
        (layout, notes)
    }
}

/// Reads `KEY="value"` lines as systemd's and the shell's environment files have them, as far as layout files go.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='));
    pairs
        .map(|(key, value)| {
            let value = value.trim();
            let quoted = ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
            (key.trim().to_owned(), quoted.unwrap_or(value).to_owned())
        })
        .collect()
}

fn paths(texts: &[String], notes: &mut Vec<String>) -> Vec<String> {
    let mut clean_paths: Vec<String> = Vec::new();
    for text in texts {
        if let Some(path) = clean(text, notes)
            && !clean_paths.contains(&path)
        {
            clean_paths.push(path);
        }
    }
    clean_paths
}

fn clean(text: &str, notes: &mut Vec<String>) -> Option<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if !text.starts_with('/') || parts.is_empty() || parts.contains(&"..") {
        notes.push(format!("`{text}` in the layout is not an absolute path below the root"));
        return None;
    }
    Some(format!("/{}", parts.join("/")))
}

fn volume(text: &str, notes: &mut Vec<String>) -> Option<Volume> {
    let parsed = text.split_once(':').and_then(|(name, path)| {
        let name = match name.split_once('=')? {
            ("LABEL", label) if !label.is_empty() => VolumeName::Label(label.to_owned()),
            ("UUID", uuid) if !uuid.is_empty() => VolumeName::Uuid(uuid.to_ascii_lowercase()),
            _ => return None,
        };
        Some((name, path))
    });
    let Some((name, path)) = parsed else {
        notes.push(format!("`{text}` is not a volume (LABEL=name:/path or UUID=id:/path)"));
        return None;
    };
    Some(Volume { name, path: clean(path, notes)? })
}

fn tmpfs_size(text: &str, notes: &mut Vec<String>) -> Option<String> {
    let size = text.strip_prefix("tmpfs").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    let valid = |size: &&str| {
        let digits = size.trim_end_matches(['%', 'k', 'K', 'm', 'M', 'g', 'G']);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && size.len() <= digits.len() + 1
    };
    match size {
        Some("") => None,
        Some(size) if valid(&size) => Some(size.to_owned()),
        _ => {
            notes.push(format!(
                "`{text}` is not an overlay (tmpfs:<size>); overlays start afresh in {OVERLAY_SIZE} of memory"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_lifecycle::Sequence;
    use proptest::prelude::*;

    const INSTALLED: Role = Role::Deployment { sequence: Sequence(1) };

    fn read(main: &str) -> (Layout, Vec<String>) {
        Layout::read(INSTALLED, LayoutFiles { main: Some(main), ..LayoutFiles::default() }, None, &[])
    }

    #[test]
    fn a_layout_is_read_as_existing_configurations_write_it() {
        let (layout, notes) = read(
            "# made by a stage\nVOLUMES=\"LABEL=COS_PERSISTENT:/usr/local UUID=AB-CD:/data/\"\nOVERLAY='tmpfs:25%'\n\
             export RW_PATHS=\"/var /etc //srv/\"\nPERSISTENT_STATE_PATHS=\"/home /home /var/log\"\n",
        );
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(layout.overlays, ["/var", "/etc", "/srv"]);
        assert_eq!(layout.binds, ["/home", "/var/log"]);
        assert_eq!(layout.target, "/usr/local/.state");
        assert_eq!(layout.volumes[1].name, VolumeName::Uuid("ab-cd".into()));
        assert_eq!(layout.volumes[1].path, "/data");
    }

    #[test]
    fn what_is_wrong_is_noted_and_the_rest_counts() {
        let (layout, notes) =
            read("RW_PATHS=\"/var etc /a/../b /\"\nVOLUMES=\"COS:/x LABEL=A:/y LABEL=B:/y\"\nOVERLAY=LABEL=X");
        assert_eq!(layout.overlays, ["/var"]);
        assert_eq!(layout.volumes.len(), 1);
        assert_eq!(layout.overlay_size, "25%");
        assert_eq!(notes.len(), 6, "{notes:?}");
    }

    #[test]
    fn without_layout_files_an_installed_system_still_persists_and_recovery_does_not() {
        let (layout, notes) = Layout::read(INSTALLED, LayoutFiles::default(), None, &[]);
        assert_eq!(layout.volumes[0].path, "/usr/local");
        assert!(layout.binds.contains(&"/var/log".to_owned()) && !layout.binds.contains(&"/etc/systemd".to_owned()));
        assert_eq!(notes.len(), 1);
        let (layout, _) = Layout::read(Role::Recovery, LayoutFiles::default(), None, &[]);
        assert!(layout.volumes.is_empty() && layout.binds.is_empty());
        assert!(layout.overlays.contains(&"/home".to_owned()));
    }

    #[test]
    fn custom_and_extra_files_add_and_the_layout_wins_over_the_command_line() {
        let files = LayoutFiles {
            main: Some("OVERLAY=tmpfs:1g\nRW_PATHS=/etc\n"),
            extra: Some("PERSISTENT_STATE_PATHS=\"/snap\""),
            custom: Some("CUSTOM_BIND_MOUNTS=\"/opt/a\"\nCUSTOM_EPHEMERAL_MOUNTS=/srv"),
        };
        let (layout, _) = Layout::read(INSTALLED, files, Some("tmpfs:10%"), &["LABEL=D:/d"]);
        assert_eq!(layout.binds, ["/snap", "/opt/a"]);
        assert_eq!(layout.overlays, ["/etc", "/srv"]);
        assert_eq!(layout.overlay_size, "1g");
        assert_eq!(layout.volumes[0].path, "/d");
    }

    proptest! {
        #[test]
        fn any_text_gives_only_clean_paths(text in "(RW_PATHS|PERSISTENT_STATE_PATHS|VOLUMES)=[ -~]{0,80}") {
            let (layout, _) = read(&text);
            for path in layout.overlays.iter().chain(&layout.binds) {
                prop_assert!(path.starts_with('/') && path.len() > 1 && !path.ends_with('/') && !path.contains("//"));
                prop_assert!(!path.split('/').any(|part| part == ".."));
            }
        }
    }
}
