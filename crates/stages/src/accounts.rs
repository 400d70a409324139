//! Users, groups and passwords.
//!
//! `/etc` starts afresh at each boot while homes persist: a user without a number takes that of its home's owner, so that it is the
//! same one after a reboot.

use crate::defaults::Defaults;
use crate::password::{LOCKED, hashed, today};
use crate::table::Table;
use crate::{Context, Error, keys, sudoers};
use kairn_config::{Group, Lock, Password, User};
use kairn_host::files as host_files;
use kairn_report::{Event, Sink};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

/// The four files, locked against other programs that edit them.
struct Accounts {
    passwd: Table,
    shadow: Table,
    group: Table,
    gshadow: Table,
    defaults: Defaults,
    /// Holds the lock until dropped.
    _lock: fs::File,
}

impl Accounts {
    fn open(context: &Context) -> Result<Self, Error> {
        Ok(Self {
            _lock: lock(context)?,
            defaults: Defaults::read(context)?,
            passwd: Table::read(context, Path::new("/etc/passwd"), 0o644)?,
            shadow: Table::read(context, Path::new("/etc/shadow"), 0o640)?,
            group: Table::read(context, Path::new("/etc/group"), 0o644)?,
            gshadow: Table::read(context, Path::new("/etc/gshadow"), 0o640)?,
        })
    }

    /// Groups first: a user whose group is absent is worse than a group without users.
    fn write(&self) -> Result<bool, Error> {
        let mut changed = self.group.write()?;
        if self.gshadow.present {
            changed |= self.gshadow.write()?;
        }
        changed |= self.passwd.write()?;
        changed |= self.shadow.write()?;
        Ok(changed)
    }

    fn add_group(&mut self, name: &str, gid: u32) {
        self.group.add(&[name, "x", &gid.to_string(), ""]);
        self.gshadow.add(&[name, LOCKED, "", ""]);
    }

    fn join(&mut self, group: &str, member: &str) {
        self.group.join(group, 3, member);
        self.gshadow.join(group, 3, member);
    }

    /// The next free number of a user, or of a group.
    fn free_number(&self, kind: &'static str, name: &str, system: bool) -> Result<u32, Error> {
        let (table, range) = match (kind, system) {
            ("user", false) => (&self.passwd, self.defaults.uids),
            ("user", true) => (&self.passwd, self.defaults.system_uids),
            (_, false) => (&self.group, self.defaults.gids),
            (_, true) => (&self.group, self.defaults.system_gids),
        };
        let free = if system { table.free_from_above(2, range) } else { table.free(2, range) };
        free.ok_or_else(|| Error::NoNumber { kind, name: name.to_owned(), low: range.0, high: range.1 })
    }

    /// Makes a group that does not exist.
    fn ensure_group(&mut self, name: &str, system: bool) -> Result<(), Error> {
        if self.group.find(name).is_none() {
            let gid = self.free_number("group", name, system)?;
            self.add_group(name, gid);
        }
        Ok(())
    }

    /// Sets a password, locked or not.
    fn set_password(&mut self, name: &str, password: &kairn_config::Credential, locked: bool) -> Result<(), Error> {
        let old = self.shadow.field(name, 1).unwrap_or_default().to_owned();
        let new = hashed(name, password, &old)?;
        let new = if locked && !new.starts_with(LOCKED) { format!("{LOCKED}{new}") } else { new };
        if new != old {
            self.shadow.set(name, 2, &today());
        }
        self.shadow.set(name, 1, &new);
        Ok(())
    }
}

/// Takes the lock of lckpwdf(3).
pub(crate) fn lock(context: &Context) -> Result<fs::File, Error> {
    let path = context.at(Path::new("/etc/.pwd.lock"));
    if let Some(parent) = path.parent() {
        host_files::make_dir(parent, 0o755)?;
    }
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(Error::path("open", &path))?;
    fcntl_lock(&file, FlockOperation::LockExclusive).map_err(|errno| Error::path("lock", &path)(errno.into()))?;
    Ok(file)
}

