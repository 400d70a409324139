//! What a boot reads of its root first: `kairn`, which runs the early stages, and the root's init with the libraries that it is linked to.
//!
//! Invariant: only a hint. What is not found is left out, whatever the reason; the order is that of ld.so, the same for the same tree.

use crate::rootfs::Rootfs;
use kairn_layout::paths;
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64, Machine};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// What the kernel command line's `init=` is when nobody gave one.
const INIT: &str = "/sbin/init";
/// Where ld.so looks of itself (ld.so(8)), here or there. What only `ld.so.conf` names is not for an init.
const DEFAULTS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The files to read, in order of need, and what was not found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readahead {
    /// Absolute within the tree, links followed.
    pub(crate) files: Vec<PathBuf>,
    /// Programs and libraries by the names that ask for them.
    pub(crate) missing: Vec<String>,
}

impl Readahead {
    /// Finds what a tree's boot reads. `kairn` need not lie there yet.
    pub(crate) fn of(tree: &Rootfs) -> Self {
        let mut readahead = Self::closure(INIT, |path| Object::read(tree, path));
        readahead.files.insert(0, Path::new("/").join(paths::KAIRN));
        readahead
    }

    /// Finds what the kernel and ld.so open for a program, in the order of ld.so. A script, or a program that is not of 64 bits, is all
    /// there is.
    fn closure(program: &str, read: impl Fn(&Path) -> Option<Object>) -> Self {
        let mut found = Self::default();
        let Some(first) = read(Path::new(program)) else {
            found.missing.push(program.to_owned());
            return found;
        };
        let machine = first.machine;
        // The program's RPATH is for the libraries of its libraries, too.
        let inherited = first.rpath.clone();
        let mut names = BTreeSet::new();
        let mut todo = VecDeque::from([first]);
        while let Some(object) = todo.pop_front() {
            if found.files.contains(&object.path) {
                continue;
            }
            for name in &object.needed {
                // What is loaded is not looked for again: systemd's own libraries need each other, and only the program says where.
                if !names.insert(name.clone()) {
                    continue;
                }
                let mut objects = object.candidates(name, &inherited).into_iter().filter_map(|path| read(&path));
                // One for another machine is passed over, as ld.so does it.
                match objects.find(|library| library.machine.is_some() && library.machine == machine) {
                    Some(library) => todo.push_back(library),
                    None => found.missing.push(name.clone()),
                }
            }
            found.files.push(object.path);
        }
        found
    }

    /// Writes one absolute path a line. A name that a line cannot hold is left out.
    pub(crate) fn render(&self) -> String {
        let texts = self.files.iter().filter_map(|path| path.to_str()).filter(|text| !text.contains('\n'));
        texts.map(|text| format!("{text}\n")).collect()
    }
}

/// What an ELF file asks for.
#[derive(Clone, Debug, Default)]
struct Object {
    /// Absolute within the tree, links followed.
    path: PathBuf,
    /// `None` for what is not an ELF file.
    machine: Option<Machine>,
    /// The interpreter, then the libraries.
    needed: Vec<String>,
    rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
}

impl Object {
    /// Reads a file of the tree; `None` when there is none.
    fn read(tree: &Rootfs, path: &Path) -> Option<Self> {
        let place = tree.follow(path).ok()?;
        let bytes = tree.read(path).ok()??;
        let path = Path::new("/").join(place.strip_prefix(tree.root()).ok()?);
        Some(Self::parse(&path, &bytes).unwrap_or(Self { path, ..Self::default() }))
    }

