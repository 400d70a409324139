//! Sorts the keys of a document into known, not yet supported, foreign and unknown, and judges the types of their values.
//!
//! Below a key that is not supported yet only unknown keys are reported: one sentence says that the block does nothing.

use crate::keys::{
    Block, CLOUD_INIT, Found, Key, Misfit, STAGES_DONE, STAGES_NOT_YET, Shape, Standing, TOP, TOP_BLOCKS,
};
use crate::suggest::nearest;
use crate::{Code, Diagnostic, Document, Entry, Node, Severity};
use kairn_report::Place;
use std::fmt;

/// Returns what is to be said about the keys of a document, in the order of the document.
pub(crate) fn classify(document: &Document) -> Vec<Diagnostic> {
    let mut walk = Walk { document, diagnostics: Vec::new(), path: Vec::new(), silent: 0 };
    for entry in document.root.as_ref().and_then(Node::entries).unwrap_or_default() {
        walk.top(entry);
    }
    walk.diagnostics
}

struct Walk<'a> {
    document: &'a Document,
    diagnostics: Vec<Diagnostic>,
    path: Vec<&'a str>,
    /// Above zero below a key that is not supported yet.
    silent: usize,
}

/// What a value is called in a sentence.
#[derive(Clone, Copy)]
enum What<'w> {
    /// The value of a key.
    Key(&'w str),
    /// Something with a name of its own, such as "a step".
    Named(&'static str),
    /// An item of a list.
    ItemOf(&'w What<'w>),
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "`{key}`"),
            Self::Named(name) => f.write_str(name),
            Self::ItemOf(list) => write!(f, "an item of {list}"),
        }
    }
}

impl<'a> Walk<'a> {
    fn top(&mut self, entry: &'a Entry) {
        let name = entry.key.as_str();
        if name.starts_with("x-") {
            return;
        }
        self.path.push(name);
        let found = TOP_BLOCKS.iter().map(|block| (*block, block.find(name)));
        match found.into_iter().find(|(_, found)| !matches!(found, Found::Unknown)) {
            Some((_, Found::Exact(key))) => self.known(key, entry),
            Some((block, Found::Respelled(key))) => self.respelled(block, key, entry),
            _ => match nearest(name, TOP.keys.iter().chain(CLOUD_INIT.keys).map(|key| key.name)) {
                Some(near) => {
                    let message = format!("unknown key `{name}`");
                    self.say(Severity::Error, Code::UnknownKey, entry.key_place, message, did_you_mean(near));
                }
                None => {
                    let message = format!("`{name}` is not a key of this system and is left to others");
                    self.say(Severity::Note, Code::ForeignKey, entry.key_place, message, None);
                }
            },
        }
        self.path.pop();
    }

    fn known(&mut self, key: &'static Key, entry: &'a Entry) {
        if key.standing == Standing::NotYet {
            if self.silent == 0 {
                let message = format!("`{}` is not supported yet and does nothing", entry.key);
                self.say(Severity::Warning, Code::NotSupported, entry.key_place, message, None);
            }
            self.silent += 1;
        }
        self.shape(key.shape, &entry.value, What::Key(&entry.key));
        if key.standing == Standing::NotYet {
            self.silent -= 1;
        }
    }

    fn respelled(&mut self, block: &Block, key: &'static Key, entry: &'a Entry) {
        let message = format!("`{}` is read as `{}`", entry.key, key.name);
        let hint = if block.former.iter().any(|(former, _)| *former == entry.key) {
            format!("write `{}`: `{}` is an old name of it", key.name, entry.key)
        } else {
            format!("write `{}`; other systems leave `{}` out without a word", key.name, entry.key)
        };
        self.say(Severity::Warning, Code::Spelling, entry.key_place, message, Some(hint));
        self.known(key, entry);
    }

