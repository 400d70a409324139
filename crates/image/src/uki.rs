//! Unified kernel images: systemd's UEFI stub with command line, initramfs and kernel as further sections of the same PE image.
//!
//! The layout follows the PE format specification of Microsoft and the UAPI group's UKI specification. Sections are appended as
//! `.osrel .cmdline .uname .initrd .linux`: the kernel is last because stubs may let it unpack itself over what follows. Each starts
//! at a multiple of 4096 in memory, since firmware that protects pages refuses or hangs on anything else, even where the stub
//! itself declares a smaller alignment. Equal arguments give equal bytes.

use crate::Error;
use crate::foreign::{array, put, u16_at, u32_at};

const PAGE: u32 = 4096;
const SECTION_HEADER: usize = 40;
/// Sections that the PE format allows an image to have (specification, section 3.3).
const SECTION_LIMIT: usize = 96;

/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;
/// `IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_EXECUTE | IMAGE_SCN_MEM_READ`: older stubs run the kernel where it was loaded.
const CODE: u32 = 0x6000_0020;

// Offsets in the COFF header and the optional header of PE32+ (specification, sections 3.3 and 3.4). Those of the optional header
// up to `SizeOfHeaders` and the checksum are the same in PE32.
const COFF_HEADER: usize = 20;
const COFF_SECTIONS: usize = 2;
const COFF_OPTIONAL_SIZE: usize = 16;
const OPT_SIZE_OF_CODE: usize = 4;
const OPT_SIZE_OF_DATA: usize = 8;
const OPT_SECTION_ALIGNMENT: usize = 32;
const OPT_FILE_ALIGNMENT: usize = 36;
const OPT_SIZE_OF_IMAGE: usize = 56;
const OPT_SIZE_OF_HEADERS: usize = 60;
const OPT_CHECKSUM: usize = 64;
const OPT_DIRECTORY_COUNT: usize = 108;
const OPT_CERTIFICATES: usize = 112 + 4 * 8;
const PE32_PLUS: u16 = 0x20b;

/// What a UKI adds to its stub. An empty section is left out when writing and stands for an absent one when reading; a kernel there
/// must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sections<'a> {
    /// `.osrel`: the `os-release` of the image, which names the menu entry.
    pub osrel: &'a [u8],
    /// `.cmdline`: the kernel command line, UTF-8 without NUL.
    pub cmdline: &'a [u8],
    /// `.uname`: the kernel release.
    pub uname: &'a [u8],
    /// `.initrd`: the initramfs.
    pub initrd: &'a [u8],
    /// `.linux`: the kernel, itself an EFI program.
    pub linux: &'a [u8],
}

impl<'a> Sections<'a> {
    /// The sections in their order in the image, with names and characteristics.
    fn ordered(&self) -> [(&'static str, u32, &'a [u8]); 5] {
        [
            (".osrel", DATA, self.osrel),
            (".cmdline", DATA, self.cmdline),
            (".uname", DATA, self.uname),
            (".initrd", DATA, self.initrd),
            (".linux", CODE, self.linux),
        ]
    }
}

/// What a program of systemd says about itself (`#### LoaderInfo: systemd-boot 252.39-1 ####`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderInfo<'a> {
    /// `systemd-boot` or `systemd-stub`.
    pub program: &'a str,
    /// Version with the distribution's suffix.
    pub version: &'a str,
}

/// A section header of a PE image.
#[derive(Clone, Copy, Debug)]
struct Section {
    name: [u8; 8],
    virtual_size: u32,
    address: u32,
    raw_size: u32,
    raw_offset: u32,
}

impl Section {
    fn named(&self, name: &str) -> bool {
        self.name.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    }

    /// The part of the file that is really content: linkers pad it to the file alignment, `virtual_size` is exact.
    fn content<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(self.virtual_size.min(self.raw_size)).ok()?;
        file.get(usize::try_from(self.raw_offset).ok()?..)?.get(..length)
    }
}

