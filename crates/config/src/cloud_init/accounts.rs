//! The top-level keys about users: who there is, by what they log in, and what the ssh daemon makes of it.

use crate::reading::{Reader, field};
use crate::step::Actions;
use crate::user::{self, Origin, PasswordKind, check_name};
use crate::{AccountWork, Code, Content, Entry, File, FileWork, Group, Mode, Node, Severity, SshDaemon, SshKey};
use crate::{Credential, Password, User, Work};
use kairn_report::{Place, Secret};

/// What cloud-init calls the default user: the one of the images.
const DEFAULT_NAME: &str = "kairos";
/// The group whose members may do everything.
const DEFAULT_GROUP: &str = "admin";

/// The users of the top level, read once for the stages that they take part in.
pub(super) struct Accounts {
    users: Vec<Listed>,
    /// Keys for root, since nobody is listed.
    root: Option<(Vec<SshKey>, Place)>,
}

/// One of the list.
struct Listed {
    label: String,
    place: Place,
    user: Result<User, String>,
    is_default: bool,
}

/// Splits keys into those at hand and those to be fetched.
fn split(keys: Vec<SshKey>) -> (Vec<SshKey>, Vec<SshKey>) {
    keys.into_iter().partition(|key| matches!(key, SshKey::Line(_)))
}

impl Accounts {
    pub fn read(actions: &mut Actions<'_, '_>, entries: &[Entry]) -> Self {
        let mut read = Self { users: Vec::new(), root: None };
        let mut keys = Vec::new();
        let mut keys_place = Place::default();
        if let Some(node) = field(entries, "ssh_authorized_keys") {
            keys_place = node.place;
            match actions.reader.attempt(|reader| user::keys(reader, node)) {
                Ok(found) => keys = found,
                Err(why) => actions.push("ssh_authorized_keys".into(), node.place, Work::Invalid(why)),
            }
        }
        if let Some(node) = field(entries, "users").filter(|node| !node.is_null()) {
            read.list(actions, node, field(entries, "user"));
        }
        if let Some(node) = field(entries, "user").filter(|node| !node.is_null())
            && !read.users.iter().any(|listed| listed.is_default)
        {
            let listed = default_user(actions.reader, node.place, Some(node));
            read.users.insert(0, listed);
        }
        let imported = field(entries, "ssh_import_id").filter(|node| !node.is_null());
        if let Some(node) = imported {
            read.import(actions, node);
        }
        for user in read.users.iter_mut().filter_map(|listed| listed.user.as_mut().ok()) {
            user.keys.extend(keys.iter().cloned());
        }
        if read.users.iter().all(|listed| listed.user.is_err()) && !keys.is_empty() {
            read.root = Some((keys, keys_place));
        }
        read
    }

    /// A list, or one text whose commas part it.
    fn list(&mut self, actions: &mut Actions<'_, '_>, node: &Node, default: Option<&Node>) {
        let items = if node.scalar().is_some() {
            Ok(std::slice::from_ref(node))
        } else {
            actions.reader.attempt(|reader| reader.list(node, "`users`"))
        };
        match items {
            Ok(items) => items.iter().for_each(|item| self.item(actions, item, default)),
            Err(why) => actions.push("users".into(), node.place, Work::Invalid(why)),
        }
    }

    fn item(&mut self, actions: &mut Actions<'_, '_>, item: &Node, default: Option<&Node>) {
        let reader = &mut *actions.reader;
        if let Some(scalar) = item.scalar().filter(|_| !item.is_null()) {
            // A name alone is a user without settings of its own; one that exists stays as it is.
            let names = scalar.text.split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names {
                let listed = if name == "default" {
                    default_user(reader, item.place, default)
                } else {
                    let user = reader.attempt(|reader| user::read(reader, name, item.place, &[], Origin::List));
                    Listed { label: format!("user {name}"), place: item.place, user, is_default: false }
                };
                self.users.push(listed);
            }
            return;
        }
        let mut label = "user".to_owned();
        let user = reader.attempt(|reader| {
            let entries = reader.map(item, "a user");
            let Some(node) = field(entries, "name").filter(|node| !node.is_null()) else {
                if item.entries().is_some() || item.is_null() {
                    reader.error(Code::BadValue, item.place, "a user needs a `name`");
                }
                return None;
            };
            let name = reader.text(node, "`name`")?;
            label = format!("user {name}");
            Some(user::read(reader, &name, node.place, entries, Origin::List))
        });
        match user {
            Ok(Some(user)) => self.users.push(Listed { label, place: item.place, user: Ok(user), is_default: false }),
            Ok(None) => {}
            Err(why) => self.users.push(Listed { label, place: item.place, user: Err(why), is_default: false }),
        }
    }