/// Refuses what would make two fields, or two lines, of one.
pub(crate) fn clean(what: &'static str, name: &str, value: &str) -> Result<(), Error> {
    if value.contains([':', '\n', '\r', '\0']) {
        return Err(Error::Separator { what, name: name.to_owned() });
    }
    Ok(())
}

/// Makes a group and gives it members; says whether anything changed.
pub fn ensure_group(context: &Context, group: &Group) -> Result<bool, Error> {
    clean("the name", &group.name, &group.name)?;
    let mut accounts = Accounts::open(context)?;
    accounts.ensure_group(&group.name, false)?;
    for member in &group.members {
        clean("a member", &group.name, member)?;
        accounts.join(&group.name, member);
    }
    accounts.write()
}

/// Makes a user; an existing one keeps number, primary group, home, shell and name. Says whether anything changed.
pub fn ensure_user(context: &Context, user: &User, sink: &mut dyn Sink) -> Result<bool, Error> {
    let name = &user.name;
    clean("the name", name, name)?;
    clean("`gecos`", name, user.gecos.as_deref().unwrap_or_default())?;
    clean("`shell`", name, user.shell.as_deref().unwrap_or_default())?;
    let mut accounts = Accounts::open(context)?;
    if user.create_groups {
        for group in user.primary_group.iter().chain(&user.groups) {
            accounts.ensure_group(group, user.system)?;
        }
    }
    let is_new = accounts.passwd.find(name).is_none();
    if is_new {
        add_user(context, &mut accounts, user)?;
    }
    accounts.settle_shadow(user, is_new)?;
    for group in &user.groups {
        if accounts.group.find(group).is_none() {
            sink.event(Event::warning(format!("there is no group `{group}`; `{name}` is not in it")));
        }
        accounts.join(group, name);
    }
    let skeleton = accounts.defaults.skeleton.clone();
    let home_mode = accounts.defaults.home_mode;
    let mut changed = accounts.write()?;
    drop(accounts);
    if is_new && !user.no_create_home && !user.system {
        changed |= make_home(context, name, Path::new(&skeleton), home_mode)?;
    }
    changed |= sudoers::ensure(context, name, &user.sudo, sink)?;
    if !user.keys.is_empty() {
        changed |= keys::ensure(context, name, &user.keys, sink)?;
    }
    Ok(changed)
}

/// Sets the password of a user that exists; says whether anything changed.
pub fn ensure_password(context: &Context, password: &Password) -> Result<bool, Error> {
    let name = &password.user;
    let mut accounts = Accounts::open(context)?;
    if accounts.passwd.find(name).is_none() {
        return Err(Error::NoAccount { kind: "user", name: name.clone() });
    }
    accounts.add_shadow(name, false);
    let before = accounts.shadow.field(name, 1).unwrap_or_default().to_owned();
    accounts.set_password(name, &password.password, false)?;
    // Day 0 asks for another one (shadow(5)). One that the user has chosen since is another hash and is set back above.
    if password.expired && accounts.shadow.field(name, 1) != Some(before.as_str()) {
        accounts.shadow.set(name, 2, "0");
    }
    accounts.write()
}

impl Accounts {
    /// Gives a user its line in shadow(5).
    fn add_shadow(&mut self, name: &str, system: bool) {
        if self.shadow.find(name).is_some() {
            return;
        }
        let [minimum, maximum, warning] = self.defaults.ageing.clone();
        let today = today();
        // As useradd(8): the passwords of services do not age.
        let line = if system {
            [name, LOCKED, &today, "", "", "", "", "", ""]
        } else {
            [name, LOCKED, &today, &minimum, &maximum, &warning, "", "", ""]
        };
        self.shadow.add(&line);
    }

