//! Reads users, from the top-level list and from steps.

use crate::calendar::day;
use crate::reading::{Reader, field, name_fault};
use crate::{Code, Credential, Entry, KeySource, Lock, Node, Severity, SshKey, User};
use kairn_report::{Place, Secret};

/// Where a user is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In a step.
    Step,
    /// In the top-level list, as for cloud-init.
    List,
}

/// Reads one user; its name was read by the caller.
pub(crate) fn read(reader: &mut Reader<'_>, name: &str, place: Place, entries: &[Entry], origin: Origin) -> User {
    check_name(reader, name, place, "user");
    let mut user = User { name: name.to_owned(), ..User::default() };
    user.password = user_password(reader, entries);
    if let Some(node) = field(entries, "ssh_authorized_keys") {
        user.keys = keys(reader, node);
    }
    if let Some(node) = field(entries, "ssh_import_id") {
        user.keys.extend(imported_keys(reader, node));
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
    user.sudo = field(entries, "sudo").map(|node| sudo(reader, node)).unwrap_or_default();
    user.expires = field(entries, "expiredate").and_then(|node| expiry(reader, node));
    user.inactive = field(entries, "inactive").and_then(|node| days(reader, node));
    let mut flag =
        |name: &str| field(entries, name).and_then(|node| reader.bool(node, &format!("`{name}`"))).unwrap_or(false);
    user.no_create_home = flag("no_create_home");
    user.no_user_group = flag("no_user_group");
    user.create_groups = flag("create_groups");
    user.system = flag("system");
    // The second is the spelling of Kairos' published schema.
    if flag("lock_passwd") || flag("lockPasswd") {
        user.lock = if origin == Origin::List { Lock::Always } else { Lock::WhenMade };
    }
    user
}

/// Reads a list of keys; one key alone is a list of one.
pub(crate) fn keys(reader: &mut Reader<'_>, node: &Node) -> Vec<SshKey> {
    let items = if node.scalar().is_some() { std::slice::from_ref(node) } else { reader.list(node, "a list of keys") };
    let mut keys = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "a key").filter(|text| !text.trim().is_empty()) else { continue };
        let key = SshKey::parse(&text);
        match &key {
            SshKey::Line(line) if line.contains(['\n', '\r']) => {
                reader.error(Code::BadValue, item.place, "a key is one line");
                continue;
            }
            SshKey::Line(_) if !key.is_plausible() => {
                let message = "this is not a key that sshd knows (`ssh-ed25519 AAAA…`)";
                reader.say(Severity::Warning, Code::BadValue, item.place, message);
            }
            SshKey::Remote(source) if !check_source(reader, source, item.place) => continue,
            SshKey::Remote(_) | SshKey::Line(_) => {}
        }
        keys.push(key);
    }
    keys
}

/// Reads `ssh_import_id`: names of users elsewhere, whose keys are fetched.
pub(crate) fn imported_keys(reader: &mut Reader<'_>, node: &Node) -> Vec<SshKey> {
    let items = if node.scalar().is_some() { std::slice::from_ref(node) } else { reader.list(node, "`ssh_import_id`") };
    let mut keys = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "an item of `ssh_import_id`").filter(|text| !text.is_empty()) else {
            continue;
        };
        let source = KeySource::imported(text.trim());
        if check_source(reader, &source, item.place) {
            keys.push(SshKey::Remote(source));
        }
    }
    keys
}

fn check_source(reader: &mut Reader<'_>, source: &KeySource, place: Place) -> bool {
    if let Some(fault) = source.fault() {
        reader.error(Code::BadValue, place, format!("no keys can be fetched from `{}`: {fault}", source.name));
        return false;
    }
    if source.url.reveal().starts_with("http:") {
        let message = "keys that are fetched without TLS can be replaced on their way by anybody's";
        reader.say(Severity::Warning, Code::BadValue, place, message);
        reader.hint("use an address that begins with `https://`");
    }
    true
}

/// Reports a name that cannot be.
pub(crate) fn check_name(reader: &mut Reader<'_>, name: &str, place: Place, what: &str) {
    if let Some(fault) = name_fault(name) {
        reader.error(Code::BadValue, place, format!("`{name}` cannot name a {what}: {fault}"));
    }
}

/// The keys that hold a password. Where several are given, the hash wins over the text, as in cloud-init.
fn user_password(reader: &mut Reader<'_>, entries: &[Entry]) -> Option<Credential> {
    let mut read = None;
    for name in ["passwd", "plain_text_passwd", "hashed_passwd"] {
        let Some(node) = field(entries, name).filter(|node| !node.is_null()) else { continue };
        let kind = match name {
            "plain_text_passwd" => PasswordKind::Plain,
            "hashed_passwd" => PasswordKind::Hash,
            _ => PasswordKind::Either,
        };
        read = password(reader, node, name, kind).or(read);
    }
    read
}

