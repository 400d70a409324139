//! Machines in a real QEMU, without an operating system in them: the firmware is guest enough.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on stderr why it skips"
)]

use kairn_host::Runner;
use kairn_lab::{
    Accel, Bus, Counts, Disk, Error, Layer, Machine, Mark, Protocol, Running, Tally, WriteLog, store::Store,
};
use std::path::Path;
use std::time::Duration;

const BOOT: Duration = Duration::from_secs(90);

/// Unwraps, or says which package is missing.
fn or_skip<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Err(Error::NoPackage { object, package }) => {
            eprintln!("skipped: {object} is not installed (package {package})");
            None
        }
        other => Some(other.unwrap()),
    }
}

/// A FAT-free disk for the firmware: no boot loader on it, so the firmware ends in its shell or its boot menu.
fn start(name: &str, dir: &Path) -> Option<Running> {
    let disk = Disk::qcow2(dir.join("disk.qcow2"));
    or_skip(disk.create(&Runner::default(), 64 << 20))?;
    let machine = Machine::builder(name, dir.join(name)).memory_mib(256).disk(disk).accel(Accel::Tcg).create().unwrap();
    or_skip(machine.start())
}

#[test]
fn the_firmware_comes_up_and_power_can_be_cut_and_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut running) = start("fw", dir.path()) else { return };
    let seen = running.console().wait_for("BdsDxe", BOOT).unwrap();
    assert!(seen.at > Duration::ZERO && seen.line.contains("BdsDxe"), "{seen:?}");
    let port = running.port(Protocol::Tcp, 22).unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    running.reset().unwrap();
    let event = running.wait_event(&["RESET"], Duration::from_secs(30)).unwrap().expect("QEMU announces a reset");
    assert_eq!(event.name, "RESET");
    running.console().wait_for("BdsDxe", BOOT).unwrap();

    running.reset().unwrap();
    running.console().wait_for("BdsDxe", BOOT).unwrap();
    let (pid, before) = (running.pid(), running.console().mark());
    running.power_cycle().unwrap();
    assert!(running.wait_event(&["RESET"], Duration::from_millis(10)).unwrap().is_some(), "what nobody took is kept");
    assert!(running.wait_event(&["RESET"], Duration::from_millis(10)).unwrap().is_none(), "and comes once");
    assert_ne!(running.pid(), pid, "it is another QEMU");
    let seen = running.console().wait_since(before, "BdsDxe", BOOT).unwrap();
    assert!(seen.end > before && running.console().text().matches("BdsDxe").count() > 1, "places stay valid");
    assert!(std::net::TcpStream::connect(("127.0.0.1", running.port(Protocol::Tcp, 22).unwrap())).is_ok());
    running.reset().unwrap();
    assert!(running.wait_event(&["RESET"], Duration::from_secs(30)).unwrap().is_some(), "its events come");

    let machine = running.machine().clone();
    assert!(matches!(machine.start(), Err(Error::Running { .. })));
    let log = std::fs::metadata(machine.console_log()).unwrap().len();
    running.cut_power().unwrap();
    assert!(machine.running().unwrap().is_none());
    let again = machine.start().unwrap();
    assert!(!again.console().text().contains("BdsDxe"), "what an earlier run said is not seen again");
    again.console().wait_for("BdsDxe", BOOT).unwrap();
    assert!(std::fs::metadata(machine.console_log()).unwrap().len() > log, "the log goes on");
}

