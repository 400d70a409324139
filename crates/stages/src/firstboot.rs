//! systemd-firstboot(1): what it is given, and whether it did anything.
//!
//! Invariant: a password is never an argument, which every user of the machine could read.

use crate::{Context, Error, tool};
use kairn_config::FirstBootOption;
use kairn_host::files;
use kairn_report::Sink;
use std::os::unix::fs::PermissionsExt;

/// Files that it may write (systemd-firstboot(1)).
const FILES: [&str; 8] = [
    "/etc/locale.conf",
    "/etc/vconsole.conf",
    "/etc/localtime",
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/kernel/cmdline",
];

/// Options whose values are passwords, and the credentials by which it takes them instead.
const PASSWORDS: [(&str, &str); 2] =
    [("root-password", "passwd.plaintext-password.root"), ("root-password-hashed", "passwd.hashed-password.root")];

/// Runs it; says whether one of its files is another now.
pub fn run(context: &Context, options: &[FirstBootOption], sink: &mut dyn Sink) -> Result<bool, Error> {
    let mut program = tool::program(context, "systemd-firstboot")?;
    let mut credentials = Vec::new();
    for option in options {
        let password = PASSWORDS.iter().find(|(name, _)| *name == option.name);
        match (&option.value, password) {
            (Some(value), Some((_, credential))) => credentials.push((credential, value)),
            (Some(value), None) => program = program.arg(format!("--{}={}", option.name, value.reveal())),
            (None, _) => program = program.arg(format!("--{}", option.name)),
        }
    }
    let before = contents(context);
    let run = context.at("/run".as_ref());
    files::make_dir(&run, 0o755)?;
    let dir = tempfile::Builder::new()
        .prefix("kairn-firstboot-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(&run)
        .map_err(Error::path("make a directory in", &run))?;
    if !credentials.is_empty() {
        for (name, value) in credentials {
            files::create_new(&dir.path().join(name), value.reveal().as_bytes(), 0o600)?;
        }
        let name = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        program = program.env("CREDENTIALS_DIRECTORY", format!("/run/{name}"));
    }
    let ended = tool::run(&program, context, sink);
    let removed = dir.close().map_err(Error::path("remove a directory in", &run));
    ended?;
    removed?;
    Ok(contents(context) != before)
}

/// What its files hold; a link by where it leads, which is how the time zone is kept.
fn contents(context: &Context) -> Vec<Option<Vec<u8>>> {
    let content = |path: &&str| {
        let path = context.at(path.as_ref());
        match std::fs::read_link(&path) {
            Ok(target) => Some(target.into_os_string().into_encoded_bytes()),
            Err(_) => std::fs::read(&path).ok(),
        }
    };
    FILES.iter().map(content).collect()
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::tool::tests::{calls, root_with_shell, stand_in};
    use crate::{Effect, run};
    use kairn_config::Document;
    use std::fs;

    #[test]
    fn options_are_arguments_and_passwords_are_not() {
        let Some(root) = root_with_shell() else { return };
        stand_in(
            root.path(),
            "systemd-firstboot",
            "cat $CREDENTIALS_DIRECTORY/* > /given\n[ -e /etc/locale.conf ] || echo LANG=C > /etc/locale.conf",
        );
        let text = "stages: {boot: [{systemd_firstboot: {keymap: 'a b; reboot', setup-machine-id: true, root-password: s3cret}}]}\n";
        let documents = [Document::parse("t", text)];
        let stage = || run(&documents, "boot", &context(root.path()), &mut Vec::new());
        assert_eq!(stage().steps[0].actions[0].effect, Effect::Changed);
        assert_eq!(calls(root.path()), ["systemd-firstboot --keymap=a b; reboot --setup-machine-id"]);
        assert_eq!(fs::read_to_string(root.path().join("given")).unwrap(), "s3cret");
        assert_eq!(fs::read_dir(root.path().join("run")).unwrap().count(), 0);
        assert_eq!(stage().steps[0].actions[0].effect, Effect::Unchanged);
    }

    #[test]
    fn without_the_program_the_step_says_which_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let document = Document::parse("t", "stages: {boot: [{systemd_firstboot: {locale: C}}]}\n");
        let result = run(&[document], "boot", &context(root.path()), &mut Vec::new());
        let effect = &result.steps[0].actions[0].effect;
        assert!(matches!(effect, Effect::Failed(why) if why.contains("systemd-firstboot")), "{effect:?}");
    }
}
