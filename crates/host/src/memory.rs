//! What the file of the running program takes up of the machine's memory.
#![allow(unsafe_code, reason = "the kernel is told of addresses by madvise")]

use rustix::mm::{Advice, madvise};
use std::ops::Range;
use std::path::Path;
use std::{fs, io};

/// Gives the pages of the running program's file back to the kernel, which reads those again that are used later: a service that runs for
/// months keeps what its start took otherwise (madvise(2), `MADV_PAGEOUT`, since Linux 5.4). Pages that other processes use too stay. Says
/// how many bytes of addresses it asked for.
///
/// # Errors
/// The kernel cannot do it, or `/proc` is not there.
pub fn release_program() -> io::Result<usize> {
    let (maps, program) = (fs::read_to_string("/proc/self/maps")?, fs::read_link("/proc/self/exe")?);
    let mut asked = 0;
    for range in unwritten(&maps, &program) {
        // SAFETY: paging out changes no content of any address, so what lies there does not matter.
        unsafe { madvise(std::ptr::without_provenance_mut(range.start), range.len(), Advice::LinuxPageOut) }?;
        asked += range.len();
    }
    Ok(asked)
}

/// Where a file is mapped and not for writing, as proc_pid_maps(5) has it: addresses, permissions, offset, device, inode, path.
fn unwritten(maps: &str, file: &Path) -> Vec<Range<usize>> {
    let mapping = |line: &str| {
        let mut fields = line.splitn(6, ' ');
        let (addresses, permissions) = (fields.next()?, fields.next()?);
        let (start, end) = addresses.split_once('-')?;
        let path = fields.nth(3)?.trim_start();
        let is_meant = Path::new(path) == file && !permissions.contains('w');
        let address = |text| usize::from_str_radix(text, 16).ok();
        is_meant.then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_file_is_meant_and_nothing_that_is_written_to() {
        let maps = "\
7f2000-7f6000 r--p 00000000 fe:00 12                         /usr/bin/some program
7f6000-7f9000 r-xp 00004000 fe:00 12                         /usr/bin/some program
7f9000-7fa000 rw-p 00007000 fe:00 12                         /usr/bin/some program
7fa000-7fb000 r-xp 00007000 fe:00 13                         /usr/bin/some program (deleted)
7fb000-7fc000 r-xp 00000000 fe:00 14                         /usr/lib/libc.so.6
7fc000-7fd000 rw-p 00000000 00:00 0
7fd000-7fe000 r-xp 00000000 00:00 0                          [vdso]
what is no line of it
";
        assert_eq!(unwritten(maps, Path::new("/usr/bin/some program")), [0x7f2000..0x7f6000, 0x7f6000..0x7f9000]);
        assert_eq!(unwritten("", Path::new("/usr/bin/some program")), []);
    }

    #[test]
    fn a_program_goes_on_after_its_pages_were_given_back() {
        let asked = release_program().map_err(|error| error.raw_os_error()).unwrap();
        // This very function is among them.
        assert!(asked > 4096, "{asked}");
        assert!(release_program().is_ok());
    }
}
