//! Conversion of a small tree.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod fixture;

use fixture::{CONFIG, KERNEL, options, tree, without_erofs};
use kairn_factory::{Error, convert::convert};
use kairn_lifecycle::RootFormat;
use kairn_report::{Diagnostic, Event};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn a_tree_becomes_an_image_once_and_stays_one() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let mut events = Vec::new();
    let first = convert(&root, &options, &mut events).unwrap();
    assert!(first.changed > 50, "{first:?}");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(read("etc/machine-id"), "");
    assert_eq!(read("etc/hostname"), "");
    assert!(!root.join("etc/ssh/ssh_host_rsa_key").exists() && root.join("etc/ssh/sshd_config").exists());
    assert_eq!(fs::read_dir(root.join("boot")).unwrap().count(), 0);
    assert_eq!(read(&format!("usr/lib/modules/{KERNEL}/config")), CONFIG);
    let cmdline = read("usr/lib/kairn/boot/cmdline");
    assert!(cmdline.ends_with("systemd.crash_reboot=yes quiet\n"));
    assert!(cmdline.split(' ').any(|word| word == "gpt"), "a torn partition table stops the kernel: {cmdline}");
    assert_eq!(fs::read_link(root.join("usr/bin/kairos-agent")).unwrap().to_str(), Some("kairn"));
    assert_eq!(fs::metadata(root.join("usr/bin/kairn")).unwrap().permissions().mode() & 0o7777, 0o755);
    let masked = fs::read_link(root.join("etc/systemd/system/systemd-bless-boot.service")).unwrap();
    assert_eq!(masked.to_str(), Some("/dev/null"));
    assert!(root.join("usr/lib/systemd/system/ssh.service.wants/kairn-sshd-keygen.service").is_symlink());
    for path in ["oem", "usr/local", "etc/kubernetes", "var/lib/rancher", "root"] {
        assert!(root.join(path).is_dir(), "{path}");
    }
    assert!(read("etc/kairn-release").contains("KAIRN_VERSION=\"1.2.3\"\n"));
    let release = read("etc/kairos-release");
    assert_eq!(release.lines().count(), 17);
    assert!(release.lines().all(|line| line.starts_with("KAIROS_") && !line.ends_with("=\"\"")), "{release}");
    assert!(release.contains("KAIROS_NAME=\"kairos-core-debian-12\"\n"));

    let warnings = first.warnings.join("\n");
    for text in [
        "1 file below /usr/local (/usr/local/bin/tool)",
        "the kernel has no module hpsa (RAID and SAS",
        "5.10.0",
        "/sbin/init",
    ] {
        assert!(warnings.contains(text), "{text} in {warnings}");
    }
    assert!(events.iter().any(|event| matches!(event, Event::Warning { text } if text.contains("/usr/local"))));

    let second = convert(&root, &options, &mut events).unwrap();
    assert_eq!((second.changed, second.facts), (0, first.facts));
}

#[test]
fn an_image_with_openrc_gets_its_services_and_those_of_systemd_only_where_that_is_too() {
    for systemd in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (root, options) = (tree(dir.path()), options(dir.path()));
        fs::copy(root.join("usr/bin/mke2fs"), root.join("usr/bin/openrc-run")).unwrap();
        if !systemd {
            fs::remove_file(root.join("usr/bin/systemctl")).unwrap();
            fs::remove_file(root.join("usr/bin/udevadm")).unwrap();
        }
        convert(&root, &options, &mut Vec::new()).unwrap();
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        for stage in ["boot", "network", "first-boot", "reconcile"] {
            let name = format!("kairn-stage-{stage}");
            assert!(read(&format!("etc/init.d/{name}")).ends_with(&format!(". /usr/lib/kairn/openrc/{name}\n")));
            let link = fs::read_link(root.join("etc/runlevels/default").join(&name)).unwrap();
            assert_eq!(link, Path::new("/etc/init.d").join(&name));
            assert!(root.join("usr/lib/kairn/openrc").join(&name).is_file());
        }
        assert!(read("usr/lib/kairn/openrc/kairn-stage-boot").contains("kairn stage run boot"));
        assert_eq!(root.join("usr/lib/systemd/system/kairn-stage-boot.service").exists(), systemd);
        assert_eq!(convert(&root, &options, &mut Vec::new()).unwrap().changed, 0);
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    convert(&root, &options, &mut Vec::new()).unwrap();
    assert!(!root.join("etc/init.d/kairn-stage-boot").exists() && !root.join("usr/lib/kairn/openrc").exists());
}

