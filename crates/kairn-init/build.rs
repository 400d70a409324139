//! Keeps the static program small: the initramfs carries it through every boot.

use std::env;

/// Leaves out what only unwinding reads.
const SCRIPT: &str = "no-unwinding.ld";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found.split(',').any(|part| part == value));
    // The toolchain's own linker for this target is LLD, which knows these. Identical functions are one, relocations are packed
    // (glibc 2.36 applies them to static programs), and tables that only unwinding needs, with their index, are left out: panics
    // abort, and a static program finds no table without its index. Cargo forgets `strip` for a package with a profile of its own.
    if is("CARGO_CFG_TARGET_FEATURE", "crt-static") && env::var("TARGET").is_ok_and(|t| t == "x86_64-unknown-linux-gnu")
    {
        for arg in ["--strip-all", "--icf=all", "--pack-dyn-relocs=relr", "--no-eh-frame-hdr"] {
            println!("cargo:rustc-link-arg-bins=-Wl,{arg}");
        }
        println!("cargo:rerun-if-changed={SCRIPT}");
        let dir = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,--script={dir}/{SCRIPT}");
    }
}
