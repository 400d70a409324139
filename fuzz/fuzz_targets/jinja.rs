//! A configuration that is a jinja template, on an instance and without one.
#![no_main]

use kairn_config::{Document, InstanceData, plan, render_text, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let instance = InstanceData::new(serde_json::json!({
        "v1": {"local_hostname": "node", "instance-id": "i-1", "public_ssh_keys": ["a", "b"], "region": null},
        "ds": {"meta_data": {"a": {"b": "c\nd"}}},
    }));
    let text = format!("## template: jinja\n#cloud-config\n{text}");
    for instance in [Some(&instance), None] {
        let documents = [Document::parse_on("fuzz", &text, instance)];
        let _ = validate(&documents);
        let _ = plan(&documents, "boot");
    }
    let _ = render_text("fuzz", &text, &instance);
});
