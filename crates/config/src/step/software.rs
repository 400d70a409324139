//! Reads what is done to software: repositories, packages, images.

use super::Actions;
use crate::packages::package_fault;
use crate::reading::{Reader, field};
use crate::{Code, Entry, Git, GitLogin, Node, Packages, SoftwareWork, Text, UnpackedImage, Work};
use kairn_report::{Place, Secret};
use std::collections::BTreeMap;

/// The branch of a repository that a step does not name.
const DEFAULT_BRANCH: &str = "master";

impl Actions<'_, '_> {
    pub(super) fn git(&mut self, node: &Node) {
        let mut label = "git".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(node, "`git`");
            // Without an address there is nothing to do, as existing files rely on.
            let (url, url_place) = value(reader, entries, "url")?;
            let mut login = match field(entries, "auth") {
                Some(auth) => git_login(reader, auth),
                None => GitLogin::default(),
            };
            let url = without_login(&url, &mut login);
            if url.is_empty() || url.starts_with('-') || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
                reader.error(Code::BadValue, url_place, format!("`{url}` is no address of a repository"));
            } else if url.contains("::") {
                // gitremote-helpers(7): it would run whatever program it names.
                reader.error(Code::BadValue, url_place, format!("`{url}` names a program that fetches"));
            }
            label = format!("git {url}");
            let path = match field(entries, "path").filter(|node| !node.is_null()) {
                Some(path) => reader.path(path, "`git.path`")?,
                None => {
                    reader.error(Code::BadValue, node.place, "`git.path` is missing");
                    return None;
                }
            };
            let (branch, branch_place) =
                value(reader, entries, "branch").unwrap_or_else(|| (DEFAULT_BRANCH.to_owned(), node.place));
            if let Some(fault) = branch_fault(&branch) {
                reader.error(Code::BadValue, branch_place, format!("`{branch}` cannot be a branch: {fault}"));
            }
            let branch_only = field(entries, "branch_only").and_then(|node| reader.bool(node, "`git.branch_only`"));
            let branch_only = branch_only.unwrap_or_default();
            Some(Work::Software(SoftwareWork::Git(Git { url, path, branch, branch_only, login })))
        });
        self.add(label, node.place, work);
    }

    pub(super) fn package_pins(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let mut pins = BTreeMap::new();
            for entry in reader.map(node, "`package_pins`") {
                let version = reader.text(&entry.value, "a version").unwrap_or_default();
                for (text, place) in [(&entry.key, entry.key_place), (&version, entry.value.place)] {
                    if let Some(fault) = package_fault(text) {
                        let message = format!("`{text}` in `package_pins` cannot be used: {fault}");
                        reader.error(Code::BadValue, place, message);
                    }
                }
                pins.insert(entry.key.clone(), version);
            }
            (!pins.is_empty()).then_some(Work::Software(SoftwareWork::Pins(pins)))
        });
        self.add("package pins".into(), node.place, work);
    }

    pub(super) fn packages(&mut self, node: &Node) {
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(node, "`packages`");
            let mut flag = |name: &str| {
                let node = field(entries, name);
                node.and_then(|node| reader.bool(node, &format!("`packages.{name}`"))).unwrap_or_default()
            };
            let (refresh, upgrade) = (flag("refresh"), flag("upgrade"));
            let install = package_names(reader, entries, "install");
            let remove = package_names(reader, entries, "remove");
            let packages = Packages { refresh, upgrade, install, remove, chosen: Vec::new() };
            (packages != Packages::default()).then_some(Work::Software(SoftwareWork::Packages(packages)))
        });
        self.add("packages".into(), node.place, work);
    }

    pub(super) fn unpack_image(&mut self, item: &Node) {
        let mut label = "image".to_owned();
        let work = self.reader.attempt(|reader| {
            let entries = reader.map(item, "an image");
            let source = value(reader, entries, "source").filter(|(source, _)| !source.trim().is_empty());
            let target = field(entries, "target").filter(|node| !node.is_null());
            let target = target.and_then(|node| reader.path(node, "`target`"));
            if let (None, Ok(_)) = (&source, reader.attempt(|_| ())) {
                reader.error(Code::BadValue, item.place, "`source` is missing");
            }
            let (source, _) = source?;
            label = format!("image {source}");
            let Some(target) = target else {
                if field(entries, "target").is_none_or(Node::is_null) {
                    reader.error(Code::BadValue, item.place, "`target` is missing");
                }
                return None;
            };
            let architecture = match value(reader, entries, "platform") {
                Some((platform, place)) => architecture(reader, &platform, place),
                None => None,
            };
            let source = source.trim().to_owned();
            Some(Work::Software(SoftwareWork::Image(UnpackedImage { source, target, architecture })))
        });
        self.add(label, item.place, work);
    }
}

