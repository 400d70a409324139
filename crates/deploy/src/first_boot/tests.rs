use super::*;
use crate::loop_disk::{self, forget_partitions, succeeds};
use kairn_host::{FixedClock, LoopDevice, LoopOptions, RealMachine, Recorder, Runner, StopAfter, mount};
use kairn_layout::Sizing;
use kairn_lifecycle::{ReleaseId, Role, Sequence};
use std::collections::BTreeMap;
use std::process::Command;

/// A disk image on a disk four times its size, STATE and PERSISTENT mounted as a boot mounts them.
struct Bench {
    dir: tempfile::TempDir,
    disk: LoopDevice,
    image: DiskLayout,
    variables: EfiVars,
}

fn bench() -> Option<Bench> {
    if !loop_disk::installed(&["mkfs.vfat", "mke2fs", "e2fsck", "resize2fs", "tune2fs", "sgdisk"]) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let (sealed, unpacked, uki) = (Bytes::mib(20), Bytes::mib(50), Bytes::mib(5));
    let sizing = Sizing { sector_size: 512, sealed, unpacked, uki, overrides: BTreeMap::new() };
    let image = DiskLayout::minimal(&sizing).unwrap();
    let disk = loop_disk::attach(&dir.path().join("disk.img"), image.disk_size.0 * 4)?;
    Some(Bench { variables: EfiVars::at(dir.path().join("vars")), dir, disk, image })
}