    /// Password, lock and ageing of a user.
    fn settle_shadow(&mut self, user: &User, is_new: bool) -> Result<(), Error> {
        let name = &user.name;
        let locked = match user.lock {
            Lock::Never => false,
            Lock::WhenMade => is_new,
            Lock::Always => true,
        };
        match (&user.password, self.shadow.field(name, 1)) {
            (Some(password), _) => {
                self.add_shadow(name, user.system);
                self.set_password(name, password, locked)?;
            }
            (None, Some(old)) if locked && !old.starts_with(LOCKED) => {
                let new = format!("{LOCKED}{old}");
                self.shadow.set(name, 1, &new);
            }
            _ => {}
        }
        for (index, days) in [(6, user.inactive), (7, user.expires)] {
            if let Some(days) = days {
                self.add_shadow(name, user.system);
                self.shadow.set(name, index, &days.to_string());
            }
        }
        Ok(())
    }
}

fn add_user(context: &Context, accounts: &mut Accounts, user: &User) -> Result<(), Error> {
    let name = &user.name;
    let home = user.homedir.clone().unwrap_or_else(|| Path::new(&accounts.defaults.home).join(name));
    clean("`homedir`", name, &home.to_string_lossy())?;
    let uid = match (user.uid, fs::metadata(context.at(&home))) {
        (Some(uid), _) => uid,
        (None, Ok(metadata)) if metadata.uid() != 0 && !accounts.passwd.has_number(2, metadata.uid()) => metadata.uid(),
        _ => accounts.free_number("user", name, user.system)?,
    };
    let gid = primary_group(accounts, user, uid)?;
    let shell = user.shell.clone().unwrap_or_else(|| accounts.defaults.shell.clone());
    let gecos = user.gecos.as_deref().unwrap_or_default();
    accounts.passwd.add(&[name, "x", &uid.to_string(), &gid.to_string(), gecos, &home.to_string_lossy(), &shell]);
    accounts.add_shadow(name, user.system);
    Ok(())
}

/// The group that is named, the one that new users share, or one of the user's own, made with the user's number where that is free.
fn primary_group(accounts: &mut Accounts, user: &User, uid: u32) -> Result<u32, Error> {
    let number = |accounts: &Accounts, name: &str| accounts.group.field(name, 2).and_then(|gid| gid.parse().ok());
    let unknown = |name: &str| Error::NoAccount { kind: "group", name: name.to_owned() };
    if let Some(group) = &user.primary_group {
        return number(accounts, group).ok_or_else(|| unknown(group));
    }
    if user.no_user_group {
        let group = accounts.defaults.group.clone();
        return number(accounts, &group).or_else(|| group.parse().ok()).ok_or_else(|| unknown(&group));
    }
    if let Some(gid) = number(accounts, &user.name) {
        return Ok(gid);
    }
    let gid =
        if accounts.group.has_number(2, uid) { accounts.free_number("group", &user.name, user.system)? } else { uid };
    accounts.add_group(&user.name, gid);
    Ok(gid)
}

/// Where a user lives and as whom.
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn home(context: &Context, name: &str) -> Result<Home, Error> {
    let found = kairn_host::identity::user(&context.root, name)?;
    let user = found.ok_or_else(|| Error::NoAccount { kind: "user", name: name.to_owned() })?;
    Ok(Home { path: user.home, uid: user.uid, gid: user.gid })
}

/// Makes a home from a skeleton; an existing one keeps its content.
fn make_home(context: &Context, name: &str, skeleton: &Path, mode: u32) -> Result<bool, Error> {
    let home = home(context, name)?;
    let path = context.at(&home.path);
    if path.exists() {
        return Ok(false);
    }
    host_files::make_dir(&path, 0o755)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::path("change the mode of", &path))?;
    let skeleton = context.at(skeleton);
    if skeleton.is_dir() {
        copy_tree(&skeleton, &path, &home)?;
    }
    chown(&path, Some(home.uid), Some(home.gid)).map_err(Error::path("change the owner of", &path))?;
    Ok(true)
}

