//! Kernel modules: which files a set of names needs and in what order, and which modules a device asks for.
//!
//! Reads the text files that `depmod` leaves in `/lib/modules/<release>` (modules.dep(5), modprobe.d(5)). Invariant: in every
//! list of files a module stands behind all that it needs, so that loading them one by one never meets an unknown symbol.
//! The same code decides at build time what goes into the initramfs and at boot what is loaded.

mod glob;
mod wanted;

pub use wanted::{Load, WANTED, Wanted, wanted_names};

use std::collections::{BTreeMap, BTreeSet};

/// The texts that `depmod` writes; an absent file is an empty text.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexTexts<'a> {
    /// `modules.dep`.
    pub dep: &'a str,
    /// `modules.softdep`.
    pub softdep: &'a str,
    /// `modules.alias`.
    pub alias: &'a str,
    /// `modules.builtin`.
    pub builtin: &'a str,
    /// `modules.builtin.modinfo`: NUL-separated `module.key=value`, of which only `alias` matters here.
    pub builtin_modinfo: &'a str,
}

/// What is known about the modules of one kernel.
#[derive(Clone, Debug, Default)]
pub struct ModuleIndex {
    /// File and the files that it needs, by name with underscores.
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
    builtin_aliases: Vec<String>,
    /// Patterns by what stands before their first colon; those with a wildcard there are under the empty text.
    aliases: BTreeMap<String, Vec<Alias>>,
}

#[derive(Clone, Debug, Default)]
struct Module {
    file: String,
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

#[derive(Clone, Debug)]
struct Alias {
    pattern: String,
    module: String,
}

/// The files that a set of names needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// Files as `modules.dep` names them, each behind all that it needs.
    pub files: Vec<String>,
    /// Names that are neither a module, nor built in, nor an alias of either.
    pub missing: Vec<String>,
}

/// The texts of an index for the modules of an initramfs, which holds them uncompressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderedIndex {
    /// `modules.dep`.
    pub dep: String,
    /// `modules.softdep`.
    pub softdep: String,
    /// `modules.alias`.
    pub alias: String,
    /// `modules.builtin`.
    pub builtin: String,
}

/// Returns the name under which the kernel knows a module: dashes become underscores.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns the name of the module in a file such as `kernel/fs/nls/nls_iso8859-1.ko.xz`; `None` for other files.
#[must_use]
pub fn module_name(file: &str) -> Option<String> {
    let stem = uncompressed(file).strip_suffix(".ko")?;
    Some(canonical(stem.rsplit('/').next().unwrap_or(stem))).filter(|name| !name.is_empty())
}

/// Returns the path without the suffix of a compressor: where an initramfs keeps the module.
#[must_use]
pub fn uncompressed(file: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|suffix| file.strip_suffix(suffix)).unwrap_or(file)
}