    /// Judges a value and what lies below it; `what` names it in a sentence.
    fn shape(&mut self, shape: Shape, node: &'a Node, what: What<'_>) {
        if let Some(Misfit { code, found, hint }) = shape.misfit(node) {
            let message = format!("{what} is {}, not {found}", shape.expected());
            return self.say(Severity::Error, code, node.place, message, hint);
        }
        match shape {
            Shape::Block(block) => self.block(block, node),
            Shape::List(item) => self.items(*item, node, what),
            Shape::Words => self.items(Shape::Text, node, what),
            Shape::Map(value) => {
                for entry in node.entries().unwrap_or_default() {
                    self.path.push("*");
                    self.shape(*value, &entry.value, What::Key(&entry.key));
                    self.path.pop();
                }
            }
            Shape::OneOf(shapes) => {
                if let Some(shape) = shapes.iter().find(|shape| shape.misfit(node).is_none()) {
                    self.shape(*shape, node, what);
                }
            }
            Shape::Stages(step) => node.entries().unwrap_or_default().iter().for_each(|entry| self.stage(step, entry)),
            _ => {}
        }
    }

    fn items(&mut self, item: Shape, node: &'a Node, what: What<'_>) {
        let what = item.item_name().map_or(What::ItemOf(&what), What::Named);
        node.items().unwrap_or_default().iter().for_each(|node| self.shape(item, node, what));
    }

    fn stage(&mut self, step: &'static Block, entry: &'a Entry) {
        let key = entry.key.as_str();
        let part = key.strip_suffix(".before").or_else(|| key.strip_suffix(".after"));
        // The name of one stage ends like the part of another.
        let base = part.filter(|_| !STAGES_DONE.contains(&key)).unwrap_or(key);
        let not_yet = STAGES_NOT_YET.contains(&base) || base.starts_with("provider-kairos.bootstrap.");
        if not_yet {
            self.path.push(base);
            let message = format!("the stage `{}` is not run yet", entry.key);
            self.say(Severity::Warning, Code::NotSupported, entry.key_place, message, None);
            self.path.pop();
        } else if !STAGES_DONE.contains(&base) {
            let near = nearest(base, STAGES_DONE.iter().chain(STAGES_NOT_YET).copied());
            // Stages are an open set: a node may be told to run any.
            let (severity, code) = match near {
                Some(_) => (Severity::Warning, Code::UnknownKey),
                None => (Severity::Note, Code::ForeignKey),
            };
            let message = format!("nothing here runs a stage `{}`", entry.key);
            self.say(severity, code, entry.key_place, message, near.and_then(did_you_mean));
        }
        self.path.push("*");
        self.silent += usize::from(not_yet);
        let list = Shape::List(&Shape::Any);
        if let Some(Misfit { code, found, hint }) = list.misfit(&entry.value) {
            let message = format!("a stage is {}, not {found}", list.expected());
            self.say(Severity::Error, code, entry.value.place, message, hint);
        }
        self.items(Shape::Block(step), &entry.value, What::Named("a stage"));
        self.silent -= usize::from(not_yet);
        self.path.pop();
    }

    fn block(&mut self, block: &'static Block, node: &'a Node) {
        for entry in node.entries().unwrap_or_default() {
            let name = entry.key.as_str();
            if name.starts_with("x-") {
                continue;
            }
            self.path.push(name);
            match block.find(name) {
                Found::Exact(key) => self.known(key, entry),
                Found::Respelled(key) => self.respelled(block, key, entry),
                Found::Unknown if block.dotted && name.contains('.') => self.dotted(block, entry),
                Found::Unknown => self.unknown(block, name, entry),
            }
            self.path.pop();
        }
    }

    /// A key that is a path: each part must be known where the one before leads.
    fn dotted(&mut self, block: &'static Block, entry: &'a Entry) {
        let mut block = Some(block);
        let mut shape = Shape::Any;
        let mut not_yet = false;
        for part in entry.key.split('.') {
            let Some(here) = block else {
                let message = format!("nothing lies below this key that `{part}` could name");
                return self.say(Severity::Error, Code::UnknownKey, entry.key_place, message, None);
            };
            let (Found::Exact(key) | Found::Respelled(key)) = here.find(part) else {
                return self.unknown(here, part, entry);
            };
            shape = key.shape;
            not_yet |= key.standing == Standing::NotYet;
            block = match key.shape {
                Shape::Block(below) => Some(below),
                _ => None,
            };
        }
        if not_yet && self.silent == 0 {
            let message = format!("`{}` is not supported yet and does nothing", entry.key);
            self.say(Severity::Warning, Code::NotSupported, entry.key_place, message, None);
        }
        self.shape(shape, &entry.value, What::Key(&entry.key));
    }