/// The headers of a PE32+ image, as far as Kairn needs them.
#[derive(Debug)]
struct Headers {
    /// Offset of the COFF header.
    coff: usize,
    /// Offset of the optional header.
    optional: usize,
    /// Offset of the first byte after the section table.
    table_end: usize,
    sections: Vec<Section>,
}

impl Headers {
    fn read(file: &[u8]) -> Result<Self, Error> {
        const CUT: Error = Error::Pe { reason: "it ends within its headers" };
        let pe = |reason| Error::Pe { reason };
        if !file.starts_with(b"MZ") {
            return Err(pe("it does not begin with `MZ`"));
        }
        let signature = usize::try_from(u32_at(file, 0x3c).ok_or(CUT)?).map_err(|_| CUT)?;
        if array(file, signature) != Some(*b"PE\0\0") {
            return Err(pe("it has no PE signature"));
        }
        // No overflow: the signature lies within the file.
        let coff = signature + 4;
        let optional = coff + COFF_HEADER;
        let count = usize::from(u16_at(file, coff + COFF_SECTIONS).ok_or(CUT)?);
        let optional_size = usize::from(u16_at(file, coff + COFF_OPTIONAL_SIZE).ok_or(CUT)?);
        if u16_at(file, optional) != Some(PE32_PLUS) || optional_size < OPT_DIRECTORY_COUNT + 4 {
            return Err(pe("it is not a 64-bit image (PE32+)"));
        }
        if count > SECTION_LIMIT {
            return Err(pe("it has more sections than the format allows"));
        }
        let table = optional + optional_size;
        let sections = (0..count).map(|index| read_section(file, table + index * SECTION_HEADER));
        let sections = sections.collect::<Option<Vec<_>>>().ok_or(CUT)?;
        Ok(Self { coff, optional, table_end: table + count * SECTION_HEADER, sections })
    }

    fn find(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.named(name))
    }
}

fn read_section(file: &[u8], at: usize) -> Option<Section> {
    Some(Section {
        name: array(file, at)?,
        virtual_size: u32_at(file, at + 8)?,
        address: u32_at(file, at + 12)?,
        raw_size: u32_at(file, at + 16)?,
        raw_offset: u32_at(file, at + 20)?,
    })
}

