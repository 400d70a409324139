//! Functions of paths (Go's `path`) and URLs.

use super::{Arguments, Function, exactly};
use serde_json::{Value, json};

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
    exactly("urlParse", 1, |it| Ok(url_parts(it.text(0)?))),
    exactly("urlJoin", 1, joined_url),
];

/// The parts of a URL (RFC 3986, section 3) under the names that sprig gives them.
fn url_parts(url: &str) -> Value {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let is_scheme = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, rest) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("", url));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    // What follows a scheme without a slash is no path: `mailto:a@b`.
    let (opaque, path) = if scheme.is_empty() || rest.starts_with('/') { ("", path) } else { (path, "") };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let hostname = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    json!({
        "scheme": scheme.to_lowercase(), "userinfo": user, "host": host, "opaque": opaque, "path": path, "query": query,
        "hostname": hostname.trim_start_matches('[').trim_end_matches(']'), "fragment": fragment,
    })
}

/// The inverse of [`url_parts`].
fn joined_url(it: &Arguments<'_>) -> Result<Value, String> {
    let parts = it.map(0)?;
    let part = |name: &str| parts.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut url = String::new();
    let some = |before: &str, name: &str, after: &str| match part(name) {
        "" => String::new(),
        text => format!("{before}{text}{after}"),
    };
    url.push_str(&some("", "scheme", ":"));
    if part("opaque").is_empty() {
        if !part("host").is_empty() {
            url.push_str("//");
            url.push_str(&some("", "userinfo", "@"));
            url.push_str(part("host"));
            if !part("path").is_empty() && !part("path").starts_with('/') {
                url.push('/');
            }
        }
        url.push_str(part("path"));
    } else {
        url.push_str(part("opaque"));
    }
    Ok((url + &some("?", "query", "") + &some("#", "fragment", "")).into())
}

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
