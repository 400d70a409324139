//! What templates become, where things of them stand, and what holes take out.

use super::*;
use crate::{Document, plan, validate};
use proptest::prelude::*;
use serde_json::json;

fn data() -> InstanceData {
    InstanceData::new(json!({
        "v1": {"local_hostname": "node-7", "instance_id": "i-2", "region": null, "cloud-name": "aws", "public_ssh_keys": ["ssh-rsa A"]},
        "ds": {"meta_data": {"local-ipv4": "10.0.0.7", "tags": {"role": "gate\n  way"}}},
    }))
}

fn on(text: &str) -> Document {
    Document::parse_on("t", &format!("## template: jinja\n#cloud-config\n{text}"), Some(&data()))
}

fn said(document: &Document) -> Vec<String> {
    document.diagnostics.iter().map(|said| format!("{}: {}", said.span.place.line, said.message)).collect()
}

#[test]
fn the_values_of_an_instance_stand_where_they_are_asked_for() {
    for (text, expected) in [
        ("a: {{ v1.local_hostname }}", json!({"a": "node-7"})),
        (
            "a: {{ instance_id }} {{ v1.cloud_name }} {{ ds['meta_data']['local-ipv4'] }}",
            json!({"a": "i-2 aws 10.0.0.7"}),
        ),
        ("a: {{ ds.meta_data.local_ipv4 }}", json!({"a": "10.0.0.7"})),
        ("a: {{ v1.local_hostname.split('-')[1] }}", json!({"a": 7})),
        ("a: {{ v1.region | default('none') }}", json!({"a": "none"})),
        ("{% if v1.region is defined %}\na: 1\n{% else %}\nb: 2\n{% endif %}\nc: 3", json!({"b": 2, "c": 3})),
        ("a:\n{% for key in v1.public_ssh_keys %}\n- {{ key }}\n{% endfor %}", json!({"a": ["ssh-rsa A"]})),
        ("a: |\n  {% if true %}\n  x\n  {% endif %}\n  y", json!({"a": "x\ny\n"})),
        ("{# note #}\na: '{% raw %}{{ .Values }}{% endraw %}'", json!({"a": "{{ .Values }}"})),
        ("{% set x = {'a': {'b': 1}} -%}\n   a: {{ x.a.b }}", json!({"a": 1})),
        ("{% set x %}12{% endset %}a: {{ x | length }}", json!({"a": 2})),
        ("a: x{{ {'a': {'b': '}}'}}.a.b }}", json!({"a": "x}}"})),
        ("a: {{ '\u{f0001}' }} \u{f0002}", json!({"a": "\u{f0001} \u{f0002}"})),
    ] {
        let document = on(text);
        assert_eq!(document.diagnostics, [], "{text}");
        assert_eq!(document.root.map(|root| root.to_json()), Some(expected), "{text}");
    }
}

#[test]
fn what_is_said_later_points_into_the_file() {
    let text = "{% if v1.instance_id == 'i-1' %}\nruncmd:\n- one\n- two\n{% endif %}\n\nhostname: {{ ds.meta_data.tags.role }}\n\
                users:\n{% for name in ['ada', 'bob'] %}\n  - name: {{ name }}\n    uidd: 7\n{% endfor %}\nntp: [\n";
    let document = on(text);
    assert_eq!(said(&document).len(), 1, "{document:?}");
    // The list is not closed before the end of the file.
    assert_eq!(document.diagnostics[0].span.place.line, 16, "{document:?}");
    let document = on(&text.replace("ntp: [\n", "timezon: UTC\n"));
    let places: Vec<_> = validate(&[document]).into_iter().map(|said| (said.span.place, said.message)).collect();
    let at = |line, column| Place { line, column };
    let found = |place| places.iter().any(|(there, _)| *there == place);
    // A key within a loop, and one behind blocks and a value of two lines.
    assert!(found(at(13, 5)) && found(at(15, 1)), "{places:?}");
    let value = on(text.trim_end_matches("ntp: [\n")).root.unwrap().get("hostname").unwrap().place;
    assert_eq!(value, at(9, 11));
}

