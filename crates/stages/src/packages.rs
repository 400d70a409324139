//! Packages, by the manager that the distribution has. What is there already is asked for first, so that a boot without network is none
//! with a failure.

use crate::system::write;
use crate::{Context, Effect, Error, release, tool};
use kairn_config::{ChosenPackage, PackageManager, PackageWishes, Pinning, merge_world, package_fault};
use kairn_host::files;
use kairn_report::{Event, Sink};
use std::collections::BTreeMap;

/// What says that a package wants a reboot (Debian's policy, and what its relatives took over).
const REBOOT_REQUIRED: [&str; 2] = ["/run/reboot-required", "/var/run/reboot-required"];

/// Installs and removes what is missing and what is too much. Of what certain managers are to install, that of this distribution does
/// its own; the rest is told.
pub fn ensure(
    context: &Context,
    wishes: &PackageWishes,
    chosen: &[ChosenPackage],
    sink: &mut dyn Sink,
) -> Result<Effect, Error> {
    let manager = manager(context)?;
    let mut wishes = wishes.clone();
    for package in chosen {
        match &package.manager {
            Some(name) if !manager.is_called(name) => {
                let text = format!("`{}` is for `{name}`, which this distribution does not use", package.name);
                sink.event(Event::warning(text));
            }
            _ => wishes.install.push(match &package.version {
                Some(version) => manager.versioned(&package.name, version),
                None => package.name.clone(),
            }),
        }
    }
    for name in wishes.install.iter().chain(&wishes.remove) {
        if let Some(fault) = package_fault(name) {
            return Err(Error::Package { name: name.clone(), fault });
        }
    }
    let mut left = wishes.clone();
    left.install.clear();
    left.remove.clear();
    for name in &wishes.install {
        if !is_installed(context, manager, name, sink)?.unwrap_or(false) {
            left.install.push(name.clone());
        }
    }
    for name in &wishes.remove {
        if is_installed(context, manager, name, sink)?.unwrap_or(true) {
            left.remove.push(name.clone());
        }
    }
    let names_any = !wishes.install.is_empty() || !wishes.remove.is_empty();
    if names_any && left.install.is_empty() && left.remove.is_empty() && !left.upgrade {
        // Fresh lists would be of use to nobody.
        return Ok(Effect::Unchanged);
    }
    run_all(context, manager, manager.commands(&left), sink)?;
    Ok(Effect::Changed)
}

/// Tells when a package wants a reboot. None is made: what is installed into a root that is made anew at each boot would be gone.
pub fn reboot_if_required(context: &Context) -> Effect {
    if REBOOT_REQUIRED.iter().any(|path| context.at(path.as_ref()).exists()) {
        let why =
            "a package wants a reboot, which is not made: what is installed into a running system is gone after it";
        return Effect::Skipped(why.to_owned());
    }
    Effect::Unchanged
}

/// Keeps packages at their versions.
pub fn pin(context: &Context, pins: &BTreeMap<String, String>, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let manager = manager(context)?;
    let mut changed = false;
    match manager.pinning(pins) {
        Pinning::Impossible(why) => return Ok(Effect::Skipped(why.to_owned())),
        Pinning::Files(files) => {
            for (path, content) in files {
                changed |= write(context, path.as_ref(), &content)?;
            }
        }
        Pinning::World { path, lines } => {
            let before = files::read_text_if_any(&context.at(path.as_ref()))?.unwrap_or_default();
            changed = write(context, path.as_ref(), &merge_world(&before, &lines))?;
        }
        Pinning::Commands(commands) => {
            run_all(context, manager, commands, sink)?;
            changed = true;
        }
    }
    Ok(if changed { Effect::Changed } else { Effect::Unchanged })
}

fn manager(context: &Context) -> Result<PackageManager, Error> {
    let release = release::read(&context.root)?;
    let get = |name: &str| release.get(name).map(String::as_str).unwrap_or_default();
    PackageManager::of(get("ID"), get("ID_LIKE")).ok_or_else(|| Error::NoManager(get("ID").to_owned()))
}

/// Says whether a package is there; `None` for what is more than a name, of which only the manager knows.
fn is_installed(
    context: &Context,
    manager: PackageManager,
    name: &str,
    sink: &mut dyn Sink,
) -> Result<Option<bool>, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._:".contains(&byte);
    if !name.bytes().all(plain) || name.contains("::") {
        return Ok(None);
    }
    let query = manager.query(name);
    let [program, args @ ..] = query.as_slice() else { return Ok(None) };
    let answer = tool::ask(&tool::program(context, program)?.args(args), context, sink)?;
    // dpkg knows packages that are gone but for their settings, too.
    let told = manager != PackageManager::Apt || answer.lines == ["installed"];
    Ok(Some(answer.status.success() && told))
}