/// Makes a UKI of systemd's stub and these sections.
///
/// # Errors
/// When the stub is no unsigned PE32+ image, has such a section already, or has no room for the headers; when there is no kernel; or
/// when the image would pass 4 GiB.
pub fn assemble(stub: &[u8], sections: &Sections<'_>) -> Result<Vec<u8>, Error> {
    const TOO_LARGE: Error = Error::Pe { reason: "the whole image would pass the 4 GiB of the format" };
    const CUT: Error = Error::Pe { reason: "it ends within its headers" };
    let headers = Headers::read(stub)?;
    let field = |offset| u32_at(stub, headers.optional + offset).ok_or(CUT);
    let section_alignment = field(OPT_SECTION_ALIGNMENT)?.max(PAGE);
    let file_alignment = field(OPT_FILE_ALIGNMENT)?;
    if !section_alignment.is_power_of_two() || !file_alignment.is_power_of_two() || file_alignment > section_alignment {
        return Err(Error::Pe { reason: "its alignments are not those of the format" });
    }
    if field(OPT_DIRECTORY_COUNT)? > 4 && field(OPT_CERTIFICATES + 4)? != 0 {
        return Err(Error::Pe { reason: "it is signed, and added sections would break the signature" });
    }
    if sections.linux.is_empty() {
        return Err(Error::NoSection { section: ".linux" });
    }
    let added: Vec<_> = sections.ordered().into_iter().filter(|(.., content)| !content.is_empty()).collect();
    if let Some((name, ..)) = added.iter().find(|(name, ..)| headers.find(name).is_some()) {
        return Err(Error::SectionTaken { section: name });
    }
    let size_of_headers = headers_size(stub, &headers, added.len(), file_alignment)?;

    let mut file = stub.to_vec();
    let mut address = 0_u32;
    for section in &headers.sections {
        let end = section.address.checked_add(section.virtual_size.max(section.raw_size)).ok_or(TOO_LARGE)?;
        address = address.max(end);
    }
    let (mut code, mut data) = (field(OPT_SIZE_OF_CODE)?, field(OPT_SIZE_OF_DATA)?);
    let mut table_end = headers.table_end;
    for (name, characteristics, content) in &added {
        address = address.checked_next_multiple_of(section_alignment).ok_or(TOO_LARGE)?;
        pad(&mut file, file_alignment);
        let size = u32::try_from(content.len()).map_err(|_| TOO_LARGE)?;
        let raw_size = size.checked_next_multiple_of(file_alignment).ok_or(TOO_LARGE)?;
        let raw_offset = u32::try_from(file.len()).map_err(|_| TOO_LARGE)?;
        file.extend_from_slice(content);
        pad(&mut file, file_alignment);

        let mut header = Vec::with_capacity(SECTION_HEADER);
        header.extend_from_slice(name.as_bytes());
        header.resize(8, 0);
        // The three words between offset and characteristics are relocations and line numbers, which an image has none of.
        for value in [size, address, raw_size, raw_offset, 0, 0, 0, *characteristics] {
            header.extend_from_slice(&value.to_le_bytes());
        }
        put(&mut file, table_end, &header).ok_or(CUT)?;
        table_end += SECTION_HEADER;
        address = address.checked_add(size).ok_or(TOO_LARGE)?;
        let sum = if *characteristics == CODE { &mut code } else { &mut data };
        *sum = sum.checked_add(raw_size).ok_or(TOO_LARGE)?;
    }
    let size_of_image = address.checked_next_multiple_of(section_alignment).ok_or(TOO_LARGE)?;
    let count = u16::try_from(headers.sections.len() + added.len()).map_err(|_| TOO_LARGE)?;
    put(&mut file, headers.coff + COFF_SECTIONS, &count.to_le_bytes()).ok_or(CUT)?;
    // Firmware does not look at the checksum; zero says that there is none.
    for (offset, value) in [
        (OPT_SIZE_OF_CODE, code),
        (OPT_SIZE_OF_DATA, data),
        (OPT_SIZE_OF_IMAGE, size_of_image),
        (OPT_SIZE_OF_HEADERS, size_of_headers),
        (OPT_CHECKSUM, 0),
    ] {
        put(&mut file, headers.optional + offset, &value.to_le_bytes()).ok_or(CUT)?;
    }
    Ok(file)
}

/// Checks that the new headers fit between the section table and the first section, in unused bytes, and returns `SizeOfHeaders`.
fn headers_size(stub: &[u8], headers: &Headers, needed: usize, file_alignment: u32) -> Result<u32, Error> {
    let declared = u32_at(stub, headers.optional + OPT_SIZE_OF_HEADERS).unwrap_or(0);
    let stored = headers.sections.iter().filter(|section| section.raw_size > 0);
    let first_raw = stored.map(|section| section.raw_offset).min().unwrap_or(declared);
    let first_address = headers.sections.iter().map(|section| section.address).min().unwrap_or(declared);
    let limit = usize::try_from(first_raw.min(first_address)).unwrap_or(0).min(stub.len());
    let unused = stub.get(headers.table_end..limit).unwrap_or_default();
    let unused = unused.iter().take_while(|byte| **byte == 0).count();
    let room = (unused / SECTION_HEADER).min(SECTION_LIMIT - headers.sections.len());
    let end = u32::try_from(headers.table_end + needed * SECTION_HEADER).unwrap_or(u32::MAX);
    let size = end.checked_next_multiple_of(file_alignment).unwrap_or(u32::MAX).max(declared);
    if room < needed {
        return Err(Error::HeaderRoom { room, needed });
    }
    if usize::try_from(size).unwrap_or(usize::MAX) > limit {
        return Err(Error::Pe { reason: "its headers overlap its first section" });
    }
    Ok(size)
}

