//! A loader in a rig: a machine with a small disk whose ESP is of our own making and whose entries boot a payload that tells what
//! the loader did (`kairn-vm-guest`).
//!
//! The ESP's files lie in a directory on this side, where the product's own functions read and change them. Each boot gets a file
//! system made of them; what the loader did to its names comes back into the directory when the machine is off.

use crate::fault::{Fault, ensure};
use crate::node::wrong;
use crate::world::Stage;
use kairn_firmware::{EntryText, Esp, ImageKey, LOADER_CONF, LoaderVersion, apply, variables};
use kairn_host::{Effect, RealMachine, Runner};
use kairn_image::{cpio, fat, gpt, uki};
use kairn_init::role::{Booted, Hints};
use kairn_lab::{Console, Disk, Error, Machine, Mark, OnReboot};
use kairn_layout::{PartLabel, paths};
use kairn_lifecycle::EntryName;
use kairn_lifecycle::entries::{EntryFact, Selection};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;
use walkdir::WalkDir;

/// From power on to the payload's last line: firmware and a kernel without drivers.
const TO_READY: Duration = Duration::from_secs(240);
/// An answer of the payload.
const TO_ANSWER: Duration = Duration::from_secs(60);
/// From the order to restart to the end of QEMU.
const TO_OFF: Duration = Duration::from_secs(60);
/// The kernel is told to be quiet: each line on an emulated serial port takes its time.
const CMDLINE: &[u8] = b"console=ttyS0,115200 quiet panic=-1";
/// FAT32, as on an installed machine.
const ESP_SIZE: u64 = 64 << 20;
/// Where the ESP begins, and what is left behind it for the second copy of the table.
const ESP_AT: u64 = 1 << 20;
const SECTOR: u32 = 512;
/// The name of the payload among the ESP's UKIs.
const PAYLOAD: &str = "00000000000000a1-000000a1.efi";
/// The name of a UKI that is not there.
const ABSENT: &str = "00000000000000b2-000000b2.efi";

/// What is odd about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Sound,
    /// It names its UKI by the key that this loader does not want.
    OtherKey,
    /// Its UKI is not there.
    NoImage,
}

/// What the payload told about a boot.
#[derive(Debug)]
pub struct Told {
    /// What kairn-init would make of it.
    pub booted: Booted,
    /// Name that the loader has given to the entry whose tries it counted.
    pub counted: Option<String>,
}

/// A loader in a rig.
pub struct Rig<'a> {
    stage: &'a Stage<'a>,
    machine: Machine,
    disk: PathBuf,
    esp: PathBuf,
    loader: LoaderVersion,
}

impl<'a> Rig<'a> {
    /// Sets up a machine with the loader of a Debian base.
    pub fn set(stage: &'a Stage<'a>, suite: &str) -> Result<Self, Fault> {
        let payload = payload(stage)?;
        let loader = stage.world.base_of(suite)?.join("release").join(paths::release::LOADER);
        let loader = fs::read(&loader).map_err(Fault::io(format!("read {}", loader.display())))?;
        let version = LoaderVersion::of_binary(&loader);
        let version =
            version.ok_or_else(|| Fault::Failed(format!("the loader of {suite} does not say its version")))?;
        stage.note(&format!("systemd-boot {version}"));
        let esp = stage.dir.join("esp");
        write(&esp.join(paths::esp::REMOVABLE), &loader)?;
        write(&esp.join(paths::esp::LOADER_CONF), LOADER_CONF.as_bytes())?;
        write(&esp.join(paths::esp::UKIS).join(PAYLOAD), &payload)?;
        let disk = stage.dir.join("disk.raw");
        let machine = Machine::builder("loader", stage.dir.join("machine")).tally(stage.world.tally.clone());
        let machine = machine.memory_mib(256).cpus(1).network(None).on_reboot(OnReboot::Exit);
        Ok(Self { stage, machine: machine.disk(Disk::raw(&disk)).create()?, disk, esp, loader: version })
    }

    /// Returns the loader's version.
    pub const fn loader(&self) -> &LoaderVersion {
        &self.loader
    }