impl Bench {
    fn machine(&self) -> BenchMachine {
        let real =
            RealMachine { variables: self.variables.clone(), ..RealMachine::at(Path::new("/"), Runner::default()) };
        BenchMachine { real, persistent: self.place("persistent") }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn part(&self, number: u32) -> String {
        kairn_lifecycle::install::partition_device(&self.disk.path.display().to_string(), number)
    }

    fn reread(&self) {
        let effect = Effect::RereadPartitions { disk: self.disk.path.clone(), expect: Vec::new() };
        self.machine().real.apply(&effect).unwrap();
    }

    /// Writes the image to the disk.
    fn flash(&self) {
        forget_partitions(&self.disk.path);
        // A machine that has not seen the image yet: its firmware knows one option of its own.
        let vars = self.place("vars");
        std::fs::remove_dir_all(&vars).ok();
        std::fs::create_dir(&vars).unwrap();
        std::fs::write(vars.join(boot_option::BOOT_ORDER), [7, 0, 0, 0, 9, 0]).unwrap();
        let mut n = 0;
        let guids = DiskGuids::generate(|| {
            n += 1;
            Uuid::from_u128(n)
        });
        let rendered = self.image.table(&guids, 0).render().unwrap();
        let end = self.image.disk_size.0 * 4 - (1 << 20);
        let writes = [(end, vec![0; 1 << 20]), (0, rendered.primary), (rendered.backup_offset, rendered.backup)];
        for (offset, bytes) in writes {
            let effect = Effect::WriteDevice { path: self.disk.path.clone(), offset, content: Content(bytes) };
            self.machine().real.apply(&effect).unwrap();
        }
        self.reread();
        succeeds("mkfs.vfat", &["-F", "32", "-n", "COS_GRUB", "-i", "00000001", &self.part(1)]);
        for number in 2..=5 {
            let label = PartLabel::ALL[number as usize - 1].fs_label();
            let uuid = Uuid::from_u128(number.into()).to_string();
            // OEM is as an older image had it.
            let seed = if number == 2 { "^metadata_csum_seed" } else { "metadata_csum_seed" };
            succeeds("mke2fs", &["-q", "-F", "-t", "ext4", "-O", seed, "-L", label, "-U", &uuid, &self.part(number)]);
        }
        self.boot();
        std::fs::create_dir_all(self.place("state").join("kairn/journal")).unwrap();
        std::fs::write(self.place("state").join(paths::FIRST_BOOT), "id\n").unwrap();
        std::fs::write(self.place("persistent").join("data"), "kept").unwrap();
    }

    fn boot(&self) {
        for (name, number) in [("oem", 2), ("state", 4), ("persistent", 5)] {
            std::fs::create_dir_all(self.place(name)).unwrap();
            mount::mount_device(Path::new(&self.part(number)), &self.place(name), "ext4", mount::Access::ReadWrite)
                .unwrap();
        }
    }

    fn power_cut(&self) {
        for name in ["oem", "state", "persistent"] {
            mount::unmount(&self.place(name)).unwrap();
        }
        forget_partitions(&self.disk.path);
        self.reread();
    }

    fn report(&self) -> BootReport {
        let partitions = PartLabel::ALL.into_iter().zip(1..).map(|(label, number)| (label, self.part(number)));
        BootReport {
            format: 1,
            role: Role::Deployment { sequence: Sequence(1) },
            entry: Some("kairn-1+1-1.conf".into()),
            release: "0123456789abcdef".parse::<ReleaseId>().unwrap(),
            disk: self.disk.path.display().to_string(),
            partitions: partitions.collect(),
            attempt: None,
            phases: Vec::new(),
            events: Vec::new(),
        }
    }

    fn run(&self, machine: &mut dyn Machine) -> (Result<(), Error>, Vec<Event>) {
        let mut events = Vec::new();
        let clock = FixedClock::at(Duration::from_secs(1_795_236_400));
        let result = run(&self.report(), &self.place("state"), machine, &self.variables, &clock, &mut events);
        (result, events)
    }

    /// Looks at a finished disk and returns its identities.
    fn verify(&self) -> Vec<String> {
        assert!(!self.place("state").join(paths::FIRST_BOOT).exists());
        assert_eq!(std::fs::read_to_string(self.place("persistent").join("data")).unwrap(), "kept");
        let stat = rustix_free(&self.place("persistent"));
        assert!(stat > self.image.disk_size.0 * 2, "{stat}");
        self.power_cut();
        let device = self.disk.path.display().to_string();
        let said = succeeds("sgdisk", &["-v", &device]);
        assert!(said.contains("No problems found"), "{said}");
        succeeds("fsck.vfat", &["-n", &self.part(1)]);
        for number in 2..=5 {
            succeeds("e2fsck", &["-fn", &self.part(number)]);
        }
        let found = read_table(&self.disk.path, 512).unwrap();
        let mut identities = vec![found.table.disk_guid.to_string()];
        identities.extend(found.table.partitions.iter().map(|part| part.guid.to_string()));
        for number in 1..=5 {
            let head = block::head(Path::new(&self.part(number)), PROBE_BYTES as u64).unwrap();
            identities.push(probe(&head).unwrap().uuid);
        }
        let order = self.variables.get(boot_option::BOOT_ORDER).unwrap().unwrap();
        assert_eq!(boot_option::decode_order(&order.data), [0, 1, 2, 9]);
        let option = self.variables.get(&boot_option::variable_name(0)).unwrap().unwrap();
        assert_eq!(
            boot_option::BootOption::decode(&option.data).unwrap().partition.guid,
            found.table.partitions[0].guid
        );
        identities
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        forget_partitions(&self.disk.path);
    }
}

fn rustix_free(path: &Path) -> u64 {
    files::space(path).unwrap().total
}

/// The real machine; where growing in use is not permitted (it takes CAP_SYS_RESOURCE, which containers lack), the file system is
/// grown unmounted.
struct BenchMachine {
    real: RealMachine,
    persistent: PathBuf,
}

impl Machine for BenchMachine {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        match (effect, self.real.apply(effect)) {
            (Effect::Run { object, program }, Err(error))
                if program.program == "resize2fs" && error.to_string().contains("Permission denied") =>
            {
                mount::unmount(&self.persistent)?;
                let device = object.display().to_string();
                succeeds("e2fsck", &["-fy", &device]);
                succeeds("resize2fs", &[&device]);
                mount::mount_device(object, &self.persistent, "ext4", mount::Access::ReadWrite)
            }
            (_, result) => result,
        }
    }
}

