//! Keeps the static program small: the initramfs carries it through every boot.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found.split(',').any(|part| part == value));
    // The toolchain's own linker for this target is LLD, which knows these. Identical functions are one, relocations are packed
    // (glibc 2.36 applies them to static programs), and tables that only unwinding needs have no index: panics abort. Cargo forgets
    // `strip` for a package with a profile of its own.
    if is("CARGO_CFG_TARGET_FEATURE", "crt-static") && env::var("TARGET").is_ok_and(|t| t == "x86_64-unknown-linux-gnu")
    {
        for arg in ["--strip-all", "--icf=all", "--pack-dyn-relocs=relr", "--no-eh-frame-hdr"] {
            println!("cargo:rustc-link-arg-bins=-Wl,{arg}");
        }
    }
}