fn run_all(
    context: &Context,
    manager: PackageManager,
    commands: Vec<Vec<String>>,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    for command in commands {
        let [program, args @ ..] = command.as_slice() else { continue };
        let mut invocation = tool::program(context, program)?.args(args);
        if let Some((name, value)) = manager.environment() {
            invocation = invocation.env(name, value);
        }
        tool::run(&invocation, context, sink)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::tool::tests::{calls, root_with_shell, stand_in};
    use crate::{Effect, run};
    use kairn_config::Document;
    use std::fs;
    use std::path::Path;

    fn boot(root: &Path, step: &str) -> Vec<Effect> {
        let result = run(
            &[Document::parse("t", &format!("stages: {{boot: [{step}]}}\n"))],
            "boot",
            &context(root),
            &mut Vec::new(),
        );
        assert_eq!(result.diagnostics, []);
        result.steps[0].actions.iter().map(|action| action.effect.clone()).collect()
    }

    #[test]
    fn only_what_is_missing_is_installed_and_only_what_is_there_removed() {
        let Some(root) = root_with_shell() else { return };
        let root = root.path();
        fs::write(root.join("etc/os-release"), "NAME=\"X\"\nID=mine\nID_LIKE=\"ubuntu debian\"\n").unwrap();
        stand_in(
            root,
            "dpkg-query",
            "case \"$3\" in here) printf installed;; rest) printf config-files;; *) exit 1;; esac",
        );
        stand_in(root, "apt-get", "echo $DEBIAN_FRONTEND > /frontend");
        let step = "{packages: {refresh: true, install: [here, curl, jq=1.7, 'a-{{ .Values.x }}'], remove: [here, rest, gone]}}";
        assert_eq!(boot(root, step.replace(", 'a-{{ .Values.x }}'", "").as_str()), [Effect::Changed]);
        let said = calls(root);
        let changes: Vec<&str> = said.iter().map(String::as_str).filter(|call| call.starts_with("apt-get")).collect();
        let expected =
            ["apt-get -y update", "apt-get -y --no-install-recommends install curl jq=1.7", "apt-get -y remove here"];
        assert_eq!(changes, expected);
        assert_eq!(fs::read_to_string(root.join("frontend")).unwrap(), "noninteractive\n");
        assert_eq!(boot(root, "{packages: {refresh: true, install: [here], remove: gone}}"), [Effect::Unchanged]);
        assert!(calls(root).iter().all(|call| call.starts_with("dpkg-query")));
        assert_eq!(boot(root, "{packages: {upgrade: true}}"), [Effect::Changed]);
        assert_eq!(calls(root), ["apt-get -y upgrade"]);
        // What a template makes of a name is looked at like a name.
        let bad = boot(root, "{packages: {install: ['{{ printf \"-%s\" \"y\" }}']}}");
        assert!(matches!(&bad[..], [Effect::Failed(why)] if why.contains("`-y`")), "{bad:?}");
        assert_eq!(calls(root), Vec::<String>::new());
    }

    #[test]
    fn packages_of_the_top_level_are_installed_at_their_versions_and_by_their_manager() {
        let Some(root) = root_with_shell() else { return };
        let root = root.path();
        fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
        stand_in(root, "dpkg-query", "[ $3 = here ] && printf installed");
        stand_in(root, "apt-get", "");
        let text = "#cloud-config\npackage_upgrade: true\npackage_reboot_if_required: true\npackages:\n- curl\n- here\n- [jq, '1.7']\n\
                    - {apt: [mg, [ed, '2']], dnf: [other]}\n- '-y'\n";
        let mut events = Vec::new();
        let mut boot = || {
            let result = run(&[Document::parse("t", text)], "network", &context(root), &mut events);
            assert_eq!(result.diagnostics.len(), 1, "{result:?}");
            result.steps[0].actions.iter().map(|action| action.effect.clone()).collect::<Vec<_>>()
        };
        let effects = boot();
        assert!(matches!(&effects[..], [Effect::Failed(_), Effect::Changed, Effect::Unchanged]), "{effects:?}");
        let said: Vec<String> = calls(root).into_iter().filter(|call| call.starts_with("apt-get")).collect();
        let expected = [
            "apt-get -y update",
            "apt-get -y upgrade",
            "apt-get -y --no-install-recommends install curl jq=1.7 mg ed=2",
        ];
        assert_eq!(said, expected);
        fs::write(root.join("run/reboot-required"), "").unwrap();
        assert!(matches!(&boot()[2], Effect::Skipped(why) if why.contains("reboot")));
        let told = |event: &kairn_report::Event| format!("{event:?}").contains("`other` is for `dnf`");
        assert!(events.iter().any(told), "{events:?}");
    }

    #[test]
    fn a_failing_manager_is_quoted_and_an_unknown_one_named() {
        let Some(root) = root_with_shell() else { return };
        fs::write(root.path().join("etc/os-release"), "ID=alpine\n").unwrap();
        stand_in(root.path(), "apk", "[ $1 = info ] && exit 1; echo no such package; exit 2");
        let failed = boot(root.path(), "{packages: {install: [curl]}}");
        let why = "`apk` ended with exit status: 2; it said: no such package";
        assert_eq!(failed, [Effect::Failed(why.into())]);
        fs::write(root.path().join("etc/os-release"), "ID=hadron\n").unwrap();
        let failed = boot(root.path(), "{packages: {install: [curl]}}");
        assert!(matches!(&failed[..], [Effect::Failed(why)] if why.contains("`hadron`")), "{failed:?}");
    }

    #[test]
    fn pins_are_kept_by_the_means_of_the_manager() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("etc/apk")).unwrap();
        let step = "{package_pins: {curl: 8.1}}";
        fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
        assert_eq!(boot(root, step), [Effect::Changed]);
        let file = fs::read_to_string(root.join("etc/apt/preferences.d/99-yip-pins")).unwrap();
        assert_eq!(file, "Package: curl\nPin: version 8.1\nPin-Priority: 1001\n");
        assert_eq!(boot(root, step), [Effect::Unchanged]);
        fs::write(root.join("etc/os-release"), "ID=alpine\n").unwrap();
        fs::write(root.join("etc/apk/world"), "alpine-base\ncurl\n").unwrap();
        assert_eq!(boot(root, step), [Effect::Changed]);
        assert_eq!(fs::read_to_string(root.join("etc/apk/world")).unwrap(), "alpine-base\ncurl=8.1\n");
        assert_eq!(boot(root, step), [Effect::Unchanged]);
        fs::write(root.join("etc/os-release"), "ID=arch\n").unwrap();
        assert!(matches!(&boot(root, step)[..], [Effect::Skipped(_)]));
    }
}
