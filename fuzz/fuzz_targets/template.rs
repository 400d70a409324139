//! A template from anywhere: parsed, and rendered over a small tree.
#![no_main]

use kairn_config::Template;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let data = json!({"a": {"b": ["x", 1, 0.5, null, true]}, "MachineID": "0123456789abcdef"});
    let rendered = Template::parse(text).and_then(|template| template.render(&data));
    if let Err(error) = rendered {
        assert!(text.get(error.at()).is_some());
    }
});
