//! Builds of a small tree: the same bytes every time, and whole outputs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod fixture;

use fixture::{have, options, request, tree, without_erofs};
use kairn_factory::{Error, Manifest, build};
use kairn_host::{Invocation, Runner};
use kairn_report::Silent;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const TOOLS: &[&str] = &["mkfs.erofs", "mke2fs", "debugfs", "e2fsck", "cp"];

/// Kind, mode, size, links, time and content or target of everything in a tree.
fn listing(root: &Path) -> BTreeMap<String, (u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().to_string_lossy().into_owned().into_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        found.insert(name, (metadata.mode(), links, metadata.mtime(), content));
    }
    found
}

fn outputs(manifest: &Manifest) -> Vec<(String, String)> {
    manifest.outputs.iter().map(|output| (output.path.clone(), output.blob.sha256.to_string())).collect()
}

#[test]
fn two_builds_and_a_build_from_the_image_are_the_same_bytes() {
    if !have(TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let runner = Runner::default();
    let before = listing(&root);
    let source = format!("dir:{}", root.display());
    let build_to = |source: &str, name: &str| {
        build(&request(source, &dir.path().join(name), options.clone()), &runner, &mut Silent).unwrap()
    };
    let first = build_to(&source, "first");
    // Whatever takes its time from the clock differs now.
    std::thread::sleep(Duration::from_millis(1100));
    let second = build_to(&source, "second");
    assert_eq!(first, second);
    assert_eq!(listing(&root), before, "the source is not touched");
    let content = |name: &str| {
        let mut all = listing(&dir.path().join(name));
        all.values_mut().for_each(|file| file.2 = 0);
        all
    };
    assert!(content("first") == content("second"));

    // The converted image, wherever it is unpacked, is the same release and the same media.
    let third = build_to(&format!("ocifile:{}", dir.path().join("first/oci").display()), "third");
    assert_eq!(outputs(&third), outputs(&first));
    let mut media = request(
        &format!("release:{}", dir.path().join("first/release").display()),
        &dir.path().join("fourth"),
        options,
    );
    media.oci = false;
    assert_eq!(outputs(&build(&media, &runner, &mut Silent).unwrap()), outputs(&first));
}

#[test]
fn the_root_image_holds_the_tree_and_nothing_of_the_build() {
    if !have(TOOLS) || !have(&["fsck.erofs"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let runner = Runner::default();
    kairn_factory::convert::convert(&root, &options, &mut Silent).unwrap();
    let release = kairn_seal::seal(&root, &dir.path().join("release"), &runner, &mut Silent).unwrap();
    let extracted = dir.path().join("extracted");
    let image = dir.path().join("release/root.erofs");
    let extract = Invocation::new("fsck.erofs")
        .arg(format!("--extract={}", extracted.display()))
        .arg("--preserve-perms")
        .arg(image.to_string_lossy());
    runner.run(&extract).unwrap();
    let mut expected = listing(&root);
    expected.retain(|name, _| {
        !["run/", "tmp/"].iter().any(|dir| name.starts_with(dir))
            && !name.ends_with("boot/vmlinuz")
            && !name.ends_with("boot/initramfs.cpio.zst")
    });
    let mut found = listing(&extracted);
    // fsck.erofs 1.5 extracts hard links as copies, directories with the time of the extraction, and no set-user-id bits.
    for list in [&mut expected, &mut found] {
        list.values_mut().for_each(|file| (file.0, file.1, file.2) = (file.0 & !0o7000, 0, 0));
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, file) in &expected {
        assert_eq!(found[name].0, file.0, "mode of {name}");
        assert!(found[name] == *file, "content of {name}");
    }
    assert_eq!(release.root.data_blocks * 4096, fs::metadata(image).unwrap().len());
    assert!(release.cmdline.contains(&format!("quiet kairn.root={}", release.root.root_hash)));
}

#[test]
fn a_squashfs_root_holds_the_tree_and_is_the_same_bytes_from_every_copy_of_it() {
    if !have(&["mksquashfs", "unsquashfs", "cp"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let runner = Runner::default();
    without_erofs(&root);
    // Another name of a file that stays out must not stay out with it, nor may what only looks like a pattern.
    fs::write(root.join("usr/share/[a]*"), "pattern").unwrap();
    fs::write(root.join("run/.hidden"), "left by a build").unwrap();
    kairn_factory::convert::convert(&root, &options, &mut Silent).unwrap();
    fs::hard_link(root.join("usr/lib/kairn/boot/vmlinuz"), root.join("usr/share/kernel")).unwrap();
    let copy = dir.path().join("copy");
    let copied = Invocation::new("cp").args(["-a", &root.to_string_lossy(), &copy.to_string_lossy()]);
    runner.run(&copied).unwrap();
    // Directories list their names in another order when they were made in another order.
    let moved = copy.join("usr/share/large");
    fs::rename(&moved, copy.join("usr/share/aside")).unwrap();
    fs::rename(copy.join("usr/share/aside"), &moved).unwrap();
    let seal = |tree: &Path, name: &str| {
        let out = dir.path().join(name);
        (kairn_seal::seal(tree, &out, &runner, &mut Silent).unwrap(), out.join("root.erofs"))
    };
    let (release, image) = seal(&root, "release");
    let (again, _) = seal(&copy, "again");
    assert_eq!(release, again);
    assert_eq!(release.root.format, kairn_lifecycle::RootFormat::Squashfs);
    assert!(release.cmdline.ends_with(" kairn.format=squashfs"), "{}", release.cmdline);
    assert_eq!(release.root.data_blocks * 4096, fs::metadata(&image).unwrap().len());

    let extracted = dir.path().join("extracted");
    let unpack = Invocation::new("unsquashfs").args(["-no-progress", "-d", &extracted.to_string_lossy()]);
    runner.run(&unpack.arg(image.to_string_lossy())).unwrap();
    let mut expected = listing(&root);
    expected.retain(|name, _| {
        !["run/", "tmp/"].iter().any(|dir| name.starts_with(dir))
            && !name.ends_with("boot/vmlinuz")
            && !name.ends_with("boot/initramfs.cpio.zst")
    });
    // Its other name stayed out.
    expected.get_mut("usr/share/kernel").unwrap().1 = 1;
    let found = listing(&extracted);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, file) in &expected {
        assert!(found[name] == *file, "{name}: {:?} instead of {:?}", &found[name].2, &file.2);
    }
}

#[test]
fn media_of_a_squashfs_release_are_made_like_all_others() {
    if !have(&["mksquashfs", "mke2fs", "debugfs", "e2fsck"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let runner = Runner::default();
    without_erofs(&root);
    let first = build(
        &request(&format!("dir:{}", root.display()), &dir.path().join("first"), options.clone()),
        &runner,
        &mut Silent,
    );
    let first = first.unwrap();
    let source = format!("release:{}", dir.path().join("first/release").display());
    let mut media = request(&source, &dir.path().join("second"), options);
    media.oci = false;
    assert_eq!(outputs(&build(&media, &runner, &mut Silent).unwrap()), outputs(&first));
}

#[test]
fn veritysetup_finds_the_same_root_hash() {
    if !have(&["mkfs.erofs", "veritysetup"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    kairn_factory::convert::convert(&root, &options(dir.path()), &mut Silent).unwrap();
    let out = dir.path().join("release");
    let release = kairn_seal::seal(&root, &out, &Runner::default(), &mut Silent).unwrap();
    let verify = Invocation::new("veritysetup")
        .args(["verify", "--no-superblock", "--format=1", "--hash=sha256", "--data-block-size=4096"])
        .arg("--hash-block-size=4096")
        .arg(format!("--data-blocks={}", release.root.data_blocks))
        .arg(format!("--salt={}", release.root.salt))
        .arg(out.join("root.erofs").to_string_lossy())
        .arg(out.join("root.verity").to_string_lossy())
        .arg(release.root.root_hash.to_string());
    Runner::default().run(&verify).unwrap();
}

#[test]
fn a_disk_image_is_what_independent_tools_expect() {
    if !have(TOOLS) || !have(&["sgdisk", "fsck.vfat", "mtype", "dd"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let runner = Runner::default();
    let out = dir.path().join("out");
    let manifest = build(&request(&format!("dir:{}", root.display()), &out, options), &runner, &mut Silent).unwrap();
    let disk = out.join("disk.raw").to_string_lossy().into_owned();
    let said = runner.run(&Invocation::new("sgdisk").args(["-v", &disk])).unwrap().text();
    assert!(said.contains("No problems found"), "{said}");
    let esp = dir.path().join("esp").to_string_lossy().into_owned();
    runner
        .run(
            &Invocation::new("dd")
                .args(["bs=1M", "skip=1", "count=272"])
                .arg(format!("if={disk}"))
                .arg(format!("of={esp}")),
        )
        .unwrap();
    runner.run(&Invocation::new("fsck.vfat").args(["-n", &esp])).unwrap();
    let entry =
        runner.run(&Invocation::new("mtype").args(["-i", &esp, "::loader/entries/kairn-1+2.conf"])).unwrap().text();
    assert!(
        entry.contains("sort-key kairn\nversion 1\n") && entry.contains(&format!("/EFI/kairn/{}-", manifest.release)),
        "{entry}"
    );
    let state = runner.run(&Invocation::new("sgdisk").args(["-i", "4", &disk])).unwrap().text();
    let first = state.lines().find_map(|line| line.strip_prefix("First sector: ")).unwrap();
    let first: u64 = first.split(' ').next().unwrap().parse().unwrap();
    let state = format!("{disk}?offset={}", first * 512);
    let marker = runner.run(&Invocation::new("debugfs").args(["-R", "cat kairn/first-boot", &state])).unwrap().text();
    assert_eq!(marker, format!("{}\n", manifest.release));
}

#[test]
fn no_disk_image_depends_on_a_loader_that_was_not_proven() {
    if !have(TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let loader = root.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    fs::write(loader, "MZ #### LoaderInfo: systemd-boot 259.1-1 ####").unwrap();
    let out = dir.path().join("out");
    let refused = build(&request(&format!("dir:{}", root.display()), &out, options), &Runner::default(), &mut Silent);
    let error = refused.unwrap_err();
    assert!(matches!(&error, Error::Loader(_)) && error.to_string().contains("259.1"), "{error}");
    assert!(!out.exists());
}

#[test]
fn a_medium_is_what_xorriso_expects() {
    if !have(&["mkfs.erofs", "xorriso"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let out = dir.path().join("out");
    let mut wanted = request(&format!("dir:{}", root.display()), &out, options);
    (wanted.raw, wanted.oci) = (false, false);
    let manifest = build(&wanted, &Runner::default(), &mut Silent).unwrap();
    let iso = out.join("install.iso").to_string_lossy().into_owned();
    let ask = Invocation::new("xorriso").args(["-indev", &iso, "-report_el_torito", "plain", "-find", "/"]);
    let said = Runner::default().run(&ask).unwrap();
    let text = format!("{}{}", said.text(), said.stderr);
    for part in ["'COS_LIVE'", "UEFI", "cloud_config.yaml", &format!("kairn/releases/{}/root.erofs", manifest.release)]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_failed_build_leaves_nothing_and_a_used_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    fs::remove_file(root.join("usr/bin/mke2fs")).unwrap();
    let out = dir.path().join("out");
    let wanted = request(&format!("dir:{}", root.display()), &out, options);
    let error = build(&wanted, &Runner::default(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::ImageLacks { .. }), "{error}");
    assert!(!out.exists());
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine"), "x").unwrap();
    let error = build(&wanted, &Runner::default(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::OutputInUse(_)), "{error}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn what_a_killed_build_left_is_taken_away_and_a_running_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    fs::remove_file(root.join("usr/bin/mke2fs")).unwrap();
    let out = dir.path().join("out");
    fs::create_dir_all(out.join(".work-killed/tree")).unwrap();
    let wanted = request(&format!("dir:{}", root.display()), &out, options);
    let running = fs::File::open(&out).unwrap();
    running.lock().unwrap();
    let error = build(&wanted, &Runner::default(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::OutputBusy(_)), "{error}");
    assert!(out.join(".work-killed/tree").exists());
    running.unlock().unwrap();
    let error = build(&wanted, &Runner::default(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::ImageLacks { .. }), "{error}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn a_damaged_release_makes_no_media() {
    if !have(&["mkfs.erofs"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    kairn_factory::convert::convert(&root, &options, &mut Silent).unwrap();
    let release = dir.path().join("release");
    kairn_seal::seal(&root, &release, &Runner::default(), &mut Silent).unwrap();
    let mut image = fs::read(release.join("root.erofs")).unwrap();
    image[5000] ^= 1;
    fs::write(release.join("root.erofs"), image).unwrap();
    let mut wanted = request(&format!("release:{}", release.display()), &dir.path().join("out"), options);
    wanted.oci = false;
    let error = build(&wanted, &Runner::default(), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("root.erofs is not the file that its description names"), "{error}");
}

#[test]
fn a_tree_changed_after_conversion_is_not_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let seal = || kairn_seal::seal(&root, &dir.path().join("out"), &Runner::default(), &mut Silent).unwrap_err();
    assert!(matches!(seal(), kairn_seal::Error::NotConverted { .. }));
    kairn_factory::convert::convert(&root, &options, &mut Silent).unwrap();
    fs::write(root.join("usr/lib/kairn/boot/cmdline"), "init=/bin/sh\n").unwrap();
    let error = seal();
    assert!(matches!(&error, kairn_seal::Error::Changed { file, .. } if file.ends_with("cmdline")), "{error}");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_sealing_that_fails_leaves_its_output_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    kairn_factory::convert::convert(&root, &options, &mut Silent).unwrap();
    // A tool that writes half of its file and dies, as on a full disk.
    let tool = dir.path().join("mkfs.erofs");
    fs::write(&tool, "#!/bin/sh\nfor last; do image=$previous; previous=$last; done\necho half > \"$image\"\nexit 1\n")
        .unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let runner = Runner { overrides: [("mkfs.erofs".to_owned(), tool)].into() };
    let (absent, empty) = (dir.path().join("absent"), dir.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    for out in [&absent, &empty] {
        kairn_seal::seal(&root, out, &runner, &mut Silent).unwrap_err();
    }
    assert!(!absent.exists());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}
