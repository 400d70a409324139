//! Templates in steps: over the facts of a machine, and with what is said when one cannot be expanded.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use kairn_config::{Chance, Document, TemplateValues};
use kairn_report::Event;
use kairn_stages::{Context, run};
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const STEPS: &str = r#"
stages:
  boot:
    - files:
        - path: /etc/who
          permissions: 0644
          content: "{{ .Values.node.hostname | upper }} {{ (index .Values.network 0).macaddress }} {{ .Values.memory.size }}"
        - path: /etc/one
          permissions: 0644
          content: "{{ .Values.Random }}{{ if eq .Values.Random .Values.Random }} same{{ end }}"
        - path: /etc/other
          permissions: 0644
          content: "{{ .Values.Random }}"
        - path: /etc/broken
          permissions: 0644
          content: |
            first
            {{ lower 4 }} stays
        - path: /etc/missing
          permissions: 0644
          content: "serial {{ .Values.product.serial }}"
"#;

#[test]
fn files_are_made_of_the_facts_and_faults_are_told_with_their_place() {
    let root = tempfile::tempdir().unwrap();
    let count = AtomicU8::new(0);
    let values = TemplateValues {
        inventory: json!({
            "node": {"hostname": "edge-7"}, "memory": {"size": 8192}, "network": [{"macaddress": "52:54:00:12:34:56"}],
        }),
        chance: Chance::from_source(move || Some([count.fetch_add(1, Ordering::Relaxed); 32])),
        ..TemplateValues::default()
    };
    let context = Context {
        root: root.path().to_owned(),
        command_deadline: Duration::from_secs(10),
        live: false,
        ..Context::this(values)
    };
    let mut events: Vec<Event> = Vec::new();
    let result = run(&[Document::parse("t.yaml", STEPS)], "boot", &context, &mut events);
    assert_eq!(result.failures(), 0, "{result:?}");
    let read = |name: &str| fs::read_to_string(root.path().join("etc").join(name)).unwrap();
    assert_eq!(read("who"), "EDGE-7 52:54:00:12:34:56 8192");
    assert!(read("one").ends_with(" same") && read("one").len() == 37, "{}", read("one"));
    assert_ne!(read("one")[..32], read("other"));
    assert_eq!(read("broken"), "first\n{{ lower 4 }} stays\n");
    assert_eq!(read("missing"), "serial <no value>");
    let said: Vec<String> =
        events.iter().map(|event| format!("{event:?}")).filter(|event| event.contains("t.yaml:")).collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("/etc/broken") && said[0].contains("line 2, column 4 of the text"), "{}", said[0]);
    assert!(said[1].contains("/etc/missing") && said[1].contains("{{ .Values.product.serial }}"), "{}", said[1]);
}
