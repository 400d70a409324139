//! Machines made of files, and the one that the tests run on.

use super::read;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

/// A device with its class link and its driver.
fn device(root: &Path, class: &str, name: &str, below: &str, driver: Option<&str>) -> String {
    let up = "../".repeat(class.matches('/').count() + 1);
    let dir = format!("sys/devices/{below}/{name}");
    fs::create_dir_all(root.join(&dir)).unwrap();
    link(root, &format!("sys/{class}/{name}"), &format!("{up}devices/{below}/{name}"));
    if let Some(driver) = driver {
        fs::create_dir_all(root.join(&dir).join("device")).unwrap();
        link(root, &format!("{dir}/device/driver"), &format!("../../bus/drivers/{driver}"));
    }
    dir
}

fn machine(root: &Path) {
    for (path, text) in [
        ("proc/sys/kernel/hostname", "edge-7\n"),
        ("proc/sys/kernel/osrelease", "6.12.1\n"),
        ("proc/sys/kernel/version", "#1 SMP\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/os-release", "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=x\nID=ubuntu\nVERSION_ID='24.04'\n"),
        ("sys/class/dmi/id/sys_vendor", "Supermicro\n"),
        ("sys/class/dmi/id/product_name", " X11 \n"),
        ("sys/class/dmi/id/product_uuid", "4C4C4544-0031-3310-8051-B4C04F4A3233\n"),
        ("sys/class/dmi/id/product_serial", "\n"),
        ("sys/class/dmi/id/board_asset_tag", "T-1\n"),
        ("sys/class/dmi/id/chassis_type", "23\n"),
        ("sys/class/dmi/id/bios_date", "01/02/2024\n"),
        ("proc/meminfo", "MemTotal:       16314012 kB\nMemFree: 1 kB\n"),
    ] {
        write(root, path, text);
    }
    link(root, "etc/localtime", "../usr/share/zoneinfo/Europe/Rome");
    let core = |processor: u32, package: u32, core: u32| {
        format!(
            "processor\t: {processor}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R)  Xeon(R) CPU E5- 2620\ncache size\t: 20480 KB\n\
             physical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: fpu vme\n\n"
        )
    };
    write(root, "proc/cpuinfo", &[core(0, 0, 0), core(1, 0, 0), core(2, 0, 1), core(3, 1, 0)].concat());

    let sda = device(root, "block", "sda", "pci0/ata1/block", Some("sd"));
    write(root, &format!("{sda}/size"), "976773168\n");
    write(root, &format!("{sda}/dev"), "8:0\n");
    write(root, &format!("{sda}/device/model"), "Samsung SSD     \n");
    write(root, &format!("{sda}/device/vendor"), "ATA     \n");
    write(root, "run/udev/data/b8:0", "S:disk/by-id/x\nE:ID_SERIAL=long_S1\nE:ID_SERIAL_SHORT=S1\n");
    let vda = device(root, "block", "vda", "pci0/virtio1/block", Some("virtio_blk"));
    write(root, &format!("{vda}/device/vendor"), "0x1af4\n");
    write(root, &format!("{vda}/serial"), "disk-1\n");
    let sr0 = device(root, "block", "sr0", "pci0/ata2/block", Some("sr"));
    write(root, &format!("{sr0}/device/type"), "5\n");
    device(root, "block", "loop0", "virtual/block", None);
    device(root, "block", "fd0", "platform/floppy.0/block", None);

    let wan = device(root, "class/net", "eth1", "pci0/net", Some("igb"));
    write(root, &format!("{wan}/address"), "52:54:00:12:34:57\n");
    write(root, &format!("{wan}/speed"), "1000\n");
    let lan = device(root, "class/net", "eth0", "pci0/net", None);
    write(root, &format!("{lan}/address"), "52:54:00:12:34:56\n");
    write(root, &format!("{lan}/speed"), "-1\n");
    device(root, "class/net", "lo", "virtual/net", None);
}