    /// The user that top-level `password` and `ssh_import_id` speak of: the default one.
    fn default_name(&self) -> Option<&str> {
        let listed = self.users.iter().find(|listed| listed.is_default)?;
        listed.user.as_ref().ok().map(|user| user.name.as_str())
    }

    fn import(&mut self, actions: &mut Actions<'_, '_>, node: &Node) {
        let keys = match actions.reader.attempt(|reader| user::imported_keys(reader, node)) {
            Ok(keys) => keys,
            Err(why) => return actions.push("ssh_import_id".into(), node.place, Work::Invalid(why)),
        };
        let user = self.users.iter_mut().find(|listed| listed.is_default).and_then(|listed| listed.user.as_mut().ok());
        match user {
            Some(user) => user.keys.extend(keys),
            None => no_default(actions, "ssh_import_id", node.place),
        }
    }

    /// What `boot` does: everything but what needs a network.
    pub fn boot(&self, actions: &mut Actions<'_, '_>, entries: &[Entry]) {
        if let Some(node) = field(entries, "groups").filter(|node| !node.is_null()) {
            groups(actions, node);
        }
        for listed in &self.users {
            let work = match &listed.user {
                Ok(user) => {
                    let (keys, _) = split(user.keys.clone());
                    Work::Accounts(AccountWork::User(Box::new(User { keys, ..user.clone() })))
                }
                Err(why) => Work::Invalid(why.clone()),
            };
            actions.push(listed.label.clone(), listed.place, work);
        }
        if let Some((keys, place)) = &self.root {
            authorize(actions, "root", split(keys.clone()).0, *place);
        }
        self.passwords(actions, entries);
        ssh_daemon(actions, entries);
        if let Some(node) = field(entries, "ssh_keys").filter(|node| !node.is_null()) {
            host_keys(actions, node);
        }
    }

    /// What `network` does: keys that are fetched.
    pub fn network(&self, actions: &mut Actions<'_, '_>) {
        for listed in &self.users {
            if let Ok(user) = &listed.user {
                authorize(actions, &user.name, split(user.keys.clone()).1, listed.place);
            }
        }
        if let Some((keys, place)) = &self.root {
            authorize(actions, "root", split(keys.clone()).1, *place);
        }
    }

    /// `password` and `chpasswd`.
    fn passwords(&self, actions: &mut Actions<'_, '_>, entries: &[Entry]) {
        let block = field(entries, "chpasswd").filter(|node| !node.is_null());
        let below = block.map(|node| actions.entries(node, "`chpasswd`")).unwrap_or_default();
        let expired = match field(below, "expire") {
            Some(node) => actions.reader.bool(node, "`expire`").unwrap_or(false),
            None => false,
        };
        if let Some(node) = field(entries, "password").filter(|node| !node.is_null()) {
            match self.default_name().map(str::to_owned) {
                Some(name) => password_of(actions, node.place, &name, expired, |reader| {
                    user::password(reader, node, "password", PasswordKind::Either)
                }),
                None => no_default(actions, "password", node.place),
            }
        }
        if let Some(node) = field(below, "list").filter(|node| !node.is_null()) {
            let items = if node.scalar().is_some() {
                Ok(std::slice::from_ref(node))
            } else {
                actions.reader.attempt(|reader| reader.list(node, "`list`"))
            };
            match items {
                Ok(items) => items.iter().for_each(|item| password_lines(actions, item, expired)),
                Err(why) => actions.push("chpasswd".into(), node.place, Work::Invalid(why)),
            }
        }
        if let Some(node) = field(below, "users").filter(|node| !node.is_null()) {
            actions.each(node, "`chpasswd.users`", |actions, _, item| password_item(actions, item, expired));
        }
    }
}

/// The default user, as `user` alters it: another name, or a mapping with settings.
fn default_user(reader: &mut Reader<'_>, place: Place, altered: Option<&Node>) -> Listed {
    let altered = altered.filter(|node| !node.is_null());
    let mut label = format!("user {DEFAULT_NAME}");
    let user = reader.attempt(|reader| {
        let (mut name, mut entries, mut place) = (DEFAULT_NAME.to_owned(), &[][..], place);
        if let Some(node) = altered {
            let named = match node.entries() {
                Some(below) => {
                    entries = below;
                    field(below, "name").filter(|node| !node.is_null())
                }
                None => Some(node),
            };
            if let Some((text, node)) = named.and_then(|node| Some((reader.text(node, "`user`")?, node))) {
                (name, place) = (text, node.place);
            }
        }
        label = format!("user {name}");
        let mut user = user::read(reader, &name, place, entries, Origin::List);
        if field(entries, "groups").is_none() {
            user.groups = vec![DEFAULT_GROUP.to_owned()];
        }
        user
    });
    Listed { label, place, user, is_default: true }
}

