//! Settings of the system: the resolver, parameters and modules of the kernel, the clock.

use crate::files::{follow, write_if_other};
use crate::{Context, Effect, Error, firstboot, hostname, tool};
use kairn_config::{KernelModule, Parameter, SystemWork};
use kairn_host::files;
use kairn_report::Sink;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Where settings of timesyncd go, by the name that existing systems know.
const TIMESYNCD: &str = "/etc/systemd/timesyncd.conf.d/10-yip.conf";

/// Brings a setting about.
pub fn perform(work: &SystemWork, context: &Context, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let changed = match work {
        SystemWork::Hostname(template) => {
            hostname::set(context, &template.render(&context.values.hostname())?.whole()?)?
        }
        SystemWork::Resolver(resolver) => write(context, &resolver.path, &resolver.content())?,
        SystemWork::Parameter(parameter) => set_parameter(context, parameter)?,
        SystemWork::Module(module) => load(context, module, sink)?,
        SystemWork::Time(settings) => write(context, TIMESYNCD.as_ref(), &time(settings))?,
        SystemWork::FirstBoot(options) => firstboot::run(context, options, sink)?,
    };
    Ok(if changed { Effect::Changed } else { Effect::Unchanged })
}

/// Writes a file of settings that anybody may read, where a link to it leads; says whether it changed.
pub fn write(context: &Context, path: &Path, content: &str) -> Result<bool, Error> {
    let path = follow(context, context.at(path))?;
    let before = fs::metadata(&path).ok();
    if before.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(Error::InTheWay { path, found: "a directory", wanted: "a file" });
    }
    write_if_other(&path, content.as_bytes(), 0o644, before.as_ref())
}

/// Sets a parameter of the kernel unless it has the value. Blanks between numbers are as good as any other.
fn set_parameter(context: &Context, parameter: &Parameter) -> Result<bool, Error> {
    let path = context.at(&Path::new("/proc/sys").join(&parameter.path));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // Some can only be written (`vm/compact_memory`, `net/ipv4/route/flush`); one that is absent fails below.
    let is_there = files::read_text(&path).is_ok_and(|now| words(&now) == words(&parameter.value));
    if is_there {
        return Ok(false);
    }
    let mut file = OpenOptions::new().write(true).open(&path).map_err(Error::path("open", &path))?;
    // In one write: the kernel takes each write for a whole value.
    file.write_all(format!("{}\n", parameter.value).as_bytes()).map_err(Error::path("set", &path))?;
    Ok(true)
}

/// Loads a module with its dependencies unless it is there, built in or loaded.
fn load(context: &Context, module: &KernelModule, sink: &mut dyn Sink) -> Result<bool, Error> {
    // modprobe(8): `-` and `_` are the same letter in the name of a module; the kernel's lists have `_`.
    let name = module.name.replace('-', "_");
    let loaded = files::read_text_if_any(&context.at("/proc/modules".as_ref()))?.unwrap_or_default();
    let is_loaded = loaded.lines().any(|line| line.split_whitespace().next() == Some(&name));
    if is_loaded || context.at("/sys/module".as_ref()).join(&name).is_dir() {
        return Ok(false);
    }
    let modprobe = tool::program(context, "modprobe")?.arg("--").arg(&module.name).args(&module.parameters);
    tool::run(&modprobe, context, sink)?;
    Ok(true)
}

fn time(settings: &BTreeMap<String, String>) -> String {
    let lines: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("[Time]\n{lines}")
}

#[cfg(test)]
mod tests {
    use crate::context::tests::context;
    use crate::tool::tests::{calls, root_with_shell, stand_in};
    use crate::{Effect, StageResult, run};
    use kairn_config::Document;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn boot(root: &Path, modules: &str) -> StageResult {
        let text = format!("stages:\n  boot:\n  - {}\n", modules.replace('\n', "\n    "));
        run(&[Document::parse("t", &text)], "boot", &context(root), &mut Vec::new())
    }

    fn effects(result: &StageResult) -> Vec<(&str, &Effect)> {
        assert_eq!(result.diagnostics, []);
        result.steps[0].actions.iter().map(|action| (action.label.as_str(), &action.effect)).collect()
    }

