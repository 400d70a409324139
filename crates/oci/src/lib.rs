//! Registries, layouts and archives: pull, verify, unpack, push.