fn no_default(actions: &mut Actions<'_, '_>, key: &str, place: Place) {
    let message = format!("`{key}` speaks of the default user, and there is none");
    actions.reader.say(Severity::Warning, Code::BadValue, place, message.clone());
    actions.reader.hint("list it: `users: [default]`, or describe it in `user`");
    actions.push(key.to_owned(), place, Work::NotSupported(message));
}

fn authorize(actions: &mut Actions<'_, '_>, user: &str, keys: Vec<SshKey>, place: Place) {
    if !keys.is_empty() {
        let work = AccountWork::AuthorizedKeys { user: user.to_owned(), keys };
        actions.push(format!("keys of {user}"), place, Work::Accounts(work));
    }
}

/// `groups`: names between commas, a list of names and of mappings from names to members, or one such mapping.
fn groups(actions: &mut Actions<'_, '_>, node: &Node) {
    if let Some(scalar) = node.scalar() {
        let names = scalar.text.split(',').map(str::trim).filter(|name| !name.is_empty());
        return names.for_each(|name| group(actions, name, node.place, None));
    }
    if let Some(entries) = node.entries() {
        return entries.iter().for_each(|entry| group(actions, &entry.key, entry.key_place, Some(&entry.value)));
    }
    for item in node.items().unwrap_or_default() {
        match (item.scalar(), item.entries()) {
            (Some(scalar), _) if !item.is_null() => group(actions, scalar.text.trim(), item.place, None),
            (_, Some(entries)) => {
                entries.iter().for_each(|entry| group(actions, &entry.key, entry.key_place, Some(&entry.value)));
            }
            _ => {
                let message = format!("a group is a name or a mapping from a name to members, not {}", item.kind());
                actions.reader.error(Code::WrongType, item.place, message.clone());
                actions.push("group".into(), item.place, Work::Invalid(message));
            }
        }
    }
}

fn group(actions: &mut Actions<'_, '_>, name: &str, place: Place, members: Option<&Node>) {
    let work = actions.reader.attempt(|reader| {
        check_name(reader, name, place, "group");
        let members = members.map(|node| reader.words(node, "the members of a group")).unwrap_or_default();
        for member in &members {
            check_name(reader, member, place, "user");
        }
        Some(Work::Accounts(AccountWork::Group(Group { name: name.to_owned(), members })))
    });
    actions.add(format!("group {name}"), place, work);
}

/// Adds the work of setting one password.
fn password_of(
    actions: &mut Actions<'_, '_>,
    place: Place,
    user: &str,
    expired: bool,
    read: impl FnOnce(&mut Reader<'_>) -> Option<Credential>,
) {
    let work = actions.reader.attempt(|reader| {
        check_name(reader, user, place, "user");
        let password = read(reader)?;
        Some(Work::Accounts(AccountWork::Password(Password { user: user.to_owned(), password, expired })))
    });
    actions.add(format!("password of {user}"), place, work);
}

/// Lines `name:password` of `chpasswd.list`; what is no hash is hashed.
fn password_lines(actions: &mut Actions<'_, '_>, node: &Node, expired: bool) {
    let text = match actions.reader.attempt(|reader| reader.text(node, "an item of `list`")) {
        Ok(text) => text.unwrap_or_default(),
        Err(why) => return actions.push("chpasswd".into(), node.place, Work::Invalid(why)),
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, password)) = line.split_once(':') else {
            // The line may be a password alone: it is not shown.
            let message = "each line of `chpasswd.list` is `name:password`";
            actions.reader.error(Code::BadValue, node.place, message);
            actions.push("chpasswd".into(), node.place, Work::Invalid(message.to_owned()));
            continue;
        };
        if matches!(password, "R" | "RANDOM") {
            random_password(actions, name, node.place);
        } else {
            password_of(actions, node.place, name, expired, |reader| {
                user::password_text(reader, password.to_owned(), node.place, PasswordKind::Either)
            });
        }
    }
}

