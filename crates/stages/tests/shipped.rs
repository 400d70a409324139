//! The configuration that every image carries: no diagnostic, and every stage runs on an empty root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use kairn_config::{TemplateValues, validate};
use kairn_stages::{Context, load, run};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

fn shipped() -> Vec<PathBuf> {
    vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../factory/files/system-oem")]
}

#[test]
fn the_shipped_files_have_nothing_to_complain_about() {
    let documents = load(&shipped());
    assert!(documents.len() >= 3);
    assert_eq!(validate(&documents), []);
}

#[test]
fn the_initramfs_stage_of_the_shipped_files_makes_the_group_admin() {
    let root = tempfile::tempdir().unwrap();
    let context = Context {
        root: root.path().to_owned(),
        command_deadline: Duration::from_secs(10),
        live: false,
        ..Context::this(TemplateValues::default())
    };
    let result = run(&load(&shipped()), "initramfs", &context, &mut Vec::new());
    assert_eq!(result.failures(), 0, "{result:?}");
    assert_eq!(fs::read_to_string(root.path().join("etc/group")).unwrap(), "admin:x:900:\n");
}
