use super::*;
use crate::{Document, merge};
use proptest::prelude::*;
use serde_json::{Value, json};

fn call(name: &str, config: &str) -> Call {
    let name: EventName = name.parse().unwrap();
    let payload = payload(&name, config, &[]);
    Call::new(name, &payload)
}

#[test]
fn an_event_is_one_object_whose_data_is_json_in_a_text() {
    let text = String::from_utf8(call("agent.boot", "#cloud-config\nhostname: a\n").encode(None)).unwrap();
    assert_eq!(text, r##"{"data":"{\"config\":\"#cloud-config\\nhostname: a\\n\"}","file":"","name":"agent.boot"}"##);
    let boot = call("agent.bootstrap", "x");
    assert_eq!(serde_json::from_str::<Value>(&boot.data).unwrap(), json!({"config": "x", "api": "", "logfile": ""}));
}

#[test]
fn data_of_more_than_8192_bytes_is_named_by_its_file() {
    let frame = call("agent.boot", "").data.len();
    for (length, in_file) in [(INLINE - frame, false), (INLINE - frame + 1, true)] {
        let call = call("agent.boot", &"a".repeat(length));
        assert_eq!(call.needs_file(), in_file, "{} bytes", call.data.len());
    }
    let long: Value = serde_json::from_slice(&call("agent.boot", "a").encode(Some("/tmp/x".as_ref()))).unwrap();
    assert_eq!(long, json!({"name": "agent.boot", "data": "", "file": "/tmp/x"}));
}

#[test]
fn a_name_that_could_be_an_option_or_a_path_is_no_event() {
    for good in ["agent.boot", "cluster.reset", "init.provider.info", "x_1-y"] {
        assert_eq!(good.parse::<EventName>().unwrap().as_str(), good);
    }
    for bad in ["", "-h", ".a", "a/b", "a b", "a\n", "1a", &"a".repeat(129)] {
        assert!(bad.parse::<EventName>().is_err(), "{bad}");
    }
}

#[test]
fn an_answer_is_read_and_what_is_none_is_a_fault_with_its_place() {
    let answer = |state: &str, data: &str, log: &str| Response {
        state: state.into(),
        data: data.into(),
        log: log.into(),
        unknown: Vec::new(),
    };
    for (text, expected) in [
        (r#"{"state":"","data":"","error":""}"#, Ok(answer("", "", ""))),
        ("{}\n", Ok(answer("", "", ""))),
        (r#" {"state":"ok","data":"{}","log":"l","error":null} "#, Ok(answer("ok", "{}", "l"))),
        ("", Err("it said nothing, where an answer in JSON was due")),
        (" \n", Err("it said nothing, where an answer in JSON was due")),
        ("hello", Err("its answer cannot be read at line 1, column 1: expected value")),
        ("{\"a\":1}\n{}", Err("its answer cannot be read at line 2, column 1: trailing characters")),
        (
            "{\n \"data\": {}}",
            Err("its answer cannot be read at line 2, column 9: invalid type: map, expected a string"),
        ),
        (r#"{"data":"","data":""}"#, Err("its answer cannot be read at line 1, column 17: duplicate field `data`")),
        (r#"{"error":"no\u001b[2Jdisk"}"#, Err("it answered with an error: no [2Jdisk")),
        ("[]", Err("its answer cannot be read at line 1, column 0: invalid type")),
    ] {
        match (decode(text.as_bytes()), expected) {
            (found, Ok(expected)) => assert_eq!(found, Ok(expected), "{text}"),
            (found, Err(expected)) => {
                let said = found.unwrap_err().to_string();
                let start = expected.replace("column 0", "column 1");
                assert!(said.starts_with(&start), "{text}: {said}");
            }
        }
    }
    let unknown = decode(br#"{"data":"d","stat":"x","z":[{}]}"#).unwrap();
    assert_eq!((unknown.data.as_str(), unknown.unknown), ("d", vec!["stat".to_owned(), "z".to_owned()]));
    assert!(matches!(decode(&vec![b' '; MOST + 1]), Err(Fault::TooLong { .. })));
    assert!(matches!(decode("[".repeat(100_000).as_bytes()), Err(Fault::Unreadable { .. })), "depth is bounded");
    assert!(matches!(decode(b"{\"data\":\"\xff\"}"), Err(Fault::Unreadable { line: 1, .. })));
}

fn data(text: &str) -> Response {
    Response { data: text.into(), ..Response::default() }
}

#[test]
fn a_token_is_one_line() {
    assert_eq!(token(&data("")), Ok(None));
    assert_eq!(token(&data(" abc=\n")), Ok(Some("abc=".to_owned())));
    assert!(token(&data("a\u{1b}[2Jb")).unwrap_err().to_string().contains("column 2: a token is one line"));
    assert!(token(&data(&"a".repeat(5000))).is_err());
}

#[test]
fn the_answer_to_an_installation_is_a_map_with_a_configuration() {
    let cc = |text: &str| Installation { config: Some(text.to_owned()), unknown: Vec::new() };
    for (text, expected) in [
        ("", Ok(Installation::default())),
        ("{}", Ok(Installation::default())),
        (r#"{"cc":""}"#, Ok(Installation::default())),
        (r#"{"cc":"hostname: a"}"#, Ok(cc("hostname: a"))),
        (r#"{"cc":"a: b","device":"/dev/sda"}"#, Ok(Installation { unknown: vec!["device".into()], ..cc("a: b") })),
        (r#"{"cc":{"hostname":"a"}}"#, Err("`cc` is a map, not a text that holds a configuration")),
        ("[]", Err("`data` is a list, not a map")),
        ("hostname: a", Err("line 1, column 1: expected value")),
    ] {
        match (installation(&data(text)), expected) {
            (found, Ok(expected)) => assert_eq!(found, Ok(expected), "{text}"),
            (found, Err(part)) => assert!(found.as_ref().unwrap_err().to_string().contains(part), "{text}: {found:?}"),
        }
    }
}

#[test]
fn wishes_of_a_reset_are_true_or_false() {
    let wishes = |text: &str| reset_wishes(&data(text)).map(|wishes| (wishes.oem, wishes.strict));
    assert_eq!(wishes(""), Ok((None, None)));
    assert_eq!(wishes(r#"{"reset-oem":"true","strict":false}"#), Ok((Some(true), Some(false))));
    assert_eq!(wishes(r#"{"reset-oem":""}"#), Ok((None, None)));
    assert!(wishes(r#"{"reset-oem":"yes"}"#).unwrap_err().to_string().contains("`reset-oem` is another text"));
    assert_eq!(reset_wishes(&data(r#"{"x":1}"#)).unwrap().unknown, ["x"]);
}

#[test]
fn an_answer_is_a_source_whose_places_are_its_own() {
    let answer = Answer {
        provider: "agent-provider-x".into(),
        event: "agent.install".into(),
        text: "install:\n  device: /dev/vdz\n".into(),
    };
    let file = Document::parse("/oem/a.yaml", "#cloud-config\ninstall: {device: auto}\n");
    let merged = merge(&[file, answer.document(None)]).merged;
    let device = merged.at("install.device").unwrap();
    assert_eq!(device.to_json(), json!("/dev/vdz"));
    assert_eq!(device.origin.to_string(), "answer of agent-provider-x to agent.install:2:11");
    assert_eq!(device.overrode[0].to_string(), "/oem/a.yaml:2:19");
}

fn merged(text: &str) -> crate::Merged {
    merge(&[Document::parse("t", &format!("#cloud-config\n{text}\n"))]).merged
}

#[test]
fn named_directories_take_the_place_of_the_usual_ones() {
    let named = |text: &str| directories(&merged(text)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    assert_eq!(named(""), DIRECTORIES);
    assert_eq!(named("providers: {paths: []}"), DIRECTORIES);
    assert_eq!(named("providers: {paths: [/b, /a]}"), ["/b", "/a"]);
    assert_eq!(named("providers: {paths: [., /a]}"), ["/a"]);
}

#[test]
fn a_cluster_is_wanted_where_a_block_of_one_is_there_and_not_switched_off() {
    for (text, wanted) in [
        ("", false),
        ("k3s: {enabled: true}", true),
        ("k3s: {enabled: false}", false),
        ("k0s-worker: {args: [a]}", true),
        ("p2p: {network_token: x}", true),
        ("kairos: {network_token: x}", true),
        ("p2p: {}", false),
        ("cluster: {role: init}", true),
        ("hostname: k3s", false),
    ] {
        assert_eq!(wants_cluster(&merged(text)), wanted, "{text}");
    }
}

#[test]
fn foreign_words_cannot_steer_a_terminal_and_are_cut() {
    assert_eq!(legible(" a\u{1b}[31mb\n"), "a [31mb");
    assert_eq!(legible(&"é".repeat(2000)).chars().count(), 1001);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(response) = decode(&bytes) {
            prop_assert!(response.data.len() <= MOST && response.unknown.len() <= 8);
            drop((token(&response), installation(&response), reset_wishes(&response)));
        }
    }

    #[test]
    fn every_answer_that_is_written_is_read(state in ".*", text in ".*", log in ".*") {
        let wire = json!({"state": state, "data": text, "log": log, "error": ""}).to_string();
        prop_assert_eq!(decode(wire.as_bytes()), Ok(Response { state, data: text, log, unknown: Vec::new() }));
    }

    #[test]
    fn every_event_that_is_written_holds_its_payload(config in ".*") {
        let call = call("agent.boot", &config);
        let value: Value = serde_json::from_slice(&call.encode(None)).unwrap();
        let inner: Value = serde_json::from_str(value["data"].as_str().unwrap()).unwrap();
        prop_assert_eq!(inner["config"].as_str(), Some(config.as_str()));
    }
}
