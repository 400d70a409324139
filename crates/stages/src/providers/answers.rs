//! Configurations that providers answered with, kept for as long as this system runs: what they say counts for its stages and its
//! explanations too.

use crate::Error;
use kairn_config::providers::Answer;
use kairn_config::{Document, InstanceData};
use kairn_host::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Below a root. Of root only: a configuration holds secrets.
const FILE: &str = "run/kairn/answers.json";
/// The version of its form.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    answers: Vec<Answer>,
}

/// Keeps answers, in the place of those that were kept before.
///
/// # Errors
/// They cannot be written.
pub fn keep(root: &Path, answers: &[Answer]) -> Result<(), Error> {
    let path = root.join(FILE);
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o755)?;
    }
    let text = serde_json::to_vec(&Kept { format: FORMAT, answers: answers.to_vec() })
        .map_err(|error| Error::Path { action: "write", path: path.clone(), source: error.into() })?;
    Ok(files::write_whole(&path, &text, 0o600)?)
}

/// Returns the answers that are kept, lowest precedence first.
///
/// # Errors
/// They cannot be read, or are of another form.
pub fn kept(root: &Path) -> Result<Vec<Answer>, Error> {
    let path = root.join(FILE);
    let Some(text) = files::read_text_if_any(&path)? else { return Ok(Vec::new()) };
    let kept = serde_json::from_str::<Kept>(&text).map_err(std::io::Error::from);
    match kept {
        Ok(Kept { format: FORMAT, answers }) => Ok(answers),
        Ok(Kept { format, .. }) => {
            let source = std::io::Error::other(format!("its form is {format}, and not {FORMAT}"));
            Err(Error::Path { action: "read", path, source })
        }
        Err(source) => Err(Error::Path { action: "read", path, source }),
    }
}

/// Parses what is kept. What cannot be read is a document that says so.
pub(crate) fn documents(root: &Path, instance: Option<&InstanceData>) -> Vec<Document> {
    match kept(root) {
        Ok(answers) => answers.iter().map(|answer| answer.document(instance)).collect(),
        Err(error) => vec![Document::unreadable(format!("/{FILE}"), kairn_report::in_one_line(&error))],
    }
}
