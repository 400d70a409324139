//! Values as they may be shown: secrets are `***`.
//!
//! Hidden are the values of [`crate::keys`]' list of secret paths, of names that sound like secrets, in `NAME=value` and `--flag=value`
//! with such a name, passwords within URLs, and the content of files that others may not read (permissions without `o+r`). Commands
//! and other files are shown: they are what one looks for.

use crate::keys::{is_secret_name, is_secret_path};
use serde_json::{Map, Value};

/// What is shown in a secret's place.
pub const HIDDEN: &str = "***";

/// Returns a merged configuration without its secrets.
#[must_use]
pub fn redact(configuration: &Value) -> Value {
    below(configuration, &mut Vec::new(), false)
}

fn below(value: &Value, path: &mut Vec<String>, hidden: bool) -> Value {
    match value {
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(name, value)| {
                    let private = name == "content" && is_private(entries);
                    path.push(name.clone());
                    let shown = below(value, path, hidden || private || is_secret_name(name));
                    path.pop();
                    (name.clone(), shown)
                })
                .collect(),
        ),
        Value::Array(items) => {
            let mut flag = false;
            let shown = items.iter().enumerate().map(|(number, item)| {
                path.push(number.to_string());
                let shown = below(item, path, hidden || flag);
                path.pop();
                // `--token`, and then its value.
                flag = item.as_str().is_some_and(|text| text.strip_prefix("--").is_some_and(is_secret_name));
                shown
            });
            Value::Array(shown.collect())
        }
        Value::String(text) if text.is_empty() => value.clone(),
        Value::String(_) | Value::Number(_) if hidden || path_is_secret(path) => HIDDEN.into(),
        Value::String(text) => partly(text).into(),
        _ => value.clone(),
    }
}

fn path_is_secret(path: &[String]) -> bool {
    is_secret_path(&path.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Says whether a file is one that others may not read.
fn is_private(file: &Map<String, Value>) -> bool {
    let mode = file.get("permissions").and_then(|mode| match mode {
        Value::Number(bits) => bits.as_u64(),
        Value::String(octal) => u64::from_str_radix(octal.trim_start_matches("0o"), 8).ok(),
        _ => None,
    });
    file.contains_key("path") && mode.is_some_and(|mode| mode & 0o004 == 0)
}

/// Hides the secret part of a text that has one.
fn partly(text: &str) -> String {
    if let Some((name, value)) = text.split_once('=') {
        let word = name.trim_start_matches("--");
        let is_name = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if is_name && is_secret_name(word) && !value.is_empty() {
            return format!("{name}={HIDDEN}");
        }
    }
    without_passwords(text)
}

/// Hides passwords of URLs: `https://user:password@host` (RFC 3986, section 3.2.1).
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(after.len());
        let (authority, tail) = after.split_at_checked(end).unwrap_or((after, ""));
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => out.push_str(&format!("{user}:{HIDDEN}@{host}")),
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_shown() {
        let value = json!({
            "users": [{"name": "ann", "passwd": "hunter2", "lock_passwd": "yes", "ssh_authorized_keys": ["ssh-ed25519 AAAA"]}],
            "stages": {"boot": [{
                "users": {"bob": {"passwd": "hunter2"}},
                "ensure_entities": [{"entity": "kind: shadow\npassword: hunter2\n"}],
                "files": [
                    {"path": "/a", "permissions": 0o600, "content": "hunter2"}, {"path": "/b", "permissions": "0640", "content": "hunter2"},
                    {"path": "/c", "permissions": 0o644, "content": "shown"}, {"path": "/d", "content": "shown"}],
                "environment": {"API_TOKEN": "hunter2", "EDITOR": "vi"},
                "commands": ["echo shown"],
            }]},
            "k3s": {"env": {"K3S_TOKEN": "hunter2"}, "args": ["--token=hunter2", "--agent-token", "hunter2", "--disable=traefik"]},
            "p2p": {"network_token": "hunter2", "auto": {"enable": true}},
            "chpasswd": {"list": ["ann:hunter2"], "expire": false},
            "env": ["HTTP_PROXY=http://u:hunter2@proxy:3128", "DB_PASSWORD=hunter2"],
            "theirs": {"secret": {"deep": ["hunter2", 7, true, ""]}},
        });
        let expected = json!({
            "users": [{"name": "ann", "passwd": "***", "lock_passwd": "yes", "ssh_authorized_keys": ["ssh-ed25519 AAAA"]}],
            "stages": {"boot": [{
                "users": {"bob": {"passwd": "***"}},
                "ensure_entities": [{"entity": "***"}],
                "files": [
                    {"path": "/a", "permissions": 0o600, "content": "***"}, {"path": "/b", "permissions": "0640", "content": "***"},
                    {"path": "/c", "permissions": 0o644, "content": "shown"}, {"path": "/d", "content": "shown"}],
                "environment": {"API_TOKEN": "***", "EDITOR": "vi"},
                "commands": ["echo shown"],
            }]},
            "k3s": {"env": {"K3S_TOKEN": "***"}, "args": ["--token=***", "--agent-token", "***", "--disable=traefik"]},
            "p2p": {"network_token": "***", "auto": {"enable": true}},
            "chpasswd": {"list": ["***"], "expire": false},
            "env": ["HTTP_PROXY=http://u:***@proxy:3128", "DB_PASSWORD=***"],
            "theirs": {"secret": {"deep": ["***", "***", true, ""]}},
        });
        assert_eq!(redact(&value), expected);
    }

    #[test]
    fn only_the_password_of_a_url_is_hidden() {
        for (text, shown) in [
            ("https://a:b@c/d?e=f https://g:h@i", "https://a:***@c/d?e=f https://g:***@i"),
            ("https://a:b:c@d@e/", "https://a:***@e/"),
            ("https://c:8080/x@y:z", "https://c:8080/x@y:z"),
            ("a://", "a://"),
            ("mail a@b.c: d", "mail a@b.c: d"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
