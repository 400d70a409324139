//! Swap space in a file.

use crate::Effect;
use crate::{Context, Error, fstab, tool};
use kairn_config::{Mount, SwapFile, SwapSize};
use kairn_host::files;
use kairn_report::{Secret, Sink};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How long turning swap on may take: the kernel reads the map of the whole file.
const DEADLINE: Duration = Duration::from_secs(120);

/// At the end of the first page of swap space (include/linux/swap.h, `union swap_header`).
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";

/// Where the header's numbers stand in that page; before them boot loaders may have theirs.
const HEADER: usize = 1024;

/// File systems that the kernel takes no swap file from, or only with preparations that nobody asked for (include/uapi/linux/magic.h).
const UNFIT: [(u64, &str); 4] =
    [(0x0102_1994, "tmpfs"), (0x794c_7630, "overlay"), (0x9123_683e, "btrfs"), (0x8584_58f6, "ramfs")];

/// Makes a file of swap space and uses it, unless it is so already.
pub fn ensure(context: &Context, wanted: &SwapFile, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let path = context.at(&wanted.path);
    if is_on(context, &wanted.path)? {
        return Ok(Effect::of(list(context, wanted)?));
    }
    let dir = path.parent().unwrap_or(&context.root);
    if !dir.is_dir() {
        files::make_dir(dir, 0o755)?;
    }
    if context.live {
        fit(dir)?;
    }
    let mut changed = false;
    let before = fs::symlink_metadata(&path).ok();
    if before.as_ref().is_some_and(|metadata| !metadata.is_file() || !has_signature(&path)) {
        let hint = "name another file, or remove this one";
        return Err(Error::refused(format!("`{}` is there and is no swap space", wanted.path.display()), hint));
    }
    let size = match (wanted.size, &before) {
        // What was fitting when it was made still is.
        (SwapSize::Automatic, Some(metadata)) => metadata.len(),
        (size, _) => size.bytes(memory(context)?, files::space(dir)?.free, wanted.most),
    };
    // Whole pages.
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let size = size / page * page;
    if size < 10 * page {
        let why = "there is too little memory or free space for swap space to be of use";
        return if wanted.size == SwapSize::Automatic {
            Ok(Effect::Skipped(why.to_owned()))
        } else {
            Err(Error::refused("swap space has at least ten pages", "a size is written as `512M`"))
        };
    }
    if before.is_none_or(|before| before.len() != size) {
        make(&path, size)?;
        changed = true;
    }
    changed |= list(context, wanted)?;
    if context.live {
        changed |= turn_on(context, &wanted.path, sink)?;
    }
    Ok(Effect::of(changed))
}

/// Has `/etc/fstab` name the file.
fn list(context: &Context, wanted: &SwapFile) -> Result<bool, Error> {
    let line = Mount {
        source: wanted.path.to_string_lossy().into_owned(),
        target: None,
        fs_type: "swap".to_owned(),
        options: Secret::new("sw,nofail".to_owned()),
        dump: 0,
        pass: 0,
    };
    fstab::ensure(context, &line)
}

/// Uses a device or file as swap space, unless it is used already.
pub fn turn_on(context: &Context, path: &Path, sink: &mut dyn Sink) -> Result<bool, Error> {
    if is_on(context, path)? {
        return Ok(false);
    }
    tool::run(&tool::program(context, "swapon")?.arg(path.display().to_string()).deadline(DEADLINE), context, sink)?;
    Ok(true)
}

/// Says whether the kernel uses it (proc_swaps(5)).
fn is_on(context: &Context, path: &Path) -> Result<bool, Error> {
    let text = files::read_text_if_any(&context.at("/proc/swaps".as_ref()))?.unwrap_or_default();
    let name = path.to_string_lossy().replace(' ', "\\040");
    Ok(text.lines().skip(1).any(|line| line.split_whitespace().next() == Some(name.as_str())))
}

/// The bytes of memory (proc_meminfo(5)).
fn memory(context: &Context) -> Result<u64, Error> {
    let text = files::read_text(&context.at("/proc/meminfo".as_ref()))?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    total.map(|kib| kib << 10).ok_or_else(|| Error::refused("/proc/meminfo does not say how much memory there is", ""))
}

fn fit(dir: &Path) -> Result<(), Error> {
    let found = rustix::fs::statfs(dir).map_err(|errno| Error::path("look at", dir)(errno.into()))?;
    // The type is signed on some architectures.
    let magic = found.f_type as u64 & 0xffff_ffff;
    match UNFIT.iter().find(|(unfit, _)| *unfit == magic) {
        None => Ok(()),
        Some((_, name)) => {
            let hint = "name a file on a disk, below /usr/local for instance";
            Err(Error::refused(format!("`{}` lies on {name}, where no swap file can be", dir.display()), hint))
        }
    }
}

