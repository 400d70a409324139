//! Lines of the account files, one by one.

use crate::accounts::{clean, lock};
use crate::defaults::{Defaults, Range};
use crate::password::{LOCKED, hashed, today};
use crate::table::Table;
use crate::{Context, Error};
use kairn_config::{Credential, Day, Entity, EntityFields, EntityVerb, Number};
use kairn_report::{Event, Secret, Sink};
use std::path::Path;

/// Makes, changes or removes one line; says whether anything changed. What the entity does not name stays as it is.
pub fn apply(context: &Context, entity: &Entity, verb: EntityVerb, sink: &mut dyn Sink) -> Result<bool, Error> {
    let _lock = lock(context)?;
    let (usual, mode) = match &entity.fields {
        EntityFields::User { .. } => ("/etc/passwd", 0o644),
        EntityFields::Group { .. } => ("/etc/group", 0o644),
        EntityFields::Shadow { .. } => ("/etc/shadow", 0o640),
        EntityFields::Gshadow { .. } => ("/etc/gshadow", 0o640),
    };
    let path = entity.path.as_deref().unwrap_or(Path::new(usual));
    let mut table = Table::read(context, path, mode)?;
    match verb {
        EntityVerb::Delete => table.remove(&entity.name),
        EntityVerb::Ensure => {
            let before = table.find(&entity.name).map(<[String]>::to_vec);
            let line = Line { name: &entity.name, before: before.unwrap_or_default(), table: &table };
            let fields = line.fields(context, &entity.fields, sink)?;
            for field in &fields {
                clean("a field", &entity.name, field)?;
            }
            table.put(&fields);
        }
    }
    table.write()
}

/// A line that is to be as an entity says.
struct Line<'a> {
    name: &'a str,
    /// Its fields so far; none when there is no such line.
    before: Vec<String>,
    table: &'a Table,
}