    fn parse(path: &Path, bytes: &[u8]) -> Option<Self> {
        let elf: ElfFile64<'_, Endianness> = ElfFile64::parse(bytes).ok()?;
        let header: &FileHeader64<Endianness> = elf.elf_header();
        let mut object =
            Self { path: path.to_owned(), machine: Some(header.e_machine(elf.endian())), ..Self::default() };
        let interpreters = elf.elf_program_headers().iter();
        let interpreter = interpreters.filter_map(|header| header.interpreter(elf.endian(), bytes).ok()?).next();
        object.needed.extend(interpreter.and_then(text));
        let table = elf.elf_dynamic_table().unwrap_or_default();
        for entry in table.iter() {
            let Some(value) = table.string(entry).ok().and_then(text) else { continue };
            match entry.tag {
                DT_NEEDED => object.needed.push(value),
                DT_RPATH => object.rpath = dirs(path, &value),
                DT_RUNPATH => object.runpath = dirs(path, &value),
                _ => {}
            }
        }
        Some(object)
    }

    /// Lists where ld.so looks for a library of this object (ld.so(8)).
    fn candidates(&self, name: &str, inherited: &[PathBuf]) -> Vec<PathBuf> {
        let rpath = self.rpath.iter().chain(inherited).filter(|_| self.runpath.is_empty());
        let dirs = rpath.chain(&self.runpath).map(PathBuf::as_path).chain(DEFAULTS.map(Path::new));
        // Joined to a directory, an absolute name stays what it is.
        dirs.map(|dir| dir.join(name)).collect()
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_owned()).ok()
}

