//! Lines of the account files, as `ensure_entities` and `delete_entities` describe them: a YAML text of its own within a step.

use crate::reading::name_fault;
use crate::suggest::nearest;
use crate::{Node, Scalar, yaml};
use kairn_report::Secret;
use serde::Serialize;
use std::path::PathBuf;
use thiserror::Error;

/// A line of an account file. What it does not name stays as it is, or is what useradd(8) and groupadd(8) would write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// The file, where it is not the usual one of its kind.
    pub path: Option<PathBuf>,
    /// The user or group.
    pub name: String,
    /// Which line, and its fields.
    pub fields: EntityFields,
}

/// The fields of a line, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EntityFields {
    /// passwd(5).
    User {
        /// A password in the file that everybody reads; `x` when absent.
        password: Option<Secret<String>>,
        /// Its number.
        uid: Option<Number>,
        /// The number of its group.
        gid: Option<Number>,
        /// The name of its group, which must exist; used where there is no number.
        group: Option<String>,
        /// Its full name and so on.
        info: Option<String>,
        /// Its home directory.
        homedir: Option<String>,
        /// Its login shell.
        shell: Option<String>,
    },
    /// group(5).
    Group {
        /// The group's password; `x` when absent.
        password: Option<Secret<String>>,
        /// Its number.
        gid: Option<Number>,
        /// Users that it has at least.
        users: Vec<String>,
    },
    /// shadow(5).
    Shadow {
        /// Plain or as a `crypt(5)` hash.
        password: Option<Secret<String>>,
        /// When it was set: a day counted from 1970-01-01.
        last_changed: Option<Day>,
        /// Days that it must be kept.
        minimum_changed: Option<String>,
        /// Days after which it must be changed.
        maximum_changed: Option<String>,
        /// Days of warning before that.
        warn: Option<String>,
        /// Days for which it still counts after that.
        inactive: Option<String>,
        /// Day from which nobody can log in as this user.
        expire: Option<String>,
    },
    /// gshadow(5).
    Gshadow {
        /// The group's password, as a hash.
        password: Option<Secret<String>>,
        /// Who may change it, parted by commas.
        administrators: Option<String>,
        /// Who is in it, parted by commas.
        members: Option<String>,
    },
}

/// A number of a user or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// This one.
    Given(u32),
    /// The one that it has, or the next free one.
    NextFree,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Day {
    /// The day on which the step changes the line.
    Now,
    /// Counted from 1970-01-01; may be empty.
    Given(String),
}

/// A description that is none. Its words quote no password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", at(*line))]
pub struct EntityError {
    /// The line of the description, from 1.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

fn at(line: Option<u32>) -> String {
    line.map_or_else(String::new, |line| format!("in line {line} of the entity: "))
}

/// The kinds, with the key of the name and the further keys.
const KINDS: [(&str, &str, &[&str]); 4] = [
    ("user", "username", &["password", "uid", "gid", "group", "info", "homedir", "shell"]),
    ("group", "group_name", &["password", "gid", "users"]),
    (
        "shadow",
        "username",
        &["password", "last_changed", "minimum_changed", "maximum_changed", "warn", "inactive", "expire", "reserved"],
    ),
    ("gshadow", "name", &["password", "administrators", "members"]),
];

impl Entity {
    /// Reads a description; a template in it was expanded before.
    ///
    /// # Errors
    /// It is no YAML, names no kind that there is, or has a value that would break the file.
    pub fn parse(text: &str, path: Option<PathBuf>) -> Result<Self, EntityError> {
        let fault = |message: &str| EntityError { line: None, message: message.to_owned(), hint: None };
        let parsed = yaml::read("entity", text);
        if let Some(said) = parsed.diagnostics.first() {
            return Err(EntityError { line: Some(said.span.place.line), ..fault(&said.message) });
        }
        let root = parsed.root.ok_or_else(|| fault("the entity is empty"))?;
        if root.entries().is_none() {
            return Err(fault(&format!("an entity is a mapping, not {}", root.kind())));
        }
        let fields = Fields { root: &root };
        let written = fields.text("kind")?.ok_or_else(|| fault("the entity has no `kind`"))?;
        let Some((kind, name_key, keys)) = KINDS.iter().find(|(kind, ..)| *kind == written) else {
            let near = nearest(&written, KINDS.iter().map(|(kind, ..)| *kind));
            let hint = near.map_or_else(
                || "there are `user`, `group`, `shadow` and `gshadow`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(EntityError { hint: Some(hint), ..fault("there is no such kind of entity") });
        };
        fields.refuse_unknown(kind, name_key, keys)?;
        let name = fields.text(name_key)?.ok_or_else(|| fault(&format!("the entity has no `{name_key}`")))?;
        if let Some(why) = name_fault(&name) {
            return Err(fields.fault(name_key, format!("its `{name_key}` cannot be one: {why}")));
        }
        Ok(Self { path, name, fields: fields.of_kind(kind)? })
    }
}

/// Reads the fields of one description.
struct Fields<'n> {
    root: &'n Node,
}

impl Fields<'_> {
    fn fault(&self, key: &str, message: String) -> EntityError {
        EntityError { line: self.root.get(key).map(|node| node.place.line), message, hint: None }
    }