impl Line<'_> {
    fn old(&self, index: usize) -> Option<&str> {
        self.before.get(index).map(String::as_str)
    }

    /// What is given, else what is there, else the default.
    fn keep(&self, index: usize, given: Option<&str>, default: &str) -> String {
        given.or_else(|| self.old(index)).unwrap_or(default).to_owned()
    }

    /// The number that is given, or the one that the line has, or the next free one.
    fn number(
        &self,
        given: Option<Number>,
        index: usize,
        (kind, range): (&'static str, Range),
        sink: &mut dyn Sink,
    ) -> Result<u32, Error> {
        let old = self.old(index).and_then(|number| number.parse().ok());
        match given {
            Some(Number::Given(number)) => {
                if let Some(other) = self.table.holder(2, number).filter(|other| *other != self.name) {
                    let what = format!("{kind} `{}` has the number {number}, as `{other}` has", self.name);
                    sink.event(Event::warning(what));
                }
                Ok(number)
            }
            Some(Number::NextFree) | None => match old {
                Some(number) => Ok(number),
                None => self.table.free(2, range).ok_or_else(|| Error::NoNumber {
                    kind,
                    name: self.name.to_owned(),
                    low: range.0,
                    high: range.1,
                }),
            },
        }
    }

    fn fields(&self, context: &Context, fields: &EntityFields, sink: &mut dyn Sink) -> Result<Vec<String>, Error> {
        let defaults = Defaults::read(context)?;
        let plain = |secret: &Option<Secret<String>>| secret.as_ref().map(|secret| secret.reveal().clone());
        let name = self.name.to_owned();
        match fields {
            EntityFields::User { password, uid, gid, group, info, homedir, shell } => {
                let uid = self.number(*uid, 2, ("user", defaults.uids), sink)?;
                let gid = self.primary_group(context, *gid, group.as_deref(), &defaults)?;
                let home = format!("{}/{name}", defaults.home);
                Ok(vec![
                    name,
                    self.keep(1, plain(password).as_deref(), "x"),
                    uid.to_string(),
                    gid,
                    self.keep(4, info.as_deref(), ""),
                    self.keep(5, homedir.as_deref(), &home),
                    self.keep(6, shell.as_deref(), &defaults.shell),
                ])
            }
            EntityFields::Group { password, gid, users } => {
                let gid = self.number(*gid, 2, ("group", defaults.gids), sink)?;
                let mut members: Vec<&str> = self.old(3).unwrap_or_default().split(',').collect();
                members.retain(|member| !member.is_empty());
                for user in users {
                    if !members.contains(&user.as_str()) {
                        members.push(user);
                    }
                }
                let members = members.join(",");
                Ok(vec![name, self.keep(1, plain(password).as_deref(), "x"), gid.to_string(), members])
            }
            EntityFields::Shadow {
                password,
                last_changed,
                minimum_changed,
                maximum_changed,
                warn,
                inactive,
                expire,
            } => {
                let old = self.old(1).unwrap_or(LOCKED).to_owned();
                let password = match password {
                    Some(password) => hashed(&name, &Credential::guess(password.reveal().clone()), &old)?,
                    None => old,
                };
                let [minimum, maximum, warning] = &defaults.ageing;
                let mut line = vec![
                    name,
                    password,
                    self.keep(2, None, &today()),
                    self.keep(3, minimum_changed.as_deref(), minimum),
                    self.keep(4, maximum_changed.as_deref(), maximum),
                    self.keep(5, warn.as_deref(), warning),
                    self.keep(6, inactive.as_deref(), ""),
                    self.keep(7, expire.as_deref(), ""),
                    self.keep(8, None, ""),
                ];
                // A line that is so already was not changed now.
                let day = match last_changed {
                    Some(Day::Given(day)) => Some(day.clone()),
                    Some(Day::Now) => (line != self.before).then(today),
                    None => None,
                };
                if let (Some(day), Some(field)) = (day, line.get_mut(2)) {
                    *field = day;
                }
                Ok(line)
            }
            EntityFields::Gshadow { password, administrators, members } => Ok(vec![
                name,
                self.keep(1, plain(password).as_deref(), LOCKED),
                self.keep(2, administrators.as_deref(), ""),
                self.keep(3, members.as_deref(), ""),
            ]),
        }
    }

    /// The number, else the group by its name, else what the line has, else the group called like the user or that of new users.
    fn primary_group(
        &self,
        context: &Context,
        gid: Option<Number>,
        group: Option<&str>,
        defaults: &Defaults,
    ) -> Result<String, Error> {
        let groups = Table::read(context, Path::new("/etc/group"), 0o644)?;
        let number = |name: &str| groups.field(name, 2).map(str::to_owned);
        if let Some(Number::Given(gid)) = gid {
            return Ok(gid.to_string());
        }
        if let Some(group) = group {
            return number(group).ok_or_else(|| Error::NoAccount { kind: "group", name: group.to_owned() });
        }
        let usual = || number(self.name).or_else(|| number(&defaults.group)).unwrap_or_else(|| defaults.group.clone());
        Ok(self.old(3).map_or_else(usual, str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::fs;

    fn root() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:/bin/zsh\n")
            .unwrap();
        fs::write(etc.join("shadow"), "root:*:19000:0:99999:7:::\nann:!:19000:0:99999:7:::\n").unwrap();
        fs::write(etc.join("group"), "root:x:0:\nann:x:1000:\nwheel:x:10:ann\n").unwrap();
        let context = context(dir.path());
        (dir, context)
    }

    fn apply_text(context: &Context, text: &str, verb: EntityVerb) -> Result<bool, Error> {
        apply(context, &Entity::parse(text, None).unwrap(), verb, &mut Vec::new())
    }

    fn last(root: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(root.path().join("etc").join(file)).unwrap().lines().last().unwrap().to_owned()
    }

    #[test]
    fn lines_are_made_with_what_is_given_and_the_rest_as_useradd_has_it() {
        for (text, file, line) in [
            (
                "{kind: user, username: bob, uid: 7, gid: 8, info: B, homedir: /b, shell: /s}",
                "passwd",
                "bob:x:7:8:B:/b:/s",
            ),
            ("{kind: user, username: bob}", "passwd", "bob:x:1001:100::/home/bob:/bin/sh"),
            ("{kind: user, username: bob, uid: -1, group: wheel}", "passwd", "bob:x:1001:10::/home/bob:/bin/sh"),
            ("{kind: group, group_name: g, gid: 900, password: xx, users: 'a,b'}", "group", "g:xx:900:a,b"),
            ("{kind: group, group_name: g, gid: -1}", "group", "g:x:1001:"),
            (
                "{kind: shadow, username: bob, password: $6$a$b, last_changed: 5, warn: '', expire: 9}",
                "shadow",
                "bob:$6$a$b:5:0:99999:::9:",
            ),
            ("{kind: gshadow, name: g, administrators: a, members: 'b, c'}", "gshadow", "g:!:a:b,c"),
        ] {
            let (dir, context) = root();
            assert!(apply_text(&context, text, EntityVerb::Ensure).unwrap(), "{text}");
            assert_eq!(last(&dir, file), line);
            assert!(!apply_text(&context, text, EntityVerb::Ensure).unwrap(), "{text}");
        }
        let (_dir, context) = root();
        let refused = apply_text(&context, "{kind: user, username: bob, group: nobody}", EntityVerb::Ensure);
        assert!(matches!(refused, Err(Error::NoAccount { .. })));
    }

    #[test]
    fn a_line_that_is_there_keeps_what_is_not_named() {
        for (text, file, line) in [
            ("{kind: user, username: ann, shell: /bin/sh, uid: -1}", "passwd", "ann:x:1000:1000:Ann:/home/ann:/bin/sh"),
            ("{kind: group, group_name: wheel, users: 'bob,ann'}", "group", "wheel:x:10:ann,bob"),
            ("{kind: group, group_name: wheel, gid: 11}", "group", "wheel:x:11:ann"),
            ("{kind: shadow, username: ann, maximum_changed: 30}", "shadow", "ann:!:19000:0:30:7:::"),
        ] {
            let (dir, context) = root();
            assert!(apply_text(&context, text, EntityVerb::Ensure).unwrap(), "{text}");
            assert_eq!(last(&dir, file), line);
        }
    }

    #[test]
    fn a_plain_password_is_hashed_once_and_now_is_the_day_of_the_change() {
        let (dir, context) = root();
        let text = "{kind: shadow, username: ann, password: hunter2, last_changed: now}";
        assert!(apply_text(&context, text, EntityVerb::Ensure).unwrap());
        let line = last(&dir, "shadow");
        assert!(line.starts_with("ann:$6$") && line.contains(&format!(":{}:0:", today())), "{line}");
        assert!(!apply_text(&context, text, EntityVerb::Ensure).unwrap());
    }

    #[test]
    fn a_deleted_line_is_gone_and_its_neighbours_stay() {
        let (dir, context) = root();
        assert!(apply_text(&context, "{kind: group, group_name: ann, gid: 5}", EntityVerb::Delete).unwrap());
        assert!(!apply_text(&context, "{kind: group, group_name: ann}", EntityVerb::Delete).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("etc/group")).unwrap(), "root:x:0:\nwheel:x:10:ann\n");
        assert!(fs::read_to_string(dir.path().join("etc/passwd")).unwrap().contains("\nann:"));
    }

    #[test]
    fn a_file_of_its_own_is_changed_instead_and_a_number_twice_is_told() {
        let (dir, context) = root();
        let mut events = Vec::new();
        let entity = Entity::parse("{kind: user, username: toor, uid: 0}", Some("/srv/passwd".into())).unwrap();
        assert!(apply(&context, &entity, EntityVerb::Ensure, &mut events).unwrap());
        assert!(events.is_empty());
        assert!(fs::read_to_string(dir.path().join("srv/passwd")).unwrap().starts_with("toor:x:0:"));
        let entity = Entity { path: None, ..entity };
        assert!(apply(&context, &entity, EntityVerb::Ensure, &mut events).unwrap());
        assert!(matches!(&events[0], Event::Warning { text } if text == "user `toor` has the number 0, as `root` has"));
    }
}
