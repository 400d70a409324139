//! Seeds on the machine itself: media as `xorriso` and `mkfs.vfat` make them, directories, a file, a hypervisor's programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

use kairn_datasource::{Dmi, Drive, DriveFormat, Error, Found, Hints, NetworkFormat, Options, ProviderName, fetch};
use kairn_host::{LoopDevice, LoopOptions};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Says whether the program ran; prints why not when it is absent.
fn ran(program: &str, args: &[&str], dir: &Path) -> bool {
    match Command::new(program).args(args).current_dir(dir).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            eprintln!("skipped: cannot run {program}: {error}");
            false
        }
    }
}

/// A root with a seed in `seed` and room for a device.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("dev")).unwrap();
    for (path, content) in files {
        let path = root.path().join("seed").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

fn drive(label: &str, format: DriveFormat, optical: bool) -> Hints {
    let drive = Drive { device: "/dev/seed".into(), label: label.into(), format, optical };
    Hints { drives: vec![drive], ..Hints::default() }
}

fn found(root: &Path, provider: ProviderName, hints: &Hints) -> Result<Found, Error> {
    fetch(&Options { root: root.into(), ..Options::new([provider]) }, hints, &mut Vec::new())
}

const CIDATA: [(&str, &str); 4] = [
    ("user-data", "#cloud-config\nhostname: {{ .Random }}\n"),
    ("meta-data", "instance-id: i-9\nlocal-hostname: seeded\npublic-keys:\n  - ssh-rsa A a\n"),
    ("vendor-data", "#cloud-config\nvendor: 1\n"),
    ("network-config", "version: 2\nethernets: {}\n"),
];

fn is_whole(found: &Found) {
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("i-9"), Some("seeded")));
    assert_eq!(found.user_data.as_ref().unwrap().reveal(), CIDATA[0].1.as_bytes());
    assert_eq!(found.vendor_data.as_ref().unwrap().reveal(), CIDATA[2].1.as_bytes());
    let network = found.network_config.as_ref().unwrap();
    assert_eq!((network.format, network.text.reveal().as_str()), (NetworkFormat::NetworkConfig, CIDATA[3].1));
    assert_eq!(found.ssh_keys, ["ssh-rsa A a"]);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[test]
fn a_cd_rom_is_read_whole_with_its_label_or_without() {
    let root = root(&CIDATA);
    if !ran("xorriso", &["-as", "mkisofs", "-quiet", "-J", "-r", "-V", "cidata", "-o", "dev/seed", "seed"], root.path())
    {
        return;
    }
    for (label, optical) in [("cidata", false), ("CIDATA", true), ("OTHER", true)] {
        is_whole(&found(root.path(), ProviderName::Cdrom, &drive(label, DriveFormat::Iso9660, optical)).unwrap());
    }
    let error = found(root.path(), ProviderName::Cdrom, &drive("OTHER", DriveFormat::Iso9660, false)).unwrap_err();
    assert!(error.to_string().contains("no ISO 9660 or FAT labelled `cidata`"), "{error}");
    let error =
        found(root.path(), ProviderName::ConfigDrive, &drive("cidata", DriveFormat::Iso9660, true)).unwrap_err();
    assert!(error.to_string().contains("labelled `config-2`"), "{error}");
}

#[test]
fn a_stick_is_read_whole() {
    let root = root(&CIDATA);
    let made = ran("mkfs.vfat", &["-C", "-n", "CIDATA", "dev/seed", "1440"], root.path())
        && CIDATA.iter().all(|(name, _)| {
            ran("mcopy", &["-i", "dev/seed", &format!("seed/{name}"), &format!("::{name}")], root.path())
        });
    if made {
        is_whole(&found(root.path(), ProviderName::Cdrom, &drive("CIDATA", DriveFormat::Fat, false)).unwrap());
    }
}

#[test]
fn a_damaged_medium_is_named() {
    let root = root(&[]);
    fs::write(root.path().join("dev/seed"), vec![0; 100_000]).unwrap();
    for format in [DriveFormat::Iso9660, DriveFormat::Fat] {
        let error = found(root.path(), ProviderName::Cdrom, &drive("cidata", format, false)).unwrap_err();
        assert!(error.to_string().contains("/dev/seed`: not a readable"), "{error}");
    }
}