#[test]
fn a_value_that_is_not_defined_takes_out_what_holds_it_and_nothing_else() {
    let text = "hostname: {{ v1.hostnam }}\ntimezone: UTC\nruncmd:\n- [echo, '{{ ds.no.where }}']\n- echo two\nwrite_files:\n- path: /a\n  \
                content: |\n    one\n    {{ v1.absent }}\n- path: /b\nntp: {servers: [a, '{{ v1.region }}']}\n";
    let document = on(text);
    let expected = [
        "3: `v1.hostnam` is not defined here; what holds it is left out",
        "6: `ds.no.where` is not defined here; what holds it is left out",
        "12: `v1.absent` is not defined here; what holds it is left out",
        "14: `v1.region` is not defined here; what holds it is left out",
    ];
    assert_eq!(said(&document), expected);
    assert_eq!(document.diagnostics[1].span.place.column, 11);
    let json = document.root.as_ref().unwrap().to_json();
    assert_eq!(
        json,
        json!({"timezone": "UTC", "runcmd": ["echo two"], "write_files": [{"path": "/b"}], "ntp": {"servers": ["a"]}})
    );
    let labels = plan(&[document], "boot").steps.iter().map(|step| step.actions.len()).sum::<usize>();
    assert_eq!(labels, 2);
}

#[test]
fn a_fault_of_the_template_has_its_place_and_leaves_no_half_of_the_file() {
    for (text, line, message) in [
        ("a: 1\nb: {{ v1. }}\n", 4, "syntax error"),
        ("a: 1\n{% if x %}\nb: 1\n", 5, "syntax error"),
        ("a: 1\n\nb: {{ 1 | nothing }}\n", 5, "unknown filter"),
        ("a: {{ v1.local_hostname.nothing() }}\n", 3, "unknown method"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", 3, "come to an end"),
        ("{% for a in range(99999) %}{{ '-' * 99 }}{% endfor %}", 1, "more than"),
    ] {
        let document = on(text);
        let said = said(&document);
        assert!(document.root.is_none() && said.len() == 1, "{text}: {said:?}");
        assert!(said[0].starts_with(&format!("{line}: ")) && said[0].contains(message), "{text}: {said:?}");
    }
}

#[test]
fn without_an_instance_all_that_does_not_depend_on_it_is_read() {
    let text = "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname.split('.')[0] }}\nruncmd: [a, '{{ x }}']\ntimezone: UTC\n";
    let document = Document::parse("t", text);
    assert_eq!(document.root, None);
    let severities: Vec<_> = document.diagnostics.iter().map(|said| said.severity).collect();
    assert_eq!(severities, [Severity::Note, Severity::Note]);
    let document = Document::parse("t", &text.replace(".split('.')[0]", ""));
    assert_eq!(document.root.unwrap().to_json(), json!({"runcmd": ["a"], "timezone": "UTC"}));
    assert_eq!(document.diagnostics.len(), 1, "{:?}", document.diagnostics);
    let broken = Document::parse("t", "## template: jinja\na: {{ x\n");
    assert!(broken.diagnostics.iter().any(|said| said.severity == Severity::Error), "{broken:?}");
}

#[test]
fn a_program_is_rendered_whole_or_not_at_all() {
    let script = "## template: jinja\n#!/bin/sh\necho {{ v1.instance_id }}\n";
    assert_eq!(render_text("s", script, &data()).unwrap(), "#!/bin/sh\necho i-2\n");
    let said = render_text("s", &script.replace("instance_id", "nothing"), &data()).unwrap_err();
    assert_eq!(said.to_string(), "s:3:6: error: `v1.nothing` is not defined here");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([a-z :\n-]|\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|'|\"|\\(|\\)|if |endif|raw|endraw|set x|v1\\.a){0,40}") {
        let document = on(&text);
        prop_assert!(validate(&[document]).len() < 10_000);
    }

    #[test]
    fn a_text_without_tags_stays_as_it_is_and_where_it_is(text in "([a-z]{1,3}: |- |\n|[a-z]{1,4}|  ){0,30}") {
        let plain = yaml::read("t", &format!("#\n{text}"));
        let rendered = read("t", &format!("#\n{text}"), Some(&data()));
        prop_assert_eq!(rendered, plain);
    }
}