#[test]
fn a_copy_holds_what_was_written_and_the_guest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(running) = start("copied", dir.path()) else { return };
    running.console().wait_for("BdsDxe", BOOT).unwrap();
    let mut qmp = running.qmp().unwrap();
    let said = qmp.human("qemu-io -d /machine/peripheral/device0/virtio-backend \"write -P 7 1M 4k\"").unwrap();
    assert_eq!(said, "");
    drop(qmp);
    let [image, variables, raw] = ["copy.qcow2", "copy.fd", "copy.raw"].map(|name| dir.path().join(name));
    running.copy(0, &image, &variables).unwrap();
    Disk::qcow2(&image).export_raw(&Runner::default(), &raw).unwrap();
    assert_eq!(std::fs::read(&raw).unwrap()[1 << 20..][..4096], [7; 4096]);
    assert_eq!(std::fs::metadata(variables).unwrap().len(), running.machine().variables().metadata().unwrap().len());
    let state = running.qmp().unwrap().execute("query-status", serde_json::Value::Null).unwrap();
    assert_eq!(state["status"], "running");
    assert!(matches!(running.copy(1, &image, &raw), Err(Error::Spec { .. })));
}

#[test]
fn a_detached_machine_is_found_by_its_name_and_dies_when_its_owner_drops_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let Some(running) = start("kept", &dir.path().join("machines")) else { return };
    let (pid, port) = (running.pid(), running.port(Protocol::Tcp, 22));
    let machine = running.detach();
    let entry = store.list().unwrap().remove(0);
    assert_eq!((entry.name.as_str(), entry.pid, entry.ports.get(&22).copied()), ("kept", Some(pid), port));
    assert!(matches!(store.remove("kept", false), Err(Error::Running { .. })));
    drop(store.running("kept").unwrap());
    assert!(machine.running().unwrap().is_some(), "who only attached leaves it running");
    assert!(store.stop("kept", true, Duration::ZERO).unwrap());
    assert!(!store.stop("kept", true, Duration::ZERO).unwrap());
    drop(machine.start().unwrap());
    assert!(machine.running().unwrap().is_none());
    store.remove("kept", false).unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn every_kind_of_disk_and_device_is_accepted_and_a_tpm_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["cd.iso", "stick.iso", "ahci.raw", "logged.raw"] {
        std::fs::File::create(path(name)).unwrap().set_len(4 << 20).unwrap();
    }
    let nvme = Disk::qcow2(path("nvme.qcow2")).on(Bus::Nvme).sector(4096);
    if or_skip(nvme.create_over(&Runner::default(), &path("ahci.raw"), kairn_lab::Format::Raw, Some(8 << 20))).is_none()
    {
        return;
    }
    let machine = Machine::builder("all", path("all"))
        .memory_mib(256)
        .cdrom(path("cd.iso"))
        .disk(Disk::raw(path("ahci.raw")).on(Bus::Ahci))
        .usb_stick(path("stick.iso"))
        .disk(nvme)
        .disk(Disk::raw(path("logged.raw")).on(Bus::Scsi).through(Layer::LogWrites { log: path("writes.log") }))
        .forward(Protocol::Tcp, 0, 80)
        .watchdog()
        .tpm()
        .accel(Accel::Tcg)
        .create()
        .unwrap();
    // The base of the overlay is plugged in too, which QEMU's image locks refuse: only readers may share.
    let error = machine.start().unwrap_err().to_string();
    assert!(error.contains("lock"), "{error}");
    let mut machine = machine;
    machine.change(|spec| spec.disks[1].image = path("logged.raw").with_file_name("other.raw")).unwrap();
    std::fs::File::create(path("other.raw")).unwrap().set_len(4 << 20).unwrap();
    let Some(running) = or_skip(machine.start()) else { return };
    running.console().wait_for("BdsDxe", BOOT).unwrap();
    assert!(
        running.port(Protocol::Tcp, 80).is_some() && running.port(Protocol::Tcp, 80) != running.port(Protocol::Tcp, 22)
    );
    running.eject(0).unwrap();
    running.unplug(2).unwrap();
    running.quit().unwrap();
    assert!(std::fs::metadata(machine.dir().join("tpm/tpm2-00.permall")).unwrap().len() > 0);
    assert!(WriteLog::open(&path("writes.log")).unwrap().writes().is_empty());
}