    /// Puts these entries in the place of all others.
    pub fn reset(&self, entries: impl IntoIterator<Item = (&'static str, Shape)>) -> Result<(), Fault> {
        let dir = self.esp.join(paths::esp::ENTRIES);
        clear(&dir)?;
        for (name, shape) in entries {
            let sequence = match EntryName::parse(name) {
                Some(EntryName::Deployment { sequence, .. }) => Some(sequence),
                Some(EntryName::Recovery) => None,
                None => return Err(Fault::Failed(format!("`{name}` is no name of an entry"))),
            };
            let wanted = ImageKey::for_loader(self.loader.major);
            let key = match (shape, wanted) {
                (Shape::Sound | Shape::NoImage, key) => key,
                (Shape::OtherKey, ImageKey::Efi) => ImageKey::Uki,
                (Shape::OtherKey, ImageKey::Uki) => ImageKey::Efi,
            };
            let uki = if shape == Shape::NoImage { ABSENT } else { PAYLOAD }.to_owned();
            write(&dir.join(name), EntryText { title: name.to_owned(), sequence, key, uki }.render().as_bytes())?;
        }
        Ok(())
    }

    /// Returns the names of all entries, sorted.
    pub fn names(&self) -> Result<Vec<String>, Fault> {
        let dir = self.esp.join(paths::esp::ENTRIES);
        let names = fs::read_dir(&dir).map_err(Fault::io("list the entries"))?;
        let names = names.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>().map_err(Fault::io("list the entries"))?;
        names.sort();
        Ok(names)
    }

    /// Says what the product's planner makes of the ESP.
    pub fn selection(&self) -> Result<Selection, Fault> {
        let esp = Esp::read(&self.esp)?;
        let fact = |file: &kairn_firmware::EntryFile| EntryFact {
            name: file.name.to_string(),
            uki: file.text.as_ref().map(|text| text.uki.clone()),
        };
        let facts: Vec<EntryFact> = esp.entries.iter().map(fact).collect();
        Ok(Selection::new(&facts, &esp.ukis.into_iter().collect()))
    }

    /// Changes the ESP by the product's own effects.
    pub fn change(&self, plan: impl FnOnce(&Esp) -> Result<Vec<Effect>, kairn_firmware::Error>) -> Result<(), Fault> {
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        Ok(apply(&mut machine, &plan(&Esp::read(&self.esp)?)?)?)
    }

    /// Boots once, from power on to power off; `once` is selected for the boot after it.
    pub fn boot(&self, once: Option<EntryName>) -> Result<Told, Fault> {
        let tally = &self.stage.world.tally;
        tally.boot(self.machine.name())?;
        let told = match self.try_boot(once) {
            // An emulated machine loses a timer now and then. The boot begins anew, with the ESP as it was before.
            Err(Fault::Lab(Error::Waited { .. })) => {
                tally.retry(self.machine.name())?;
                self.try_boot(once)?
            }
            other => other?,
        };
        self.take_back()?;
        Ok(told)
    }

    fn try_boot(&self, once: Option<EntryName>) -> Result<Told, Fault> {
        self.write_disk()?;
        let running = self.machine.start()?;
        let console = running.console();
        let ready = console.wait_any(&["guest: ready".into(), "guest: failed".into()], TO_READY)?;
        ensure(ready.pattern == 0, || ready.line.clone())?;
        let told = told(console)?;
        if let Some(Effect::SetVariable { name, content, .. }) = once.map(variables::select_once) {
            console.send_line(&format!("set {name} {}", hex::encode(content.0)))?;
            console.wait_for("guest: set", TO_ANSWER)?;
        }
        console.send_line("restart")?;
        running.wait_exit(TO_OFF)?;
        Ok(told)
    }

    /// Makes the disk of the directory.
    fn write_disk(&self) -> Result<(), Fault> {
        let options = fat::Options {
            size: ESP_SIZE,
            sector_size: SECTOR,
            label: PartLabel::Esp.fs_label().to_owned(),
            volume_id: 0xa1,
            epoch: 0,
        };
        let image = create(&self.stage.dir.join("esp.img"))?;
        let mut volume = fat::create(image, &options)?;
        for entry in WalkDir::new(&self.esp).sort_by_file_name() {
            let entry = entry.map_err(wrong)?;
            if entry.file_type().is_file() {
                let path = entry.path().strip_prefix(&self.esp).map_err(wrong)?.to_string_lossy().into_owned();
                let file = File::open(entry.path()).map_err(Fault::io(format!("open /{path} of the ESP")))?;
                volume.file(&path, entry.metadata().map_err(wrong)?.len(), file)?;
            }
        }
        let mut image = volume.finish()?;
        let first_lba = ESP_AT / u64::from(SECTOR);
        let table = gpt::Table {
            disk_guid: Uuid::from_u128(0xd1),
            sector_size: SECTOR,
            disk_size: ESP_SIZE + 2 * ESP_AT,
            partitions: vec![gpt::Partition {
                type_guid: gpt::ESP,
                guid: Uuid::from_u128(0xe1),
                name: PartLabel::Esp.gpt_name().to_owned(),
                first_lba,
                last_lba: first_lba + ESP_SIZE / u64::from(SECTOR) - 1,
                attributes: 0,
            }],
        };
        let rendered = table.render()?;
        let mut disk = create(&self.disk)?;
        let mut write = || {
            disk.set_len(table.disk_size)?;
            disk.write_all(&rendered.primary)?;
            disk.seek(SeekFrom::Start(ESP_AT))?;
            image.rewind()?;
            io::copy(&mut image, &mut disk)?;
            disk.seek(SeekFrom::Start(rendered.backup_offset))?;
            disk.write_all(&rendered.backup)
        };
        write().map_err(Fault::io("write the disk"))
    }

    /// Brings the entries on the disk back into the directory.
    fn take_back(&self) -> Result<(), Fault> {
        let path = self.stage.dir.join("esp.img");
        let copy = || {
            let mut disk = File::open(&self.disk)?;
            disk.seek(SeekFrom::Start(ESP_AT))?;
            let mut image = File::options().read(true).write(true).truncate(true).open(&path)?;
            io::copy(&mut disk.take(ESP_SIZE), &mut image)?;
            Ok(image)
        };
        let mut volume = fat::Volume::open(copy().map_err(Fault::io("read the disk"))?)?;
        let dir = self.esp.join(paths::esp::ENTRIES);
        clear(&dir)?;
        for entry in volume.list(paths::esp::ENTRIES)? {
            if !entry.is_dir {
                let content = volume.read(&format!("{}/{}", paths::esp::ENTRIES, entry.name))?;
                write(&dir.join(&entry.name), &content)?;
            }
        }
        Ok(())
    }
}

/// Makes the UKI that all entries boot: the base's own stub and kernel, and an initramfs that holds the payload.
fn payload(stage: &Stage<'_>) -> Result<Vec<u8>, Fault> {
    let Some(guest) = &stage.world.guest else {
        return Err(Fault::Cannot("there is no payload to boot (KAIRN_VM_GUEST)".into()));
    };
    let tree = stage.world.base_tree()?;
    let read = |path: &Path| fs::read(path).map_err(Fault::io(format!("read {}", path.display())));
    let boot = tree.join(paths::BOOT_DIR);
    let modules = WalkDir::new(tree.join("usr/lib/modules")).into_iter().filter_map(Result::ok);
    let module = modules.map(walkdir::DirEntry::into_path).find(|path| path.ends_with("efivarfs/efivarfs.ko"));
    let module = module.ok_or_else(|| Fault::Failed("the base's kernel has no module efivarfs".into()))?;
    let mut archive = cpio::Writer::new(Vec::new(), 0);
    archive.dir("sys", 0o555)?;
    archive.file("init", 0o755, &read(guest)?)?;
    archive.file("efivarfs.ko", 0o644, &read(&module)?)?;
    let sections = uki::Sections {
        osrel: b"ID=kairn\nPRETTY_NAME=\"Loader conformance suite\"\n",
        cmdline: CMDLINE,
        uname: b"",
        initrd: &archive.finish()?,
        linux: &read(&boot.join(paths::boot::KERNEL))?,
    };
    Ok(uki::assemble(&read(&boot.join(paths::boot::STUB))?, &sections)?)
}

/// Understands what the payload has told up to now.
fn told(console: &Console) -> Result<Told, Fault> {
    let text = console.since(Mark::default());
    let value = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once("guest: "));
        lines.filter_map(|(_, told)| told.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    let [entry, counted] = ["LoaderEntrySelected", "LoaderBootCountPath"].map(|name| value(name).map(str::to_owned));
    let name = |path: &String| path.rsplit(['\\', '/']).next().unwrap_or(path).to_owned();
    let name = counted.as_ref().map(name);
    let booted = Hints { entry, counted, ..Hints::default() }.booted();
    let booted = booted.ok_or_else(|| Fault::Failed(format!("the loader names no entry of ours: {text}")))?;
    Ok(Told { booted, counted: name })
}

fn create(path: &Path) -> Result<File, Fault> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    file.map_err(Fault::io(format!("create {}", path.display())))
}

fn write(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let failed = || Fault::io(format!("write {}", path.display()));
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed())?;
    fs::write(path, content).map_err(failed())
}

fn clear(dir: &Path) -> Result<(), Fault> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Fault::io(format!("empty {}", dir.display()))(error))
        }
        _ => fs::create_dir_all(dir).map_err(Fault::io(format!("create {}", dir.display()))),
    }
}
