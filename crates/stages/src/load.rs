//! Reads configuration files: directories in lexical order, files as they are named.

use kairn_config::{Document, InstanceData};
use kairn_host::files;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes; the parser refuses a larger one with a diagnostic.
const LIMIT: u64 = 8 << 20;

/// Loads every `.yaml` and `.yml` file of directories, in lexical order per level, and files of any name. What cannot be read
/// becomes a document that says so. Absent directories are empty.
#[must_use]
pub fn load(paths: &[PathBuf]) -> Vec<Document> {
    load_on(paths, None)
}

/// Loads like [`load`] on an instance, whose data templates of cloud-init ask for.
#[must_use]
pub fn load_on(paths: &[PathBuf], instance: Option<&InstanceData>) -> Vec<Document> {
    let mut documents = Vec::new();
    for path in paths {
        if path.is_dir() { directory(path, instance, &mut documents) } else { documents.push(file(path, instance)) }
    }
    documents
}

fn directory(dir: &Path, instance: Option<&InstanceData>, documents: &mut Vec<Document>) {
    let mut names = match files::names(dir) {
        Ok(names) => names,
        Err(error) => return documents.push(Document::unreadable(dir.display().to_string(), error)),
    };
    names.sort();
    for name in names {
        let path = dir.join(name);
        let wanted = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // A link to a directory is not followed: it may lead back up.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if path.is_dir() && !is_link {
            directory(&path, instance, documents);
        } else if wanted && path.is_file() {
            documents.push(file(&path, instance));
        }
    }
}

fn file(path: &Path, instance: Option<&InstanceData>) -> Document {
    let name = path.display().to_string();
    if path.metadata().is_ok_and(|metadata| metadata.len() > LIMIT) {
        return Document::unreadable(name, format!("it is larger than {LIMIT} bytes"));
    }
    match files::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Document::parse_on(name, &text, instance),
            Err(error) => {
                Document::unreadable(name, format!("it is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
            }
        },
        Err(error) => Document::unreadable(name, error),
    }
}
