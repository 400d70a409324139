//! A configuration on trial: what was there before it, kept until the owner confirms, put back when the window passes.
//!
//! Invariants: what was there is on the disk before anything is changed; putting it back twice does no harm, so that a cut in
//! between is made good by the next try; a record that cannot be read is never taken for none.

use crate::files::follow;
use crate::{Context, Error, network, systemd};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kairn_config::Kept;
use kairn_config::network::{FOLDERS, is_rendered};
use kairn_host::files;
use kairn_report::{Event, Sink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The record; with the owner's configuration, so that it outlives a restart.
const RECORD: &str = "/oem/.kairn/trial.json";
/// What takes it back.
const WATCH: &str = "kairn-config-trial.service";
/// Version of its form.
const FORMAT: u32 = 1;
/// Bytes of files that are kept at most: the partition is a small one.
const LIMIT: u64 = 8 << 20;

/// A configuration on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    format: u32,
    /// The file that is on trial.
    pub document: PathBuf,
    /// When it began, in seconds since the epoch.
    since: u64,
    /// How long it lasts, in seconds.
    window: u64,
    /// What was there, in the order in which it is put back.
    before: Vec<Before>,
    /// The name that the running system had.
    hostname: Option<String>,
    /// Whether the network is read anew.
    network: bool,
}

/// A path as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    path: PathBuf,
    was: Was,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Was {
    Absent,
    Directory { mode: u32, uid: u32, gid: u32 },
    File { mode: u32, uid: u32, gid: u32, content: String },
    Link { target: PathBuf },
}