/// What a key that holds a password takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordKind {
    /// A hash, or what is to be hashed.
    Either,
    /// What is to be hashed.
    Plain,
    /// A hash.
    Hash,
}

/// Reads a password.
pub(crate) fn password(reader: &mut Reader<'_>, node: &Node, name: &str, kind: PasswordKind) -> Option<Credential> {
    let text = reader.text(node, &format!("`{name}`"))?;
    password_text(reader, text, node.place, kind)
}

/// Judges the text of a password.
pub(crate) fn password_text(
    reader: &mut Reader<'_>,
    text: String,
    place: Place,
    kind: PasswordKind,
) -> Option<Credential> {
    if text.is_empty() {
        // In shadow(5) it would mean: anybody, without being asked.
        let message = "an empty password is left out: it would let anybody in";
        reader.say(Severity::Warning, Code::BadValue, place, message);
        return None;
    }
    let credential = match kind {
        PasswordKind::Either => Credential::guess(text),
        PasswordKind::Plain => Credential::Plain(Secret::new(text)),
        PasswordKind::Hash => Credential::Hash(Secret::new(text)),
    };
    match &credential {
        Credential::Plain(text) if text.reveal().contains(['\n', '\r', '\0']) => {
            reader.error(Code::BadValue, place, "a password must not hold a line break");
            None
        }
        Credential::Hash(hash) if hash.reveal().contains([':', '\n', '\r', '\0']) => {
            reader.error(Code::BadValue, place, "a password hash must not hold `:` or a line break");
            None
        }
        Credential::Hash(hash) if !hash.reveal().starts_with(['$', '!', '*']) => {
            reader.error(Code::BadValue, place, "this is no hash of crypt(5), which begins with `$`");
            reader.hint("`openssl passwd -6` makes one");
            None
        }
        _ => Some(credential),
    }
}

fn passwd_field(reader: &mut Reader<'_>, entries: &[Entry], name: &str) -> Option<String> {
    let node = field(entries, name)?;
    let text = reader.text(node, &format!("`{name}`"))?;
    if text.contains([':', '\n', '\r', '\0']) {
        reader.error(Code::BadValue, node.place, format!("`{name}` must not hold `:` or a line break"));
        return None;
    }
    Some(text)
}

/// Rules of sudoers(5): a text, a list of them, or `false` for none.
fn sudo(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let items = match node.scalar() {
        Some(_) if node.is_null() => return Vec::new(),
        Some(scalar) if scalar.as_bool() == Some(false) => return Vec::new(),
        Some(_) => std::slice::from_ref(node),
        None => reader.list(node, "`sudo`"),
    };
    let mut rules = Vec::new();
    for item in items {
        let Some(rule) = reader.text(item, "a rule of `sudo`") else { continue };
        let rule = rule.trim();
        // A rule that leaves its line, by a break or by a backslash at its end, could be one about somebody else.
        if rule.contains(['\n', '\r', '\0']) || rule.ends_with('\\') {
            reader.error(Code::BadValue, item.place, "a rule of `sudo` is one line, without a backslash at its end");
        } else if !rule.contains('=') {
            reader.error(Code::BadValue, item.place, format!("`{rule}` is no rule of sudoers(5)"));
            reader.hint("one that allows everything is `ALL=(ALL) NOPASSWD:ALL`; `false` means none");
        } else {
            rules.push(rule.to_owned());
        }
    }
    rules
}

/// `YYYY-MM-DD`; empty means never.
fn expiry(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let text = reader.text(node, "`expiredate`").filter(|text| !text.is_empty())?;
    let day = day(&text);
    if day.is_none() {
        reader.error(Code::BadValue, node.place, format!("`expiredate` is a day such as 2032-09-01, not `{text}`"));
    }
    day
}

/// A number of days; below zero, or a word that means no, is none.
fn days(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let scalar = node.scalar()?;
    if node.is_null() || scalar.as_bool() == Some(false) {
        return None;
    }
    match scalar.as_int() {
        Some(number) if number < 0 => None,
        Some(number) if number <= 99_999 => u32::try_from(number).ok(),
        _ => {
            let message = format!("`inactive` is a number of days, not `{}`", scalar.text);
            reader.error(Code::BadValue, node.place, message);
            None
        }
    }
}
