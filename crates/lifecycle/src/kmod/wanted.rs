//! The modules that an initramfs holds: what it takes to reach the machine's own disk, and what Kairn's boot itself uses.
//!
//! The names are those of upstream kernels; a kernel that has one built in needs no file, one that lacks it is reported.

use serde::Serialize;

/// When the initramfs loads a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// When a device asks for it by its modalias.
    ByDevice,
    /// On every boot, since nothing announces it.
    Always,
    /// When the boot comes to a point that needs it: a file system to mount, a watchdog that no hardware offers.
    OnUse,
}

/// A group of modules with one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Names of modules, or aliases where kernels differ in the name.
    pub names: &'static [&'static str],
    /// What a person reads when one is missing: "needed for …".
    pub reason: &'static str,
    /// When it is loaded.
    pub load: Load,
    /// Without it no machine boots; otherwise only machines with that hardware do not.
    pub essential: bool,
}

const fn device(names: &'static [&'static str], reason: &'static str) -> Wanted {
    Wanted { names, reason, load: Load::ByDevice, essential: false }
}

const fn always(names: &'static [&'static str], reason: &'static str, essential: bool) -> Wanted {
    Wanted { names, reason, load: Load::Always, essential }
}

const fn on_use(names: &'static [&'static str], reason: &'static str) -> Wanted {
    Wanted { names, reason, load: Load::OnUse, essential: false }
}

/// All groups. Drivers of LVM, RAID, multipath and iSCSI are absent on purpose: the release lies on a plain partition.
pub const WANTED: &[Wanted] = &[
    device(&["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi"], "disks of KVM and QEMU machines"),
    device(&["sd_mod", "sr_mod"], "SCSI, SATA and USB disks and CD-ROM drives"),
    device(&["nvme", "vmd"], "NVMe disks, also behind Intel's Volume Management Device"),
    device(&["ahci", "ata_piix", "ata_generic"], "SATA disks and CD-ROM drives, and old IDE ones"),
    device(&["xhci_pci", "ehci_pci", "ohci_pci", "uhci_hcd"], "USB controllers"),
    device(&["usb_storage", "uas"], "USB sticks and disks"),
    device(&["mmc_block", "sdhci_pci", "sdhci_acpi"], "SD cards and eMMC"),
    device(&["hv_vmbus", "hv_storvsc", "pci_hyperv"], "disks of Hyper-V and Azure machines"),
    device(&["vmw_pvscsi", "mptspi", "mptsas"], "disks of VMware machines"),
    device(&["xen_blkfront"], "disks of Xen machines"),
    device(
        &["megaraid_sas", "mpt3sas", "hpsa", "smartpqi", "aacraid"],
        "RAID and SAS controllers of servers by Dell, Broadcom, HPE, Microchip and Adaptec",
    ),
    device(&["iTCO_wdt", "lpc_ich", "i2c_i801"], "the watchdog of Intel chipsets, which the last two announce"),
    device(&["i6300esb", "sp5100_tco", "wdat_wdt"], "the watchdogs of QEMU, of AMD chipsets and of ACPI"),
    always(&["ext4"], "the file system of all partitions but the ESP", true),
    // ext4 asks for `crypto-crc32c`; whatever implements it must be there before the first mount, since no modprobe is.
    always(&["crypto-crc32c"], "checksums of ext4", true),
    always(&["loop"], "opening the root image", true),
    always(&["dm_verity"], "verifying the root image", true),
    always(&["crypto-sha256"], "verifying the root image", true),
    // The generic implementation is often built in and would be used alone; dm-verity picks the fastest at its start only.
    always(&["sha256_ssse3"], "verifying the root image with the processor's own instructions", false),
    always(&["overlay"], "the writable /etc, /var and /srv", true),
    always(&["efivarfs"], "reading which entry was booted from which disk", true),
    always(&["efi_pstore"], "keeping the last words of a panic", false),
    // Debian builds FAT with code page 437 and ascii as its defaults; other kernels name iso8859-1 or utf8.
    always(&["vfat", "nls_cp437", "nls_ascii"], "the ESP", true),
    always(&["nls_utf8", "nls_iso8859_1"], "the ESP of kernels with other defaults", false),
    on_use(&["erofs"], "the root image"),
    on_use(&["squashfs"], "the root image where a kernel lacks EROFS"),
    on_use(&["isofs"], "live media"),
    on_use(&["softdog"], "a watchdog where the hardware has none"),
];

/// Returns all names that are loaded at this moment, in the order of [`WANTED`]; with `None` all names.
pub fn wanted_names(load: Option<Load>) -> impl Iterator<Item = &'static str> {
    WANTED.iter().filter(move |group| load.is_none_or(|load| group.load == load)).flat_map(|group| group.names).copied()
}