/// A text that is there, with its place.
fn value(reader: &mut Reader<'_>, entries: &[Entry], name: &str) -> Option<(String, Place)> {
    let node = field(entries, name).filter(|node| !node.is_null())?;
    let text = reader.text(node, &format!("`{name}`"))?;
    (!text.is_empty()).then_some((text, node.place))
}

fn git_login(reader: &mut Reader<'_>, node: &Node) -> GitLogin {
    let entries = reader.map(node, "`git.auth`");
    let mut text = |name: &str| value(reader, entries, name);
    let username = text("username").map(|(text, _)| text);
    let password = text("password").map(|(text, _)| Secret::new(text));
    let private_key = text("private_key").map(|(text, _)| Secret::new(text));
    let host_key = text("public_key");
    if let Some((key, place)) = &host_key
        && key.trim().contains(char::is_control)
    {
        reader.error(Code::BadValue, *place, "`public_key` is one line, like `ssh-ed25519 AAAA…`");
    }
    let insecure = field(entries, "insecure").and_then(|node| reader.bool(node, "`git.auth.insecure`"));
    let host_key = host_key.map(|(key, _)| key.trim().to_owned());
    GitLogin { username, password, private_key, host_key, insecure: insecure.unwrap_or_default() }
}

/// Takes a login out of an address of HTTP, where it would be seen by every user of the machine. One beside the address wins.
fn without_login(url: &str, login: &mut GitLogin) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) if matches!(scheme, "http" | "https") => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            login.username.get_or_insert_with(|| percent_decoded(name));
            login.password.get_or_insert_with(|| Secret::new(percent_decoded(password)));
            format!("{scheme}://{host}{path}")
        }
        _ => url.to_owned(),
    }
}

/// Undoes `%41` (RFC 3986 section 2.1); what is no such triple, or would be no text, stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Says what keeps a text from being a branch, by the rules of git-check-ref-format(1) that could be taken for something else.
fn branch_fault(branch: &str) -> Option<&'static str> {
    if branch.starts_with(['-', '/', '.']) || branch.ends_with(['/', '.']) || branch.ends_with(".lock") {
        return Some("no branch begins or ends so");
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    (branch.contains(bad) || branch.contains("..") || branch.contains("@{") || branch.contains("//"))
        .then_some("it holds what no branch may")
}

/// Texts whose templates are expanded later.
fn package_names(reader: &mut Reader<'_>, entries: &[Entry], name: &str) -> Vec<Text> {
    let Some(node) = field(entries, name).filter(|node| !node.is_null()) else { return Vec::new() };
    let what = format!("`packages.{name}`");
    let items = match node.scalar() {
        Some(_) => std::slice::from_ref(node),
        None => reader.list(node, &what),
    };
    let mut names = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "a package") else { continue };
        match reader.template(text, item.place, &what) {
            Text::Fixed(text) => {
                // One text may name several, as a line for a shell did.
                for word in text.split_whitespace() {
                    if let Some(fault) = package_fault(word) {
                        let message = format!("`{word}` in {what} cannot name a package: {fault}");
                        reader.error(Code::BadValue, item.place, message);
                    }
                    names.push(Text::Fixed(word.to_owned()));
                }
            }
            template => names.push(template),
        }
    }
    names
}