impl Trial {
    /// Keeps what is there and begins a trial. `now` is the wall time since the epoch.
    ///
    /// # Errors
    /// Another trial is under way, what is there cannot be read, is too much, or cannot be kept.
    pub fn begin(
        context: &Context,
        document: &Path,
        kept: &Kept,
        now: Duration,
        window: Duration,
    ) -> Result<Self, Error> {
        if let Some(other) = Self::find(context)? {
            let hint = "`kairn config apply --confirm` keeps it, `--revert` takes it back";
            return Err(Error::refused(format!("`{}` is on trial already", other.document.display()), hint.to_owned()));
        }
        let mut paths: BTreeSet<PathBuf> = kept.paths.clone();
        paths.insert(document.to_owned());
        if kept.network {
            paths.extend(network_files(context)?);
        }
        let mut before = Vec::new();
        let mut bytes = 0;
        for path in paths {
            look(context, &path, &mut before, &mut bytes)?;
        }
        let hostname =
            (kept.hostname && context.live).then(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let trial = Self {
            format: FORMAT,
            document: document.to_owned(),
            since: now.as_secs(),
            window: window.as_secs(),
            before,
            hostname,
            network: kept.network,
        };
        let text = serde_json::to_vec(&trial).map_err(|error| Error::Record(error.to_string()))?;
        let path = context.at(RECORD.as_ref());
        if let Some(dir) = path.parent() {
            files::make_dir(dir, 0o700)?;
        }
        files::write_whole(&path, &text, 0o600)?;
        Ok(trial)
    }

    /// Returns the trial that is under way.
    ///
    /// # Errors
    /// Its record cannot be read or understood.
    pub fn find(context: &Context) -> Result<Option<Self>, Error> {
        let path = context.at(RECORD.as_ref());
        let Some(text) = files::read_text_if_any(&path)? else { return Ok(None) };
        let damaged = |why: String| Error::Record(format!("`{}` {why}", path.display()));
        let trial: Self =
            serde_json::from_str(&text).map_err(|error| damaged(format!("cannot be understood: {error}")))?;
        if trial.format == FORMAT { Ok(Some(trial)) } else { Err(damaged(format!("has format {}", trial.format))) }
    }

    /// Has the running system watch over the trial.
    ///
    /// # Errors
    /// The image has no unit for that, or it does not start.
    pub fn guard(context: &Context, sink: &mut dyn Sink) -> Result<(), Error> {
        if !systemd::runs(context) || !systemd::has_unit(context, WATCH) {
            let hint = "apply it without --try, or on a machine whose image was made by `kairn convert`".to_owned();
            return Err(Error::refused(format!("`{WATCH}` is not there to take the configuration back"), hint));
        }
        systemd::restart(WATCH, context, sink).map(drop)
    }

    /// Says how long it lasts from now on; nothing when it is over. A clock that stands before its begin says nothing, so it is over.
    #[must_use]
    pub fn left(&self, now: Duration) -> Duration {
        match now.as_secs().checked_sub(self.since) {
            Some(passed) => Duration::from_secs(self.window.saturating_sub(passed)),
            None => Duration::ZERO,
        }
    }

    /// Ends the trial for good: what was applied stays.
    ///
    /// # Errors
    /// The record cannot be removed.
    pub fn confirm(self, context: &Context) -> Result<(), Error> {
        Ok(files::remove_file(&context.at(RECORD.as_ref()))?)
    }

    /// Puts back the document alone, for the time before there is more than its own file system. The trial stays under way.
    ///
    /// # Errors
    /// It cannot be put back.
    pub fn revert_document(&self, context: &Context) -> Result<(), Error> {
        match self.before.iter().find(|before| before.path == self.document) {
            Some(before) => before.put_back(context),
            None => Ok(()),
        }
    }

    /// Puts back what was there. All of it is tried; the record stays as long as something of it could not be put back.
    ///
    /// # Errors
    /// The first of what could not be put back; the others were reported.
    pub fn revert(self, context: &Context, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut first = None;
        let mut note = |done: Result<(), Error>, sink: &mut dyn Sink| {
            if let Err(error) = done {
                sink.event(Event::warning(format!("taking `{}` back: {error}", self.document.display())));
                first.get_or_insert(error);
            }
        };
        if self.network {
            note(self.remove_new_network(context), sink);
        }
        // Directories that were made are empty only after what is in them went.
        let (absent, there): (Vec<_>, Vec<_>) = self.before.iter().partition(|before| before.was == Was::Absent);
        for before in there.into_iter().chain(absent.into_iter().rev()) {
            note(before.put_back(context), sink);
        }
        if let Some(name) = self.hostname.as_ref().filter(|_| context.live) {
            let set = rustix::system::sethostname(name.as_bytes());
            note(set.map_err(|errno| Error::path("set", "the host name")(errno.into())), sink);
        }
        if systemd::runs(context) {
            note(systemd::read_units_anew(context, sink), sink);
            if self.network {
                note(systemd::reload(&network::UNITS, context, sink), sink);
            }
        }
        match first {
            Some(error) => Err(error),
            None => self.confirm(context),
        }
    }

    /// Removes the files of the network that were not there, and were written from a configuration.
    fn remove_new_network(&self, context: &Context) -> Result<(), Error> {
        let known: BTreeSet<&Path> = self.before.iter().map(|before| before.path.as_path()).collect();
        for path in network_files(context)?.iter().filter(|path| !known.contains(path.as_path())) {
            let at = context.at(path);
            if is_rendered(&path.to_string_lossy(), &files::read_text(&at)?) {
                files::remove_file(&at)?;
            }
        }
        Ok(())
    }
}

fn network_files(context: &Context) -> Result<BTreeSet<PathBuf>, Error> {
    let mut paths = BTreeSet::new();
    for folder in FOLDERS {
        let dir = context.at(folder.as_ref());
        for name in if dir.is_dir() { files::names(&dir)? } else { Vec::new() } {
            if dir.join(&name).is_file() {
                paths.insert(Path::new(folder).join(name));
            }
        }
    }
    Ok(paths)
}

/// Looks at a path, at where its links end, and at the directories above that are missing.
fn look(context: &Context, path: &Path, before: &mut Vec<Before>, bytes: &mut u64) -> Result<(), Error> {
    let at = context.at(path);
    let mut missing: Vec<&Path> =
        path.ancestors().skip(1).take_while(|above| fs::symlink_metadata(context.at(above)).is_err()).collect();
    missing.reverse();
    before.extend(missing.into_iter().map(|above| Before { path: above.to_owned(), was: Was::Absent }));
    let was = match fs::symlink_metadata(&at) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Was::Absent,
        Err(error) => return Err(Error::path("read", &at)(error)),
        Ok(found) if found.is_symlink() => {
            let end = follow(context, at.clone())?;
            if let Ok(end) = end.strip_prefix(&context.root) {
                look(context, &Path::new("/").join(end), before, bytes)?;
            }
            Was::Link { target: fs::read_link(&at).map_err(Error::path("read", &at))? }
        }
        Ok(found) if found.is_dir() => {
            Was::Directory { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() }
        }
        Ok(found) if found.is_file() => {
            *bytes += found.len();
            if *bytes > LIMIT {
                let hint = "apply it without --try, or leave large files out of it".to_owned();
                return Err(Error::refused(format!("more than {LIMIT} bytes would have to be kept"), hint));
            }
            let content = STANDARD.encode(files::read(&at)?);
            Was::File { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid(), content }
        }
        Ok(_) => {
            let why = format!("`{}` is neither file nor directory, so it cannot be kept", path.display());
            return Err(Error::refused(why, "apply it without --try".to_owned()));
        }
    };
    if before.iter().all(|known| known.path != path) {
        before.push(Before { path: path.to_owned(), was });
    }
    Ok(())
}

