//! Formats as writers and readers over Read, Write and Seek: GPT, FAT, cpio, verity tree, UKI, ISO.
#![forbid(unsafe_code)]