#[test]
fn a_log_of_writes_by_qemu_gives_the_disk_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, size) in [("disk.raw", 1 << 20), ("again.raw", 1 << 20), ("writes.log", 0)] {
        std::fs::File::create(path(name)).unwrap().set_len(size).unwrap();
    }
    let image = format!(
        "driver=blklogwrites,file.driver=file,file.filename={},log.driver=file,log.filename={},log-sector-size=512",
        path("disk.raw").display(),
        path("writes.log").display()
    );
    let mut qemu_io = kairn_host::Invocation::new("qemu-io").args(["--image-opts", &image]);
    for command in ["write -P 1 4k 8k", "flush", "write -P 2 8k 512", "write -z 64k 64k", "write -P 3 0 1k", "flush"] {
        qemu_io = qemu_io.args(["-c", command]);
    }
    match Runner::default().run(&qemu_io) {
        Err(kairn_host::Error::NoProgram { program }) => {
            return eprintln!("skipped: {program} is not installed (qemu-utils)");
        }
        ran => ran.unwrap(),
    };
    let log = WriteLog::open(&path("writes.log")).unwrap();
    let again = std::fs::File::options().write(true).open(path("again.raw")).unwrap();
    for index in 0..log.writes().len() {
        log.apply(index, &again).unwrap();
    }
    assert_eq!(std::fs::read(path("again.raw")).unwrap(), std::fs::read(path("disk.raw")).unwrap());
    let last = log.writes().iter().rposition(|write| write.length == 1024).unwrap();
    let zeroed = last - 1 - usize::from(log.writes()[last - 1].flush);
    assert!(log.losable(last + 1).contains(&last), "{:?}", log.writes());
    assert_eq!(log.losable(log.writes().len()), Vec::<usize>::new(), "the last request is a flush");
    assert_eq!((log.writes()[zeroed].offset, log.writes()[zeroed].length), (64 << 10, 64 << 10));
}

#[test]
fn the_accelerator_that_is_found_boots_the_firmware() {
    let dir = tempfile::tempdir().unwrap();
    let Some(accel) = or_skip(Accel::detect(&Runner::default())) else { return };
    let machine = Machine::builder("a", dir.path().join("a")).memory_mib(256).network(None).create().unwrap();
    let running = machine.start().unwrap();
    assert_eq!(running.accel(), accel);
    running.console().wait_for("BdsDxe", BOOT).unwrap();
}

#[test]
fn a_mute_guest_is_started_anew_once_and_tells_where_its_processors_stood() {
    let dir = tempfile::tempdir().unwrap();
    let disk = |name: &str| Disk::raw(dir.path().join(name));
    for (name, disk, by_another) in [
        ("plain", disk("plain.raw"), true),
        ("logged", disk("logged.raw").through(Layer::LogWrites { log: dir.path().join("writes.log") }), false),
    ] {
        std::fs::File::create(&disk.image).unwrap().set_len(4 << 20).unwrap();
        let tally = Tally::new(dir.path().join(format!("{name}.tally")));
        let machine = Machine::builder(name, dir.path().join(name)).memory_mib(256).disk(disk).accel(Accel::Tcg);
        let machine = machine.network(None).tally(tally.clone()).mute_limit(Duration::from_secs(5)).create().unwrap();
        let Some(mut running) = or_skip(machine.start()) else { return };
        let pid = running.pid();
        let error = running.await_init(Mark::default(), BOOT).unwrap_err();
        assert!(matches!(&error, Error::Mute { processors, .. } if processors.contains("IP=")), "{error}");
        assert_eq!((running.restarts(), running.pid() != pid), (1, by_another), "{name}");
        assert_eq!(tally.counts().unwrap(), Counts { boots: 1, retried: vec![name.into()] });
        let record = std::fs::read_to_string(machine.dir().join("processors.log")).unwrap();
        assert_eq!(record.matches("== info registers").count(), 2, "{record}");
    }
}
