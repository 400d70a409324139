//! Decides where overlays, volumes and binds go, from the layout and from what the image has at each path. Pure.
//!
//! Invariant: parents come before what lies below them, and nothing is mounted over something that was mounted before it.

use crate::layout::{Layout, Volume};

/// What the image has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Missing,
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// Anything else; links too, since what is mounted on one appears elsewhere.
    Other,
}

/// One thing to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An overlay that starts afresh.
    Overlay {
        /// Where.
        path: String,
    },
    /// A volume.
    Volume {
        /// Which and where.
        volume: Volume,
        /// The mount point must be made first; it lies in an overlay.
        make: bool,
    },
    /// A path of the persistent volume.
    Bind {
        /// Where.
        path: String,
        /// Its name below the layout's target.
        source: String,
        /// The mount point must be made first; it lies in an overlay.
        make: bool,
        /// It is one file.
        file: bool,
    },
}

/// A path that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Decides what is mounted where, in order. `persistent` says whether the binds' target can hold anything.
#[must_use]
pub fn decide(layout: &Layout, persistent: bool, kind: &dyn Fn(&str) -> Kind) -> (Vec<Place>, Vec<LeftOut>) {
    let mut places: Vec<Place> = Vec::new();
    let mut left_out = Vec::new();
    let mut leave = |path: &str, reason: String| left_out.push(LeftOut { path: path.to_owned(), reason });

    let overlays = parents_first(layout.overlays.iter().collect(), |path| depth(path));
    let mut writable: Vec<&str> = Vec::new();
    for path in overlays {
        let volume = layout.volumes.iter().find(|volume| covers(&volume.path, path));
        if let Some(volume) = volume {
            leave(path, format!("it lies on the volume {}", volume.name));
        } else if let Some(above) = writable.iter().find(|above| covers(above, path)) {
            leave(path, format!("the overlay on {above} covers it"));
        } else if layout.binds.contains(path) && persistent {
            leave(path, "it is persistent".to_owned());
        } else {
            match kind(path) {
                Kind::Directory => {
                    writable.push(path);
                    places.push(Place::Overlay { path: path.clone() });
                }
                Kind::Missing => leave(path, "the image does not have it".to_owned()),
                Kind::File | Kind::Other => leave(path, "it is not a directory".to_owned()),
            }
        }
    }

    for volume in &layout.volumes {
        match mount_point(&volume.path, &writable, kind) {
            Ok((make, Kind::Directory | Kind::Missing)) => places.push(Place::Volume { volume: volume.clone(), make }),
            Ok(_) => leave(&volume.path, "it is not a directory".to_owned()),
            Err(reason) => leave(&volume.path, reason),
        }
    }
    // Overlays and volumes together, so that neither hides the other.
    let mut places = parents_first(places, |place| match place {
        Place::Overlay { path } | Place::Bind { path, .. } => depth(path),
        Place::Volume { volume, .. } => depth(&volume.path),
    });

    let mut bound: Vec<&String> = Vec::new();
    for path in parents_first(layout.binds.iter().collect(), |path| depth(path)) {
        if !persistent {
            leave(path, "no persistent volume is mounted".to_owned());
        } else if covers(path, &layout.target) || covers(&layout.target, path) {
            leave(path, format!("it holds, or lies in, {}, from which it would be bound", layout.target));
        } else if let Some(volume) = layout.volumes.iter().find(|volume| covers(&volume.path, path)) {
            leave(path, format!("it lies on the volume {} already", volume.name));
        } else if let Some(other) = bound.iter().find(|other| dashed(other) == dashed(path)) {
            leave(path, format!("it would be bound from the same directory as {other}"));
        } else {
            match mount_point(path, &writable, kind) {
                Ok((_, Kind::Other)) => leave(path, "it is neither a directory nor a file (a link?)".to_owned()),
                Ok((make, kind)) => {
                    bound.push(path);
                    places.push(Place::Bind {
                        path: path.clone(),
                        source: format!("{}.bind", dashed(path)),
                        make,
                        file: kind == Kind::File,
                    });
                }
                Err(reason) => leave(path, reason),
            }
        }
    }
    (places, left_out)
}

/// Returns whether a mount point must be made, and what is there.
fn mount_point(path: &str, writable: &[&str], kind: &dyn Fn(&str) -> Kind) -> Result<(bool, Kind), String> {
    match kind(path) {
        Kind::Missing if writable.iter().any(|above| covers(above, path)) => Ok((true, Kind::Missing)),
        Kind::Missing => Err("the image does not have it and no overlay allows to make it".to_owned()),
        there => Ok((false, there)),
    }
}

