//! A template from anywhere: parsed, and rendered over the data of each place that has templates.
#![no_main]

use kairn_config::{Chance, Template, TemplateValues};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let inventory = json!({
        "a": {"b": ["x", 1, 0.5, null, true]}, "node": {"hostname": "edge"}, "network": [{"name": "eth0", "macaddress": "52:54"}],
    });
    let values = TemplateValues {
        machine_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
        inventory: inventory.clone(),
        environment: std::sync::Arc::new([("HOME".to_owned(), "/root".to_owned())].into()),
        now: Some(1_700_000_000),
        chance: Chance::from_source(|| Some([200; 32])),
    };
    for data in [values.step(), values.hostname().strict(), values.file(inventory, json!({"boot": "active"}))] {
        match Template::parse(text) {
            Err(error) => assert!(text.get(error.at()).is_some()),
            Ok(template) => {
                let expanded = template.expand(&data);
                if let Some(said) = expanded.said {
                    assert!(text.get(said.at).is_some() && (!said.unchanged || expanded.text == text));
                }
            }
        }
    }
    if let Err(error) = values.config_url(text) {
        assert!(text.get(error.at()).is_some());
    }
});