#[test]
fn the_initramfs_holds_init_and_plain_modules() {
    if !fixture::have(&["cpio"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    convert(&root, &options(dir.path()), &mut Vec::new()).unwrap();
    let packed = fs::read(root.join("usr/lib/kairn/boot/initramfs.cpio.zst")).unwrap();
    let out = dir.path().join("initramfs");
    fs::create_dir(&out).unwrap();
    let unpack = kairn_host::Invocation::new("cpio")
        .args(["--extract", "--quiet", "--make-directories"])
        .dir(&out)
        .stdin(zstd::decode_all(packed.as_slice()).unwrap());
    kairn_host::Runner::default().run(&unpack).unwrap();
    assert_eq!(fs::read_to_string(out.join("init")).unwrap(), "the init");
    let module = format!("lib/modules/{KERNEL}/kernel/drivers/block/loop.ko");
    assert_eq!(fs::read_to_string(out.join(module)).unwrap(), "module loop");
    let names = fs::read_to_string(out.join("etc/kairn/modules.names")).unwrap();
    assert!(names.lines().any(|name| name == "loop"), "{names}");
    assert_eq!(fs::read_to_string(out.join("etc/kairn/readahead")).unwrap(), "/usr/bin/kairn\n");
}

#[test]
fn what_is_missing_is_named_at_once_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    for name in ["usr/bin/mkfs.erofs", "usr/bin/mkfs.vfat", "usr/lib/systemd/boot/efi/linuxx64.efi.stub"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`mkfs.erofs`") && text.contains("`mkfs.vfat`") && text.contains("linuxx64.efi.stub"),
        "{text}"
    );
    assert_eq!(
        error.hints(),
        ["in the image: apt-get install --yes --no-install-recommends dosfstools erofs-utils systemd-boot-efi"]
    );
    assert!(!root.join("usr/lib/kairn").exists() && !root.join("oem").exists());
}

#[test]
fn a_kernel_that_cannot_do_it_is_refused_with_every_lack() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut options) = (tree(dir.path()), options(dir.path()));
    let config = CONFIG.replace("CONFIG_DM_VERITY=m\n", "").replace("CONFIG_EROFS_FS_ZIP=y\n", "");
    fs::write(root.join(format!("boot/config-{KERNEL}")), config).unwrap();
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains("CONFIG_DM_VERITY (the sealed root), CONFIG_EROFS_FS with CONFIG_EROFS_FS_ZIP, or"),
        "{error}"
    );
    assert!(!root.join("usr/lib/kairn").exists());
    fs::write(root.join(format!("boot/config-{KERNEL}")), CONFIG).unwrap();
    options.compressor = Some("zstd,9".to_owned());
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Compressor { .. }), "{error}");
    options.kernel = Some("9.9".to_owned());
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("not 9.9"), "{error}");
}

#[test]
fn a_kernel_without_erofs_gets_a_squashfs_root_with_what_it_decompresses() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut options) = (tree(dir.path()), options(dir.path()));
    without_erofs(&root);
    let builtin = root.join(format!("usr/lib/modules/{KERNEL}/modules.builtin"));
    fs::write(&builtin, fs::read_to_string(&builtin).unwrap().replace("kernel/erofs.ko\n", "")).unwrap();
    let converted = convert(&root, &options, &mut Vec::new()).unwrap();
    assert!(!converted.warnings.iter().any(|warning| warning.contains("erofs")), "{:?}", converted.warnings);
    assert_eq!((converted.facts.root_format, converted.facts.compressor.as_str()), (RootFormat::Squashfs, "zstd,3"));
    for (asked, why) in [("xz", "CONFIG_SQUASHFS_XZ is not set"), ("lzma", "squashfs knows zstd")] {
        options.compressor = Some(asked.to_owned());
        let error = convert(&root, &options, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    options.compressor = Some("gzip,9".to_owned());
    assert_eq!(convert(&root, &options, &mut Vec::new()).unwrap().facts.compressor, "gzip,9");
}

#[test]
fn a_squashfs_root_without_its_program_is_refused_by_name_of_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    without_erofs(&root);
    fs::remove_file(root.join("usr/bin/mksquashfs")).unwrap();
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("`mksquashfs` (for sealing, since the kernel has no EROFS)"), "{error}");
    assert_eq!(error.hints(), ["in the image: apt-get install --yes --no-install-recommends squashfs-tools"]);
}

#[test]
fn a_tree_without_kernel_and_programs_for_other_machines_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (root, options) = (tree(dir.path()), options(dir.path()));
    let arm = [b"\x7fELF".to_vec(), vec![0; 14], vec![183, 0], vec![0; 44]].concat();
    fs::write(&options.kairn, arm).unwrap();
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("kairn` is for arm64") && text.contains("for amd64"), "{text}");
    assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 1));
    fs::remove_file(root.join(format!("boot/vmlinuz-{KERNEL}"))).unwrap();
    let error = convert(&root, &options, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::NoKernel { .. }), "{error}");
    assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 1));
    assert!(!root.join("usr/lib/kairn").exists() && !root.join("oem").exists());
}
