//! The QEMU command line of a machine: a pure function of its description and of what the host offers.

use crate::{Accel, Bus, Disk, Firmware, Forward, Layer, OnReboot, Spec};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Files in a machine's directory. Sockets, pid file and logs are named relative to it, since the path of a Unix socket holds
/// 107 bytes only (unix(7)).
pub(crate) mod file {
    /// The description.
    pub(crate) const SPEC: &str = "machine.json";
    /// The variable store of UEFI.
    pub(crate) const VARS: &str = "vars.fd";
    /// All that the guest wrote to its serial console, over all boots.
    pub(crate) const CONSOLE_LOG: &str = "console.log";
    /// The serial console, interactive.
    pub(crate) const CONSOLE: &str = "console.sock";
    /// QEMU's monitor for commands.
    pub(crate) const QMP: &str = "qmp.sock";
    /// QEMU's monitor for those who wait for events.
    pub(crate) const EVENTS: &str = "events.sock";
    /// The connection that commands in the guest share.
    pub(crate) const SSH: &str = "ssh.sock";
    /// QEMU's process id.
    pub(crate) const PID: &str = "qemu.pid";
    /// What the processors of a guest did when it was mute.
    pub(crate) const PROCESSORS: &str = "processors.log";
    /// What QEMU itself complains about once it runs.
    pub(crate) const QEMU_LOG: &str = "qemu.log";
    /// The TPM's control socket.
    pub(crate) const TPM: &str = "tpm.sock";
}

/// What the host offers to a machine.
pub(crate) struct Place {
    /// The machine's directory, absolute.
    pub(crate) dir: PathBuf,
    /// The accelerator.
    pub(crate) accel: Accel,
    /// UEFI code; absent with BIOS.
    pub(crate) uefi: Option<PathBuf>,
}

/// Returns QEMU's arguments; it must run in the machine's directory.
pub(crate) fn arguments(spec: &Spec, place: &Place) -> Vec<String> {
    let mut line = Line::default();
    line.pair("-name", format!("guest={},process=kairn-lab-{}", spec.name, spec.name));
    line.pair("-accel", place.accel.argument());
    line.flag("-nodefaults").flag("-no-user-config");
    line.pair("-cpu", spec.model.argument());
    line.pair("-smp", spec.cpus.to_string());
    line.pair("-m", spec.memory_mib.to_string());
    line.pair("-display", "none");
    line.pair("-rtc", "base=utc");
    machine(&mut line, spec, place);
    socket(&mut line, "console", &format!("{},logfile={},logappend=on", file::CONSOLE, file::CONSOLE_LOG));
    line.pair("-serial", "chardev:console");
    for (id, path) in [("qmp", file::QMP), ("events", file::EVENTS)] {
        socket(&mut line, id, path);
        line.pair("-mon", format!("chardev={id},mode=control"));
    }
    line.pair("-device", "virtio-rng-pci");
    network(&mut line, spec);
    controllers(&mut line, spec);
    for (index, disk) in spec.disks.iter().enumerate() {
        for node in nodes(index, disk, spec.durable) {
            line.pair("-blockdev", node.to_string());
        }
        line.pair("-device", device(index, disk, &spec.disks));
    }
    if spec.watchdog {
        line.pair("-device", "i6300esb");
    }
    if spec.tpm {
        line.pair("-chardev", format!("socket,id=tpm,path={}", file::TPM));
        line.pair("-tpmdev", "emulator,id=tpm,chardev=tpm");
        line.pair("-device", "tpm-crb,tpmdev=tpm");
    }
    let reboot = match spec.on_reboot {
        OnReboot::Reset => "reset",
        OnReboot::Exit => "shutdown",
    };
    line.pair("-action", format!("reboot={reboot},watchdog=reset"));
    line.pair("-pidfile", shown(&place.dir.join(file::PID)));
    line.pair("-D", file::QEMU_LOG);
    line.flag("-daemonize");
    line.0.extend(spec.extra.iter().cloned());
    line.0
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn pair(&mut self, flag: &str, value: impl Into<String>) {
        self.0.extend([flag.into(), value.into()]);
    }
}

