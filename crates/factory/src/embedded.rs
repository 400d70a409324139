//! Files that the factory puts into images, embedded at build time.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
