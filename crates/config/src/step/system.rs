//! Reads settings of the system.

use super::Actions;
use crate::action::{DEFAULT_RESOLVER_FILE, hostname_fault};
use crate::reading::{Reader, field};
use crate::{Code, FirstBootOption, KernelModule, Node, Parameter, Resolver, Severity, SystemWork, Template, Work};
use kairn_report::{Place, Secret};
use std::collections::BTreeMap;

impl Actions<'_, '_> {
    pub fn hostname(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let text = reader.text(node, "`hostname`")?;
            match Template::parse(&text) {
                Err(error) => {
                    reader.say(
                        Severity::Warning,
                        Code::Template,
                        node.place,
                        format!("{error}; the host name is left alone"),
                    );
                    reader.hint("a host name has .MachineID, .Random and .UUID, as in `node-{{ trunc 4 .MachineID }}`");
                    Some(Work::NotSupported(error.to_string()))
                }
                Ok(template) => {
                    if let Some(fault) = hostname_fault(&text).filter(|_| template.is_plain()) {
                        reader.error(Code::BadValue, node.place, format!("`{text}` cannot be a host name: {fault}"));
                    }
                    Some(Work::System(SystemWork::Hostname(template)))
                }
            }
        });
        self.add("hostname".into(), node.place, work);
    }

    pub(super) fn dns(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(node, "`dns`");
            let mut words = |name: &str| {
                let Some(node) = field(entries, name) else { return Vec::new() };
                let words = reader.words(node, &format!("`dns.{name}`"));
                for word in words.iter().filter(|word| !is_word(word)) {
                    reader.error(Code::BadValue, node.place, format!("`{word}` of `dns.{name}` is not one word"));
                }
                words
            };
            let (nameservers, search, options) = (words("nameservers"), words("search"), words("options"));
            let path = match field(entries, "path").filter(|node| !node.is_null()) {
                Some(node) => reader.path(node, "`dns.path`")?,
                None => DEFAULT_RESOLVER_FILE.into(),
            };
            // Without a server there is nothing to write.
            let resolver = Resolver { path, search, nameservers, options };
            (!resolver.nameservers.is_empty()).then_some(Work::System(SystemWork::Resolver(resolver)))
        });
        self.add("dns".into(), node.place, work);
    }

    pub(super) fn sysctl(&mut self, node: &Node) {
        for entry in self.entries(node, "`sysctl`") {
            let work = self.reader.attempt(|reader| {
                let path = Parameter::path_of(&entry.key);
                if path.is_none() {
                    let message = format!("`{}` cannot name a parameter of the kernel", entry.key);
                    reader.error(Code::BadValue, entry.key_place, message);
                    reader.hint("a name is like `vm.swappiness`, or `net/ipv4/conf/eth0.100/rp_filter`");
                }
                let value = reader.text(&entry.value, "the value of a parameter").unwrap_or_default();
                let value = one_line(reader, &value, entry.value.place, &entry.key);
                Some(Work::System(SystemWork::Parameter(Parameter { path: path?, value })))
            });
            self.add(format!("sysctl {}", entry.key), entry.key_place, work);
        }
    }

    pub(super) fn modules_of_kernel(&mut self, node: &Node) {
        self.each(node, "`modules`", |actions, _, item| {
            let mut label = "module".to_owned();
            let work = actions.reader.attempt(|reader| {
                let text = reader.text(item, "a module")?;
                let mut words = text.split_whitespace().map(str::to_owned);
                let name = words.next()?;
                label = format!("module {name}");
                if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                    || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                {
                    reader.error(Code::BadValue, item.place, format!("`{name}` cannot name a module of the kernel"));
                }
                let module = KernelModule { name, parameters: words.collect() };
                Some(Work::System(SystemWork::Module(module)))
            });
            actions.add(label, item.place, work);
        });
    }

    pub(super) fn timesyncd(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let mut settings = BTreeMap::new();
            for entry in reader.map(node, "`timesyncd`") {
                if entry.key.is_empty() || !entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    let message = format!("`{}` cannot name a setting of timesyncd", entry.key);
                    reader.error(Code::BadValue, entry.key_place, message);
                }
                // A list is written as a single value whose words are parted by blanks.
                let value = match entry.value.items() {
                    Some(_) => reader.words(&entry.value, "a setting of timesyncd").join(" "),
                    None => reader.text(&entry.value, "a setting of timesyncd").unwrap_or_default(),
                };
                let value = one_line(reader, &value, entry.value.place, &entry.key);
                settings.insert(entry.key.clone(), value);
            }
            (!settings.is_empty()).then_some(Work::System(SystemWork::Time(settings)))
        });
        self.add("timesyncd".into(), node.place, work);
    }

    pub(super) fn systemd_firstboot(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let mut options = Vec::new();
            for entry in reader.map(node, "`systemd_firstboot`") {
                let named =
                    entry.key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
                if !named || !entry.key.starts_with(|c: char| c.is_ascii_lowercase()) {
                    let message = format!("`{}` cannot name an option of systemd-firstboot", entry.key);
                    reader.error(Code::BadValue, entry.key_place, message);
                }
                let value = reader.text(&entry.value, "an option of systemd-firstboot").unwrap_or_default();
                let value = one_line(reader, &value, entry.value.place, &entry.key);
                let value = (value != "true").then(|| Secret::new(value));
                options.push(FirstBootOption { name: entry.key.clone(), value });
            }
            (!options.is_empty()).then_some(Work::System(SystemWork::FirstBoot(options)))
        });
        self.add("systemd_firstboot".into(), node.place, work);
    }
}

/// Says whether a text is one word that a line of resolv.conf(5) can hold.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The value without blanks around it, if one line can hold it.
fn one_line(reader: &mut Reader<'_>, value: &str, place: Place, key: &str) -> String {
    let value = value.trim();
    if value.contains(|c: char| c.is_control() && c != '\t') {
        reader.error(Code::BadValue, place, format!("the value of `{key}` is one line without control characters"));
    }
    value.to_owned()
}