/// The architecture of `linux/arm64` or `arm64`.
fn architecture(reader: &mut Reader<'_>, platform: &str, place: Place) -> Option<String> {
    let (system, rest) = platform.split_once('/').unwrap_or(("linux", platform));
    let known = |name: &&str| system == "linux" && rest.split('/').next() == Some(name);
    let found = ["amd64", "arm64"].into_iter().find(known);
    if found.is_none() {
        reader.error(Code::BadValue, place, format!("`{platform}` is no platform that is known here"));
        reader.hint("there are `linux/amd64` and `linux/arm64`");
    }
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use crate::{Document, GitLogin, SoftwareWork, Work, plan};
    use kairn_report::Secret;

    fn read(step: &str) -> (Vec<Work>, Vec<String>) {
        let plan = plan(&[Document::parse("t", &format!("stages: {{s: [{step}]}}\n"))], "s");
        let works = plan.steps.iter().flat_map(|step| &step.actions).map(|action| action.work.clone()).collect();
        (works, plan.diagnostics.iter().map(|said| said.message.clone()).collect())
    }

    #[test]
    fn a_login_in_the_address_is_taken_out_of_it() {
        let (works, said) = read("{git: {url: 'https://u%40x:p%3a@example.org/a.git', path: /a}}");
        assert_eq!(said, Vec::<String>::new());
        let [Work::Software(SoftwareWork::Git(git))] = works.as_slice() else { panic!("{works:?}") };
        assert_eq!((git.url.as_str(), git.branch.as_str()), ("https://example.org/a.git", "master"));
        let login =
            GitLogin { username: Some("u@x".into()), password: Some(Secret::new("p:".into())), ..GitLogin::default() };
        assert_eq!(git.login, login);
        let (works, _) = read("{git: {url: 'git@example.org:a.git', path: /a}}");
        assert!(matches!(&works[..], [Work::Software(SoftwareWork::Git(git))] if git.url == "git@example.org:a.git"));
    }

    #[test]
    fn what_cannot_be_is_pointed_at() {
        for (step, message) in [
            ("{git: {url: '--upload-pack=x', path: /a}}", "`--upload-pack=x` is no address of a repository"),
            ("{git: {url: 'ext::sh -c x', path: /a}}", "`ext::sh -c x` is no address of a repository"),
            ("{git: {url: 'a::b', path: /a}}", "`a::b` names a program that fetches"),
            ("{git: {url: 'https://x/a'}}", "`git.path` is missing"),
            (
                "{git: {url: 'https://x/a', path: /a, branch: '-f'}}",
                "`-f` cannot be a branch: no branch begins or ends so",
            ),
            (
                "{packages: {install: [-y]}}",
                "`-y` in `packages.install` cannot name a package: it begins with `-`, as options do",
            ),
            ("{package_pins: {curl: ''}}", "`` in `package_pins` cannot be used: it is empty"),
            ("{unpack_images: [{target: /a}]}", "`source` is missing"),
            ("{unpack_images: [{source: a}]}", "`target` is missing"),
            ("{unpack_images: [{source: a, target: b}]}", "`target` is an absolute path, not `b`"),
            (
                "{unpack_images: [{source: a, target: /b, platform: linux/s390x}]}",
                "`linux/s390x` is no platform that is known here",
            ),
        ] {
            let (works, said) = read(step);
            assert_eq!(said, [message], "{step}");
            assert!(matches!(&works[..], [Work::Invalid(_)]), "{step}");
        }
        assert!(read("{git: {path: /a}, packages: {}, unpack_images: [], package_pins: {}}").0.is_empty());
    }

    #[test]
    fn no_secret_of_a_repository_is_shown() {
        let (works, _) = read("{git: {url: 'https://u:hunter2@x/a', path: /a, auth: {private_key: hunter2}}}");
        let shown = format!("{works:?}{}", serde_json::to_string(&works).unwrap());
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
}
