//! Which steps ran already, for those that do not run each time.
//!
//! Invariant: a step is written down only after it did all that it asks for, so that one that failed, skipped something or was cut
//! off runs again.

use crate::{Context, Error, instance};
use kairn_config::{Frequency, PlannedStep};
use kairn_host::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The record, on COS_PERSISTENT.
const RECORD: &str = "/usr/local/.kairn/steps.json";

/// Version of its form.
const FORMAT: u32 = 1;

/// The steps that ran, each with what it ran for.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    steps: BTreeMap<String, Ran>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ran {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

/// Says why a step does not run again; `None` when it runs.
///
/// # Errors
/// The record cannot be read, or what the step runs once for is not known: it does not run then, since twice may be worse than not.
pub fn ran(step: &PlannedStep, context: &Context) -> Result<Option<String>, Error> {
    ran_as(&name(step), step.settings.frequency, context)
}

/// Says why something does not run again, by its name in the record; `None` when it runs.
///
/// # Errors
/// As [`ran`].
pub fn ran_as(name: &str, frequency: Frequency, context: &Context) -> Result<Option<String>, Error> {
    let before = || Ok::<_, Error>(read(&path(context))?.steps.remove(name));
    Ok(match frequency {
        Frequency::Always => None,
        Frequency::Once => before()?.map(|_| "it runs once, and did".to_owned()),
        Frequency::PerInstance => {
            let now = instance::current(context)?.ok_or(Error::NoIdentity("instance"))?;
            let again = before()?.is_some_and(|ran| ran.instance.as_ref() == Some(&now));
            again.then(|| format!("it ran already for the instance {now}"))
        }
        Frequency::PerImage => {
            let now = context.identity.image.as_ref().ok_or(Error::NoIdentity("release"))?;
            let again = before()?.is_some_and(|ran| ran.image.as_ref() == Some(now));
            again.then(|| format!("it ran already for the release {now}"))
        }
    })
}

/// Writes down that a step ran.
///
/// # Errors
/// The record cannot be read or written.
pub fn note(step: &PlannedStep, context: &Context) -> Result<(), Error> {
    note_as(&name(step), step.settings.frequency, context)
}

/// Writes down that something ran, by its name in the record.
///
/// # Errors
/// As [`note`].
pub fn note_as(name: &str, frequency: Frequency, context: &Context) -> Result<(), Error> {
    if frequency == Frequency::Always {
        return Ok(());
    }
    let path = path(context);
    let mut record = read(&path)?;
    let (instance, image) = (instance::current(context)?, context.identity.image.clone());
    record.steps.insert(name.to_owned(), Ran { instance, image });
    write(&path, &record)
}

/// Makes sure that it can be written down that something ran.
///
/// # Errors
/// The record cannot be read or written, as before the partition that it is on is there.
pub fn prepare(frequency: Frequency, context: &Context) -> Result<(), Error> {
    if frequency == Frequency::Always {
        return Ok(());
    }
    let path = path(context);
    write(&path, &read(&path)?)
}

fn write(path: &Path, record: &Record) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| Error::Record(error.to_string()))?;
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o700)?;
    }
    Ok(files::write_whole(path, &text, 0o600)?)
}

fn path(context: &Context) -> PathBuf {
    context.at(Path::new(RECORD))
}

/// A step is the same one as long as file, stage and name are, and of several with one name the number among them.
fn name(step: &PlannedStep) -> String {
    let name = format!("{} {} {}", step.span.source, step.stage, step.name);
    if step.twin == 0 { name } else { format!("{name} #{}", step.twin + 1) }
}

fn read(path: &Path) -> Result<Record, Error> {
    match files::read_text_if_any(path)? {
        None => Ok(Record { format: FORMAT, steps: BTreeMap::new() }),
        Some(text) => match serde_json::from_str::<Record>(&text) {
            Ok(record) if record.format == FORMAT => Ok(record),
            Ok(record) => Err(Error::Record(format!(
                "the record of steps `{}` has format {}, not {FORMAT}",
                path.display(),
                record.format
            ))),
            Err(error) => {
                Err(Error::Record(format!("the record of steps `{}` cannot be understood: {error}", path.display())))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::{Identity, run};
    use kairn_config::Document;
    use std::fs;

    const STEPS: &str = "stages:\n  boot:\n  - {name: a, frequency: once, directories: [{path: /a}]}\n  - {name: i, \
                         frequency: per-instance, directories: [{path: /i}]}\n  - {name: r, frequency: per-image, \
                         directories: [{path: /r}]}\n  - {name: f, frequency: once, files: [{path: /blocked/x}]}\n";

    #[test]
    fn steps_run_as_often_as_they_say_and_a_failed_one_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("blocked"), "").unwrap();
        let documents = [Document::parse("/oem/a.yaml", STEPS)];
        let mut context = context(dir.path());
        let mut skipped = |instance: &str, image: &str| -> Vec<String> {
            context.identity =
                Identity { instance: Some(instance.into()), image: Some(image.into()), ..Identity::default() };
            let result = run(&documents, "boot", &context, &mut Vec::new());
            let names = result.steps.iter().filter(|step| step.skipped.is_some());
            names.map(|step| step.name.clone()).collect()
        };
        assert_eq!(skipped("i1", "r1"), Vec::<String>::new());
        assert_eq!(skipped("i1", "r1"), ["a", "i", "r"]);
        assert_eq!(skipped("i1", "r2"), ["a", "i"]);
        assert_eq!(skipped("i2", "r2"), ["a", "r"]);
        fs::remove_file(dir.path().join("blocked")).unwrap();
        assert_eq!(skipped("i2", "r2"), ["a", "i", "r"]);
        assert_eq!(skipped("i2", "r2"), ["a", "i", "r", "f"]);
    }

    #[test]
    fn steps_of_one_name_in_one_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let text = "stages: {boot: [{name: a, frequency: once, files: [{path: /one}]}, {name: a, frequency: once, files: [{path: /two}]}]}";
        let documents = [Document::parse("/oem/a.yaml", text)];
        run(&documents, "boot", &context(dir.path()), &mut Vec::new());
        assert!(dir.path().join("one").exists() && dir.path().join("two").exists());
        let again = run(&documents, "boot", &context(dir.path()), &mut Vec::new());
        assert!(again.steps.iter().all(|step| step.skipped.is_some()), "{again:?}");
    }

    #[test]
    fn a_step_that_skips_something_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        // systemd does not run there, so that nothing can be started.
        let text = "stages: {boot: [{name: a, frequency: once, systemctl: {start: [x.service]}}]}";
        for _ in 0..2 {
            let result = run(&[Document::parse("/oem/a.yaml", text)], "boot", &context(dir.path()), &mut Vec::new());
            assert!(matches!(result.steps[0].actions[0].effect, crate::Effect::Skipped(_)), "{result:?}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_the_step_from_running_and_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/local/.kairn")).unwrap();
        fs::write(dir.path().join("usr/local/.kairn/steps.json"), "{").unwrap();
        let text = "stages: {boot: [{frequency: once, files: [{path: /ran}]}, {files: [{path: /other}]}]}";
        let result = run(&[Document::parse("/oem/a.yaml", text)], "boot", &context(dir.path()), &mut Vec::new());
        assert_eq!(result.failures(), 1);
        assert!(!dir.path().join("ran").exists() && dir.path().join("other").exists());
    }
}
