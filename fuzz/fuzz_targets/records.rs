//! Files on STATE and media that a machine reads back, and names that a user writes.
#![no_main]

use kairn_lifecycle::attempt::{Attempt, AttemptName};
use kairn_lifecycle::installed::Record;
use kairn_lifecycle::{BootFacts, BootReport, Release, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = serde_json::from_str::<Attempt>(text);
    let _ = serde_json::from_str::<Record>(text);
    let _ = serde_json::from_str::<BootReport>(text);
    let _ = serde_json::from_str::<Release>(text).map(|release| (release.sealed_size(), release.uki_name()));
    let _ = serde_json::from_str::<BootFacts>(text);
    if let Some(name) = AttemptName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(source) = text.parse::<Source>() {
        assert_eq!(source.to_string().parse(), Ok(source));
    }
});