    fn refuse_unknown(&self, kind: &str, name_key: &str, keys: &[&str]) -> Result<(), EntityError> {
        for entry in self.root.entries().unwrap_or_default() {
            let known = |key: &&str| *key == entry.key;
            if entry.key == "kind" || entry.key == name_key || keys.iter().any(known) {
                continue;
            }
            let names = || keys.iter().copied().chain(["kind", name_key]);
            let hint = nearest(&entry.key, names()).map_or_else(
                || format!("it may have: {}", names().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(EntityError {
                line: Some(entry.key_place.line),
                message: format!("unknown key `{}` in an entity of kind `{kind}`", entry.key),
                hint: Some(hint),
            });
        }
        Ok(())
    }

    /// A text that can be one field of a line; null is none.
    fn text(&self, key: &str) -> Result<Option<String>, EntityError> {
        let Some(node) = self.root.get(key).filter(|node| !node.is_null()) else { return Ok(None) };
        let Some(Scalar { text, .. }) = node.scalar() else {
            return Err(self.fault(key, format!("`{key}` is text, not {}", node.kind())));
        };
        // The password is looked at apart: a plain one may hold a colon, since only its hash is written.
        if text.contains(['\n', '\r', '\0']) || (key != "password" && text.contains(':')) {
            return Err(self.fault(key, format!("`{key}` must not hold `:` or a line break")));
        }
        Ok(Some(text.clone()))
    }

    /// An empty password would let anybody in and counts as none.
    fn password(&self, hashed_here: bool) -> Result<Option<Secret<String>>, EntityError> {
        let Some(text) = self.text("password")?.filter(|text| !text.is_empty()) else { return Ok(None) };
        if text.contains(':') && (!hashed_here || text.starts_with(['$', '!', '*'])) {
            return Err(self.fault("password", "`password` must not hold `:` or a line break".into()));
        }
        Ok(Some(Secret::new(text)))
    }

    fn number(&self, key: &str) -> Result<Option<Number>, EntityError> {
        let Some(node) = self.root.get(key).filter(|node| !node.is_null()) else { return Ok(None) };
        // All ones means "no change" to chown(2).
        match node.scalar().and_then(Scalar::as_int) {
            Some(number) if number < 0 => Ok(Some(Number::NextFree)),
            Some(number) if number < i64::from(u32::MAX) => Ok(u32::try_from(number).ok().map(Number::Given)),
            _ => Err(self.fault(key, format!("`{key}` is a number up to 4294967294; -1 is the next free one"))),
        }
    }

    /// A count of days, or nothing.
    fn days(&self, key: &str) -> Result<Option<String>, EntityError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if text.is_empty() || (digits.len() <= 9 && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
            return Ok(Some(text));
        }
        Err(self.fault(key, format!("`{key}` is a number of days, or empty")))
    }

    /// Names between commas.
    fn names(&self, key: &str) -> Result<Vec<String>, EntityError> {
        let text = self.text(key)?.unwrap_or_default();
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| match name_fault(name) {
                Some(why) => Err(self.fault(key, format!("`{name}` cannot name a user: {why}"))),
                None => Ok(name.to_owned()),
            })
            .collect()
    }

    fn list(&self, key: &str) -> Result<Option<String>, EntityError> {
        let given = self.root.get(key).is_some_and(|node| !node.is_null());
        let names = self.names(key)?;
        Ok(given.then(|| names.join(",")))
    }