/// Returns the name of a path below the target: `/var/lib/x` is `var-lib-x`.
#[must_use]
pub fn dashed(path: &str) -> String {
    path.trim_matches('/').replace('/', "-")
}

/// Says whether `below` is `above` or lies in it.
fn covers(above: &str, below: &str) -> bool {
    below.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Orders by depth and keeps the order within one. A few dozen items at most; the standard sort is ten kilobytes for each type.
fn parents_first<T>(items: Vec<T>, depth: impl Fn(&T) -> usize) -> Vec<T> {
    let mut ordered: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        let at = ordered.iter().rposition(|other| depth(other) <= depth(&item)).map_or(0, |at| at + 1);
        ordered.insert(at, item);
    }
    ordered
}

fn depth(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::VolumeName;

    fn layout(overlays: &[&str], volumes: &[&str], binds: &[&str]) -> Layout {
        let own = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        Layout {
            volumes: volumes
                .iter()
                .map(|&path| Volume { name: VolumeName::Label("V".into()), path: path.to_owned() })
                .collect(),
            overlays: own(overlays),
            binds: own(binds),
            target: "/usr/local/.state".into(),
            overlay_size: "25%".into(),
        }
    }

    fn image(path: &str) -> Kind {
        match path {
            "/etc" | "/var" | "/var/log" | "/usr" | "/usr/local" | "/home" | "/srv" => Kind::Directory,
            "/etc/hostname" => Kind::File,
            "/bin" => Kind::Other,
            _ => Kind::Missing,
        }
    }

    fn names(places: &[Place]) -> Vec<String> {
        places
            .iter()
            .map(|place| match place {
                Place::Overlay { path } => format!("overlay {path}"),
                Place::Volume { volume, make } => format!("volume {}{}", volume.path, if *make { " made" } else { "" }),
                Place::Bind { path, make, file, source } => {
                    format!(
                        "bind {path} {source}{}{}",
                        if *make { " made" } else { "" },
                        if *file { " file" } else { "" }
                    )
                }
            })
            .collect()
    }

    #[test]
    fn parents_come_first_and_volumes_are_not_hidden() {
        let layout = layout(&["/var/log", "/usr", "/var"], &["/usr/local", "/var/data"], &["/var/lib/k0s", "/home"]);
        let (places, left_out) = decide(&layout, true, &image);
        assert_eq!(
            names(&places),
            [
                "overlay /usr",
                "overlay /var",
                "volume /usr/local",
                "volume /var/data made",
                "bind /home home.bind",
                "bind /var/lib/k0s var-lib-k0s.bind made"
            ]
        );
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].path, "/var/log");
    }

    #[test]
    fn what_cannot_be_mounted_is_left_out_with_the_reason() {
        let layout = layout(
            &["/etc", "/gone", "/bin"],
            &["/usr/local", "/mnt/x"],
            &["/nowhere", "/bin", "/usr", "/usr/local/lib", "/etc/hostname", "/usr/local/.state/x"],
        );
        let (places, left_out) = decide(&layout, true, &image);
        assert_eq!(names(&places), ["overlay /etc", "volume /usr/local", "bind /etc/hostname etc-hostname.bind file"]);
        let mut paths: Vec<_> = left_out.iter().map(|left| left.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            ["/bin", "/bin", "/gone", "/mnt/x", "/nowhere", "/usr", "/usr/local/.state/x", "/usr/local/lib"]
        );
    }

    #[test]
    fn two_paths_are_never_bound_from_one_directory() {
        let (places, left_out) = decide(&layout(&["/var"], &["/usr/local"], &["/var/x-y", "/var/x/y"]), true, &image);
        assert_eq!(names(&places).last().unwrap(), "bind /var/x-y var-x-y.bind made");
        assert!(left_out.len() == 1 && left_out[0].path == "/var/x/y" && left_out[0].reason.contains("/var/x-y"));
    }

    #[test]
    fn without_a_persistent_volume_nothing_is_bound_and_an_overlay_takes_its_place() {
        let (places, left_out) = decide(&layout(&["/home"], &[], &["/home"]), false, &image);
        assert_eq!(names(&places), ["overlay /home"]);
        assert_eq!(left_out.len(), 1);
        let (places, _) = decide(&layout(&["/home"], &[], &["/home"]), true, &image);
        assert_eq!(names(&places), ["bind /home home.bind"]);
    }
}
