//! Reads users, from the top-level list and from steps.

use crate::reading::{Reader, field, name_fault};
use crate::{Code, Entry, Node, SshKey, User};
use kairn_report::{Place, Secret};

/// Reads one user; its name was read by the caller.
pub(crate) fn read(reader: &mut Reader<'_>, name: &str, place: Place, entries: &[Entry]) -> User {
    check_name(reader, name, place, "user");
    let mut user = User {
        name: name.to_owned(),
        password: None,
        keys: Vec::new(),
        gecos: None,
        homedir: None,
        no_create_home: false,
        primary_group: None,
        groups: Vec::new(),
        shell: None,
        lock_password: false,
        uid: None,
        system: false,
    };
    if let Some(node) = field(entries, "passwd") {
        user.password = password(reader, node);
    }
    if let Some(node) = field(entries, "ssh_authorized_keys") {
        user.keys = keys(reader, node);
    }
    user.gecos = passwd_field(reader, entries, "gecos");
    user.shell = passwd_field(reader, entries, "shell");
    user.homedir = field(entries, "homedir").and_then(|node| {
        let path = reader.path(node, "`homedir`")?;
        if path.to_string_lossy().contains([':', '\n']) {
            reader.error(Code::BadValue, node.place, "`homedir` must not hold `:` or a line break");
            return None;
        }
        Some(path)
    });
    user.primary_group = field(entries, "primary_group").and_then(|node| {
        let group = reader.text(node, "`primary_group`")?;
        check_name(reader, &group, node.place, "group");
        Some(group)
    });
    if let Some(node) = field(entries, "groups") {
        user.groups = reader.words(node, "`groups`");
        for group in user.groups.clone() {
            check_name(reader, &group, node.place, "group");
        }
    }
    user.uid = field(entries, "uid").and_then(|node| reader.id(node, "`uid`"));
    let mut flag =
        |name: &str| field(entries, name).and_then(|node| reader.bool(node, &format!("`{name}`"))).unwrap_or(false);
    user.no_create_home = flag("no_create_home");
    // The second is the spelling of Kairos' published schema.
    user.lock_password = flag("lock_passwd") || flag("lockPasswd");
    user.system = flag("system");
    user
}

/// Reads a list of keys; one key alone is a list of one.
pub(crate) fn keys(reader: &mut Reader<'_>, node: &Node) -> Vec<SshKey> {
    let items = if node.scalar().is_some() { std::slice::from_ref(node) } else { reader.list(node, "a list of keys") };
    let mut keys = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "a key") else { continue };
        let key = SshKey::parse(&text);
        match &key {
            SshKey::Line(line) if line.contains(['\n', '\r']) => {
                reader.error(Code::BadValue, item.place, "a key is one line");
                continue;
            }
            SshKey::Line(_) if !key.is_plausible() => {
                let message = "this is not a key that sshd knows (`ssh-ed25519 AAAA…`)";
                reader.say(crate::Severity::Warning, Code::BadValue, item.place, message);
            }
            SshKey::Remote(source) => {
                let message = format!("fetching keys (`{source}`) is not supported yet");
                reader.say(crate::Severity::Warning, Code::NotSupported, item.place, message);
                reader.hint("put the key itself here");
                if let Some(said) = reader.diagnostics.last_mut() {
                    said.key = Some("ssh_authorized_keys[github:|gitlab:|URL]".into());
                }
            }
            SshKey::Line(_) => {}
        }
        keys.push(key);
    }
    keys
}

/// Reports a name that cannot be.
pub(crate) fn check_name(reader: &mut Reader<'_>, name: &str, place: Place, what: &str) {
    if let Some(fault) = name_fault(name) {
        reader.error(Code::BadValue, place, format!("`{name}` cannot name a {what}: {fault}"));
    }
}

fn password(reader: &mut Reader<'_>, node: &Node) -> Option<Secret<String>> {
    let text = reader.text(node, "`passwd`")?;
    if text.is_empty() {
        // In shadow(5) it would mean: anybody, without being asked.
        let message = "an empty password is left out: it would let anybody in";
        reader.say(crate::Severity::Warning, Code::BadValue, node.place, message);
        return None;
    }
    let verbatim = text.starts_with(['$', '!', '*']);
    if text.contains(['\n', '\0']) || (verbatim && text.contains(':')) {
        reader.error(Code::BadValue, node.place, "a password hash must not hold `:` or a line break");
        return None;
    }
    Some(Secret::new(text))
}

fn passwd_field(reader: &mut Reader<'_>, entries: &[Entry], name: &str) -> Option<String> {
    let node = field(entries, name)?;
    let text = reader.text(node, &format!("`{name}`"))?;
    if text.contains([':', '\n', '\0']) {
        reader.error(Code::BadValue, node.place, format!("`{name}` must not hold `:` or a line break"));
        return None;
    }
    Some(text)
}
