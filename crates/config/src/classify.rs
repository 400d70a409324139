//! Sorts the keys of a document into known, not yet supported, foreign and unknown.
//!
//! Below a key that is not supported yet only unknown keys are reported: one sentence says that the block does nothing.

use crate::keys::{Block, CLOUD_INIT, Found, Key, STAGES_DONE, STAGES_NOT_YET, Shape, Standing, TOP};
use crate::suggest::nearest;
use crate::{Code, Diagnostic, Document, Entry, Node, Severity};
use kairn_report::Place;

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

impl<'a> Walk<'a> {
    fn top(&mut self, entry: &'a Entry) {
        let name = entry.key.as_str();
        if name.starts_with("x-") {
            return;
        }
        self.path.push(name);
        let found = match TOP.find(name) {
            Found::Unknown => CLOUD_INIT.find(name),
            found => found,
        };
        match found {
            Found::Exact(key) => self.known(key, entry),
            Found::Respelled(key) => self.respelled(&TOP, key, entry),
            Found::Unknown => match nearest(name, TOP.keys.iter().chain(CLOUD_INIT.keys).map(|key| key.name)) {
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
        self.shape(key.shape, &entry.value);
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

    fn shape(&mut self, shape: Shape, node: &'a Node) {
        match shape {
            Shape::Block(block) => self.block(block, node),
            Shape::List(item) => node.items().unwrap_or_default().iter().for_each(|node| self.shape(*item, node)),
            Shape::Map(value) => {
                for entry in node.entries().unwrap_or_default() {
                    self.path.push("*");
                    self.shape(*value, &entry.value);
                    self.path.pop();
                }
            }
            Shape::OneOf(shapes) => shapes.iter().for_each(|shape| self.shape(*shape, node)),
            Shape::Stages(step) => node.entries().unwrap_or_default().iter().for_each(|entry| self.stage(step, entry)),
            _ => {}
        }
    }

    fn stage(&mut self, step: &'static Block, entry: &'a Entry) {
        let base = entry.key.strip_suffix(".before").or_else(|| entry.key.strip_suffix(".after")).unwrap_or(&entry.key);
        let not_yet = STAGES_NOT_YET.contains(&base) || base.starts_with("provider-kairos.bootstrap.");
        if not_yet {
            self.path.push(base);
            let message = format!("the stage `{}` is not run yet", entry.key);
            self.say(Severity::Warning, Code::NotSupported, entry.key_place, message, None);
            self.path.pop();
        } else if !STAGES_DONE.contains(&base) {
            let near = nearest(base, STAGES_DONE.iter().chain(STAGES_NOT_YET).copied());
            let (severity, code) = match near {
                Some(_) => (Severity::Error, Code::UnknownKey),
                None => (Severity::Note, Code::ForeignKey),
            };
            let message = format!("nothing here runs a stage `{}`", entry.key);
            self.say(severity, code, entry.key_place, message, near.and_then(did_you_mean));
        }
        self.path.push("*");
        self.silent += usize::from(not_yet);
        entry.value.items().unwrap_or_default().iter().for_each(|node| self.block(step, node));
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
        let mut not_yet = false;
        for part in entry.key.split('.') {
            let Some(here) = block else {
                let message = format!("nothing lies below this key that `{part}` could name");
                return self.say(Severity::Error, Code::UnknownKey, entry.key_place, message, None);
            };
            let (Found::Exact(key) | Found::Respelled(key)) = here.find(part) else {
                return self.unknown(here, part, entry);
            };
            not_yet |= key.standing == Standing::NotYet;
            block = match key.shape {
                Shape::Block(below) => Some(below),
                _ => None,
            };
        }
        // Dotted keys are read by nothing yet, whatever they name.
        if self.silent == 0 {
            let what = if not_yet { "" } else { " as a dotted key" };
            let message = format!("`{}` is not supported yet{what} and does nothing", entry.key);
            self.say(Severity::Warning, Code::NotSupported, entry.key_place, message, None);
        }
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
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        classify(&Document::parse("t", text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_fall_into_their_classes() {
        for (text, expected) in [
            ("hostname: a\nx-mine: {a: b}\n", vec![]),
            ("hostnam: a\n", vec!["t:1:1: error: unknown key `hostnam`\n  hint: did you mean `hostname`?"]),
            ("user: {}\n", vec!["t:1:1: warning: `user` is not supported yet and does nothing"]),
            (
                "kairos: {vpn: {vpn: true}}\n",
                vec![
                    "t:1:1: warning: `kairos` is read as `p2p`\n  hint: write `p2p`: `kairos` is an old name of it",
                    "t:1:1: warning: `kairos` is not supported yet and does nothing",
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
                "stages: {boot: [{files: [{path: /a, permsisions: 1}]}]}\n",
                vec!["t:1:37: error: unknown key `permsisions` in a file\n  hint: did you mean `permissions`?"],
            ),
            (
                "stages: {initramf: []}\n",
                vec!["t:1:10: error: nothing here runs a stage `initramf`\n  hint: did you mean `initramfs`?"],
            ),
            ("stages: {mine.before: []}\n", vec!["t:1:10: note: nothing here runs a stage `mine.before`"]),
            (
                "stages: {boot: [{layout: {device: {labl: a}}}]}\n",
                vec![
                    "t:1:18: warning: `layout` is not supported yet and does nothing",
                    "t:1:36: error: unknown key `labl` in `layout.device`\n  hint: did you mean `label`?",
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
    fn a_key_path_names_no_instance() {
        let document = Document::parse("t", "stages: {boot: [{users: {root: {no_log_init: true}}}]}\n");
        let keys: Vec<_> = classify(&document).into_iter().filter_map(|d| d.key).collect();
        assert_eq!(keys, ["stages.*.users.*.no_log_init"]);
    }
}
