use super::*;
use crate::{Architecture, Blob, Loader, Release, RootFormat, RootImage};
use kairn_report::Diagnostic;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn release() -> Release {
    let root_hash = Digest::of(b"root");
    Release {
        format: 1,
        id: ReleaseId::of_root_hash(&root_hash),
        version: "1.0".into(),
        title: "Debian GNU/Linux 12 (bookworm)".into(),
        architecture: Architecture::Amd64,
        kernel: "6.1.0-56-amd64".into(),
        unpacked: Bytes::mib(900),
        root: RootImage {
            format: RootFormat::Erofs,
            image: Blob { size: Bytes::mib(300), sha256: Digest::of(b"image") },
            verity: Blob { size: Bytes::mib(3), sha256: Digest::of(b"tree") },
            root_hash,
            salt: "00".into(),
            data_blocks: 76_800,
        },
        uki: Blob { size: Bytes::mib(20), sha256: Digest::of(b"uki") },
        loader: Loader { file: Blob { size: Bytes(90_000), sha256: Digest::of(b"loader") }, version: "252.39".into() },
        cmdline: "console=ttyS0".into(),
    }
}

fn disk(device: &str, gib: u64) -> DiskFacts {
    DiskFacts {
        device: device.into(),
        size: Bytes::gib(gib),
        sector_size: 512,
        unfit: None,
        removable: false,
        model: Some("QEMU HARDDISK".into()),
        serial: None,
        booted_from: false,
        uses: Vec::new(),
        what: None,
        partitions: Vec::new(),
        installation: None,
    }
}

fn part(device: &str, name: &str) -> PartitionFacts {
    let what = Some(What { kind: "ext4".into(), label: Some("DATA".into()) });
    PartitionFacts {
        device: device.into(),
        name: Some(name.into()),
        size: Bytes::gib(1),
        guid: Some(Uuid::from_u128(77)),
        what,
    }
}

fn facts(disks: Vec<DiskFacts>) -> InstallFacts {
    let source = facts::ReleaseSource {
        dir: "/run/initramfs/live/kairn/releases/x".into(),
        release: release(),
        description_size: Bytes(900),
    };
    InstallFacts {
        firmware: FirmwareKind::Uefi { variables: true },
        disks,
        source: Some(source),
        missing_programs: Vec::new(),
        loader_refused: None,
        veto: None,
    }
}

fn request(device: Option<&str>) -> InstallRequest {
    let target =
        device.map_or(Target::Auto, |device| Target::Named { asked: device.into(), device: Some(device.into()) });
    InstallRequest {
        target,
        force: false,
        nousers: false,
        nobody_can_log_in: None,
        config_size: Some(Bytes(300)),
        sizes: BTreeMap::new(),
        stages: BTreeMap::new(),
    }
}

fn identities() -> Identities {
    let mut n = 0;
    Identities::generate(|| {
        n += 1;
        Uuid::from_u128(n)
    })
}

fn planned(disks: Vec<DiskFacts>, request: &InstallRequest) -> Result<InstallPlan, InstallRefusal> {
    plan(&facts(disks), request, &identities())
}

fn live() -> DiskFacts {
    DiskFacts { unfit: Some("a CD-ROM drive".into()), booted_from: true, removable: true, ..disk("/dev/sr0", 1) }
}

#[test]
fn the_largest_empty_disk_is_taken_and_every_other_has_its_reason() {
    let stick = DiskFacts { removable: true, ..disk("/dev/sdc", 900) };
    let data = DiskFacts { partitions: vec![part("/dev/sdd1", "data")], ..disk("/dev/sdd", 800) };
    let busy = DiskFacts { uses: vec!["/dev/sde1 is mounted on /mnt".into()], ..disk("/dev/sde", 700) };
    let plan = planned(
        vec![live(), disk("/dev/sda", 20), disk("/dev/sdb", 40), stick, data, busy, disk("/dev/sdf", 2)],
        &request(None),
    )
    .unwrap();
    assert_eq!(plan.disk, "/dev/sdb");
    assert_eq!(
        plan.choice.to_string(),
        "  disk: /dev/sdb (40 GiB, QEMU HARDDISK) is the largest that is empty, not removable and not the boot medium
  not /dev/sr0: it is a CD-ROM drive
  not /dev/sdc: it is removable, which is only taken when it is named
  not /dev/sdd: it is not empty: it holds /dev/sdd1 named `data` with ext4 `DATA` (1 GiB)
  not /dev/sde: it is in use: /dev/sde1 is mounted on /mnt
  not /dev/sdf: it is too small: it has 2 GiB, 6.5 GiB are needed
  not /dev/sda (20 GiB, QEMU HARDDISK): another one comes first
"
    );
}

