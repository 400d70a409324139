//! No input makes the readers panic, hang or lose a neighbour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test's panic is its verdict.

use kairn_config::{
    Chance, Content, Document, FileWork, Severity, Template, TemplateValues, Work, login, merge, plan, strict,
    validate, yaml,
};
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn use_everything(text: &str) {
    let documents = [Document::parse("a.yaml", text), Document::parse("b.yaml", text)];
    let said = validate(&documents);
    let refused = said.iter().any(|said| said.severity == Severity::Error);
    assert_eq!(strict(&documents).is_err(), refused);
    for stage in ["boot", "initramfs", "x"] {
        let plan = plan(&documents, stage);
        serde_json::to_string(&plan).unwrap();
    }
    assert!(merge(&documents).merged.to_json().is_object());
    drop(login(&documents));
    for diagnostic in said {
        assert!(diagnostic.span.place.line >= 1 && diagnostic.span.place.column >= 1);
        assert!(!diagnostic.to_string().is_empty());
    }
}

/// Pieces of which YAML that means something to us is made.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "#cloud-config\n",
        "stages:",
        "  boot:",
        "    - ",
        "users:",
        "- name: a",
        "files:",
        "commands:",
        "path: /a",
        "permissions: 0644",
        "hostname: {{ trunc 4 .MachineID }}",
        "install:",
        "&a ",
        "*a",
        "<<: *a",
        "[",
        "]",
        "{",
        "}",
        ": ",
        ", ",
        "\n",
        "\n  ",
        "\n    ",
        "\n---\n",
        "...",
        "|",
        ">",
        "|2-",
        "\"",
        "'",
        "!!str ",
        "!x ",
        "%YAML 1.1\n",
        "? ",
        "- ",
        "\t",
        "~",
        "0x",
        "-1",
        "99999999999999999999",
        "if: '{{'",
        "content: |\n",
        "encoding: gz+b64\n",
        "entity: |\n  kind: group\n",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\\x",
        "\0",
        "ü",
        "🦀",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => ".{0,8}"]
}

