//! Node, operating system, kernel, firmware's words about the machine, processors.

use super::{Facts, link_name, number, text};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where time zones lie.
const ZONES: &str = "usr/share/zoneinfo/";

pub(super) fn node(root: &Path, processors: &Processors) -> Facts {
    let id = ["etc/machine-id", "var/lib/dbus/machine-id"].into_iter().find_map(|path| {
        // `uninitialized` is what an image holds before its first boot (machine-id(5)).
        text(&root.join(path)).filter(|id| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()))
    });
    Facts::default()
        .text("hostname", text(&root.join("proc/sys/kernel/hostname")))
        .text("machineid", id)
        .text("hypervisor", hypervisor(root, processors).map(str::to_owned))
        .text("timezone", time_zone(root))
}

/// Names what the machine runs in. The kernel asked the processor and shows the answer: as a flag, and by the clocks that only this
/// hypervisor has; the rest is known by what its firmware calls itself.
fn hypervisor(root: &Path, processors: &Processors) -> Option<&'static str> {
    let kind = text(&root.join("sys/hypervisor/type"));
    let is_xen = kind.as_deref() == Some("xen");
    if !processors.first("flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")) {
        return is_xen.then_some("xenpv");
    }
    let clocks =
        text(&root.join("sys/devices/system/clocksource/clocksource0/available_clocksource")).unwrap_or_default();
    let has_clock = |name: &str| clocks.split_whitespace().any(|clock| clock.starts_with(name));
    let vendor = text(&dmi(root, "sys_vendor")).unwrap_or_default();
    let made_by = |name: &str| vendor.starts_with(name);
    let known = [
        (is_xen || made_by("Xen"), "xenhvm"),
        (has_clock("kvm-clock"), "kvm"),
        (has_clock("hyperv_clocksource"), "hyperv"),
        (made_by("VMware"), "vmware"),
        (made_by("Microsoft Corporation"), "hyperv"),
        (made_by("Parallels"), "parallels"),
        (made_by("BHYVE"), "bhyve"),
        (text(&dmi(root, "bios_vendor")).as_deref() == Some("Bochs"), "bochs"),
    ];
    known.into_iter().find(|(is, _)| *is).map(|(_, name)| name).or(Some("unknown"))
}

fn time_zone(root: &Path) -> Option<String> {
    let linked = std::fs::read_link(root.join("etc/localtime")).ok();
    let zone = linked.as_deref().and_then(Path::to_str).and_then(|path| Some(path.split_once(ZONES)?.1.to_owned()));
    zone.or_else(|| text(&root.join("etc/timezone")))
}

pub(super) fn os(root: &Path) -> Facts {
    let release = ["etc/os-release", "usr/lib/os-release"].into_iter().find_map(|path| text(&root.join(path)));
    let release = release.unwrap_or_default();
    let value = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    let (name, vendor) = (value("PRETTY_NAME"), value("ID"));
    let version = match vendor.as_deref() {
        Some("debian") => text(&root.join("etc/debian_version")),
        Some("ubuntu") => name.as_deref().and_then(digits_behind_space),
        Some("centos" | "rhel") => {
            let file = text(&root.join("etc/redhat-release"));
            file.as_deref().and_then(digits_behind_space).or_else(|| name.as_deref().and_then(digits_behind_space))
        }
        _ => None,
    };
    Facts::default()
        .text("name", name)
        .text("vendor", vendor)
        .text("version", value("VERSION_ID"))
        .text("release", version)
        .text("architecture", Some(go_architecture(&machine()).to_owned()))
}

/// The first number with points that stands behind a space or a parenthesis: `24.04.1` of `Ubuntu 24.04.1 LTS`.
fn digits_behind_space(text: &str) -> Option<String> {
    let begins = text
        .match_indices([' ', '('])
        .find_map(|(at, _)| text.get(at + 1..).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))?;
    let end = begins.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(begins.len());
    begins.get(..end).map(str::to_owned)
}

pub(super) fn kernel(root: &Path) -> Facts {
    Facts::default()
        .text("release", text(&root.join("proc/sys/kernel/osrelease")))
        .text("version", text(&root.join("proc/sys/kernel/version")))
        .text("architecture", Some(machine()))
}

fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The kernel's name of an architecture as Go has it.
fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "i386" | "i486" | "i586" | "i686" => "i386",
        "aarch64" => "arm64",
        "armv6l" | "armv7l" | "armv8l" => "arm",
        other => other,
    }
}

fn dmi(root: &Path, name: &str) -> PathBuf {
    root.join("sys/class/dmi/id").join(name)
}

pub(super) fn product(root: &Path) -> Facts {
    let tree = |name: &str| text(&root.join("proc/device-tree").join(name));
    let uuid = text(&dmi(root, "product_uuid")).and_then(|text| uuid::Uuid::try_parse(&text).ok());
    Facts::default()
        .text("name", text(&dmi(root, "product_name")).or_else(|| tree("model")))
        .text("vendor", text(&dmi(root, "sys_vendor")))
        .text("version", text(&dmi(root, "product_version")))
        .text("serial", text(&dmi(root, "product_serial")).or_else(|| tree("serial-number")))
        .text("uuid", uuid.map(|uuid| uuid.hyphenated().to_string()))
        .text("sku", text(&dmi(root, "product_sku")))
}

pub(super) fn board(root: &Path) -> Facts {
    Facts::default()
        .text("name", text(&dmi(root, "board_name")))
        .text("vendor", text(&dmi(root, "board_vendor")))
        .text("version", text(&dmi(root, "board_version")))
        .text("serial", text(&dmi(root, "board_serial")))
        .text("assettag", text(&dmi(root, "board_asset_tag")))
}

pub(super) fn chassis(root: &Path) -> Facts {
    Facts::default()
        .number("type", number(&dmi(root, "chassis_type")))
        .text("vendor", text(&dmi(root, "chassis_vendor")))
        .text("version", text(&dmi(root, "chassis_version")))
        .text("serial", text(&dmi(root, "chassis_serial")))
        .text("assettag", text(&dmi(root, "chassis_asset_tag")))
}

pub(super) fn bios(root: &Path) -> Facts {
    Facts::default()
        .text("vendor", text(&dmi(root, "bios_vendor")))
        .text("version", text(&dmi(root, "bios_version")))
        .text("date", text(&dmi(root, "bios_date")))
}

/// What `/proc/cpuinfo` says, as names and values. Large machines take their time to write it, so it is read once.
pub(super) struct Processors(Vec<(String, String)>);

impl Processors {
    pub(super) fn read(root: &Path) -> Self {
        let lines = text(&root.join("proc/cpuinfo")).unwrap_or_default();
        let parted =
            |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Self(lines.lines().filter_map(parted).collect())
    }

    fn first(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }
}

/// The clock rate is what the firmware's tables say.
pub(super) fn cpu(processors: &Processors, speed: Option<u64>) -> Facts {
    let lines = &processors.0;
    let (mut packages, mut cores) = (BTreeSet::new(), BTreeSet::new());
    let mut package = "";
    for (name, value) in lines {
        match name.as_str() {
            "physical id" => {
                package = value;
                packages.insert(value.as_str());
            }
            "core id" => {
                cores.insert((package, value.as_str()));
            }
            _ => {}
        }
    }
    let threads = lines.iter().filter(|(name, _)| name == "processor").count();
    let model = processors
        .first("model name")
        .map(|model| model.split_whitespace().collect::<Vec<_>>().join(" ").replacen("- ", "-", 1));
    let cache = processors.first("cache size").and_then(|size| size.strip_suffix(" KB")?.parse().ok());
    let count = |number: usize| u64::try_from(number).ok();
    Facts::default()
        .text("vendor", processors.first("vendor_id").map(str::to_owned))
        .text("model", model)
        .number("speed", speed)
        .number("cache", cache)
        .number("cpus", count(packages.len()))
        .number("cores", count(cores.len()))
        .number("threads", count(threads))
}

/// The name of the driver of a device that has a directory under `/sys/class` or `/sys/block`.
pub(super) fn driver(device: &Path) -> Option<String> {
    link_name(&device.join("device/driver"))
}