#[test]
fn a_disk_that_was_named_is_refused_with_the_reason_and_the_way_out() {
    let data = DiskFacts { partitions: vec![part("/dev/sda1", "data")], ..disk("/dev/sda", 40) };
    let busy = DiskFacts { uses: vec!["/dev/sda1 is mounted on /mnt".into()], ..data.clone() };
    let boot = DiskFacts { booted_from: true, ..disk("/dev/sda", 40) };
    for (disk, text) in [
        (data.clone(), "/dev/sda is not empty: it holds /dev/sda1 named `data` with ext4 `DATA` (1 GiB)"),
        (busy, "/dev/sda is in use: /dev/sda1 is mounted on /mnt"),
        (boot, "/dev/sda holds the medium that this system was booted from"),
        (disk("/dev/sda", 4), "/dev/sda is too small: it has 4 GiB, 6.5 GiB are needed"),
    ] {
        let refusal = planned(vec![disk], &request(Some("/dev/sda"))).unwrap_err();
        assert_eq!(refusal.to_string(), text);
        assert_eq!((refusal.kind().exit_code(), refusal.hints().len()), (2, 1));
    }
    let forced = InstallRequest { force: true, ..request(Some("/dev/sda")) };
    let plan = planned(vec![data], &forced).unwrap();
    assert!(
        plan.to_string()
            .contains("note: /dev/sda holds /dev/sda1 named `data` with ext4 `DATA` (1 GiB), which will be lost")
    );
    let stick = DiskFacts { removable: true, ..disk("/dev/sda", 40) };
    assert!(planned(vec![stick], &request(Some("/dev/sda"))).unwrap().to_string().contains("is removable"));
}

#[test]
fn no_force_takes_a_disk_in_use_or_the_boot_medium() {
    let busy = DiskFacts { uses: vec!["it is a swap area".into()], ..disk("/dev/sda", 40) };
    let boot = DiskFacts { booted_from: true, ..disk("/dev/sdb", 40) };
    for target in [None, Some("/dev/sda"), Some("/dev/sdb")] {
        let forced = InstallRequest { force: true, ..request(target) };
        assert!(planned(vec![busy.clone(), boot.clone()], &forced).is_err());
    }
}

#[test]
fn what_is_no_disk_is_said_to_be_none() {
    let parted = DiskFacts { partitions: vec![part("/dev/sda1", "data")], ..disk("/dev/sda", 40) };
    let refusal = planned(vec![parted.clone()], &request(Some("/dev/sda1"))).unwrap_err();
    assert_eq!(refusal.to_string(), "`/dev/sda1` is a partition of /dev/sda; an installation takes a whole disk");
    let absent = InstallRequest { target: Target::Named { asked: "/dev/vdz".into(), device: None }, ..request(None) };
    let refusal = planned(vec![parted], &absent).unwrap_err();
    assert_eq!(refusal.hints(), ["there are: /dev/sda (40 GiB, QEMU HARDDISK)"]);
    assert_eq!(refusal.kind().exit_code(), 2);
}

#[test]
fn an_installed_machine_is_left_alone_even_when_a_larger_empty_disk_was_added() {
    let installed = DiskFacts {
        installation: Some(Installation::Finished { entries: vec!["kairn-3.conf".into()] }),
        partitions: vec![part("/dev/sda1", "efi")],
        ..disk("/dev/sda", 40)
    };
    let disks = || vec![live(), installed.clone(), disk("/dev/sdb", 400)];
    let refusal = planned(disks(), &request(None)).unwrap_err();
    assert_eq!(refusal.to_string(), "/dev/sda holds an installation of Kairn (kairn-3.conf)");
    assert_eq!(refusal.installed_disk(), Some("/dev/sda"));
    // Named, the other disk is meant.
    assert_eq!(planned(disks(), &request(Some("/dev/sdb"))).unwrap().disk, "/dev/sdb");
    let forced = InstallRequest { force: true, ..request(None) };
    let plan = planned(disks(), &forced).unwrap();
    assert_eq!(plan.disk, "/dev/sda");
    let former = plan.plan.steps.iter().find_map(|step| match &step.action {
        InstallAction::BootOptions { former, .. } => Some(former.clone()),
        _ => None,
    });
    assert_eq!(former, Some(vec![Uuid::from_u128(77)]), "boot options of the old ESP are taken over");
    let damaged = DiskFacts { installation: Some(Installation::Damaged), ..installed };
    let refusal = planned(vec![damaged], &request(None)).unwrap_err();
    assert!(refusal.to_string().contains("may still be whole") && refusal.installed_disk().is_none());
}