#[test]
fn a_directory_stands_for_a_medium_and_upstreams_name_for_user_data() {
    let root = root(&[("config", "#cloud-config\nold: 1\n")]);
    let seed = root.path().join("seed");
    let options =
        Options { mounted: [(ProviderName::Cdrom, seed.clone())].into(), ..Options::new([ProviderName::Cdrom]) };
    let found = fetch(&options, &Hints::default(), &mut Vec::new()).unwrap();
    assert_eq!(found.user_data.unwrap().reveal(), b"#cloud-config\nold: 1\n");
    fs::remove_file(seed.join("config")).unwrap();
    // A link of the seed does not lead out of it.
    std::os::unix::fs::symlink("/etc/passwd", seed.join("user-data")).unwrap();
    let error = fetch(&options, &Hints::default(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("has no seed"), "{error}");
}

#[test]
fn meta_data_that_is_not_yaml_leaves_user_data_alone() {
    let root = root(&[("meta-data", "a: [\n"), ("user-data", "#cloud-config\n")]);
    let mounted = [(ProviderName::Cdrom, root.path().join("seed"))].into();
    let options = Options { mounted, ..Options::new([ProviderName::Cdrom]) };
    let found = fetch(&options, &Hints::default(), &mut Vec::new()).unwrap();
    assert!(found.user_data.is_some() && found.warnings[0].starts_with("meta-data:"), "{:?}", found.warnings);
}

#[test]
fn a_config_drive_is_read_in_its_own_format() {
    let meta = "{\"uuid\": \"u-2\", \"hostname\": \"cd\", \"availability_zone\": \"nova\"}";
    let root = root(&[
        ("openstack/latest/meta_data.json", meta),
        ("openstack/latest/user_data", "#!/bin/sh\n"),
        ("openstack/latest/network_data.json", "{}"),
        ("openstack/latest/vendor_data.json", "[1"),
    ]);
    if !ran("xorriso", &["-as", "mkisofs", "-quiet", "-r", "-V", "config-2", "-o", "dev/seed", "seed"], root.path()) {
        return;
    }
    let found = found(root.path(), ProviderName::ConfigDrive, &drive("config-2", DriveFormat::Iso9660, false)).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("u-2"), Some("cd")));
    assert_eq!(found.user_data.unwrap().reveal(), b"#!/bin/sh\n");
    assert_eq!(found.network_config.unwrap().format, NetworkFormat::OpenStack);
    assert_eq!(found.warnings, ["`openstack/latest/vendor_data.json` is not JSON; it is left out"]);
}

#[test]
fn a_file_is_read_in_the_root() {
    let root = root(&[("user-data", "#cloud-config\n")]);
    let options = |file: &str| Options {
        root: root.path().into(),
        file: Some(file.into()),
        ..Options::new([ProviderName::File])
    };
    let found = fetch(&options("/seed/user-data"), &Hints::default(), &mut Vec::new()).unwrap();
    assert_eq!(found.user_data.unwrap().reveal(), b"#cloud-config\n");
    let error = fetch(&options("/no/such"), &Hints::default(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("there is no file `/no/such`"), "{error}");
}

#[test]
fn vmware_is_asked_with_its_own_programs() {
    let root = root(&[]);
    let program = root.path().join("rpctool");
    let script = "#!/bin/sh\ncase \"$1\" in\n\
        'info-get guestinfo.userdata') echo I2Nsb3VkLWNvbmZpZwo= ;;\n\
        'info-get guestinfo.userdata.encoding') echo base64 ;;\n\
        'info-get guestinfo.metadata') printf 'instance-id: vm-7\\nlocal-hostname: v\\nnetwork:\\n  version: 2\\n' ;;\n\
        *) echo 'No value found' >&2; exit 1 ;;\nesac\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let dmi = Dmi { sys_vendor: "VMware, Inc.".into(), ..Dmi::default() };
    let hints = Hints { dmi, ..Hints::default() };
    let mut options = Options::new([ProviderName::VMware]);
    options.runner.overrides = [("vmware-rpctool".to_owned(), program)].into();
    let found = fetch(&options, &hints, &mut Vec::new()).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("vm-7"), Some("v")));
    assert_eq!(found.user_data.unwrap().reveal(), b"#cloud-config\n");
    assert!(found.network_config.is_some());

    let absent = root.path().join("absent");
    options.runner.overrides = [("vmware-rpctool".to_owned(), absent.clone()), ("vmtoolsd".to_owned(), absent)].into();
    let error = fetch(&options, &hints, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("vmware is not supported here: neither"), "{error}");
}

#[test]
fn a_medium_of_this_machine_is_found_by_its_label() {
    let root = root(&CIDATA);
    let made = ran(
        "xorriso",
        &["-as", "mkisofs", "-quiet", "-J", "-r", "-V", "cidata", "-o", "dev/seed", "seed"],
        root.path(),
    );
    if !made {
        return;
    }
    let options = LoopOptions { read_only: true, block_size: 512, direct_io: false, autoclear: true };
    let device = match LoopDevice::attach(&root.path().join("dev/seed"), options) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("skipped: no loop device here: {error}");
            return;
        }
    };
    let all = Hints::read(Path::new("/")).unwrap();
    let drives: Vec<_> = all.drives.into_iter().filter(|drive| drive.device == device.path).collect();
    assert_eq!(drives.len(), 1, "{drives:?}");
    assert_eq!((drives[0].label.as_str(), drives[0].format), ("cidata", DriveFormat::Iso9660));
    is_whole(&found(Path::new("/"), ProviderName::Cdrom, &Hints { drives, ..Hints::default() }).unwrap());
    device.detach().unwrap();
}