    #[test]
    fn the_resolver_is_written_where_the_link_leads_and_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        symlink("../run/resolvconf/resolv.conf", root.path().join("etc/resolv.conf")).unwrap();
        let text = "dns:\n  nameservers: [9.9.9.9, '2620:fe::fe']\n  search: [example.org]\n  options: [edns0]";
        assert_eq!(effects(&boot(root.path(), text)), [("dns", &Effect::Changed)]);
        let content = fs::read_to_string(root.path().join("run/resolvconf/resolv.conf")).unwrap();
        assert_eq!(content, "search example.org\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\noptions edns0\n");
        assert_eq!(effects(&boot(root.path(), text)), [("dns", &Effect::Unchanged)]);
        assert!(boot(root.path(), "dns: {search: [a]}").steps[0].actions.is_empty());
    }

    #[test]
    fn a_parameter_is_set_unless_it_has_the_value() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("proc/sys/net/ipv4/conf/eth0.100");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("rp_filter"), "0\n").unwrap();
        fs::write(root.path().join("proc/sys/net/ipv4/tcp_rmem"), "4096\t131072\t6291456\n").unwrap();
        let text =
            "sysctl:\n  net.ipv4.conf.eth0/100.rp_filter: 1\n  net.ipv4.tcp_rmem: 4096 131072 6291456\n  vm.none: 3";
        let result = boot(root.path(), text);
        let [one, two, three] = effects(&result)[..] else { panic!("{result:?}") };
        assert_eq!((one.1, two.1), (&Effect::Changed, &Effect::Unchanged));
        assert!(matches!(three.1, Effect::Failed(why) if why.contains("vm/none")), "{three:?}");
        assert_eq!(fs::read_to_string(dir.join("rp_filter")).unwrap(), "1\n");
        let again = "sysctl: {net/ipv4/conf/eth0.100/rp_filter: 1}";
        assert_eq!(effects(&boot(root.path(), again))[0].1, &Effect::Unchanged);
    }

    #[test]
    fn a_module_is_loaded_with_its_parameters_unless_it_is_there() {
        let Some(root) = root_with_shell() else { return };
        stand_in(root.path(), "modprobe", "[ \"$2\" != bad ]");
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(root.path().join("sys/module/built_in")).unwrap();
        fs::write(root.path().join("proc/modules"), "dm_crypt 61440 0 - Live 0x0\n").unwrap();
        let result = boot(root.path(), "modules: [dm-crypt, built-in, nbd nbds_max=4 max_part=2, bad]");
        let [loaded, built_in, new, bad] = effects(&result)[..] else { panic!("{result:?}") };
        assert_eq!((loaded.1, built_in.1), (&Effect::Unchanged, &Effect::Unchanged));
        assert_eq!(new, ("module nbd", &Effect::Changed));
        assert!(matches!(bad.1, Effect::Failed(why) if why.contains("`modprobe` ended with")), "{bad:?}");
        assert_eq!(calls(root.path()), ["modprobe -- nbd nbds_max=4 max_part=2", "modprobe -- bad"]);
    }

    #[test]
    fn the_clock_is_set_by_a_section_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let text = "timesyncd:\n  NTP: 0.pool.ntp.org 1.pool.ntp.org\n  FallbackNTP: ''";
        assert_eq!(effects(&boot(root.path(), text)), [("timesyncd", &Effect::Changed)]);
        let written = fs::read_to_string(root.path().join("etc/systemd/timesyncd.conf.d/10-yip.conf")).unwrap();
        assert_eq!(written, "[Time]\nFallbackNTP=\nNTP=0.pool.ntp.org 1.pool.ntp.org\n");
        assert_eq!(effects(&boot(root.path(), text)), [("timesyncd", &Effect::Unchanged)]);
        let two_lines = boot(root.path(), "timesyncd: {NTP: \"a\\n[Manager]\"}");
        assert_eq!(two_lines.failures(), 2, "{two_lines:?}");
        assert_eq!(fs::read_to_string(root.path().join("etc/systemd/timesyncd.conf.d/10-yip.conf")).unwrap(), written);
    }
}
