//! The language by examples, with what Go's package and sprig make of them.

use super::{Template, TemplateFault, TemplateValues};
use serde_json::{Value, json};

fn data() -> Value {
    json!({
        "Values": {
            "node": {"hostname": "Edge-7", "cores": 4, "load": 0.5},
            "network": [{"name": "eth0", "mac": "52:54:00:aa"}, {"name": "wlan0"}],
            "empty": [], "none": null, "on": true, "labels": {"b": "2", "a": "1"},
        },
        "MachineID": "0123456789abcdef0123456789abcdef",
    })
}

fn render(text: &str) -> String {
    let rendered = Template::parse(text).and_then(|template| template.render(&data()));
    rendered.unwrap_or_else(|error| panic!("{text}: {error}")).text
}

#[test]
fn values_and_pipes() {
    for (text, rendered) in [
        ("plain } {", "plain } {"),
        ("metal-{{ trunc 4 .MachineID }}", "metal-0123"),
        ("{{ .MachineID | trunc -4 | upper }}.x", "CDEF.x"),
        ("{{.Values.node.hostname|lower}}", "edge-7"),
        ("{{ $.Values.node.cores }}/{{ .Values.node.load }}", "4/0.5"),
        ("{{ (index .Values.network 0).name }}", "eth0"),
        ("{{ index .Values \"node\" \"hostname\" }}", "Edge-7"),
        ("{{ .Values.labels }} {{ .Values.empty }}", "map[a:1 b:2] []"),
        ("{{ .Values.none }} {{ .Absent.deeper }}", "<no value> <no value>"),
        ("{{ \"a\\tb\" }}{{ `\\n` }}{{ 'A' }}{{ 0x10 }}{{ 1.50 }}{{ true }}", "a\tb\\n65161.5true"),
        ("a {{- /* one */ -}} b", "ab"),
        ("a {{- \" x \" -}} b", "a x b"),
        ("{{ printf \"%s-%03d\" .Values.node.hostname .Values.node.cores }}", "Edge-7-004"),
        ("{{ print 1 2 \"x\" 3 4 }}|{{ println \"a\" 1 }}", "1 2x3 4|a 1\n"),
        ("{{ len .Values.network }}{{ len \"ü\" }}", "22"),
        ("{{ slice \"abcdef\" 1 3 }}", "bc"),
        ("{{ html \"<a&b>\" }} {{ urlquery \"a b/ü\" }}", "&lt;a&amp;b&gt; a+b%2F%C3%BC"),
    ] {
        assert_eq!(render(text), rendered, "{text}");
    }
}

#[test]
fn blocks_and_variables() {
    for (text, rendered) in [
        ("{{ if .Values.on }}y{{ else }}n{{ end }}", "y"),
        ("{{ if .Absent }}a{{ else if eq .Values.node.cores 4 }}b{{ else }}c{{ end }}", "b"),
        ("{{ if and .Values.on (gt .Values.node.cores 8) }}big{{ else }}small{{ end }}", "small"),
        ("{{ with .Values.node }}{{ .hostname }}{{ end }}", "Edge-7"),
        ("{{ with .Absent }}a{{ else with .Values.node }}{{ .cores }}{{ end }}", "4"),
        ("{{ with $n := .Values.node }}{{ $n.cores }}{{ $.MachineID | trunc 2 }}{{ end }}", "401"),
        ("{{ range .Values.network }}{{ .name }};{{ end }}", "eth0;wlan0;"),
        ("{{ range $i, $n := .Values.network }}{{ $i }}={{ $n.name }} {{ end }}", "0=eth0 1=wlan0 "),
        ("{{ range $k, $v := .Values.labels }}{{ $k }}{{ $v }}{{ end }}", "a1b2"),
        ("{{ range .Values.empty }}x{{ else }}none{{ end }}", "none"),
        ("{{ range 3 }}{{ . }}{{ end }}{{ range until 2 }}{{ . }}{{ end }}", "01201"),
        (
            "{{ range $i := until 9 }}{{ if eq $i 2 }}{{ continue }}{{ end }}{{ if gt $i 4 }}{{ break }}{{ end }}{{ $i }}{{ end }}",
            "0134",
        ),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}", "32"),
        ("{{ $x := \"\" }}{{ range .Values.network }}{{ $x = cat $x .name }}{{ end }}{{ $x }}", " eth0 wlan0"),
        ("{{ range $i, $_ := list 1 2 }}{{ range list \"a\" }}{{ . }}{{ $i }}{{ end }}{{ end }}", "a0a1"),
        ("a\n{{- if .Values.on }}\nb\n{{- end }}\nc", "a\nb\nc"),
    ] {
        assert_eq!(render(text), rendered, "{text}");
    }
}