/// Makes the file under another name first: what is cut short is never taken for swap space.
fn make(path: &Path, size: u64) -> Result<(), Error> {
    let temporary = files::temporary_name(path)?;
    if fs::symlink_metadata(&temporary).is_ok() {
        files::remove_file(&temporary)?;
    }
    let made = fill(&temporary, size).and_then(|()| {
        fs::rename(&temporary, path).map_err(Error::path("make the swap file", path))?;
        Ok(files::sync_dir(path.parent().unwrap_or(Path::new("/")))?)
    });
    if made.is_err() && temporary.exists() {
        // The space is worth more than a second error.
        if let Err(error) = files::remove_file(&temporary) {
            tracing::warn!(%error, "an unfinished swap file stays");
        }
    }
    made
}

fn fill(path: &Path, size: u64) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(Error::path("make the swap file", path))?;
    // Without holes, of which the kernel takes none.
    files::reserve(&file, path, size)?;
    let written = file.set_len(size).and_then(|()| file.write_all_at(&header(size), 0)).and_then(|()| file.sync_all());
    written.map_err(Error::path("write", path))
}

/// The first page of swap space of so many bytes, as mkswap(8) writes it.
fn header(size: u64) -> Vec<u8> {
    let page = rustix::param::page_size();
    let last = u32::try_from(size / page as u64).unwrap_or(u32::MAX).saturating_sub(1);
    let mut bytes = vec![0; page];
    let mut put = |at: usize, what: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + what.len()) {
            place.copy_from_slice(what);
        }
    };
    put(HEADER, &1_u32.to_ne_bytes());
    put(HEADER + 4, &last.to_ne_bytes());
    put(page - SIGNATURE.len(), SIGNATURE);
    bytes
}

fn has_signature(path: &Path) -> bool {
    let mut found = [0; SIGNATURE.len()];
    let at = rustix::param::page_size().saturating_sub(SIGNATURE.len());
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut found, at as u64));
    read.is_ok() && found == *SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::os::unix::fs::PermissionsExt;

    fn root() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        fs::write(dir.path().join("proc/meminfo"), "MemFree: 1 kB\nMemTotal:      4096 kB\n").unwrap();
        let here = context(dir.path());
        (dir, here)
    }

    fn swap(size: SwapSize) -> SwapFile {
        SwapFile { path: "/usr/local/swap.img".into(), size, most: None }
    }

    #[test]
    fn a_file_of_swap_space_is_made_once_and_again_when_its_size_changes() {
        let (dir, here) = root();
        let mut events = Vec::new();
        let one = swap(SwapSize::Bytes(1 << 20));
        assert_eq!(ensure(&here, &one, &mut events).unwrap(), Effect::Changed);
        assert_eq!(ensure(&here, &one, &mut events).unwrap(), Effect::Unchanged);
        let path = dir.path().join("usr/local/swap.img");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (1 << 20, 0o600));
        let fstab = fs::read_to_string(dir.path().join("etc/fstab")).unwrap();
        assert_eq!(fstab, "/usr/local/swap.img none swap sw,nofail,comment=kairn 0 0\n");
        assert_eq!(ensure(&here, &swap(SwapSize::Bytes(2 << 20)), &mut events).unwrap(), Effect::Changed);
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
        // What is there is fitting.
        assert_eq!(ensure(&here, &swap(SwapSize::Automatic), &mut events).unwrap(), Effect::Unchanged);
        match std::process::Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&path).output() {
            Ok(said) => assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "swap", "{said:?}"),
            Err(error) => eprintln!("skipped: blkid does not run: {error}"),
        }
    }

    #[test]
    fn automatic_size_follows_the_memory_and_other_files_are_never_overwritten() {
        let (dir, here) = root();
        let mut events = Vec::new();
        let mut automatic = swap(SwapSize::Automatic);
        automatic.most = Some(1 << 30);
        assert_eq!(ensure(&here, &automatic, &mut events).unwrap(), Effect::Changed);
        assert_eq!(fs::metadata(dir.path().join("usr/local/swap.img")).unwrap().len(), 8 << 20);
        fs::write(dir.path().join("usr/local/swap.img"), "mine").unwrap();
        let refused = ensure(&here, &swap(SwapSize::Bytes(1 << 20)), &mut events);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert_eq!(fs::read(dir.path().join("usr/local/swap.img")).unwrap(), b"mine");
        let small = SwapFile { path: "/usr/local/other".into(), size: SwapSize::Bytes(4096), most: None };
        assert!(matches!(ensure(&here, &small, &mut events), Err(Error::Refused { .. })));
    }

    #[test]
    fn swap_space_in_use_is_left_alone() {
        let (dir, here) = root();
        let swaps = "Filename\tType\tSize\tUsed\tPriority\n/usr/local/swap.img file 1020 0 -2\n";
        fs::write(dir.path().join("proc/swaps"), swaps).unwrap();
        let mut events = Vec::new();
        assert_eq!(ensure(&here, &swap(SwapSize::Bytes(1 << 20)), &mut events).unwrap(), Effect::Changed);
        assert!(!dir.path().join("usr/local/swap.img").exists());
        assert_eq!(ensure(&here, &swap(SwapSize::Bytes(1 << 20)), &mut events).unwrap(), Effect::Unchanged);
    }
}
