use super::*;
use proptest::prelude::*;

const DEP: &str = "\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/fs/nls/nls_iso8859-1.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/gone.ko
kernel/crypto/crc32c_generic.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/a.ko:
kernel/b.ko:
";
const SOFTDEP: &str = "# comment
softdep ext4 pre: crypto-crc32c nothing-of-the-kind
softdep jbd2 pre: crypto-crc32c post: a
softdep a ignored pre: b
softdep b pre: a
";
const ALIAS: &str = "# Aliases
alias virtio:d00000002v* virtio_blk
alias crypto-crc32c crc32c_generic
alias crypto-crc32c crc32c-intel
alias acpi*:LNRO0005:* virtio_mmio
alias pci:v00008086d*sv*sd*bc01sc06i0[12]* ahci
";

fn index() -> ModuleIndex {
    ModuleIndex::parse(&IndexTexts {
        dep: DEP,
        softdep: SOFTDEP,
        alias: ALIAS,
        builtin: "kernel/drivers/nvme/host/nvme-core.ko\n",
        builtin_modinfo: "nvme_core.license=GPL\0sha256.alias=crypto-sha256\0",
    })
}

#[test]
fn a_closure_puts_needs_and_soft_needs_first_and_lists_what_is_missing() {
    let closure = index().closure(["virtio-blk", "ext4", "nvme_core", "crypto-sha256", "zfs", "zfs"]);
    assert_eq!(
        closure.files,
        [
            "kernel/drivers/virtio/virtio.ko",
            "kernel/drivers/virtio/virtio_ring.ko",
            "kernel/drivers/block/virtio_blk.ko.xz",
            "kernel/crypto/crc32c_generic.ko",
            "kernel/arch/x86/crypto/crc32c-intel.ko",
            "kernel/lib/gone.ko",
            "kernel/fs/jbd2/jbd2.ko",
            "kernel/b.ko",
            "kernel/a.ko",
            "kernel/fs/ext4/ext4.ko",
        ]
    );
    assert_eq!(closure.missing, ["zfs"]);
}

#[test]
fn devices_find_their_modules_by_alias() {
    let index = index();
    for (modalias, names) in [
        ("virtio:d00000002v00001AF4", vec!["virtio_blk"]),
        ("acpi:LNRO0005:", vec!["virtio_mmio"]),
        ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", vec!["ahci"]),
        ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i03", vec![]),
        ("virtio:d00000003v00001AF4", vec![]),
        ("crypto-crc32c", vec!["crc32c_generic", "crc32c_intel"]),
    ] {
        assert_eq!(index.matches(modalias), names, "{modalias}");
    }
}

#[test]
fn patterns_match_as_fnmatch_does() {
    for (pattern, text, wanted) in [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*b*c", "aXbYbZc", true),
        ("a*bc", "abcb", false),
        ("a?c", "a-c", true),
        ("a_c", "a-c", true),
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[!a-c]x", "dx", true),
        ("[]a]", "]", true),
        ("[a-]", "-", true),
        ("[ab", "[ab", true),
        ("\\*", "*", true),
        ("\\*", "x", false),
        ("", "", true),
        ("*", "", true),
        ("", "x", false),
    ] {
        assert_eq!(glob::matches(pattern, text), wanted, "{pattern} {text}");
    }
}

#[test]
fn a_rendered_index_says_the_same_about_its_files() {
    let index = index();
    let names = ["virtio_blk", "ext4"];
    let closure = index.closure(names);
    let texts = index.render(&closure.files, ["nvme-core", "crypto-sha256"]);
    let again = ModuleIndex::parse(&IndexTexts {
        dep: &texts.dep,
        softdep: &texts.softdep,
        alias: &texts.alias,
        builtin: &texts.builtin,
        builtin_modinfo: "",
    });
    let plain: Vec<_> = closure.files.iter().map(|file| uncompressed(file)).collect();
    assert_eq!(again.closure(names).files, plain);
    assert_eq!(again.matches("virtio:d00000002v00001AF4"), ["virtio_blk"]);
    assert!(again.matches("acpi:LNRO0005:").is_empty(), "modules that are not in the initramfs leave no alias");
    assert!(again.is_builtin("nvme-core") && again.is_builtin("crypto-sha256"));
}

#[test]
fn every_wanted_name_stands_in_one_group_only() {
    let mut names: Vec<_> = wanted_names(None).map(canonical).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(wanted_names(Some(Load::Always)).any(|name| name == "efivarfs"));
}

proptest! {
    #[test]
    fn in_every_closure_a_module_stands_behind_its_needs(
        edges in proptest::collection::vec((0_usize..12, 0_usize..12), 0..40),
        wanted in proptest::collection::vec(0_usize..12, 1..5),
    ) {
        // An edge always leads from the higher to the lower number, so the graph has no cycle.
        let mut needs = vec![BTreeSet::new(); 12];
        for (a, b) in edges {
            if a != b {
                needs[a.max(b)].insert(a.min(b));
            }
        }
        let dep: String = needs
            .iter()
            .enumerate()
            .map(|(n, needs)| format!("k/m{n}.ko:{}\n", needs.iter().map(|n| format!(" k/m{n}.ko")).collect::<String>()))
            .collect();
        let index = ModuleIndex::parse(&IndexTexts { dep: &dep, ..IndexTexts::default() });
        let closure = index.closure(wanted.iter().map(|n| format!("m{n}")));
        let place = |n: usize| closure.files.iter().position(|file| *file == format!("k/m{n}.ko"));
        for (n, needs) in needs.iter().enumerate() {
            for need in needs {
                if place(n).is_some() {
                    prop_assert!(place(*need) < place(n) && place(*need).is_some(), "{n} needs {need}: {:?}", closure.files);
                }
            }
        }
        prop_assert!(wanted.iter().all(|n| place(*n).is_some()) && closure.missing.is_empty());
    }

    #[test]
    fn a_star_matches_what_a_naive_matcher_matches(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn naive(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), None) => naive(rest, text),
                (Some((b'*', rest)), Some((_, after))) => naive(rest, text) || naive(pattern, after),
                (Some((b'?', rest)), Some((_, after))) => naive(rest, after),
                (Some((p, rest)), Some((t, after))) => p == t && naive(rest, after),
                _ => false,
            }
        }
        prop_assert_eq!(glob::matches(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn foreign_texts_never_panic(text in "(?s).{0,120}", alias in ".{0,20}") {
        let index = ModuleIndex::parse(&IndexTexts { dep: &text, softdep: &text, alias: &text, builtin: &text, builtin_modinfo: &text });
        prop_assert!(index.closure([alias.as_str()]).missing.len() <= 1);
        prop_assert!(index.matches(&alias).len() <= 1);
    }
}