#[test]
fn an_image_fills_its_disk_and_two_machines_of_it_differ_in_every_identity_that_can_be_changed() {
    let Some(bench) = bench() else { return };
    let mut seen: Vec<Vec<String>> = Vec::new();
    for _ in 0..2 {
        bench.flash();
        let (result, events) = bench.run(&mut bench.machine());
        result.unwrap();
        let warnings: Vec<_> = events.iter().filter(|event| matches!(event, Event::Warning { .. })).collect();
        assert!(
            matches!(warnings.as_slice(), [Event::Warning { text }] if text.starts_with("COS_OEM")),
            "{warnings:?}"
        );
        seen.push(bench.verify());
    }
    for (at, (one, other)) in seen[0].iter().zip(&seen[1]).enumerate() {
        // The eighth is OEM's file system, in use and without a seed.
        assert_eq!(one == other, at == 7, "{at}: {one}");
    }
    assert!(!seen[0].contains(&Uuid::from_u128(1).to_string()), "nothing of the image is left");
}

#[test]
fn a_power_cut_at_any_effect_is_gone_on_with_by_the_next_boot() {
    let Some(bench) = bench() else { return };
    bench.flash();
    let all = {
        let mut real = bench.machine();
        let mut recorder = Recorder { behind: Some(&mut real), ..Recorder::default() };
        bench.run(&mut recorder).0.unwrap();
        recorder.effects.len()
    };
    bench.verify();
    assert!(all > 8, "{all}");
    for cut in 0..all {
        bench.flash();
        let mut real = bench.machine();
        let mut stop = StopAfter::new(&mut real, cut);
        assert!(bench.run(&mut stop).0.is_err(), "{cut}");
        bench.power_cut();
        bench.boot();
        assert!(read_table(&bench.disk.path, 512).unwrap().primary_good, "{cut}");
        if bench.place("state").join(paths::FIRST_BOOT).exists() {
            bench.run(&mut bench.machine()).0.unwrap();
        }
        bench.verify();
    }
}

#[test]
fn what_a_step_has_changed_in_a_file_system_in_use_survives_a_power_cut_behind_it() {
    let Some(bench) = bench() else { return };
    bench.flash();
    bench.run(&mut bench.machine()).0.unwrap();
    // What the disk holds at this moment, with nothing unmounted; then what the next boot's mount makes of it.
    let (disk, cut) = (bench.place("disk.img"), bench.place("cut.img"));
    succeeds("cp", &["--sparse=auto", &disk.display().to_string(), &cut.display().to_string()]);
    let options = LoopOptions { read_only: false, block_size: 512, direct_io: false, autoclear: true };
    let then = LoopDevice::attach(&cut, options).unwrap();
    bench.machine().real.apply(&Effect::RereadPartitions { disk: then.path.clone(), expect: Vec::new() }).unwrap();
    let grown = bench.image.grown(Bytes(bench.image.disk_size.0 * 4)).unwrap();
    for (label, number) in [(PartLabel::State, 4), (PartLabel::Persistent, 5)] {
        let part = kairn_lifecycle::install::partition_device(&then.path.display().to_string(), number);
        let replayed = Command::new("e2fsck").args(["-p", &part]).output().unwrap();
        assert!(replayed.status.code().unwrap() <= 1, "{replayed:?}");
        let [now, then] = [bench.part(number), part].map(|part| block::head(Path::new(&part), 1 << 17).unwrap());
        assert_eq!(probe(&then).unwrap().uuid, probe(&now).unwrap().uuid, "{label}");
        assert!(Ext4::read(&then).unwrap().size + GROUP > grown.get(label).unwrap().size.0, "{label}");
    }
    forget_partitions(&then.path);
    bench.verify();
}

#[test]
fn a_foreign_disk_and_one_smaller_than_the_image_are_refused() {
    let Some(bench) = bench() else { return };
    bench.flash();
    let found = read_table(&bench.disk.path, 512).unwrap();
    assert_eq!(layout_of(&found).unwrap().0.partitions, bench.image.partitions);
    let mut foreign = found.clone();
    foreign.table.partitions.swap(1, 2);
    assert!(layout_of(&foreign).is_none());
    let mut gap = found;
    gap.numbers = vec![1, 2, 3, 4, 6];
    assert!(layout_of(&gap).is_none());
    bench.power_cut();
}