/// What templates are made of, mostly where it belongs.
fn template_piece() -> impl Strategy<Value = String> {
    let fixed = [
        "{{ ",
        "{{- ",
        " }}",
        " -}}",
        "{{ end }}",
        "{{ else }}",
        "{{ if ",
        "{{ with ",
        "{{ range ",
        "{{ range $i, $v := ",
        "{{ $x := ",
        "{{ $x }}",
        " | ",
        "(",
        ")",
        " . ",
        ".Random",
        ".MachineID",
        ".Absent.x",
        "$",
        "$i ",
        "\"a\" ",
        "`b` ",
        "'c' ",
        "1 ",
        "-2 ",
        "0.5 ",
        "true ",
        "nil ",
        "trunc 4 ",
        "default \"d\" ",
        "printf \"%5.1v\" ",
        "index ",
        "list 1 2 ",
        "dict \"k\" 1 ",
        "until 5 ",
        "join \",\" ",
        "eq ",
        "and ",
        "required \"r\" ",
        "ü",
        "\n",
        "text",
        "{{/* c */}}",
        "{{ break }}",
        "{{ define \"a\" }}",
        "{{ template \"a\" . }}",
        "{{ block \"b\" .Values }}",
        "{{ $x = set $x \"ü\" now }}",
        "{{ $x := dict }}",
        "{{ regexReplaceAll \"(.)(ü?)\" .Values.Random \"${2}$1$$\" }}",
        "{{ regexSplit \"\" \"aüb\" -1 }}",
        "{{ date \"Mon _2 Jan 2006 __2 03PM\" -99999999 }}",
        "{{ toDate \"2006-1-2\" .Values.Random }}",
        "{{ wrapWith 2 \"ü\" \"aüb cd\" }}",
        "{{ abbrevboth 5 7 \"äöüäöüäöüäöü\" }}",
        "{{ b32dec \"ÜÜÜÜ\" }}",
        "{{ randInt -5 5 }}",
        "{{ shuffle \"äb\" }}",
        "{{ expandenv \"${ü$A\" }}",
        "{{ urlJoin (urlParse \"ü:/?#@\") }}",
        "{{ duration -1 }}{{ durationRound \"-9h\" }}",
    ];
    prop_oneof![9 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => "(?s).{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_anything_panic(text in "(?s).{0,200}") {
        use_everything(&text);
    }

    #[test]
    fn nothing_that_looks_like_a_configuration_makes_anything_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        use_everything(&pieces.concat());
    }

    #[test]
    fn any_template_is_rendered_or_refused_at_a_place_within_it(pieces in prop::collection::vec(template_piece(), 0..25)) {
        let text = pieces.concat();
        let values = TemplateValues {
            machine_id: Some("ü1".repeat(8)),
            inventory: serde_json::json!({"node": {"hostname": "ü"}, "network": [{"name": "eth0"}]}),
            now: Some(1_700_000_000),
            chance: Chance::from_source(|| Some([200; 32])),
            ..TemplateValues::default()
        };
        for data in [values.step(), values.hostname(), values.step().strict()] {
            if let Ok(template) = Template::parse(&text) {
                let expanded = template.expand(&data);
                prop_assert!(expanded.said.is_none_or(|said| !said.unchanged || expanded.text == text));
            }
        }
        if let Err(error) = values.config_url(&text) {
            prop_assert!(text.get(error.at()).is_some(), "{:?} of {:?}", error, text);
        }
        let rendered = Template::parse(&text).and_then(|template| {
            Ok((template.is_plain(), template.render(&values.hostname())?))
        });
        match rendered {
            Ok((true, rendered)) if !text.contains("{{") => prop_assert_eq!(rendered.text, text),
            Ok(_) => {}
            Err(error) => prop_assert!(text.get(error.at()).is_some(), "{:?} of {:?}", error, text),
        }
    }

    #[test]
    fn any_text_survives_as_the_content_of_a_file(content in "[ -~\n]{0,80}") {
        let quoted = serde_json::to_string(&content).unwrap();
        let text = format!("stages: {{boot: [{{files: [{{path: /a, content: {quoted}}}]}}]}}\n");
        let plan = plan(&[Document::parse("t", &text)], "boot");
        let Work::Files(FileWork::File(file)) = &plan.steps[0].actions[0].work else { panic!("{plan:?}") };
        let Content::Text(text) = file.content.reveal() else { panic!("{plan:?}") };
        prop_assert_eq!(text.source(), content);
    }

    #[test]
    fn a_bad_document_changes_nothing_of_its_neighbours(bad in prop::collection::vec(piece(), 0..20)) {
        let good = Document::parse("good", "#cloud-config\nusers: [{name: u, passwd: p}]\nstages: {boot: [{commands: [x]}]}\n");
        let alone = plan(std::slice::from_ref(&good), "boot");
        let both = plan(&[Document::parse("bad", &bad.concat()), good], "boot");
        let of_good = |plan: &kairn_config::StagePlan| {
            let steps = plan.steps.iter().filter(|step| step.span.source == "good");
            steps.map(|step| serde_json::to_string(step).unwrap()).collect::<Vec<_>>()
        };
        prop_assert_eq!(of_good(&alone), of_good(&both));
    }
}

#[test]
fn large_and_nested_inputs_end_soon() {
    let begun = Instant::now();
    for text in [
        "[".repeat(1 << 20),
        "{".repeat(1 << 20),
        "- ".repeat(1 << 19),
        "? ".repeat(1 << 19),
        "a: ".repeat(1 << 18),
        "&a ".repeat(1 << 18),
        "\"".repeat(1 << 20),
        "!".repeat(1 << 20),
        " \n".repeat(1 << 19),
        "x\n".repeat(1 << 19),
        "a:\n".repeat(1 << 18),
        (0..60_000).map(|i| format!("k{i}: v\n")).collect(),
        (0..60_000).map(|i| format!("k{}: v\n", i % 7)).collect(),
        format!("stages: {{boot: [{}]}}", "{commands: [x]}, ".repeat(10_000)),
        format!("users: [{}]", "{name: a}, ".repeat(20_000)),
    ] {
        let text = &text[..text.len().min(yaml::LIMITS.bytes)];
        let one = Instant::now();
        use_everything(text);
        let head: String = text.chars().take(10).collect();
        assert!(one.elapsed() < Duration::from_secs(20), "{head:?}… took {:?}", one.elapsed());
    }
    assert!(begun.elapsed() < Duration::from_secs(120));
}
