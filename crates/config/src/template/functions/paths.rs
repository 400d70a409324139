//! Functions of paths (Go's `path`).

use super::{Function, exactly};
use serde_json::Value;

pub(super) const ALL: &[Function] = &[
    exactly("base", 1, |it| Ok(base(it.text(0)?).into())),
    exactly("osBase", 1, |it| Ok(base(it.text(0)?).into())),
    exactly("dir", 1, |it| Ok(dir(it.text(0)?).into())),
    exactly("osDir", 1, |it| Ok(dir(it.text(0)?).into())),
    exactly("clean", 1, |it| Ok(clean(it.text(0)?).into())),
    exactly("osClean", 1, |it| Ok(clean(it.text(0)?).into())),
    exactly("ext", 1, |it| Ok(extension(it.text(0)?).into())),
    exactly("osExt", 1, |it| Ok(extension(it.text(0)?).into())),
    exactly("isAbs", 1, |it| Ok(Value::from(it.text(0)?.starts_with('/')))),
    exactly("osIsAbs", 1, |it| Ok(Value::from(it.text(0)?.starts_with('/')))),
];

fn base(path: &str) -> &str {
    match (path.is_empty(), path.trim_end_matches('/')) {
        (true, _) => ".",
        (false, "") => "/",
        (false, path) => path.rsplit_once('/').map_or(path, |(_, name)| name),
    }
}

fn dir(path: &str) -> String {
    clean(path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or_default())
}

fn extension(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.rfind('.').and_then(|at| name.get(at..)).unwrap_or_default()
}

/// The shortest path of the same meaning.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if absolute => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}