/// An item of `chpasswd.users`: the password is a hash unless `type` says otherwise.
fn password_item(actions: &mut Actions<'_, '_>, item: &Node, expired: bool) {
    let read = actions.reader.attempt(|reader| {
        let entries = reader.map(item, "a password");
        let mut text = |name: &str| field(entries, name).and_then(|node| reader.text(node, &format!("`{name}`")));
        let (name, kind) = (text("name"), text("type"));
        if name.is_none() && (item.entries().is_some() || item.is_null()) {
            reader.error(Code::BadValue, item.place, "a password needs the `name` of its user");
        }
        (name.unwrap_or_default(), kind.unwrap_or_else(|| "hash".to_owned()), entries)
    });
    let (name, kind, entries) = match read {
        Ok(read) => read,
        Err(why) => return actions.push("chpasswd".into(), item.place, Work::Invalid(why)),
    };
    let kind = match kind.as_str() {
        "text" => PasswordKind::Plain,
        "hash" => PasswordKind::Hash,
        "RANDOM" => return random_password(actions, &name, item.place),
        _ => {
            let message = format!("the `type` of a password is `text`, `hash` or `RANDOM`, not `{kind}`");
            let place = field(entries, "type").map_or(item.place, |node| node.place);
            actions.reader.error(Code::BadValue, place, message.clone());
            return actions.push(format!("password of {name}"), item.place, Work::Invalid(message));
        }
    };
    password_of(actions, item.place, &name, expired, |reader| match field(entries, "password") {
        Some(node) if !node.is_null() => user::password(reader, node, "password", kind),
        _ => {
            reader.error(Code::BadValue, item.place, "`password` is missing");
            None
        }
    });
}

/// cloud-init prints one on the console, where whoever stands before the machine reads it.
fn random_password(actions: &mut Actions<'_, '_>, name: &str, place: Place) {
    let message = format!("a password drawn for `{name}` is not supported yet");
    actions.reader.say(Severity::Warning, Code::NotSupported, place, message.clone());
    if let Some(said) = actions.reader.diagnostics.last_mut() {
        said.key = Some("chpasswd[RANDOM]".into());
    }
    actions.push(format!("password of {name}"), place, Work::NotSupported(message));
}

/// `ssh_pwauth` and `disable_root`.
fn ssh_daemon(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let mut daemon = SshDaemon::default();
    let mut place = None;
    if let Some(node) = field(entries, "ssh_pwauth").filter(|node| !node.is_null()) {
        let unchanged = node.scalar().is_some_and(|scalar| scalar.text == "unchanged");
        if !unchanged {
            place = Some(node.place);
            daemon.passwords = actions.reader.bool(node, "`ssh_pwauth`");
        }
    }
    if let Some(node) = field(entries, "disable_root").filter(|node| !node.is_null()) {
        daemon.no_root = actions.reader.bool(node, "`disable_root`").unwrap_or(false);
        place = place.or(Some(node.place));
    }
    if let Some(place) = place.filter(|_| daemon != SshDaemon::default()) {
        actions.push("ssh daemon".into(), place, Work::Accounts(AccountWork::SshDaemon(daemon)));
    }
}

/// `ssh_keys`: the machine's own keys, as files where the ssh daemon looks for them.
fn host_keys(actions: &mut Actions<'_, '_>, node: &Node) {
    for entry in actions.entries(node, "`ssh_keys`") {
        let label = format!("host key {}", entry.key);
        let work = actions.reader.attempt(|reader| {
            let parts = entry.key.rsplit_once('_');
            let (kind, end, mode) = match parts {
                Some((kind @ ("rsa" | "ecdsa" | "ed25519"), "private")) => (kind, "", 0o600),
                Some((kind @ ("rsa" | "ecdsa" | "ed25519"), "public")) => (kind, ".pub", 0o644),
                Some((kind @ ("rsa" | "ecdsa" | "ed25519"), "certificate")) => (kind, "-cert.pub", 0o644),
                _ => {
                    let message = format!("`{}` is no key of the machine", entry.key);
                    reader.error(Code::UnknownKey, entry.key_place, message);
                    reader.hint(
                        "there are `rsa`, `ecdsa` and `ed25519`, each with `_private`, `_public` and `_certificate`",
                    );
                    return None;
                }
            };
            let text = reader.text(&entry.value, &format!("`{}`", entry.key))?;
            let text = if text.ends_with('\n') { text } else { text + "\n" };
            Some(Work::Files(FileWork::File(File {
                path: format!("/etc/ssh/ssh_host_{kind}_key{end}").into(),
                content: Secret::new(Content::Bytes(text.into_bytes())),
                mode: Some(Mode(mode)),
                owner: None,
                group: None,
            })))
        });
        actions.add(label, entry.key_place, work);
    }
}