#[test]
fn comparisons() {
    for (text, rendered) in [
        ("{{ eq \"a\" \"b\" \"a\" }}{{ ne 1 2 }}{{ not .Absent }}", "truetruetrue"),
        ("{{ lt 1 2 }}{{ le 2 2 }}{{ gt \"b\" \"a\" }}{{ ge 1 2 }}", "truetruetruefalse"),
        ("{{ eq .Absent \"a\" }}{{ ne .Absent \"a\" }}", "falsetrue"),
        ("{{ and 1 \"\" \"x\" }}|{{ or 0 \"\" \"x\" }}|{{ or 0 \"\" }}|{{ and 1 2 }}", "|x||2"),
        // What is not needed is not looked at.
        ("{{ or true (fail \"never\") }}{{ and false (fail \"never\") }}", "truefalse"),
        ("{{ empty \"\" }}{{ empty 0 }}{{ empty .Values.network }}", "truetruefalse"),
    ] {
        assert_eq!(render(text), rendered, "{text}");
    }
}

#[test]
fn functions_of_sprig() {
    for (text, rendered) in [
        ("{{ default \"x\" .Absent }}{{ .Values.node.cores | default 9 }}{{ default \"y\" \"\" }}", "x4y"),
        ("{{ coalesce \"\" 0 \"z\" }}{{ ternary \"a\" \"b\" true }}{{ false | ternary \"a\" \"b\" }}", "zab"),
        ("{{ required \"no id\" .MachineID | trunc 2 }}", "01"),
        ("{{ quote \"a\\\"b\" 1 .Absent }} {{ squote \"a\" }}", "\"a\\\"b\" \"1\" 'a'"),
        ("{{ b64enc \"user:pw\" }} {{ \"dXNlcg==\" | b64dec }}", "dXNlcjpwdw== user"),
        (
            "{{ join \",\" (list 1 \"a\" nil) }} {{ splitList \".\" \"a.b\" }} {{ (split \".\" \"a.b\")._1 }}",
            "1,a [a b] b",
        ),
        ("{{ replace \"a\" \"o\" \"banana\" }} {{ \"x\" | repeat 3 }} {{ nospace \" a b \" }}", "bonono xxx ab"),
        (
            "[{{ trim \"  a \" }}][{{ trimAll \"-\" \"--a-\" }}][{{ trimPrefix \"v\" \"v1\" }}][{{ trimSuffix \"/\" \"a/\" }}]",
            "[a][a][1][a]",
        ),
        ("{{ title \"edge node\" }} {{ untitle \"Ab Cd\" }} {{ substr 1 3 \"abcd\" }}", "Edge Node ab cd bc"),
        ("{{ contains \"b\" \"abc\" }}{{ hasPrefix \"a\" \"abc\" }}{{ hasSuffix \"x\" \"abc\" }}", "truetruefalse"),
        ("{{ indent 2 \"a\\nb\" }}{{ nindent 1 \"c\" }}", "  a\n  b\n c"),
        ("{{ add 1 \"2\" 3 }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ add1 1 }}", "6 3 6 3 1 2"),
        (
            "{{ max 1 7 3 }} {{ min 4 2 }} {{ int \"12\" }} {{ int \"x\" }} {{ atoi \"5\" }} {{ floor 2.7 }}",
            "7 2 12 0 5 2",
        ),
        ("{{ untilStep 3 0 -1 }} {{ until 3 }}", "[3 2 1] [0 1 2]"),
        (
            "{{ first (list 1 2 3) }}{{ last (list 1 2 3) }}{{ rest (list 1 2 3) }}{{ initial (list 1 2) }}",
            "13[2 3][1]",
        ),
        ("{{ append (list 1) 2 }}{{ prepend (list 1) 0 }}{{ concat (list 1) (list 2) }}", "[1 2][0 1][1 2]"),
        (
            "{{ has 2 (list 1 2) }}{{ without (list 1 2 3) 2 }}{{ uniq (list 1 1 2) }}{{ reverse (list 1 2) }}",
            "true[1 3][1 2][2 1]",
        ),
        ("{{ sortAlpha (list \"b\" \"a\") }}{{ compact (list 1 0 \"\") }}", "[a b][1]"),
        (
            "{{ $d := dict \"k\" 1 }}{{ $d.k }}{{ get $d \"k\" }}{{ hasKey $d \"x\" }}{{ keys $d }}{{ values $d }}",
            "11false[k][1]",
        ),
        ("{{ dig \"node\" \"cores\" 0 .Values }}{{ dig \"node\" \"x\" \"d\" .Values }}", "4d"),
        ("{{ toJson .Values.labels }}{{ (fromJson \"{\\\"a\\\":[1]}\").a }}", "{\"a\":\"1\",\"b\":\"2\"}[1]"),
        ("{{ kindOf .Values }}{{ kindIs \"string\" .MachineID }}{{ toString 4 | quote }}", "maptrue\"4\""),
    ] {
        assert_eq!(render(text), rendered, "{text}");
    }
}