fn machine(line: &mut Line, spec: &Spec, place: &Place) {
    let Some(code) = place.uefi.as_ref().filter(|_| spec.firmware == Firmware::Uefi) else {
        return line.pair("-machine", "q35");
    };
    line.pair("-machine", "q35,pflash0=uefi-code,pflash1=uefi-vars");
    let code = json!({"driver": "file", "node-name": "uefi-code", "filename": code, "read-only": true});
    let vars = json!({"driver": "file", "node-name": "uefi-vars", "filename": place.dir.join(file::VARS)});
    line.pair("-blockdev", code.to_string());
    line.pair("-blockdev", vars.to_string());
}

fn socket(line: &mut Line, id: &str, path: &str) {
    line.pair("-chardev", format!("socket,id={id},server=on,wait=off,path={path}"));
}

fn network(line: &mut Line, spec: &Spec) {
    let Some(network) = &spec.network else { return };
    let mut user = String::from("user,id=net0");
    if network.isolated {
        user.push_str(",restrict=on");
    }
    for forward in &network.forwards {
        let Forward { protocol, host, guest } = forward;
        user.push_str(&format!(",hostfwd={protocol}:127.0.0.1:{host}-:{guest}"));
    }
    for forward in &network.guest_forwards {
        user.push_str(&format!(",guestfwd=tcp:{}:{}-cmd:{}", forward.address, forward.port, forward.command));
    }
    line.pair("-netdev", user);
    // No option ROM: the firmware has a driver of its own, and a second one doubles the time lost to network boot.
    line.pair("-device", "virtio-net-pci,netdev=net0,romfile=");
}

fn controllers(line: &mut Line, spec: &Spec) {
    if spec.disks.iter().any(|disk| disk.bus == Bus::Usb) {
        line.pair("-device", "qemu-xhci,id=xhci");
    }
    if spec.disks.iter().any(|disk| disk.bus == Bus::Scsi) {
        line.pair("-device", "virtio-scsi-pci,id=scsi");
    }
}

/// Returns the block nodes of a disk, leaves first; the last one, `disk<index>`, is the guest's.
fn nodes(index: usize, disk: &Disk, durable: bool) -> Vec<Value> {
    let top = format!("disk{index}");
    let mut nodes = Vec::new();
    let file = format!("{top}-file");
    nodes.push(leaf(&file, &disk.image, disk.read_only, durable));
    let image = if disk.layer.is_some() { format!("{top}-image") } else { top.clone() };
    nodes.push(json!({
        "driver": disk.format.as_str(), "node-name": image, "file": file, "read-only": disk.read_only,
        "discard": "unmap", "cache": {"no-flush": !durable},
    }));
    match &disk.layer {
        None => {}
        Some(Layer::LogWrites { log }) => {
            let log_file = format!("{top}-log");
            nodes.push(leaf(&log_file, log, false, durable));
            // No `no-flush` here: this node must see the guest's flushes to log them.
            nodes.push(json!({
                "driver": "blklogwrites", "node-name": top, "file": image, "log": log_file,
                "log-sector-size": 512, "discard": "unmap",
            }));
        }
        Some(Layer::Faults { options }) => {
            let mut node: Map<String, Value> = options.clone();
            node.insert("driver".into(), "blkdebug".into());
            node.insert("node-name".into(), top.into());
            node.insert("image".into(), image.into());
            nodes.push(node.into());
        }
    }
    nodes
}

fn leaf(name: &str, path: &Path, read_only: bool, durable: bool) -> Value {
    json!({
        "driver": "file", "node-name": name, "filename": path, "read-only": read_only,
        "discard": "unmap", "cache": {"no-flush": !durable},
    })
}