impl Before {
    fn put_back(&self, context: &Context) -> Result<(), Error> {
        let at = context.at(&self.path);
        let found = fs::symlink_metadata(&at).ok();
        let is_dir = found.as_ref().is_some_and(fs::Metadata::is_dir);
        let refused = |what| Error::path(what, &at);
        match &self.was {
            Was::Absent if is_dir => match fs::remove_dir(&at) {
                // Somebody else put something there.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
                removed => removed.map_err(refused("remove")),
            },
            Was::Absent => Ok(files::remove_file(&at)?),
            Was::Directory { mode, uid, gid } => {
                files::make_dir(&at, *mode)?;
                chown(&at, Some(*uid), Some(*gid)).map_err(refused("change the owner of"))?;
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).map_err(refused("change the mode of"))
            }
            Was::File { mode, uid, gid, content } => {
                let content = STANDARD.decode(content).map_err(|error| {
                    Error::Record(format!("what was kept of `{}` is damaged: {error}", at.display()))
                })?;
                files::write_whole(&at, &content, *mode)?;
                chown(&at, Some(*uid), Some(*gid)).map_err(refused("change the owner of"))?;
                // Changing the owner drops set-id bits.
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).map_err(refused("change the mode of"))
            }
            Was::Link { target } => {
                if fs::read_link(&at).is_ok_and(|now| now == *target) {
                    return Ok(());
                }
                if found.is_some() && !is_dir {
                    files::remove_file(&at)?;
                }
                symlink(target, &at).map_err(refused("link"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::run_plan;
    use kairn_config::{Document, apply};

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    const TEXT: &str = "#cloud-config\nhostname: new\npower_state: {mode: reboot}\nstages: {boot: [{files: [{path: /etc/a, content: new, permissions: 0600}, \
                        {path: /new/deep/b, content: new}, {path: /etc/link, content: new}], \
                        directories: [{path: /etc/d, permissions: 0700}, {path: /made, permissions: 0700}], environment: {A: b}}]}\n";

    /// All there is below a root, but for the record's place.
    fn tree(root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let found = path.symlink_metadata().unwrap();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if name.ends_with(".kairn") {
                    continue;
                }
                let content = if found.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
                let mode = if found.is_symlink() { 0 } else { found.mode() & 0o7777 };
                lines.push(format!("{name} {mode:o} {content}"));
                if found.is_dir() {
                    dirs.push(path);
                }
            }
        }
        lines.sort();
        lines
    }

    fn machine() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["etc/d", "oem", "usr"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("etc/a"), "old").unwrap();
        fs::write(dir.path().join("etc/hostname"), "old\n").unwrap();
        fs::write(dir.path().join("usr/end"), "old").unwrap();
        symlink("/usr/end", dir.path().join("etc/link")).unwrap();
        let context = context(dir.path());
        (dir, context)
    }

    fn applied(context: &Context) {
        let documents = [Document::parse("/oem/a.yaml", TEXT)];
        let plan = apply(&documents);
        assert!(plan.lasting.is_empty(), "{:?}", plan.lasting);
        Trial::begin(context, Path::new("/oem/a.yaml"), &plan.kept, NOW, MINUTE).unwrap();
        fs::write(context.at("/oem/a.yaml".as_ref()), TEXT).unwrap();
        for stage in plan.now {
            let result = run_plan(stage, &documents, context, &mut Vec::new());
            assert_eq!(result.failures(), 0, "{result:?}");
            // The machine does not go down now.
            let mut actions = result.steps.iter().flat_map(|step| &step.actions);
            assert!(!actions.any(|action| matches!(action.effect, crate::Effect::Skipped(_))), "{result:?}");
        }
    }

    #[test]
    fn what_was_there_is_there_again_when_a_trial_is_reverted() {
        let (dir, context) = machine();
        let before = tree(dir.path());
        applied(&context);
        assert_eq!(fs::read_to_string(dir.path().join("usr/end")).unwrap(), "new");
        let during = tree(dir.path());
        assert!(during.len() > before.len() + 4);
        let trial = Trial::find(&context).unwrap().unwrap();
        trial.revert_document(&context).unwrap();
        assert!(!dir.path().join("oem/a.yaml").exists() && Trial::find(&context).unwrap().is_some());
        // Cut off before it is done, it is done again.
        let again = trial.clone();
        trial.revert(&context, &mut Vec::new()).unwrap();
        assert_eq!(tree(dir.path()), before);
        again.revert(&context, &mut Vec::new()).unwrap();
        assert_eq!((tree(dir.path()), Trial::find(&context).unwrap()), (before, None));
    }

    #[test]
    fn what_is_confirmed_stays() {
        let (dir, context) = machine();
        applied(&context);
        let during = tree(dir.path());
        Trial::find(&context).unwrap().unwrap().confirm(&context).unwrap();
        assert_eq!((tree(dir.path()), Trial::find(&context).unwrap()), (during, None));
    }

    #[test]
    fn one_trial_is_under_way_at_a_time_and_ends_with_its_window() {
        let (_dir, context) = machine();
        applied(&context);
        let trial = Trial::find(&context).unwrap().unwrap();
        let second = Trial::begin(&context, Path::new("/oem/b.yaml"), &Kept::default(), NOW, MINUTE);
        assert!(second.unwrap_err().to_string().contains("`/oem/a.yaml` is on trial already"));
        let left = |passed: i64| trial.left(Duration::from_secs(NOW.as_secs().saturating_add_signed(passed)));
        assert_eq!(
            [left(0), left(59), left(60), left(-1)],
            [MINUTE, Duration::from_secs(1), Duration::ZERO, Duration::ZERO]
        );
    }

    #[test]
    fn a_damaged_record_is_a_failure_and_not_the_end_of_a_trial() {
        let (dir, context) = machine();
        applied(&context);
        fs::write(dir.path().join("oem/.kairn/trial.json"), "{").unwrap();
        assert!(Trial::find(&context).is_err());
    }
}
