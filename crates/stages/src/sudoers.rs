//! Rules of sudoers(5), one file for each user.

use crate::files::{settle, write_if_other};
use crate::{Context, Error};
use kairn_config::Mode;
use kairn_report::{Event, Sink};
use std::fs;
use std::path::Path;

const DIRECTORY: &str = "/etc/sudoers.d";
/// sudo refuses a file that others may write.
const MODE: u32 = 0o440;

/// Gives a user rules; says whether anything changed.
pub fn ensure(context: &Context, user: &str, rules: &[String], sink: &mut dyn Sink) -> Result<bool, Error> {
    if rules.is_empty() {
        return Ok(false);
    }
    let text = text(user, rules)?;
    if !["/usr/bin/sudo", "/bin/sudo"].iter().any(|program| context.at(Path::new(program)).exists()) {
        sink.event(Event::warning(format!("sudo is not installed; the rules for `{user}` have no effect")));
    }
    // sudo leaves out files whose names hold a dot.
    let name = format!("90-kairn-{}", user.replace('%', "%25").replace('.', "%2e").replace('\\', "%5c"));
    let path = context.at(Path::new(DIRECTORY)).join(name);
    if let Some(parent) = path.parent()
        && !parent.is_dir()
    {
        kairn_host::files::make_dir(parent, 0o750)?;
    }
    let written = write_if_other(&path, text.as_bytes(), MODE, fs::metadata(&path).ok().as_ref())?;
    Ok(settle(&path, Some(Mode(MODE)), None, None)? || written)
}

/// A rule that leaves its line could be one about somebody else, so none is written that does.
fn text(user: &str, rules: &[String]) -> Result<String, Error> {
    let mut text = String::from("# From `sudo` of this user in the configuration.\n");
    for rule in rules {
        if rule.contains(['\n', '\r', '\0']) || rule.ends_with('\\') {
            return Err(Error::Separator { what: "a rule of `sudo`", name: user.to_owned() });
        }
        text.push_str(&format!("{} {rule}\n", quoted(user)));
    }
    Ok(text)
}

/// In capitals it would be an alias; other signs have meanings of their own.
fn quoted(user: &str) -> String {
    let plain = user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c));
    if plain { user.to_owned() } else { format!("\"{}\"", user.replace('\\', "\\\\")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn rules_are_written_so_that_sudo_reads_them_and_only_for_their_user() {
        let root = tempfile::tempdir().unwrap();
        let context = context(root.path());
        let rules = ["ALL=(ALL) NOPASSWD:ALL".to_owned(), "ALL=(www) /bin/ls".to_owned()];
        let mut events = Vec::new();
        assert!(ensure(&context, "a.b", &rules, &mut events).unwrap());
        assert!(!ensure(&context, "a.b", &rules, &mut events).unwrap());
        assert!(matches!(&events[0], Event::Warning { text } if text.contains("sudo is not installed")));
        let path = root.path().join("etc/sudoers.d/90-kairn-a%2eb");
        let lines = fs::read_to_string(&path).unwrap();
        assert!(lines.ends_with("\na.b ALL=(ALL) NOPASSWD:ALL\na.b ALL=(www) /bin/ls\n"), "{lines}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o440);
        assert!(text("ADMIN", &rules).unwrap().contains("\n\"ADMIN\" ALL="));
        for bad in ["ALL=ALL\nevil ALL=ALL", "ALL=ALL \\"] {
            assert!(matches!(text("a", &[bad.to_owned()]), Err(Error::Separator { .. })));
        }
    }
}
