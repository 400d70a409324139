//! Unpacked tree to release.