    fn of_kind(&self, kind: &str) -> Result<EntityFields, EntityError> {
        Ok(match kind {
            "user" => EntityFields::User {
                password: self.password(false)?,
                uid: self.number("uid")?,
                gid: self.number("gid")?,
                group: self.text("group")?.filter(|group| !group.is_empty()),
                info: self.text("info")?,
                homedir: self.text("homedir")?,
                shell: self.text("shell")?,
            },
            "group" => EntityFields::Group {
                password: self.password(false)?,
                gid: self.number("gid")?,
                users: self.names("users")?,
            },
            "shadow" => EntityFields::Shadow {
                password: self.password(true)?,
                last_changed: match self.text("last_changed")?.as_deref() {
                    Some("now") => Some(Day::Now),
                    _ => self.days("last_changed")?.map(Day::Given),
                },
                minimum_changed: self.days("minimum_changed")?,
                maximum_changed: self.days("maximum_changed")?,
                warn: self.days("warn")?,
                inactive: self.days("inactive")?,
                expire: self.days("expire")?,
            },
            _ => EntityFields::Gshadow {
                password: self.password(false)?,
                administrators: self.list("administrators")?,
                members: self.list("members")?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_with_its_fields() {
        let read = |text: &str| Entity::parse(text, None).unwrap();
        let user =
            read("kind: user\nusername: foo\npassword: x\nuid: -1\ngid: 1_000\ninfo: Foo!\nhomedir: /home/foo\n");
        assert_eq!(user.name, "foo");
        let EntityFields::User { uid, gid, info, shell, .. } = user.fields else { panic!() };
        assert_eq!((uid, gid), (Some(Number::NextFree), Some(Number::Given(1000))));
        assert_eq!((info.as_deref(), shell), (Some("Foo!"), None));
        let group = read("kind: \"group\"\ngroup_name: \"foo\"\npassword: \"xx\"\ngid: 1\nusers: \"one, two,tree\"\n");
        let EntityFields::Group { users, .. } = group.fields else { panic!() };
        assert_eq!(users, ["one", "two", "tree"]);
        let shadow = read("{kind: shadow, username: foo, password: 'a:b', last_changed: now, warn: 7, expire: ''}");
        let EntityFields::Shadow { password, last_changed, warn, expire, inactive, .. } = shadow.fields else {
            panic!()
        };
        assert_eq!(password.unwrap().reveal(), "a:b");
        assert_eq!((last_changed, warn.as_deref(), expire.as_deref()), (Some(Day::Now), Some("7"), Some("")));
        assert_eq!(inactive, None);
        let gshadow = read("{kind: gshadow, name: foo, password: '!', administrators: 'a,b', members: ''}");
        let EntityFields::Gshadow { administrators, members, .. } = gshadow.fields else { panic!() };
        assert_eq!((administrators.as_deref(), members.as_deref()), (Some("a,b"), Some("")));
    }

    #[test]
    fn what_would_break_a_file_is_refused_with_its_line_and_without_its_password() {
        for (text, said) in [
            ("", "the entity is empty"),
            ("[a]", "an entity is a mapping, not a list"),
            ("{group_name: g}", "the entity has no `kind`"),
            ("{kind: grup, group_name: g}", "there is no such kind of entity"),
            ("{kind: group}", "the entity has no `group_name`"),
            ("kind: user\nusername: a:b\n", "in line 2 of the entity: `username` must not hold `:` or a line break"),
            (
                "kind: user\nusername: a\nuuid: 1\n",
                "in line 3 of the entity: unknown key `uuid` in an entity of kind `user`",
            ),
            (
                "{kind: user, username: a, info: \"x\\nroot2:x:0:0::/:/bin/sh\"}",
                "in line 1 of the entity: `info` must not hold `:` or a line break",
            ),
            (
                "{kind: shadow, username: a, password: '$6$hunter2:0'}",
                "in line 1 of the entity: `password` must not hold `:` or a line break",
            ),
            (
                "{kind: shadow, username: a, password: \"hunter2\\nx\"}",
                "in line 1 of the entity: `password` must not hold `:` or a line break",
            ),
            (
                "{kind: shadow, username: a, warn: soon}",
                "in line 1 of the entity: `warn` is a number of days, or empty",
            ),
            (
                "{kind: group, group_name: a, gid: x}",
                "in line 1 of the entity: `gid` is a number up to 4294967294; -1 is the next free one",
            ),
            (
                "{kind: group, group_name: a, users: 'b,../c'}",
                "in line 1 of the entity: `../c` cannot name a user: a name does not begin so",
            ),
        ] {
            let error = Entity::parse(text, None).unwrap_err();
            assert_eq!(error.to_string(), said, "{text}");
        }
        let hint = |text: &str| Entity::parse(text, None).unwrap_err().hint.unwrap();
        assert_eq!(hint("{kind: grup, group_name: g}"), "did you mean `group`?");
        assert_eq!(hint("{kind: shadow, username: u, wran: 1}"), "did you mean `warn`?");
    }

    #[test]
    fn an_entity_never_prints_its_password() {
        for kind in ["user", "shadow"] {
            let entity = Entity::parse(&format!("{{kind: {kind}, username: u, password: hunter2}}"), None).unwrap();
            let shown = format!("{entity:?}{}", serde_json::to_string(&entity).unwrap());
            assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