/// Copies files, directories and links of a skeleton and gives them to the user.
fn copy_tree(from: &Path, to: &Path, home: &Home) -> Result<(), Error> {
    for entry in host_files::names(from)? {
        let (from, to) = (from.join(&entry), to.join(&entry));
        let metadata = fs::symlink_metadata(&from).map_err(Error::path("read", &from))?;
        if metadata.is_dir() {
            host_files::make_dir(&to, metadata.mode() & 0o7777)?;
            copy_tree(&from, &to, home)?;
        } else if metadata.is_symlink() {
            let linked = fs::read_link(&from).and_then(|target| std::os::unix::fs::symlink(target, &to));
            linked.map_err(Error::path("copy", &from))?;
        } else {
            fs::copy(&from, &to).map_err(Error::path("copy", &from))?;
        }
        lchown(&to, Some(home.uid), Some(home.gid)).map_err(Error::path("change the owner of", &to))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_config::{Credential, SshKey, TemplateValues};
    use kairn_report::Secret;
    use sha_crypt::{PasswordVerifier, ShaCrypt};

    fn root() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/bash\n# kept\n").unwrap();
        fs::write(etc.join("shadow"), "root:*:19000:0:99999:7:::\n").unwrap();
        fs::write(etc.join("group"), "root:x:0:\nadmin:x:900:\n").unwrap();
        fs::write(etc.join("gshadow"), "root:*::\nadmin:!::\n").unwrap();
        let mut context = Context::this(TemplateValues::default());
        context.root = dir.path().to_owned();
        (dir, context)
    }

    fn user(name: &str) -> User {
        User {
            name: name.into(),
            password: Some(Credential::Plain(Secret::new("kairos".into()))),
            keys: vec![SshKey::Line("ssh-ed25519 AAAA me".into())],
            groups: vec!["admin".into(), "nobody-made-it".into()],
            shell: Some("/bin/bash".into()),
            uid: Some(rustix::process::getuid().as_raw()),
            ..User::default()
        }
    }

    #[test]
    fn a_user_is_made_once_with_groups_keys_and_a_hash_that_verifies() {
        let (dir, context) = root();
        let mut events = Vec::new();
        assert!(ensure_user(&context, &user("ann"), &mut events).unwrap());
        assert!(events.iter().any(|event| matches!(event, Event::Warning { text } if text.contains("nobody-made-it"))));
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("etc/passwd").contains(":/home/ann:/bin/bash\n") && read("etc/passwd").contains("# kept\n"));
        assert!(read("etc/group").contains("admin:x:900:ann\n"));
        assert!(read("etc/gshadow").contains("admin:!::ann\n"));
        let hash = read("etc/shadow").lines().last().unwrap().split(':').nth(1).unwrap().to_owned();
        assert!(ShaCrypt::default().verify_password(b"kairos", hash.as_str()).is_ok());
        assert_eq!(read("home/ann/.ssh/authorized_keys"), "ssh-ed25519 AAAA me\n");
        assert!(!ensure_user(&context, &user("ann"), &mut events).unwrap());
    }

    #[test]
    fn a_lock_is_put_on_when_the_user_is_made_or_always() {
        for (lock, first, second) in
            [(Lock::Never, false, false), (Lock::WhenMade, true, false), (Lock::Always, true, true)]
        {
            let (dir, context) = root();
            let user = User { lock, ..user("ann") };
            let locked = || fs::read_to_string(dir.path().join("etc/shadow")).unwrap().contains("\nann:!$6$");
            ensure_user(&context, &user, &mut Vec::new()).unwrap();
            assert_eq!(locked(), first, "{lock:?}");
            ensure_user(&context, &user, &mut Vec::new()).unwrap();
            assert_eq!(locked(), second, "{lock:?}");
        }
        let (dir, context) = root();
        let unlocked = User { password: None, lock: Lock::Always, ..user("root") };
        ensure_user(&context, &unlocked, &mut Vec::new()).unwrap();
        assert!(fs::read_to_string(dir.path().join("etc/shadow")).unwrap().starts_with("root:!*:19000:"));
    }

    #[test]
    fn a_user_has_what_its_description_says_of_groups_ageing_and_sudo() {
        let (dir, context) = root();
        let user = User {
            create_groups: true,
            no_user_group: true,
            expires: Some(22_889),
            inactive: Some(5),
            sudo: vec!["ALL=(ALL) NOPASSWD:ALL".into()],
            ..user("ann")
        };
        ensure_user(&context, &user, &mut Vec::new()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("etc/passwd").contains(":100::/home/ann:"), "{}", read("etc/passwd"));
        assert!(read("etc/group").ends_with("nobody-made-it:x:1000:ann\n") && !read("etc/group").contains("\nann:"));
        assert!(read("etc/shadow").contains(":0:99999:7:5:22889:\n"));
        assert!(read("etc/sudoers.d/90-kairn-ann").contains("\nann ALL=(ALL) NOPASSWD:ALL\n"));
        assert!(!ensure_user(&context, &user, &mut Vec::new()).unwrap());
    }

    #[test]
    fn a_password_is_set_on_who_exists_and_expires_when_asked() {
        let (dir, context) = root();
        let of = |user: &str, expired| Password {
            user: user.into(),
            password: Credential::Plain(Secret::new("hunter2".into())),
            expired,
        };
        assert!(ensure_password(&context, &of("root", true)).unwrap());
        let shadow = fs::read_to_string(dir.path().join("etc/shadow")).unwrap();
        assert!(shadow.starts_with("root:$6$") && shadow.contains(":0:0:99999:7:::"), "{shadow}");
        assert!(!ensure_password(&context, &of("root", true)).unwrap());
        assert!(matches!(ensure_password(&context, &of("nobody", false)), Err(Error::NoAccount { .. })));
    }

    #[test]
    fn a_field_that_would_forge_another_line_is_refused() {
        let (_dir, context) = root();
        let mut forged = user("bob");
        forged.gecos = Some("x\nroot2:x:0:0::/:/bin/sh".into());
        assert!(matches!(ensure_user(&context, &forged, &mut Vec::new()), Err(Error::Separator { .. })));
    }

    #[test]
    fn a_home_is_made_from_the_skeleton_and_a_link_in_it_leads_nobody_astray() {
        let (dir, context) = root();
        fs::create_dir_all(dir.path().join("etc/skel/.config/deep")).unwrap();
        fs::write(dir.path().join("etc/skel/.config/deep/x"), "1").unwrap();
        std::os::unix::fs::symlink(".config", dir.path().join("etc/skel/link")).unwrap();
        ensure_user(&context, &user("ann"), &mut Vec::new()).unwrap();
        let home = dir.path().join("home/ann");
        assert_eq!(fs::read_to_string(home.join("link/deep/x")).unwrap(), "1");
        fs::remove_dir_all(home.join(".ssh")).unwrap();
        std::os::unix::fs::symlink("../../etc", home.join(".ssh")).unwrap();
        let refused = keys::ensure(&context, "ann", &user("ann").keys, &mut Vec::new());
        assert!(matches!(refused, Err(Error::InTheWay { found: "a link", .. })), "{refused:?}");
        assert!(!dir.path().join("etc/authorized_keys").exists());
        // Nor does a link in the place of the file, or a pipe, which would hold the boot.
        fs::remove_file(home.join(".ssh")).unwrap();
        fs::create_dir(home.join(".ssh")).unwrap();
        let file = home.join(".ssh/authorized_keys");
        std::os::unix::fs::symlink("../../../etc/shadow", &file).unwrap();
        let refused = keys::ensure(&context, "ann", &user("ann").keys, &mut Vec::new());
        assert!(matches!(refused, Err(Error::InTheWay { found: "a link", .. })), "{refused:?}");
        fs::remove_file(&file).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &file, kind, mode, 0).unwrap();
        let refused = keys::ensure(&context, "ann", &user("ann").keys, &mut Vec::new());
        assert!(matches!(refused, Err(Error::InTheWay { found: "no regular file", .. })), "{refused:?}");
    }

    #[test]
    fn a_group_keeps_its_number_and_gains_members() {
        let (dir, context) = root();
        let group = Group { name: "admin".into(), members: vec!["ann".into()] };
        assert!(ensure_group(&context, &group).unwrap());
        assert!(!ensure_group(&context, &group).unwrap());
        assert!(fs::read_to_string(dir.path().join("etc/group")).unwrap().contains("admin:x:900:ann\n"));
    }
}