/// Splits a list of directories. `$ORIGIN` is the object's own.
fn dirs(object: &Path, list: &str) -> Vec<PathBuf> {
    let origin = object.parent().unwrap_or(object).to_string_lossy();
    let dirs = list.split(':').filter(|dir| !dir.is_empty());
    dirs.map(|dir| dir.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::{EM_386, EM_X86_64};
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Copies this machine's `ls` and what ld.so itself says that it needs to the same names in a tree whose init it is. Returns what
    /// it needs, sorted.
    fn tree(root: &Path) -> Option<Vec<PathBuf>> {
        let ldd = kairn_host::Invocation::new("ldd").arg("/usr/bin/ls");
        let Ok(finished) = kairn_host::Runner::default().run(&ldd) else {
            eprintln!("skipped: no ldd for /usr/bin/ls here");
            return None;
        };
        let text = String::from_utf8(finished.stdout).unwrap();
        let names = text.split_whitespace().filter(|word| word.starts_with('/')).chain(["/usr/bin/ls"]);
        let mut names: Vec<PathBuf> = names.map(PathBuf::from).collect();
        names.sort();
        assert!(names.len() > 2, "{text}");
        for name in &names {
            let copy = within(root, name);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(name, copy).unwrap();
        }
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        symlink("/usr/bin/ls", root.join("usr/sbin/init")).unwrap();
        Some(names)
    }

    fn within(root: &Path, path: &Path) -> PathBuf {
        root.join(path.strip_prefix("/").unwrap())
    }

    fn closure(root: &Path) -> Readahead {
        let tree = Rootfs::new(root);
        Readahead::closure(INIT, |path| Object::read(&tree, path))
    }

    fn sorted(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        files.sort();
        files
    }

    #[test]
    fn an_init_leads_to_what_the_loader_says() {
        let dir = tempfile::tempdir().unwrap();
        let Some(wanted) = tree(dir.path()) else { return };
        let found = Readahead::of(&Rootfs::new(dir.path()));
        let (kairn, rest) = found.files.split_first().unwrap();
        assert_eq!((kairn.to_str(), rest[0].to_str()), (Some("/usr/bin/kairn"), Some("/usr/bin/ls")));
        assert_eq!(sorted(rest.to_vec()), wanted);
        assert!(found.missing.is_empty(), "{found:?}");
        assert_eq!(found.render().lines().count(), found.files.len());
        assert_eq!(Readahead::of(&Rootfs::new(dir.path())), found);
    }

    #[test]
    fn links_are_followed_within_the_tree_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let Some(wanted) = tree(dir.path()) else { return };
        let is_libc = |path: &PathBuf| path.to_string_lossy().contains("libc.so");
        let Some(libc) = wanted.iter().find(|path| is_libc(path)) else {
            eprintln!("skipped: the C library has another name here");
            return;
        };
        let name = libc.file_name().unwrap();
        fs::create_dir(dir.path().join("opt")).unwrap();
        fs::rename(within(dir.path(), libc), dir.path().join("opt").join(name)).unwrap();
        symlink(Path::new("../../../../../../opt").join(name), within(dir.path(), libc)).unwrap();
        let found = closure(dir.path());
        assert!(found.files.contains(&Path::new("/opt").join(name)) && found.missing.is_empty(), "{found:?}");

        // This machine has that file, but the tree has not.
        fs::remove_file(dir.path().join("opt").join(name)).unwrap();
        symlink(fs::canonicalize(libc).unwrap(), dir.path().join("opt").join(name)).unwrap();
        let found = closure(dir.path());
        assert_eq!(found.missing, [name.to_str().unwrap()]);
        assert_eq!(found.files.len(), wanted.len() - 1);
    }

    #[test]
    fn a_script_is_all_there_is_and_no_init_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Rootfs::new(dir.path());
        assert_eq!(Readahead::of(&tree).render(), "/usr/bin/kairn\n");
        assert_eq!(Readahead::of(&tree).missing, ["/sbin/init"]);
        fs::create_dir(dir.path().join("sbin")).unwrap();
        fs::write(dir.path().join("sbin/init"), "#!/bin/sh\n").unwrap();
        assert_eq!(Readahead::of(&tree).render(), "/usr/bin/kairn\n/sbin/init\n");
        assert!(Readahead::of(&tree).missing.is_empty());
    }

    #[test]
    fn what_is_loaded_is_not_looked_for_again_and_other_machines_are_passed_over() {
        let object = |path: &str, machine, needed: &[&str], runpath: &[&str]| Object {
            path: path.into(),
            machine: Some(machine),
            needed: needed.iter().map(ToString::to_string).collect(),
            rpath: Vec::new(),
            runpath: runpath.iter().map(PathBuf::from).collect(),
        };
        let objects = [
            object("/sbin/init", EM_X86_64, &["core.so", "shared.so", "c.so"], &["/private"]),
            object("/private/core.so", EM_X86_64, &["shared.so", "none.so", "c.so"], &[]),
            object("/private/shared.so", EM_X86_64, &["none.so", "c.so"], &[]),
            object("/lib64/c.so", EM_386, &["never.so"], &[]),
            object("/lib/c.so", EM_X86_64, &[], &[]),
        ];
        let found = Readahead::closure(INIT, |path| objects.iter().find(|object| object.path == path).cloned());
        let files = ["/sbin/init", "/private/core.so", "/private/shared.so", "/lib/c.so"];
        assert_eq!(found.files, files.map(PathBuf::from));
        assert_eq!(found.missing, ["none.so"]);
    }

    #[test]
    fn own_directories_come_before_those_of_the_loader() {
        let origin = dirs(Path::new("/usr/lib/systemd/systemd"), "$ORIGIN/../private::${ORIGIN}:/opt");
        assert_eq!(origin, ["/usr/lib/systemd/../private", "/usr/lib/systemd", "/opt"].map(PathBuf::from));
        let inherited = [PathBuf::from("/inherited")];
        let first = |object: &Object, name: &str| object.candidates(name, &inherited).swap_remove(0);
        let mut object = Object { rpath: vec!["/r".into()], ..Object::default() };
        assert_eq!(first(&object, "a.so"), Path::new("/r/a.so"));
        assert_eq!(object.candidates("a.so", &inherited)[1], Path::new("/inherited/a.so"));
        object.runpath = vec!["/run".into()];
        assert_eq!(first(&object, "a.so"), Path::new("/run/a.so"));
        assert_eq!(first(&object, "/lib64/ld.so"), Path::new("/lib64/ld.so"));
        assert_eq!(first(&Object { runpath: Vec::new(), ..Object::default() }, "b"), Path::new("/inherited/b"));
    }
}