impl ModuleIndex {
    /// Reads the texts. Lines that are not understood are passed over, as `modprobe` does.
    #[must_use]
    pub fn parse(texts: &IndexTexts<'_>) -> Self {
        let mut index = Self::default();
        for line in texts.dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let Some(name) = module_name(file) else { continue };
            let module = index.modules.entry(name).or_default();
            file.clone_into(&mut module.file);
            module.needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
        }
        for line in texts.softdep.lines() {
            index.read_softdep(line);
        }
        for line in texts.alias.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module), None) =
                (words.next(), words.next(), words.next(), words.next())
            {
                let alias = Alias { pattern: pattern.to_owned(), module: canonical(module) };
                index.aliases.entry(bucket(pattern).to_owned()).or_default().push(alias);
            }
        }
        index.builtin = texts.builtin.lines().filter_map(|line| module_name(line.trim())).collect();
        index.builtin_aliases = texts
            .builtin_modinfo
            .split('\0')
            .filter_map(|entry| entry.split_once('.'))
            .filter_map(|(_, field)| field.strip_prefix("alias="))
            .map(str::to_owned)
            .collect();
        index
    }

    /// `softdep <module> pre: <names> post: <names>`; words before the first keyword mean nothing (libkmod ignores them).
    fn read_softdep(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("softdep") {
            return;
        }
        let Some(module) = words.next().and_then(|name| self.modules.get_mut(&canonical(name))) else { return };
        let mut list: Option<&mut Vec<String>> = None;
        for word in words {
            match word {
                "pre:" => list = Some(&mut module.before),
                "post:" => list = Some(&mut module.after),
                name => {
                    if let Some(list) = &mut list {
                        list.push(name.to_owned());
                    }
                }
            }
        }
    }

    /// Returns the file of a module, as `modules.dep` names it.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&str> {
        self.modules.get(&canonical(name)).map(|module| module.file.as_str())
    }

    /// Says whether a name is that of a built-in module or an alias of one.
    #[must_use]
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&canonical(name))
            || self.builtin_aliases.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// Returns the files that these names need, dependencies first, soft ones before and after as the modules ask. A name may
    /// be that of a module or an alias; of an alias all modules are taken, as `modprobe` does. Soft dependencies that do not
    /// exist are not missing.
    pub fn closure<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) -> Closure {
        let mut closure = Closure::default();
        let mut seen = BTreeSet::new();
        for name in names {
            let name = name.as_ref();
            if !self.add_named(name, &mut closure.files, &mut seen)
                && !closure.missing.iter().any(|known| known == name)
            {
                closure.missing.push(name.to_owned());
            }
        }
        closure
    }

    /// Returns the names of the modules that a device with this `modalias` asks for, in the order of `modules.alias`, each once.
    #[must_use]
    pub fn matches(&self, modalias: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let buckets = [bucket(modalias), ""];
        for alias in buckets.into_iter().filter_map(|key| self.aliases.get(key)).flatten() {
            if !names.contains(&alias.module.as_str()) && glob::matches(&alias.pattern, modalias) {
                names.push(&alias.module);
            }
        }
        names
    }

    /// Renders the index for these files and nothing else, with the paths of uncompressed modules. Of what is built in, only
    /// those of `asked` are kept (aliases too), so that asking for them at boot is not taken for a lack.
    pub fn render<S: AsRef<str>>(&self, files: &[String], asked: impl IntoIterator<Item = S>) -> RenderedIndex {
        let mut texts = RenderedIndex::default();
        let names: BTreeSet<String> = files.iter().filter_map(|file| module_name(file)).collect();
        for name in &names {
            let Some(module) = self.modules.get(name) else { continue };
            let needs: Vec<&str> = module.needs.iter().map(|need| uncompressed(need)).collect();
            texts.dep += &format!("{}: {}\n", uncompressed(&module.file), needs.join(" "));
            if !module.before.is_empty() {
                texts.softdep += &format!("softdep {name} pre: {}\n", module.before.join(" "));
            }
            if !module.after.is_empty() {
                texts.softdep += &format!("softdep {name} post: {}\n", module.after.join(" "));
            }
        }
        for alias in self.aliases.values().flatten().filter(|alias| names.contains(&alias.module)) {
            texts.alias += &format!("alias {} {}\n", alias.pattern, alias.module);
        }
        for name in asked.into_iter().filter(|name| self.is_builtin(name.as_ref())) {
            texts.builtin += &format!("kernel/{}.ko\n", name.as_ref());
        }
        texts
    }

    /// Adds what a name needs; says whether it means anything to this kernel.
    fn add_named(&self, name: &str, files: &mut Vec<String>, seen: &mut BTreeSet<String>) -> bool {
        if let Some(module) = self.modules.get(&canonical(name)) {
            self.add_module(module, files, seen);
            return true;
        }
        if self.is_builtin(name) {
            return true;
        }
        let known: Vec<&Module> = self.matches(name).into_iter().filter_map(|name| self.modules.get(name)).collect();
        for module in &known {
            self.add_module(module, files, seen);
        }
        !known.is_empty()
    }

    fn add_module(&self, module: &Module, files: &mut Vec<String>, seen: &mut BTreeSet<String>) {
        // Entering before descending ends cycles of soft dependencies, which exist; hard ones cannot be cyclic.
        if !seen.insert(module.file.clone()) {
            return;
        }
        for name in &module.before {
            self.add_named(name, files, seen);
        }
        // modules.dep names the nearest dependency first, so what all others need comes last.
        for file in module.needs.iter().rev() {
            match module_name(file).and_then(|name| self.modules.get(&name)) {
                Some(needed) => self.add_module(needed, files, seen),
                None => {
                    if seen.insert(file.clone()) {
                        files.push(file.clone());
                    }
                }
            }
        }
        files.push(module.file.clone());
        for name in &module.after {
            self.add_named(name, files, seen);
        }
    }
}

/// The bus of a modalias or pattern; empty when a wildcard stands in it.
fn bucket(pattern: &str) -> &str {
    let bus = pattern.split_once(':').map_or("", |(bus, _)| bus);
    if bus.contains(['*', '?', '[', '\\', '-', '_']) { "" } else { bus }
}

#[cfg(test)]
#[path = "kmod/tests.rs"]
mod tests;
