//! Reads what the machine is called and how it resolves names: `hostname`, `fqdn`, `manage_etc_hosts`, `resolv_conf`.

use super::{flag, get, word};
use crate::action::hostname_fault;
use crate::reading::Reader;
use crate::step::Actions;
use crate::{Code, Entry, HostsFile, MachineName, NameServers, Node, SettingWork, Severity, Template, Work};

/// The name of the machine and `/etc/hosts`.
pub(super) fn machine(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let preserve = flag(actions, entries, "preserve_hostname");
    let prefer_fqdn = flag(actions, entries, "prefer_fqdn_over_hostname");
    let hosts = match get(entries, "manage_etc_hosts").map(|node| actions.reader.attempt(|reader| hosts(reader, node)))
    {
        None => HostsFile::Follows,
        Some(Ok(hosts)) => hosts,
        Some(Err(why)) => {
            let place = get(entries, "manage_etc_hosts").map(|node| node.place).unwrap_or_default();
            actions.push("manage_etc_hosts".into(), place, Work::Invalid(why));
            HostsFile::Follows
        }
    };
    let (hostname, fqdn) = (get(entries, "hostname"), get(entries, "fqdn"));
    if preserve && hosts == HostsFile::Follows {
        return;
    }
    if let Some(node) = hostname.filter(|_| fqdn.is_none() && hosts == HostsFile::Follows) {
        return actions.hostname(node);
    }
    let Some(place) = fqdn.or(hostname).or_else(|| get(entries, "manage_etc_hosts")).map(|node| node.place) else {
        return;
    };
    if hostname.is_none() && fqdn.is_none() && hosts == HostsFile::Follows {
        return;
    }
    let work = actions.reader.attempt(|reader| {
        let hostname = hostname.and_then(|node| name(reader, node, "`hostname`"));
        let fqdn = fqdn.and_then(|node| name(reader, node, "`fqdn`"));
        let names = MachineName { hostname, fqdn, prefer_fqdn, preserve, hosts };
        Some(Work::Setting(SettingWork::Name(names)))
    });
    actions.add("hostname".into(), place, work);
}

fn name(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Template> {
    let text = reader.text(node, what)?;
    match Template::parse(&text) {
        Err(error) => {
            reader.error(Code::BadValue, node.place, format!("the template in {what} cannot be read: {error}"));
            None
        }
        Ok(template) => {
            if let Some(fault) = hostname_fault(&text).filter(|_| template.is_plain()) {
                reader.error(Code::BadValue, node.place, format!("`{text}` cannot be a host name: {fault}"));
            }
            Some(template)
        }
    }
}

fn hosts(reader: &mut Reader<'_>, node: &Node) -> HostsFile {
    match node.scalar().map(|scalar| (scalar.text.as_str(), scalar.as_bool())) {
        Some(("template", _)) => {
            reader.say(
                Severity::Warning,
                Code::Spelling,
                node.place,
                "`manage_etc_hosts: template` is an old word for `true`",
            );
            HostsFile::Whole
        }
        Some((_, Some(true))) => HostsFile::Whole,
        Some((_, Some(false))) => HostsFile::Follows,
        Some(("localhost", _)) => HostsFile::Line,
        _ => {
            let found = node.scalar().map_or_else(|| node.kind().to_owned(), |scalar| format!("`{}`", scalar.text));
            let message = format!("`manage_etc_hosts` is `true`, `false` or `localhost`, not {found}");
            reader.error(Code::BadValue, node.place, message);
            HostsFile::Follows
        }
    }
}

/// `resolv_conf`, which counts only beside `manage_resolv_conf: true`.
pub(super) fn servers(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "resolv_conf") else { return };
    if !flag(actions, entries, "manage_resolv_conf") {
        let message = "`resolv_conf` has no effect without `manage_resolv_conf: true`";
        return actions.reader.say(Severity::Warning, Code::BadValue, node.place, message);
    }
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`resolv_conf`");
        let mut words = |key: &str| -> Vec<String> {
            let Some(node) = get(entries, key) else { return Vec::new() };
            let items = match node.items() {
                Some(items) => items,
                None => std::slice::from_ref(node),
            };
            items.iter().filter_map(|item| word(reader, item, &format!("`resolv_conf.{key}`"))).collect()
        };
        let (servers, search, sort) = (words("nameservers"), words("searchdomains"), words("sortlist"));
        let domain = words("domain").into_iter().next();
        let mut options = Vec::new();
        for entry in get(entries, "options").map(|node| reader.map(node, "`resolv_conf.options`")).unwrap_or_default() {
            match entry.value.scalar().map(|scalar| (scalar.as_bool(), &scalar.text)) {
                None | Some((Some(true), _)) => options.push(entry.key.clone()),
                Some((Some(false), _)) => {}
                Some((None, text)) => options.push(format!("{}:{text}", entry.key)),
            }
        }
        if options.iter().any(|option| !is_word(option)) {
            reader.error(Code::BadValue, node.place, "an option of `resolv_conf` is one word");
        }
        Some(Work::Setting(SettingWork::NameServers(NameServers { servers, search, domain, sort, options })))
    });
    actions.add("resolv_conf".into(), node.place, work);
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}