#[test]
fn an_interrupted_installation_is_begun_anew_without_force() {
    let unfinished = DiskFacts {
        installation: Some(Installation::Unfinished),
        partitions: vec![part("/dev/sda1", "efi")],
        ..disk("/dev/sda", 40)
    };
    let plan = planned(vec![unfinished, disk("/dev/sdb", 400)], &request(None)).unwrap();
    assert_eq!(plan.disk, "/dev/sda");
    assert!(plan.choice.why.contains("was interrupted") && plan.plan.notes.is_empty());
}

#[test]
fn what_no_disk_could_help_is_refused_first() {
    let one = || vec![disk("/dev/sda", 40)];
    let bios = InstallFacts { firmware: FirmwareKind::Bios, ..facts(one()) };
    assert_eq!(plan(&bios, &request(None), &identities()), Err(InstallRefusal::Bios));
    let bare = InstallFacts { source: None, ..facts(one()) };
    assert_eq!(plan(&bare, &request(None), &identities()), Err(InstallRefusal::NoRelease));
    let locked = InstallRequest { nobody_can_log_in: Some("user `kairos` has no password".into()), ..request(None) };
    let refusal = planned(one(), &locked).unwrap_err();
    assert_eq!(refusal.kind().exit_code(), 3);
    assert!(planned(one(), &InstallRequest { nousers: true, ..locked }).is_ok());
    let tools = InstallFacts { missing_programs: vec!["mkfs.vfat".into()], ..facts(one()) };
    assert!(plan(&tools, &request(None), &identities()).unwrap_err().to_string().contains("mkfs.vfat"));
    assert_eq!(
        planned(Vec::new(), &request(None)).unwrap_err().to_string(),
        "no disk is fit for an installation: there is none"
    );
}

#[test]
fn a_release_whose_loader_was_not_proven_is_not_installed_but_an_installation_still_boots() {
    let refused = |disks| {
        let facts = InstallFacts { loader_refused: Some("systemd-boot 259.1 is not supported".into()), ..facts(disks) };
        plan(&facts, &request(None), &identities()).unwrap_err()
    };
    let empty = refused(vec![disk("/dev/sda", 40)]);
    let finished = Installation::Finished { entries: vec!["kairn-3.conf".into()] };
    let installed = DiskFacts { installation: Some(finished), ..disk("/dev/sda", 40) };
    assert!(matches!(&empty, InstallRefusal::Loader { why } if why.contains("259.1")), "{empty}");
    assert_eq!(refused(vec![installed]).installed_disk(), Some("/dev/sda"));
}

fn names(plan: &InstallPlan) -> Vec<&str> {
    plan.plan.steps.iter().map(|step| step.name.as_str()).collect()
}

#[test]
fn the_entry_of_the_deployment_is_the_last_thing_written_to_the_file_systems() {
    let plan = planned(vec![disk("/dev/nvme0n1", 40)], &request(None)).unwrap();
    let names = names(&plan);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "names are unique");
    let at = |name: &str| names.iter().position(|one| *one == name).unwrap();
    let commits: Vec<_> = plan.plan.steps.iter().filter(|step| step.commits).map(|step| step.name.as_str()).collect();
    assert_eq!(commits, ["write-entry"]);
    assert_eq!(&names[at("write-entry") + 1..], ["keep-journal", "unmount", "finish-table", "verify", "boot-options"]);
    assert!(at("wipe") == 0 && at("write-table") == 1 && at("format-persistent") < at("mount-efi"));
    let text = plan.to_string();
    for wanted in [
        "make ext4 COS_PERSISTENT on /dev/nvme0n1p5",
        "copy release",
        "kairn-1+2.conf",
        "make 3 boot options for the disk",
        "write the configuration as /oem/90_custom.yaml (300 bytes)",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<InstallPlan>(&json).unwrap(), plan);
}

#[test]
fn the_stages_of_an_installation_run_where_a_failure_of_theirs_leaves_it_undone() {
    let all = crate::stage::OF_INSTALL.iter().zip(1..).map(|(stage, steps)| ((*stage).to_owned(), steps));
    let request = InstallRequest { stages: all.collect(), ..request(None) };
    let plan = planned(vec![disk("/dev/vda", 40)], &request).unwrap();
    let names = names(&plan);
    let at = |name: &str| names.iter().position(|one| *one == name).unwrap();
    assert_eq!(
        &names[at("mount-persistent") + 1..at("copy-recovery")],
        ["keep-results", "stage-before-install", "heed-veto"],
        "after the mounts, before anything is copied"
    );
    assert_eq!(
        &names[at("write-recovery-entry") + 1..=at("write-entry")],
        ["stage-after-install-chroot", "stage-after-install", "write-entry"]
    );
    assert_eq!(*names.last().unwrap(), "stage-kairos-install-after");
    assert!(!names.contains(&"stage-kairos-install-pre"), "it runs before there are facts to plan from");
    let step = |name: &str| plan.plan.steps.iter().find(|step| step.name == name).unwrap();
    let InstallAction::RunStage { stage, root: Some(root), results } = &step("stage-after-install-chroot").action
    else {
        panic!("{plan}")
    };
    assert_eq!(stage, "after-install-chroot");
    assert!(root.image.starts_with("/run/kairn/install/state/kairn/releases/"), "{root:?}");
    assert_eq!(results.as_deref(), Some("/run/kairn/install/state/kairn/stages"));
    assert!(matches!(&step("stage-kairos-install-after").action, InstallAction::RunStage { root: None, results: None, .. }));
    assert!(plan.to_string().contains("run the stage before-install (2 steps)"), "{plan}");
}

