//! The language by examples, with what Go's package and sprig make of them.

use super::{Chance, Template, TemplateData, TemplateFault, TemplateValues};
use serde_json::json;

fn data() -> TemplateData {
    TemplateData::from(json!({
        "Values": {
            "node": {"hostname": "Edge-7", "cores": 4, "load": 0.5},
            "network": [{"name": "eth0", "mac": "52:54:00:aa"}, {"name": "wlan0"}],
            "empty": [], "none": null, "on": true, "labels": {"b": "2", "a": "1"},
        },
        "MachineID": "0123456789abcdef0123456789abcdef",
    }))
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
fn templates_with_names() {
    for (text, rendered) in [
        ("{{ define \"a\" }}[{{ . }}]{{ end }}{{ template \"a\" 1 }}{{ template \"a\" }}", "[1][<no value>]"),
        ("{{ template \"later\" .MachineID | trunc 2 }}{{ define \"later\" }}<{{ . }}>{{ end }}", "<01>"),
        ("{{ block \"b\" .Values.node }}{{ .hostname }}/{{ $.cores }}{{ end }}", "Edge-7/4"),
        ("{{ $x := 1 }}{{ block \"b\" . }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
        (
            "{{ define \"down\" }}{{ . }}{{ if gt . 0 }}{{ template \"down\" (sub . 1) }}{{ end }}{{ end }}{{ template \"down\" 5 }}",
            "543210",
        ),
        ("{{ range list 1 2 }}{{ template \"i\" . }}{{ end }}{{ define \"i\" }}{{ . }};{{ end }}", "1;2;"),
        ("{{ if false }}{{ template \"absent\" }}{{ end }}ok", "ok"),
    ] {
        assert_eq!(render(text), rendered, "{text}");
    }
    let missing = Template::parse("{{ template \"absent\" }}").unwrap().render(&data()).unwrap_err();
    assert!(missing.to_string().contains("`absent` is not defined"), "{missing}");
    assert!(!Template::parse("{{ define \"a\" }}{{ end }}").unwrap().is_plain());
}

#[test]
fn what_is_missing_is_an_error_where_that_is_wanted() {
    let strict = data().strict();
    let render = |text: &str| Template::parse(text).and_then(|template| template.render(&strict));
    assert_eq!(render("{{ .Values.node.cores }}{{ index .Values \"x\" }}").unwrap().text, "4<no value>");
    for (text, place) in [("a {{ .Values.nod.cores | upper }}", ".Values.nod.cores"), ("{{ $.x }}", "$.x")] {
        let error = render(text).unwrap_err();
        assert!(error.to_string().contains("there is no"), "{error}");
        assert_eq!(&text[error.at()], place);
    }
}

#[test]
fn comparisons() {
    for (text, rendered) in [
        ("{{ eq \"a\" \"b\" \"a\" }}{{ ne 1 2 }}{{ not .Absent }}", "truetruetrue"),
        ("{{ lt 1 2 }}{{ le 2 2 }}{{ gt \"b\" \"a\" }}{{ ge 1 2 }}", "truetruetruefalse"),
        ("{{ eq .Absent \"a\" }}{{ ne .Absent \"a\" }}", "falsetrue"),
        ("{{ and 1 \"\" \"x\" }}|{{ or 0 \"\" \"x\" }}|{{ or 0 \"\" }}|{{ and 1 2 }}", "|x||2"),
        ("{{ eq 1 1.0 }}{{ lt .Values.node.load 1 }}{{ gt 2 1.5 }}{{ ne 1.5 1 }}", "truetruetruetrue"),
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

/// The same bytes at each draw, the time of a test, and two variables.
fn outside() -> TemplateData {
    let environment = [("HOME", "/root"), ("A_1", "x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let values = TemplateValues {
        environment: std::sync::Arc::new(environment.into()),
        now: Some(1_614_870_367),
        chance: Chance::from_source(|| Some(std::array::from_fn(|at| u8::try_from(at).unwrap_or(0)))),
        ..TemplateValues::default()
    };
    values.step()
}

#[test]
fn functions_of_time_chance_and_environment_take_what_was_handed_in() {
    for (text, rendered) in [
        (
            "{{ now }} {{ now | date \"2006-01-02 15:04\" }} {{ date \"2006\" .Absent }}",
            "1614870367 2021-03-04 15:06 2021",
        ),
        ("{{ dateInZone \"15:04 MST\" 0 \"UTC\" }} {{ htmlDate 86400 }}", "00:00 UTC 1970-01-02"),
        ("{{ now | dateModify \"-24h\" | htmlDate }} {{ unixEpoch now }}", "2021-03-03 1614870367"),
        ("{{ toDate \"2006-01-02\" \"1970-01-03\" }} {{ ago 1614870300 }}", "172800 1m7s"),
        ("{{ duration 95 }} {{ duration \"95\" }} {{ durationRound \"2h10m5s\" }}", "1m35s 1m35s 2h"),
        ("{{ env \"HOME\" }}|{{ env \"NONE\" }}|{{ expandenv \"a$HOME/${A_1}$NONE-$ 5\" }}", "/root||a/root/x-$ 5"),
        ("{{ uuidv4 }}", "00010203-0405-4607-8809-0a0b0c0d0e0f"),
        ("{{ randNumeric 12 }} {{ randAlpha 3 }} {{ len (randAlphaNum 40) }}", "012345678901 ABC 40"),
        ("{{ randBytes 3 }} {{ randInt 5 10 }} {{ len (randAscii 7) }}", "AAEC 8 7"),
    ] {
        let rendered_text = Template::parse(text).and_then(|template| template.render(&outside()));
        assert_eq!(rendered_text.unwrap_or_else(|error| panic!("{text}: {error}")).text, rendered, "{text}");
    }
    let shuffled = Template::parse("{{ shuffle \"abcdef\" }}").unwrap().render(&outside()).unwrap().text;
    let mut letters: Vec<char> = shuffled.chars().collect();
    letters.sort_unstable();
    assert_eq!(letters, ['a', 'b', 'c', 'd', 'e', 'f']);
    for text in ["{{ now }}", "{{ uuidv4 }}", "{{ randAlpha 3 }}", "{{ randInt 0 5 }}", "{{ shuffle \"ab\" }}"] {
        let error = Template::parse(text).unwrap().render(&data()).unwrap_err();
        assert!(error.to_string().contains("here"), "{error}");
    }
    let zone = Template::parse("{{ dateInZone \"15\" 0 \"Europe/Rome\" }}").unwrap().render(&outside()).unwrap_err();
    assert!(zone.to_string().contains("`UTC`"), "{zone}");
}

#[test]
fn more_functions_of_sprig() {
    for (text, rendered) in [
        // Digests of the test vectors of FIPS 180, and of RFC 1950's common example.
        ("{{ sha1sum \"abc\" }}", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("{{ sha256sum \"abc\" }}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("{{ sha512sum \"abc\" | trunc 16 }} {{ adler32sum \"Wikipedia\" }}", "ddaf35a193617aba 300286872"),
        // RFC 4648, section 10.
        ("{{ b32enc \"foob\" }} {{ b32enc \"foobar\" }} {{ b32dec \"MZXW6===\" }}", "MZXW6YQ= MZXW6YTBOI====== foo"),
        ("{{ regexMatch \"^[a-z]+$\" \"abc\" }} {{ regexFind \"[a-z][1-9]\" \"abcd1234\" }}", "true d1"),
        (
            "{{ regexFindAll \"[2,4,6,8]\" \"123456789\" -1 }} {{ regexFindAll \"a.\" \"abacad\" 2 }}",
            "[2 4 6 8] [ab ac]",
        ),
        ("{{ regexReplaceAll \"a(x*)b\" \"-ab-axxb-\" \"${1}W\" }}", "-W-xxW-"),
        ("{{ regexReplaceAllLiteral \"a(x*)b\" \"-ab-axxb-\" \"${1}\" }}", "-${1}-${1}-"),
        (
            "{{ regexSplit \"z+\" \"pizza\" -1 }} {{ regexSplit \"z\" \"pizza\" 2 }} {{ regexSplit \"\" \"ab\" -1 }}",
            "[pi a] [pi za] [a b]",
        ),
        ("{{ regexQuoteMeta \"1.2*3\" }} {{ mustRegexMatch \"b\" \"abc\" }}", "1\\.2\\*3 true"),
        ("{{ $d := dict \"a\" 1 }}{{ $_ := set $d \"b\" 2 }}{{ $_ := unset $d \"a\" }}{{ $d }}", "map[b:2]"),
        ("{{ $d := dict \"in\" (dict) }}{{ $_ := set $d.in \"x\" 1 }}{{ $d }}", "map[in:map[x:1]]"),
        ("{{ pick (dict \"a\" 1 \"b\" 2) \"a\" }} {{ omit (dict \"a\" 1 \"b\" 2) \"a\" }}", "map[a:1] map[b:2]"),
        (
            "{{ merge (dict \"a\" 1 \"m\" (dict \"x\" 1)) (dict \"a\" 2 \"b\" 3 \"m\" (dict \"y\" 2)) }}",
            "map[a:1 b:3 m:map[x:1 y:2]]",
        ),
        ("{{ $d := dict \"a\" 1 }}{{ $_ := mergeOverwrite $d (dict \"a\" 2) }}{{ $d.a }}", "2"),
        ("{{ chunk 2 (list 1 2 3) }} {{ mustAppend (list 1) 2 }} {{ push (list 1) 2 }}", "[[1 2] [3]] [1 2] [1 2]"),
        ("{{ abbrev 5 \"hello world\" }} {{ abbrevboth 5 10 \"1234 5678 9123\" }}", "he... ...5678..."),
        ("{{ initials \"First Try\" }} {{ swapcase \"aB\" }} {{ plural \"one\" \"many\" 2 }}", "FT Ab many"),
        (
            "{{ snakecase \"FirstName\" }} {{ kebabcase \"HTTPServer\" }} {{ camelcase \"http_server\" }}",
            "first_name http-server HttpServer",
        ),
        ("{{ wrap 5 \"ab cd efghijk l\" }}|{{ wrapWith 5 \"\\t\" \"Hello World\" }}", "ab cd\nefghijk\nl|Hello\tWorld"),
        ("{{ round 123.555555 3 }} {{ round 2.5 0 }} {{ round 2.4 0 0.3 }}", "123.556 3 3"),
        (
            "{{ addf 1.5 2 }} {{ subf 7.5 2 }} {{ divf 10 4 }} {{ mulf 1.5 2 }} {{ maxf 1 2.5 }} {{ minf 1.5 3 }} {{ add1f 1.5 }}",
            "3.5 5.5 2.5 3 2.5 1.5 2.5",
        ),
        ("{{ seq 3 }}|{{ seq 2 4 }}|{{ seq 0 2 5 }}|{{ seq 0 -2 }}|{{ seq 0 2 -5 }}", "1 2 3|2 3 4|0 2 4|0 -1 -2|"),
        ("{{ toDecimal \"0777\" }} {{ splitn \"$\" 2 \"a$b$c\" }} {{ biggest 1 3 }}", "511 map[_0:a _1:b$c] 3"),
        (
            "{{ base \"/a/b.c\" }} {{ dir \"/a/b.c\" }} {{ ext \"b.tar.gz\" }} {{ clean \"a/../b//c/.\" }} {{ isAbs \"/a\" }}",
            "b.c /a .gz b/c true",
        ),
        ("{{ base \"\" }} {{ base \"/\" }} {{ dir \"a\" }} {{ clean \"/..\" }} {{ clean \"../a\" }}", ". / . / ../a"),
        (
            "{{ typeOf (list) }} {{ typeIs \"string\" \"a\" }} {{ deepEqual (list 1) (list 1) }}",
            "[]interface {} true true",
        ),
        ("{{ toJson (dict \"a\" \"<\") }} {{ toRawJson (list \"<\" 2.0) }}", "{\"a\":\"\\u003c\"} [\"<\",2]"),
        ("{{ js \"it's <b>\" }} {{ html 1 2 }} {{ urlquery \"a\" \"&\" }}", "it\\'s \\u003Cb\\u003E 1 2 a%26"),
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
        ("{{ regexMatch \"(\" \"a\" }}", "regexMatch \"(\" \"a\"", "unclosed group"),
        (
            "{{ regexMatch \"((a{99}){99}){99}\" \"a\" }}",
            "regexMatch \"((a{99}){99}){99}\" \"a\"",
            "regular expression",
        ),
        ("{{ int64 1 | lower | upper }}", "lower", "`1` is a int"),
        ("{{ index \"s3cret\" 1 }}", "index \"s3cret\" 1", "here is a string"),
        ("{{ first \"s3cret\" }}", "first \"s3cret\"", "a list as argument 1; here is a string"),
        ("{{ toDate \"2006\" \"s3cret\" }}", "toDate \"2006\" \"s3cret\"", "written like `2006`"),
        ("{{ chunk 0 (list 1) }}", "chunk 0 (list 1)", "above zero"),
        ("{{ date \"2006\" 99999999999999 }}", "date \"2006\" 99999999999999", "a time"),
        ("{{ b64dec \"!\" }}", "b64dec \"!\"", "base64"),
    ] {
        let error = Template::parse(text).unwrap().render(&data()).unwrap_err();
        assert!(error.to_string().contains(says), "{text}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{text}: {error}");
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
        "{{ range until 10000 }}{{ regexMatch \"(a|b){99}\" \"ab\" }}{{ end }}",
        "{{ regexMatch \"(a|b|ab)*c\" (repeat 500000 \"ab\") }}",
        "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}",
        "{{ define \"a\" }}{{ range 9 }}{{ if true }}{{ template \"a\" . }}{{ end }}{{ end }}{{ end }}{{ template \"a\" . }}",
        "{{ regexReplaceAll \"a\" (repeat 10000 \"a\") (repeat 10000 \"$0\") }}",
    ] {
        assert!(Template::parse(text).unwrap().render(&TemplateData::default()).is_err(), "{text}");
    }
}

#[test]
fn what_is_missing_is_told() {
    let template = Template::parse("a-{{ .MachineID }}").unwrap();
    let rendered = template.render(&TemplateValues::default().hostname()).unwrap();
    assert_eq!((rendered.text.as_str(), rendered.missing.len()), ("a-<no value>", 1));
    assert!(rendered.whole().unwrap_err().to_string().contains("not known"));
    let known = TemplateValues { machine_id: Some("0123".into()), ..TemplateValues::default() };
    assert_eq!(template.render(&known.hostname()).unwrap().whole().unwrap(), "a-0123");
    assert!(Template::parse("x").unwrap().is_plain() && !template.is_plain());
}