    fn unknown(&mut self, block: &'static Block, name: &str, entry: &Entry) {
        let near = nearest(name, block.keys.iter().map(|key| key.name));
        if block.open {
            if let Some(near) = near {
                let message = format!("`{name}` is not a key that {} is known to have", block.what);
                self.say(Severity::Warning, Code::UnknownKey, entry.key_place, message, did_you_mean(near));
            }
            return;
        }
        let hint = near.and_then(did_you_mean).or_else(|| {
            let names: Vec<_> = block.keys.iter().map(|key| key.name).collect();
            Some(format!("{} may have: {}", block.what, names.join(", ")))
        });
        let message = format!("unknown key `{name}` in {}", block.what);
        self.say(Severity::Error, Code::UnknownKey, entry.key_place, message, hint);
    }

    fn say(&mut self, severity: Severity, code: Code, place: Place, message: String, hint: Option<String>) {
        let mut diagnostic =
            Diagnostic::new(severity, code, self.document.span(place), message).key(self.path.join("."));
        diagnostic.hint = hint;
        self.diagnostics.push(diagnostic);
    }
}

fn did_you_mean(near: &str) -> Option<String> {
    Some(format!("did you mean `{near}`?"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        classify(&Document::parse("t", text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_fall_into_their_classes() {
        for (text, expected) in [
            ("hostname: a\nx-mine: {a: b}\n", vec![]),
            ("hostnam: a\n", vec!["t:1:1: error: unknown key `hostnam`\n  hint: did you mean `hostname`?"]),
            ("random_seed: a\n", vec!["t:1:1: warning: `random_seed` is not supported yet and does nothing"]),
            (
                "kairos: {vpn: {vpn: true}}\n",
                vec![
                    "t:1:1: warning: `kairos` is read as `p2p`\n  hint: write `p2p`: `kairos` is an old name of it",
                    "t:1:16: warning: `vpn` is read as `create`\n  hint: write `create`: `vpn` is an old name of it",
                ],
            ),
            ("mine: {}\n", vec!["t:1:1: note: `mine` is not a key of this system and is left to others"]),
            (
                "kubevip: {enabl: true, vip_cidr: 32}\n",
                vec![
                    "t:1:1: warning: `kubevip` is not supported yet and does nothing",
                    "t:1:11: warning: `enabl` is not a key that `kubevip` is known to have\n  hint: did you mean `enable`?",
                ],
            ),
            ("k3s: {enabled: true}\n", vec!["t:1:1: warning: `k3s` is not supported yet and does nothing"]),
            (
                "p2p: {network_token: a, dynamic_roles: true}\n",
                vec!["t:1:25: warning: `dynamic_roles` is not supported yet and does nothing"],
            ),
            (
                "stages: {boot: [{files: [{path: /a, permsisions: 1}]}]}\n",
                vec!["t:1:37: error: unknown key `permsisions` in a file\n  hint: did you mean `permissions`?"],
            ),
            (
                "stages: {initramf: []}\n",
                vec!["t:1:10: warning: nothing here runs a stage `initramf`\n  hint: did you mean `initramfs`?"],
            ),
            ("stages: {mine.before: []}\n", vec!["t:1:10: note: nothing here runs a stage `mine.before`"]),
            (
                "bundles: [{local_fil: true}]\n",
                vec![
                    "t:1:1: warning: `bundles` is not supported yet and does nothing",
                    "t:1:12: error: unknown key `local_fil` in a bundle\n  hint: did you mean `local_file`?",
                ],
            ),
            (
                "users: [{ssh-authorized-keys: []}]\n",
                vec![
                    "t:1:10: warning: `ssh-authorized-keys` is read as `ssh_authorized_keys`\n  hint: write \
                     `ssh_authorized_keys`; other systems leave `ssh-authorized-keys` out without a word",
                ],
            ),
            (
                "install: {partitions.oem.size: 60}\n",
                vec!["t:1:11: warning: `partitions.oem.size` is not supported yet and does nothing"],
            ),
            (
                "install: {partitions.oem.siz: 60}\n",
                vec!["t:1:11: error: unknown key `siz` in a partition\n  hint: did you mean `size`?"],
            ),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn open_blocks_take_any_key_and_warn_of_near_misses() {
        for (before, slip, meant, after) in [
            ("kubevip: {", "interfase", "interface", "}"),
            ("k0s: {", "enabeld", "enabled", "}"),
            ("k0s-worker: {", "replace_arg", "replace_args", "}"),
            ("grub_options: {", "extra_cmdlin", "extra_cmdline", "}"),
            ("install: {grub_options: {", "next_entri", "next_entry", "}}"),
            ("stages: {boot: [{timesyncd: {", "FallbackNTPs", "FallbackNTP", "}}]}"),
            ("stages: {boot: [{systemd_firstboot: {", "keympa", "keymap", "}}]}"),
        ] {
            let about_keys = |key: &str| -> Vec<_> {
                let document = Document::parse("t", &format!("{before}{key}: 1{after}\n"));
                let said = classify(&document).into_iter().filter(|said| said.code == Code::UnknownKey);
                said.map(|said| (said.severity, said.hint.unwrap_or_default())).collect()
            };
            assert_eq!(about_keys(slip), [(Severity::Warning, format!("did you mean `{meant}`?"))], "{before}{slip}");
            assert_eq!(about_keys("somebody_elses_own_key"), [], "{before}");
        }
        for text in ["options: {anythin: 1}\n", "k3s: {env: {enabeld: 1}}\n", "cluster: {config: {rol: 1}}\n"] {
            let said = classify(&Document::parse("t", text));
            assert!(said.iter().all(|said| said.code == Code::NotSupported), "{text}: {said:?}");
        }
    }

    #[test]
    fn spellings_of_the_published_schema_are_read_as_what_they_mean() {
        for (text, read_as) in [
            ("install: {no_format: true}\n", "`no_format` is read as `no-format`"),
            ("users: [{name: a, lockPasswd: true}]\n", "`lockPasswd` is read as `lock_passwd`"),
            ("upgrade: {system: {uri: 'oci:a'}}\n", "`uri` is read as `source`"),
            ("p2p: {vpn: {vpn: true}}\n", "`vpn` is read as `create`"),
            ("stages: {boot: [{files: [{path: /a, owner_string: a}]}]}\n", "`owner_string` is read as `ownerstring`"),
            ("ca-certs: {}\n", "`ca-certs` is read as `ca_certs`"),
        ] {
            let said = classify(&Document::parse("t", text));
            let spelled: Vec<_> = said.iter().filter(|said| said.code == Code::Spelling).collect();
            let [spelling] = spelled.as_slice() else { panic!("{text}: {said:?}") };
            assert_eq!((spelling.severity, spelling.message.as_str()), (Severity::Warning, read_as), "{text}");
            assert!(said.iter().all(|said| said.severity == Severity::Warning), "{text}: {said:?}");
        }
    }

    #[test]
    fn free_keys_are_free_at_every_level() {
        for text in [
            "x-a: {b: [c]}\n",
            "users: [{name: a, x-a: 1}]\n",
            "stages: {boot: [{x-a: 1, files: [{path: /a, x-b: {}}]}]}\n",
            "install: {x-a: 1}\n",
        ] {
            assert_eq!(said(text), Vec::<String>::new(), "{text}");
        }
    }

    /// Documents with one value that cannot be, and what is said of it.
    pub(crate) const FAULTS: &[(&str, &str)] = &[
        ("name: [a]\n", "1:7: `name` is text, not a list"),
        ("users: {ada: {}}\n", "1:8: `users` is text or a list, not a mapping"),
        ("users: [[a]]\n", "1:9: a user is text or a mapping, not a list"),
        ("users: [{name: a, uid: -1}]\n", "1:24: `uid` is a whole number from 0 to 4294967294, not `-1`"),
        ("users: [{name: a, system: perhaps}]\n", "1:27: `system` is `true` or `false`, not `perhaps`"),
        ("users: [{name: a, homedir: a}]\n", "1:28: `homedir` is an absolute path without `..`, not `a`"),
        ("users: [{name: a, groups: {b: c}}]\n", "1:27: `groups` is a list of texts, not a mapping"),
        ("users: [{name: a, groups: [[b]]}]\n", "1:28: an item of `groups` is text, not a list"),
        (
            "write_files: [{path: /a, permissions: rw}]\n",
            "1:39: `permissions` is an octal number from 0000 to 7777, not `rw`",
        ),
        ("write_files: [{path: /a, source: x}]\n", "1:34: `source` is a mapping, not a single value"),
        ("runcmd: ls\n", "1:9: `runcmd` is a list, not a single value"),
        ("runcmd: [{a: b}]\n", "1:10: an item of `runcmd` is text or a list, not a mapping"),
        ("runcmd: [[ls, [a]]]\n", "1:15: an item of an item of `runcmd` is text, not a list"),
        ("strict: most\n", "1:9: `strict` is `true` or `false` or `all`, not `most`"),
        ("stages: [boot]\n", "1:9: `stages` is a mapping, not a list"),
        ("stages: {boot: {commands: [a]}}\n", "1:16: a stage is a list, not a mapping"),
        ("stages: {boot: [a]}\n", "1:17: a step is a mapping, not a single value"),
        ("stages: {boot: [{sysctl: {a: [b]}}]}\n", "1:30: `a` is text, not a list"),
        ("stages: {boot: [{users: [a]}]}\n", "1:25: `users` is a mapping, not a list"),
        (
            "stages: {boot: [{layout: {add_partitions: [{size: 1.5}]}}]}\n",
            "1:51: `size` is a whole number from 0 to 17592186044416, not `1.5`",
        ),
        (
            "stages: {boot: [{files: [{path: /a, encoding: b46}]}]}\n",
            "1:47: `encoding` is `text/plain`, `b64`, `base64`, `gz`, `gzip`, `gz+b64`, `gz+base64`, `gzip+b64` or `gzip+base64`, not `b46`",
        ),
        (
            "install: {partitions.oem.size: big}\n",
            "1:32: `partitions.oem.size` is a whole number from 0 to 17592186044416, not `big`",
        ),
        ("install: {env: {A: b}}\n", "1:16: `env` is a list, not a mapping"),
        ("k3s: {enabled: {}}\n", "1:16: `enabled` is `true` or `false`, not a mapping"),
        ("kubevip: {enable: 7}\n", "1:19: `enable` is `true` or `false`, not `7`"),
        ("kairos: {vpn: {vpn: 7}}\n", "1:21: `vpn` is `true` or `false`, not `7`"),
        ("cluster: {role: boss}\n", "1:17: `role` is `init`, `controlplane` or `worker`, not `boss`"),
        ("bundles: [{targets: a}]\n", "1:21: `targets` is a list, not a single value"),
        ("power_state: {mode: of}\n", "1:21: `mode` is `poweroff`, `reboot` or `halt`, not `of`"),
        (
            "swap: {size: much}\n",
            "1:14: `size` is `auto` or a number of bytes, or a number with a unit such as `512M`, not `much`",
        ),
    ];

    #[test]
    fn values_of_the_wrong_type_are_pointed_at_wherever_they_are() {
        for (text, expected) in FAULTS {
            let document = Document::parse("t", text);
            let errors = classify(&document).into_iter().filter(|said| said.severity == Severity::Error);
            let said: Vec<_> =
                errors.map(|said| format!("{}: {}", &said.span.to_string()[2..], said.message)).collect();
            assert_eq!(said, [*expected], "{text}");
        }
    }

    #[test]
    fn null_is_the_empty_value_of_every_key() {
        fn empty(block: &Block) -> String {
            block.keys.iter().map(|key| format!("{}: ~, ", key.name)).collect()
        }
        for block in TOP_BLOCKS {
            let document = Document::parse("t", &format!("{{{}}}\n", empty(block)));
            assert!(classify(&document).iter().all(|said| said.severity == Severity::Warning));
        }
        let document = Document::parse("t", &format!("stages: {{boot: [{{{}}}, ~]}}\n", empty(&crate::keys::STEP)));
        assert!(classify(&document).iter().all(|said| said.severity == Severity::Warning));
    }

    #[test]
    fn a_key_path_names_no_instance() {
        let document = Document::parse("t", "stages: {boot: [{users: {root: {snapuser: a@b}}}]}\n");
        let keys: Vec<_> = classify(&document).into_iter().filter_map(|d| d.key).collect();
        assert_eq!(keys, ["stages.*.users.*.snapuser"]);
    }
}