#[test]
fn what_cannot_be_rendered_is_pointed_at() {
    for (text, place, says) in [
        ("a {{ trunc 4 .Absent }}", "trunc 4 .Absent", "`trunc` wants a text as argument 2; there is nothing"),
        ("{{ lower 4 }}", "lower 4", "`4` is a int"),
        ("{{ trunc 1 }}", "trunc 1", "`trunc` takes 2 arguments; here are 1"),
        ("{{ .MachineID.x }}", ".MachineID.x", "a string has no field `x`"),
        ("{{ index .Values.network 2 }}", "index .Values.network 2", "outside of a list with 2 items"),
        ("{{ eq 1 \"1\" }}", "eq 1 \"1\"", "a int cannot be compared with a string"),
        ("{{ range \"abc\" }}{{ end }}", "{{ range \"abc\" }}", "this is a string"),
        ("{{ div 1 0 }}", "div 1 0", "no result"),
        ("{{ .Absent | required \"set the zone\" }}", "required \"set the zone\"", "set the zone"),
        ("{{ fail \"stop\" }}", "fail \"stop\"", "stop"),
        ("{{ b64dec \"!\" }}", "b64dec \"!\"", "base64"),
    ] {
        let error = Template::parse(text).unwrap().render(&data()).unwrap_err();
        assert!(error.to_string().contains(says), "{text}: {error}");
        assert_eq!(&text[error.at()], place, "{text}");
    }
    let demanded = Template::parse("{{ fail \"x\" }}").unwrap().render(&data()).unwrap_err();
    assert!(matches!(demanded.fault(), TemplateFault::Demanded(_)));
}

#[test]
fn what_never_ends_or_grows_is_ended() {
    for text in [
        "{{ range until 10000 }}{{ range until 10000 }}{{ range until 10000 }}{{ end }}{{ end }}{{ end }}",
        "{{ $x := \"aa\" }}{{ range 64 }}{{ $x = print $x $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range 64 }}{{ $x = concat $x $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range 100000 }}{{ $x = list $x }}{{ end }}",
        "{{ range 100000 }}{{ \"0123456789abcdef\" }}{{ end }}",
        "{{ range 1000000000000 }}{{ end }}",
        "{{ repeat 1000000 \"abc\" }}",
        "{{ replace \"\" (repeat 1000 \"b\") (repeat 1000000 \"a\") }}",
        "{{ until 100000000 }}",
        "{{ printf \"%99999999d\" 1 }}",
    ] {
        assert!(Template::parse(text).unwrap().render(&Value::Null).is_err(), "{text}");
    }
}

#[test]
fn what_is_missing_is_told() {
    let template = Template::parse("a-{{ .MachineID }}").unwrap();
    let rendered = template.render(&TemplateValues::default().data()).unwrap();
    assert_eq!((rendered.text.as_str(), rendered.missing.len()), ("a-<no value>", 1));
    assert!(rendered.whole().unwrap_err().to_string().contains("not known"));
    let known = TemplateValues { machine_id: Some("0123".into()), ..TemplateValues::default() };
    assert_eq!(template.render(&known.data()).unwrap().whole().unwrap(), "a-0123");
    assert!(Template::parse("x").unwrap().is_plain() && !template.is_plain());
}
