//! The page of the reference is what the tables of keys make of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test's panic is its verdict.

use kairn_config::reference;
use std::fs;
use std::path::{Path, PathBuf};

/// With this variable set, the page is written instead of compared.
const UPDATE: &str = "KAIRN_UPDATE_GOLDEN";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference")
}

#[test]
fn the_page_in_the_documentation_is_up_to_date() {
    let path = docs().join("configuration.md");
    let now = reference();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &now).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    let line = page.lines().zip(now.lines()).position(|(page, now)| page != now);
    assert!(page == now, "docs/reference/configuration.md differs at line {line:?}; {UPDATE}=1 writes it anew");
}

#[test]
fn every_link_leads_to_a_heading() {
    let page = reference();
    let anchors: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        // As the common renderers of Markdown make them: lower case, blanks as hyphens, no other punctuation.
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .map(|title| title.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect())
        .collect();
    let mut links = 0;
    for link in page.split("](#").skip(1) {
        let link = link.split(')').next().unwrap();
        assert_eq!(anchors.iter().filter(|anchor| *anchor == link).count(), 1, "{link}");
        links += 1;
    }
    assert!(links > 50, "{links}");
}