fn device(index: usize, disk: &Disk, all: &[Disk]) -> String {
    // Ports of the AHCI controller that q35 has built in count over disks and CD-ROMs alike.
    let port = all.iter().take(index).filter(|disk| matches!(disk.bus, Bus::Ahci | Bus::AhciCdrom)).count();
    let mut device = match disk.bus {
        Bus::Virtio => "virtio-blk-pci".to_owned(),
        Bus::Ahci => format!("ide-hd,bus=ide.{port}"),
        Bus::AhciCdrom => format!("ide-cd,bus=ide.{port}"),
        Bus::Nvme => "nvme".to_owned(),
        Bus::Scsi => "scsi-hd,bus=scsi.0".to_owned(),
        Bus::Usb => "usb-storage,bus=xhci.0,removable=on".to_owned(),
    };
    device.push_str(&format!(",id=device{index},drive=disk{index}"));
    match (&disk.serial, disk.bus) {
        (Some(serial), _) => device.push_str(&format!(",serial={serial}")),
        // An NVMe drive without a serial number is refused.
        (None, Bus::Nvme) => device.push_str(&format!(",serial=kairn{index}")),
        (None, _) => {}
    }
    if let Some(bytes) = disk.sector {
        device.push_str(&format!(",logical_block_size={bytes},physical_block_size={bytes}"));
    }
    if let Some(boot) = disk.boot_index {
        device.push_str(&format!(",bootindex={boot}"));
    }
    device
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GuestForward, Network, Protocol};

    fn rendered(spec: &Spec, accel: Accel) -> String {
        spec.check().unwrap();
        let place = Place { dir: "/lab/m".into(), accel, uefi: Some("/fw/code.fd".into()) };
        let mut text = String::new();
        for argument in arguments(spec, &place) {
            text.push_str(if argument.starts_with('-') { "\n" } else { " " });
            text.push_str(&argument);
        }
        text.trim_start().to_owned()
    }

    #[test]
    fn a_plain_machine_has_a_console_two_monitors_and_ssh() {
        insta::assert_snapshot!(rendered(&Spec::new("plain"), Accel::Tcg));
    }

    #[test]
    fn every_bus_layer_and_device_has_its_arguments() {
        let mut spec = Spec::new("full");
        (spec.memory_mib, spec.model) = (2048, crate::Model::V2);
        spec.disks = vec![
            Disk::cdrom("/m/a,b.iso"),
            Disk::raw("/m/ahci.raw").on(Bus::Ahci).boot_index(1),
            Disk::usb_stick("/m/stick.iso"),
            Disk::qcow2("/m/nvme.qcow2").on(Bus::Nvme).sector(4096),
            Disk::qcow2("/m/scsi.qcow2").on(Bus::Scsi).serial("S1"),
            Disk::raw("/m/logged.raw").through(Layer::LogWrites { log: "/m/writes.log".into() }),
            Disk::raw("/m/faulty.raw").through(Layer::Faults {
                options: serde_json::from_str(r#"{"inject-error": [{"event": "write_aio", "errno": 28}]}"#).unwrap(),
            }),
        ];
        spec.network = Some(Network {
            forwards: vec![
                Forward { protocol: Protocol::Tcp, host: 0, guest: 22 },
                Forward { protocol: Protocol::Udp, host: 8080, guest: 80 },
            ],
            guest_forwards: vec![GuestForward {
                address: "10.0.2.100".parse().unwrap(),
                port: 5000,
                command: "nc 127.0.0.1 5000".into(),
            }],
            isolated: true,
        });
        (spec.watchdog, spec.tpm, spec.on_reboot, spec.durable) = (true, true, OnReboot::Exit, true);
        spec.extra = vec!["-snapshot".into()];
        insta::assert_snapshot!(rendered(&spec, Accel::Kvm));
    }

    #[test]
    fn a_bios_machine_has_no_flash() {
        let mut spec = Spec::new("bios");
        spec.firmware = Firmware::Bios;
        spec.network = None;
        let text = rendered(&spec, Accel::Tcg);
        assert!(!text.contains("pflash") && !text.contains("netdev"), "{text}");
    }

    #[test]
    fn a_description_that_qemu_would_misread_is_refused() {
        let refused = |change: fn(&mut Spec)| {
            let mut spec = Spec::new("x");
            change(&mut spec);
            spec.check().unwrap_err().to_string()
        };
        assert!(refused(|spec| spec.name = "a,b".into()).contains("letters"));
        assert!(refused(|spec| spec.disks = vec![Disk::raw("here.raw")]).contains("absolute"));
        assert!(refused(|spec| spec.disks = vec![Disk::cdrom("/x"); 7]).contains("six ports"));
        assert!(refused(|spec| spec.cpus = 0).contains("start nothing"));
    }
}