#[test]
fn a_configuration_without_such_stages_installs_as_before() {
    let plan = planned(vec![disk("/dev/vda", 40)], &request(None)).unwrap();
    assert!(names(&plan).iter().all(|name| !name.starts_with("stage-") && *name != "heed-veto"));
}

#[test]
fn a_veto_from_before_is_heeded_before_anything_is_written() {
    let facts = InstallFacts { veto: Some("no TPM\n".into()), ..facts(vec![disk("/dev/vda", 40)]) };
    let refusal = plan(&facts, &request(None), &identities()).unwrap_err();
    assert_eq!(refusal.to_string(), "a step of the configuration ended the installation: no TPM");
    assert_eq!(refusal.kind().exit_code(), 4);
}

#[test]
fn without_variables_of_the_firmware_and_without_configuration_those_steps_are_left_out() {
    let facts = InstallFacts { firmware: FirmwareKind::Uefi { variables: false }, ..facts(vec![disk("/dev/vda", 40)]) };
    let plan = plan(&facts, &InstallRequest { config_size: None, ..request(None) }, &identities()).unwrap();
    assert!(!names(&plan).contains(&"boot-options") && !names(&plan).contains(&"write-config"));
    assert!(plan.to_string().contains("removable-media path"));
}

#[test]
fn sizes_that_do_not_do_are_raised_with_a_note() {
    let small = InstallRequest { sizes: [(PartLabel::State, Bytes::mib(100))].into(), ..request(None) };
    let plan = planned(vec![disk("/dev/vda", 40)], &small).unwrap();
    assert_eq!(plan.plan.notes, ["COS_STATE is made 2.7 GiB instead of 100 MiB: this release needs that much"]);
}

fn any_disk() -> impl Strategy<Value = DiskFacts> {
    let installation = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Installation::Finished { entries: vec!["kairn-1.conf".into()] })),
        1 => Just(Some(Installation::Unfinished)),
        1 => Just(Some(Installation::Damaged)),
    ];
    (0_u8..8, 1_u64..40, any::<[bool; 5]>(), installation).prop_map(|(n, gib, flags, installation)| {
        let [unfit, removable, booted_from, busy, occupied] = flags;
        DiskFacts {
            unfit: unfit.then(|| "read-only".into()),
            removable,
            booted_from,
            uses: if busy { vec!["it is mounted".into()] } else { Vec::new() },
            partitions: if occupied || installation.is_some() { vec![part("/dev/x1", "efi")] } else { Vec::new() },
            installation,
            ..disk(&format!("/dev/sd{}", char::from(b'a' + n)), gib)
        }
    })
}

proptest! {
    #[test]
    fn an_installation_never_takes_what_it_must_not(
        disks in proptest::collection::vec(any_disk(), 0..6),
        force: bool,
        named in proptest::option::of(0_u8..8),
    ) {
        let mut seen = BTreeSet::new();
        let disks: Vec<_> = disks.into_iter().filter(|disk| seen.insert(disk.device.clone())).collect();
        let named = named.map(|n| format!("/dev/sd{}", char::from(b'a' + n)));
        let request = InstallRequest { force, ..request(named.as_deref()) };
        match planned(disks.clone(), &request) {
            Ok(plan) => {
                let taken = disks.iter().find(|disk| disk.device == plan.disk).unwrap();
                prop_assert!(taken.unfit.is_none() && !taken.booted_from && taken.uses.is_empty());
                prop_assert!(force || taken.holds().is_empty());
                prop_assert!(named.is_some() || !taken.removable);
                let finished = |disk: &DiskFacts| matches!(disk.installation, Some(Installation::Finished { .. }));
                prop_assert!(force || !finished(taken));
                // Every step writes to the disk that was taken, and to no other.
                let json = serde_json::to_string(&plan.plan).unwrap();
                prop_assert!(disks.iter().all(|disk| disk.device == plan.disk || !json.contains(&disk.device)));
            }
            Err(refusal) => prop_assert!(!refusal.hints().is_empty() || disks.is_empty(), "{refusal}"),
        }
    }
}