#[test]
fn a_machine_is_read_with_the_names_of_kairos() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    let mut tree = read(dir.path());
    let running = std::process::Command::new("uname").arg("-m").output().unwrap().stdout;
    let running = String::from_utf8(running).unwrap().trim().to_owned();
    assert_eq!(tree["kernel"]["architecture"].take(), json!(running));
    let architecture = tree["os"]["architecture"].take();
    if running == "x86_64" {
        assert_eq!(architecture, json!("amd64"));
    }
    let wanted = json!({
        "node": {"hostname": "edge-7", "machineid": "0123456789abcdef0123456789abcdef", "timezone": "Europe/Rome"},
        "os": {"name": "Ubuntu 24.04.1 LTS", "vendor": "ubuntu", "version": "24.04", "release": "24.04.1", "architecture": null},
        "kernel": {"release": "6.12.1", "version": "#1 SMP", "architecture": null},
        "product": {"name": "X11", "vendor": "Supermicro", "uuid": "4c4c4544-0031-3310-8051-b4c04f4a3233"},
        "board": {"assettag": "T-1"},
        "chassis": {"type": 23},
        "bios": {"date": "01/02/2024"},
        "cpu": {
            "vendor": "GenuineIntel", "model": "Intel(R) Xeon(R) CPU E5-2620", "cache": 20480, "cpus": 2, "cores": 3, "threads": 4,
        },
        "memory": {"type": "DRAM", "size": 15931},
        "storage": [
            {"name": "sda", "driver": "sd", "vendor": "ATA", "model": "Samsung SSD", "serial": "S1", "size": 500},
            {"name": "vda", "driver": "virtio_blk", "serial": "disk-1"},
        ],
        "network": [
            {"name": "eth0", "macaddress": "52:54:00:12:34:56"},
            {"name": "eth1", "driver": "igb", "macaddress": "52:54:00:12:34:57", "speed": 1000},
        ],
    });
    assert_eq!(tree, wanted);
}

#[test]
fn what_a_machine_runs_in_is_told_by_what_the_kernel_shows() {
    let virtual_cpu = "flags\t\t: fpu hypervisor vme\n";
    let clocks = "sys/devices/system/clocksource/clocksource0/available_clocksource";
    let vendor = "sys/class/dmi/id/sys_vendor";
    for (files, hypervisor) in [
        (&[][..], Value::Null),
        (&[("proc/cpuinfo", "flags\t\t: fpu vme\n"), (vendor, "VMware, Inc.")], Value::Null),
        (&[("sys/hypervisor/type", "xen\n")], "xenpv".into()),
        (&[("proc/cpuinfo", virtual_cpu), ("sys/hypervisor/type", "xen\n")], "xenhvm".into()),
        (&[("proc/cpuinfo", virtual_cpu), (clocks, "kvm-clock tsc acpi_pm\n")], "kvm".into()),
        (&[("proc/cpuinfo", virtual_cpu), (clocks, "hyperv_clocksource_tsc_page\n")], "hyperv".into()),
        (&[("proc/cpuinfo", virtual_cpu), (clocks, "tsc\n"), (vendor, "VMware, Inc.\n")], "vmware".into()),
        (&[("proc/cpuinfo", virtual_cpu), ("sys/class/dmi/id/bios_vendor", "Bochs\n")], "bochs".into()),
        (&[("proc/cpuinfo", virtual_cpu), (vendor, "QEMU\n")], "unknown".into()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            write(dir.path(), path, text);
        }
        assert_eq!(read(dir.path())["node"]["hypervisor"], hypervisor, "{files:?}");
    }
}

#[test]
fn an_empty_root_has_no_facts_and_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let tree = read(dir.path());
    assert_eq!(tree["node"], json!({}));
    assert_eq!((&tree["storage"], &tree["network"]), (&json!([]), &json!([])));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn other_places_of_the_same_facts_count() {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("etc/machine-id", "uninitialized\n"),
        ("var/lib/dbus/machine-id", "abcdef0123456789abcdef0123456789\n"),
        ("etc/timezone", "Etc/UTC\n"),
        ("usr/lib/os-release", "ID=debian\n"),
        ("etc/debian_version", "13.1\n"),
        ("proc/device-tree/model", "Raspberry Pi 4\0"),
        ("sys/devices/system/xen_memory/xen_memory0/target_kb", "2097152\n"),
    ] {
        write(dir.path(), path, text);
    }
    let tree = read(dir.path());
    assert_eq!(tree["node"]["machineid"], "abcdef0123456789abcdef0123456789");
    assert_eq!((&tree["node"]["timezone"], &tree["os"]["release"]), (&json!("Etc/UTC"), &json!("13.1")));
    assert_eq!((&tree["product"]["name"], &tree["memory"]["size"]), (&json!("Raspberry Pi 4"), &json!(2048)));
}

#[test]
fn the_machine_that_the_tests_run_on_is_known() {
    let tree = read(Path::new("/"));
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(tree["node"]["hostname"], hostname.trim());
    let release = rustix::system::uname();
    assert_eq!(tree["kernel"]["release"], release.release().to_str().unwrap());
    assert!(tree["memory"]["size"].as_u64().unwrap() > 0);
    assert!(tree["cpu"]["threads"].as_u64().unwrap() > 0);
    let network = tree["network"].as_array().unwrap();
    assert!(network.iter().all(|device| device["name"] != "lo"), "{network:?}");
}
