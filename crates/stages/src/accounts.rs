//! Users, groups and passwords.
//!
//! `/etc` starts afresh at each boot while homes persist: a user without a number takes that of its home's owner, so that it is the
//! same one after a reboot.

use crate::table::Table;
use crate::{Context, Error, keys};
use kairn_config::{Group, User};
use kairn_host::files as host_files;
use kairn_report::{Event, Sink};
use rustix::fs::{FlockOperation, fcntl_lock};
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers of people's accounts and of the system's (Debian Policy 9.2.2).
const PEOPLE: (u32, u32) = (1000, 59999);
const SYSTEM: (u32, u32) = (100, 999);
const LOCKED: &str = "!";

/// Random bytes of a salt: 16 characters, the most that crypt(5) reads. With a longer salt, which `sha-crypt` makes by itself,
/// crypt(3) gives back a string with the salt cut off, which never equals the one in `/etc/shadow`: nobody could log in.
const SALT_BYTES: usize = 12;

/// The four files, locked against other programs that edit them.
struct Accounts {
    passwd: Table,
    shadow: Table,
    group: Table,
    gshadow: Table,
    /// Holds the lock until dropped.
    _lock: fs::File,
}

impl Accounts {
    fn open(context: &Context) -> Result<Self, Error> {
        Ok(Self {
            _lock: lock(context)?,
            passwd: Table::read(context, "/etc/passwd", 0o644)?,
            shadow: Table::read(context, "/etc/shadow", 0o640)?,
            group: Table::read(context, "/etc/group", 0o644)?,
            gshadow: Table::read(context, "/etc/gshadow", 0o640)?,
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

    fn free_number(&self, table: &Table, kind: &'static str, name: &str, system: bool) -> Result<u32, Error> {
        let (low, high) = if system { SYSTEM } else { PEOPLE };
        let free = (low..=high).find(|number| !table.has_number(2, *number));
        free.ok_or_else(|| Error::NoNumber { kind, name: name.to_owned(), low, high })
    }
}

/// Takes the lock of lckpwdf(3).
fn lock(context: &Context) -> Result<fs::File, Error> {
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
fn clean(what: &'static str, name: &str, value: &str) -> Result<(), Error> {
    if value.contains([':', '\n', '\r', '\0']) {
        return Err(Error::Separator { what, name: name.to_owned() });
    }
    Ok(())
}

/// Makes a group and gives it members; says whether anything changed.
pub fn ensure_group(context: &Context, group: &Group) -> Result<bool, Error> {
    clean("the name", &group.name, &group.name)?;
    let mut accounts = Accounts::open(context)?;
    if accounts.group.find(&group.name).is_none() {
        let gid = match group.gid {
            Some(gid) => gid,
            None => accounts.free_number(&accounts.group, "group", &group.name, false)?,
        };
        accounts.add_group(&group.name, gid);
    }
    for member in &group.members {
        clean("a member", &group.name, member)?;
        accounts.join(&group.name, member);
    }
    accounts.write()
}

/// Makes a user; an existing one gets password, groups and keys only. Says whether anything changed.
pub fn ensure_user(context: &Context, user: &User, sink: &mut dyn Sink) -> Result<bool, Error> {
    let name = &user.name;
    clean("the name", name, name)?;
    clean("`gecos`", name, user.gecos.as_deref().unwrap_or_default())?;
    clean("`shell`", name, user.shell.as_deref().unwrap_or_default())?;
    let mut accounts = Accounts::open(context)?;
    let is_new = accounts.passwd.find(name).is_none();
    if is_new {
        add_user(context, &mut accounts, user)?;
    }
    if let Some(password) = &user.password {
        let old = accounts.shadow.field(name, 1).unwrap_or_default().to_owned();
        let new = hashed(name, password.reveal(), &old)?;
        let new = if is_new && user.lock_password { format!("{LOCKED}{new}") } else { new };
        accounts.shadow.set(name, 1, &new);
    }
    for group in &user.groups {
        if accounts.group.find(group).is_none() {
            sink.event(Event::warning(format!("there is no group `{group}`; `{name}` is not in it")));
        }
        accounts.join(group, name);
    }
    let mut changed = accounts.write()?;
    drop(accounts);
    if is_new && !user.no_create_home {
        changed |= make_home(context, name)?;
    }
    if !user.keys.is_empty() {
        changed |= keys::ensure(context, name, &user.keys, sink)?;
    }
    Ok(changed)
}

fn add_user(context: &Context, accounts: &mut Accounts, user: &User) -> Result<(), Error> {
    let name = &user.name;
    let home = user.homedir.clone().unwrap_or_else(|| Path::new("/home").join(name));
    clean("`homedir`", name, &home.to_string_lossy())?;
    let uid = match (user.uid, fs::metadata(context.at(&home))) {
        (Some(uid), _) => uid,
        (None, Ok(metadata)) if metadata.uid() != 0 && !accounts.passwd.has_number(2, metadata.uid()) => metadata.uid(),
        _ => accounts.free_number(&accounts.passwd, "user", name, user.system)?,
    };
    let group = user.primary_group.as_ref().unwrap_or(name);
    let gid = match accounts.group.field(group, 2).and_then(|gid| gid.parse().ok()) {
        Some(gid) => gid,
        None if user.primary_group.is_some() => {
            return Err(Error::NoAccount { kind: "group", name: group.clone() });
        }
        None => {
            let gid = if accounts.group.has_number(2, uid) {
                accounts.free_number(&accounts.group, "group", group, user.system)?
            } else {
                uid
            };
            accounts.add_group(group, gid);
            gid
        }
    };
    let shell = match &user.shell {
        Some(shell) => shell.clone(),
        None => default_shell(context)?,
    };
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let gecos = user.gecos.as_deref().unwrap_or_default();
    accounts.passwd.add(&[name, "x", &uid, &gid, gecos, &home.to_string_lossy(), &shell]);
    if accounts.shadow.find(name).is_none() {
        let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
        accounts.shadow.add(&[name, LOCKED, &today.to_string(), "0", "99999", "7", "", "", ""]);
    }
    Ok(())
}

/// Reads `SHELL` of `/etc/default/useradd`, as useradd(8) does.
fn default_shell(context: &Context) -> Result<String, Error> {
    let text = host_files::read_text_if_any(&context.at(Path::new("/etc/default/useradd")))?.unwrap_or_default();
    let shell = text.lines().find_map(|line| line.trim().strip_prefix("SHELL=")).map(str::trim);
    Ok(shell.filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh").to_owned())
}

/// Takes a hash as it is and hashes a plain password, unless the old hash is already one of it: a new salt is no change.
fn hashed(name: &str, password: &str, old: &str) -> Result<String, Error> {
    if password.is_empty() || password.starts_with(['$', '!', '*']) {
        clean("the password", name, password)?;
        return Ok(password.to_owned());
    }
    let crypt = ShaCrypt::default();
    if old.starts_with("$6$") && crypt.verify_password(password.as_bytes(), old).is_ok() {
        return Ok(old.to_owned());
    }
    let mut salt = [0; SALT_BYTES];
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::path("read", "/dev/urandom")(errno.into()))?;
    let hash = crypt.hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.map_err(|_| Error::Hash(name.to_owned()))?.as_str().to_owned())
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

/// Makes a home from `/etc/skel`; an existing one keeps its content.
fn make_home(context: &Context, name: &str) -> Result<bool, Error> {
    let home = home(context, name)?;
    let path = context.at(&home.path);
    if path.exists() {
        return Ok(false);
    }
    host_files::make_dir(&path, 0o755)?;
    let skeleton = context.at(Path::new("/etc/skel"));
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
    use kairn_config::{SshKey, TemplateValues};
    use kairn_report::Secret;

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
            password: Some(Secret::new("kairos".into())),
            keys: vec![SshKey::Line("ssh-ed25519 AAAA me".into())],
            gecos: None,
            homedir: None,
            no_create_home: false,
            primary_group: None,
            groups: vec!["admin".into(), "nobody-made-it".into()],
            shell: Some("/bin/bash".into()),
            lock_password: false,
            uid: Some(rustix::process::getuid().as_raw()),
            system: false,
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
    fn the_c_library_takes_the_hash_of_a_plain_password() {
        let script = "exit(crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? 0 : 1)";
        for password in ["kairos", "co:lon", "with blanks and ü", &"x".repeat(200)] {
            let hash = hashed("ann", password, "").unwrap();
            match std::process::Command::new("perl").args(["-e", script, "--", password, &hash]).status() {
                Ok(status) => assert!(status.success(), "{hash}"),
                Err(error) => return eprintln!("skipped: perl, which asks crypt(3), does not run: {error}"),
            }
            assert_eq!(hashed("ann", password, &hash).unwrap(), hash);
        }
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
        let group = Group { name: "admin".into(), gid: Some(1234), members: vec!["ann".into()] };
        assert!(ensure_group(&context, &group).unwrap());
        assert!(!ensure_group(&context, &group).unwrap());
        assert!(fs::read_to_string(dir.path().join("etc/group")).unwrap().contains("admin:x:900:ann\n"));
    }
}
