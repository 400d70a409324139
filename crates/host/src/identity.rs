//! Users and groups by reading the files themselves: a static program must never go through NSS.

use crate::{Error, files};
use std::path::{Path, PathBuf};

/// A line of `/etc/passwd` (passwd(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Comment field.
    pub gecos: String,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// A line of `/etc/group` (group(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of the users who have it as a further group.
    pub members: Vec<String>,
}

/// The users of a root, in file order; the first of a name or id counts, as for the C library.
///
/// # Errors
/// Names the file. Lines that are no entries are passed over, as the C library does.
pub fn users(root: &Path) -> Result<Vec<User>, Error> {
    Ok(parse_users(&files::read_text(&root.join("etc/passwd"))?))
}

/// The groups of a root, in file order.
///
/// # Errors
/// Names the file. Lines that are no entries are passed over, as the C library does.
pub fn groups(root: &Path) -> Result<Vec<Group>, Error> {
    Ok(parse_groups(&files::read_text(&root.join("etc/group"))?))
}

/// Finds a user by login name.
///
/// # Errors
/// Names the file that could not be read.
pub fn user(root: &Path, name: &str) -> Result<Option<User>, Error> {
    Ok(users(root)?.into_iter().find(|user| user.name == name))
}

/// Finds a user by id.
///
/// # Errors
/// Names the file that could not be read.
pub fn user_of_id(root: &Path, uid: u32) -> Result<Option<User>, Error> {
    Ok(users(root)?.into_iter().find(|user| user.uid == uid))
}

/// Finds a group by name.
///
/// # Errors
/// Names the file that could not be read.
pub fn group(root: &Path, name: &str) -> Result<Option<Group>, Error> {
    Ok(groups(root)?.into_iter().find(|group| group.name == name))
}

/// Parses the text of a passwd file.
#[must_use]
pub fn parse_users(text: &str) -> Vec<User> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, _password) = (name(fields.next()?)?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (gecos, home, shell) = (fields.next()?.to_owned(), fields.next()?.into(), fields.next()?.into());
        fields.next().is_none().then_some(User { name, uid, gid, gecos, home, shell })
    };
    text.lines().filter_map(entry).collect()
}

/// Parses the text of a group file.
#[must_use]
pub fn parse_groups(text: &str) -> Vec<Group> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, _password, gid) = (name(fields.next()?)?, fields.next()?, fields.next()?.parse().ok()?);
        let members = fields.next()?.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        fields.next().is_none().then_some(Group { name, gid, members })
    };
    text.lines().filter_map(entry).collect()
}

/// `+` and `-` start NIS inclusions, `#` a comment: no names.
fn name(field: &str) -> Option<String> {
    (!field.is_empty() && !field.starts_with(['+', '-', '#'])).then(|| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_lines_that_are_none_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# note:x:1:1::/:/\n+::::::\nshort:x:1\nbad:x:-1:0::/:/\n\
                      kairn:x:1000:1000:A, B:/home/kairn:\nroot:x:7:7::/:/\nlong:x:1:1::/:/:extra\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nsudo:x:27:kairn,other\nbad:x:\n").unwrap();
        assert_eq!(users(dir.path()).unwrap().len(), 3);
        assert_eq!(user(dir.path(), "root").unwrap().unwrap().uid, 0);
        let kairn = user_of_id(dir.path(), 1000).unwrap().unwrap();
        assert_eq!(
            (kairn.gecos.as_str(), kairn.home.as_path(), kairn.shell.as_path()),
            ("A, B", Path::new("/home/kairn"), Path::new(""))
        );
        assert_eq!(group(dir.path(), "sudo").unwrap().unwrap().members, ["kairn", "other"]);
        assert_eq!(group(dir.path(), "bad").unwrap(), None);
        assert!(users(Path::new("/no/such/root")).unwrap_err().to_string().contains("/no/such/root/etc/passwd"));
    }
}