fn pad(file: &mut Vec<u8>, alignment: u32) {
    let alignment = usize::try_from(alignment).unwrap_or(1);
    file.resize(file.len().next_multiple_of(alignment), 0);
}

/// Finds the sections of a UKI. Sections that Kairn does not write are passed over.
///
/// # Errors
/// When the bytes are no PE32+ image, a section lies outside of them, or there is no kernel.
pub fn read(uki: &[u8]) -> Result<Sections<'_>, Error> {
    let headers = Headers::read(uki)?;
    let content = |name| match headers.find(name) {
        Some(section) => section.content(uki).ok_or(Error::Pe { reason: "a section lies outside of the file" }),
        None => Ok(&[] as &[u8]),
    };
    let sections = Sections {
        osrel: content(".osrel")?,
        cmdline: content(".cmdline")?,
        uname: content(".uname")?,
        initrd: content(".initrd")?,
        linux: content(".linux")?,
    };
    if sections.linux.is_empty() { Err(Error::NoSection { section: ".linux" }) } else { Ok(sections) }
}

/// Finds what systemd-boot or its stub says about itself, `#### LoaderInfo: systemd-boot <version> ####` (systemd
/// `src/boot/efi/boot.c`): in section `.sdmagic`, or anywhere in builds that have none.
#[must_use]
pub fn version(program: &[u8]) -> Option<LoaderInfo<'_>> {
    const BEGIN: &[u8] = b"#### LoaderInfo: ";
    const END: &[u8] = b" ####";
    let magic = Headers::read(program).ok().and_then(|headers| headers.find(".sdmagic")?.content(program));
    let text = magic.unwrap_or(program);
    let begin = text.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
    // The longest version seen has 30 bytes; a bound keeps garbage out.
    let text = text.get(begin..)?;
    let text = text.get(..256).unwrap_or(text);
    let end = text.windows(END.len()).position(|window| window == END)?;
    let (program, version) = std::str::from_utf8(text.get(..end)?).ok()?.split_once(' ')?;
    Some(LoaderInfo { program, version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A minimal PE32+ image: headers of `headers` bytes, one `.text` section, and an `.sdmagic` like systemd's.
    fn stub(headers: usize, section_alignment: u32) -> Vec<u8> {
        let mut file = vec![0; headers];
        let optional = 0x40 + 4 + COFF_HEADER;
        put(&mut file, 0, b"MZ").unwrap();
        put(&mut file, 0x3c, &0x40_u32.to_le_bytes()).unwrap();
        put(&mut file, 0x40, b"PE\0\0").unwrap();
        put(&mut file, 0x44 + COFF_SECTIONS, &2_u16.to_le_bytes()).unwrap();
        put(&mut file, 0x44 + COFF_OPTIONAL_SIZE, &240_u16.to_le_bytes()).unwrap();
        put(&mut file, optional, &PE32_PLUS.to_le_bytes()).unwrap();
        for (offset, value) in [
            (OPT_SECTION_ALIGNMENT, section_alignment),
            (OPT_FILE_ALIGNMENT, 512),
            (OPT_SIZE_OF_HEADERS, headers as u32),
            (OPT_CHECKSUM, 0x1234),
            (OPT_DIRECTORY_COUNT, 16),
        ] {
            put(&mut file, optional + offset, &value.to_le_bytes()).unwrap();
        }
        let magic = b"#### LoaderInfo: systemd-stub 252.39-1~deb12u1 ####\0";
        for (index, (name, size, address)) in
            [(".text", 512, 0x4000), (".sdmagic", magic.len() as u32, 0x5100)].iter().enumerate()
        {
            let at = optional + 240 + index * SECTION_HEADER;
            put(&mut file, at, name.as_bytes()).unwrap();
            for (field, value) in [*size, *address, 512, (headers + index * 512) as u32].into_iter().enumerate() {
                put(&mut file, at + 8 + field * 4, &value.to_le_bytes()).unwrap();
            }
        }
        file.resize(headers + 512, 0xcc);
        file.extend_from_slice(magic);
        file.resize(headers + 1024, 0);
        file
    }

    fn bytes(limit: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..limit)
    }

    proptest! {
        #[test]
        fn what_was_assembled_is_read_back_from_aligned_sections(osrel in bytes(90), cmdline in bytes(700), uname in bytes(30), initrd in bytes(9000), linux in proptest::collection::vec(any::<u8>(), 1..9000), alignment in prop::sample::select(vec![512_u32, 4096, 16384])) {
            let sections = Sections { osrel: &osrel, cmdline: &cmdline, uname: &uname, initrd: &initrd, linux: &linux };
            let image = assemble(&stub(1024, alignment), &sections).unwrap();
            prop_assert_eq!(read(&image).unwrap(), sections);
            prop_assert_eq!(version(&image).unwrap(), LoaderInfo { program: "systemd-stub", version: "252.39-1~deb12u1" });
            let headers = Headers::read(&image).unwrap();
            let mut end = 0;
            for section in &headers.sections[2..] {
                prop_assert_eq!(section.address % alignment.max(4096), 0);
                prop_assert_eq!(section.raw_offset % 512, 0);
                prop_assert_eq!(section.raw_size % 512, 0);
                prop_assert!(section.address >= end);
                end = section.address + section.virtual_size;
            }
            let size_of_image = u32_at(&image, headers.optional + OPT_SIZE_OF_IMAGE).unwrap();
            prop_assert!(size_of_image >= end && size_of_image.is_multiple_of(4096));
            prop_assert_eq!(u32_at(&image, headers.optional + OPT_CHECKSUM).unwrap(), 0);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in bytes(2000)) {
            prop_assert!(read(&bytes).is_err());
            let sections = Sections { linux: b"k", ..Sections::default() };
            prop_assert!(assemble(&bytes, &sections).is_err());
            prop_assert!(version(&bytes).is_none());
        }

        #[test]
        fn damaged_images_never_panic(at in 0_usize..1200, value: [u8; 4], cut in 0_usize..4000) {
            let sections = Sections { initrd: b"i", linux: b"k", ..Sections::default() };
            let mut image = assemble(&stub(1024, 512), &sections).unwrap();
            put(&mut image, at, &value);
            image.truncate(image.len().saturating_sub(cut));
            // Either answer will do, as long as there is one.
            drop((read(&image), version(&image), assemble(&image, &sections)));
        }
    }

    #[test]
    fn a_stub_without_room_is_refused_untouched() {
        let sections = Sections { osrel: b"o", cmdline: b"c", uname: b"u", initrd: b"i", linux: b"k" };
        let used = 0x40 + 4 + COFF_HEADER + 240 + 2 * SECTION_HEADER;
        let error = assemble(&stub(used.next_multiple_of(512), 4096), &sections).unwrap_err();
        assert!(matches!(error, Error::HeaderRoom { needed: 5, .. }), "{error}");
        let mut noise = stub(1024, 4096);
        noise[used + 3 * SECTION_HEADER] = 1;
        assert!(matches!(assemble(&noise, &sections).unwrap_err(), Error::HeaderRoom { room: 3, needed: 5 }));
    }

    #[test]
    fn a_uki_is_no_stub_and_a_kernel_there_must_be() {
        let sections = Sections { linux: b"k", ..Sections::default() };
        let image = assemble(&stub(1024, 4096), &sections).unwrap();
        assert!(matches!(assemble(&image, &sections).unwrap_err(), Error::SectionTaken { section: ".linux" }));
        let empty = Sections { linux: b"", initrd: b"i", ..sections };
        assert!(matches!(assemble(&stub(1024, 4096), &empty).unwrap_err(), Error::NoSection { .. }));
    }
}
