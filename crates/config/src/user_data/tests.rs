use super::*;
use base64::Engine as _;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn base64(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    text.as_bytes().chunks(60).map(|line| std::str::from_utf8(line).unwrap().to_owned() + "\n").collect()
}

/// One word for each part, with its name and content.
fn shown(data: &UserData) -> Vec<String> {
    let of = |part: &Part| {
        let jinja = if part.jinja { "jinja " } else { "" };
        let what = match &part.content {
            Content::CloudConfig(text) => format!("config {:?}", text.reveal()),
            Content::Script { body, frequency } => {
                format!("script {frequency:?} {:?}", String::from_utf8_lossy(body.reveal()))
            }
            Content::Include(urls) => format!(
                "include{}",
                urls.iter()
                    .map(|url| format!(" {}{}", url.url.reveal(), if url.once { "!" } else { "" }))
                    .collect::<String>()
            ),
        };
        format!("{}: {jinja}{what}", part.source)
    };
    data.parts.iter().map(of).collect()
}

fn said(data: &UserData) -> Vec<String> {
    data.diagnostics.iter().map(|said| format!("{}: {}: {}", said.span, said.severity, said.message)).collect()
}

#[test]
fn every_form_is_known_by_its_first_line() {
    let config = "#cloud-config\nhostname: a\n";
    let packed = gzip(config.as_bytes());
    for (bytes, expected) in [
        (config.as_bytes().to_vec(), "u: config \"#cloud-config\\nhostname: a\\n\""),
        (b"\xef\xbb\xbf#cloud-config\na: 1\n".to_vec(), "u: config \"#cloud-config\\na: 1\\n\""),
        (b"# note\n\n#kairos-config\na: 1\n".to_vec(), "u: config \"# note\\n\\n#kairos-config\\na: 1\\n\""),
        (b"stages:\n  boot: []\n".to_vec(), "u: config \"stages:\\n  boot: []\\n\""),
        (
            b"## template: jinja\n#cloud-config\na: {{ b }}\n".to_vec(),
            "u: jinja config \"## template: jinja\\n#cloud-config\\na: {{ b }}\\n\"",
        ),
        (b"#!/bin/sh\nexit\xff\n".to_vec(), "u: script PerInstance \"#!/bin/sh\\nexit\u{fffd}\\n\""),
        (
            b"#include\nhttps://a/b\n# no\n#include-once\nhttp://c/d?e=f\n".to_vec(),
            "u: include https://a/b http://c/d?e=f!",
        ),
        (b"#include https://a/b\n".to_vec(), "u: include https://a/b"),
        (packed.clone(), "u: config \"#cloud-config\\nhostname: a\\n\""),
        (base64(&packed).into_bytes(), "u: config \"#cloud-config\\nhostname: a\\n\""),
        (base64(config.as_bytes()).into_bytes(), "u: config \"#cloud-config\\nhostname: a\\n\""),
        (gzip(&packed), "u: config \"#cloud-config\\nhostname: a\\n\""),
    ] {
        let data = decode("u", &bytes);
        assert_eq!(
            (shown(&data), said(&data)),
            (vec![expected.to_owned()], vec![]),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    for nothing in [&b""[..], b" \r\n\n"] {
        assert_eq!(decode("u", nothing), UserData::default());
    }
}

const MESSAGE: &str = "Content-Type: multipart/mixed;\r\n boundary=\"==a b==\"\r\nMIME-Version: 1.0\r\nNumber-Attachments: 5\r\n\r\npreamble
--==a b==\r
Content-Type: text/cloud-config; charset=\"utf-8\"\r
Content-Disposition: attachment; filename=\"one.cfg\"\r
\r
#cloud-config\r
a: 1\r
\r
--==a b==
Content-Type: text/x-shellscript-per-boot; name=two.sh
Content-Transfer-Encoding: BASE64

IyEvYmluL3NoCmVj
aG8gaGkK
--==a b==
Content-Type: text/cloud-config
Content-Transfer-Encoding: quoted-printable

#cloud-config
motd: gr=C3=BC=C3=9Fe=20=
 all  
--==a b==
Content-Type: multipart/mixed; boundary=in

--in
Content-Type: text/x-include-url

https://a/b
--in
Content-Type: text/jinja2

## template: jinja
#!/bin/sh
--in--
--==a b==
Content-Type: text/cloud-boothook

#!/bin/sh
--==a b==--
epilogue
";

#[test]
fn a_message_gives_its_parts_in_order_and_says_which_it_leaves_out() {
    let data = decode("u", MESSAGE.as_bytes());
    assert_eq!(
        shown(&data),
        [
            "u part 1 (one.cfg): config \"#cloud-config\\r\\na: 1\\r\\n\"",
            "u part 2 (two.sh): script Always \"#!/bin/sh\\necho hi\\n\"",
            "u part 3: config \"#cloud-config\\nmotd: grüße  all\"",
            "u part 4 part 1: include https://a/b",
            "u part 4 part 2: jinja script PerInstance \"## template: jinja\\n#!/bin/sh\"",
        ]
    );
    assert_eq!(said(&data), ["u part 5:1:1: warning: a boothook is not supported; this part is left out"]);
    for packed in [gzip(MESSAGE.as_bytes()), base64(&gzip(MESSAGE.as_bytes())).into_bytes()] {
        assert_eq!(decode("u", &packed), data);
    }
}

#[test]
fn an_archive_is_a_list_of_texts_and_mappings() {
    let text = "#cloud-config-archive\n- '#include https://a/b'\n- type: text/cloud-config\n  filename: x.cfg\n  content: |\n    a: 1\n- content: |\n    #!/bin/sh\n- 7: 8\n- type: text/elvish\n  content: '#cloud-config'\n";
    let data = decode("u", text.as_bytes());
    assert_eq!(
        shown(&data),
        [
            "u part 1: include https://a/b",
            "u part 2 (x.cfg): config \"a: 1\\n\"",
            "u part 3: script PerInstance \"#!/bin/sh\\n\"",
            "u part 5: config \"#cloud-config\"",
        ]
    );
    assert_eq!(
        said(&data),
        [
            "u:9:3: error: an item of the archive is a text, or a mapping with `content`; this one is left out",
            "u:10:3: note: nothing is known about the type `text/elvish`; what it holds is looked at",
        ]
    );
    let data = decode("u", b"#cloud-config-archive\na: 1\n");
    assert_eq!(said(&data), ["u:2:1: error: a `#cloud-config-archive` is a list, not a mapping"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_takes_out_its_own_part_only() {
    let multipart = |parts: &str| format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{parts}");
    let good = "--b\nContent-Type: text/cloud-config\n\n#cloud-config\n";
    for (text, parts, expected) in [
        ("hello\n".to_owned(), 0, "u:1:1: error: it is not clear what this is; it is left out"),
        (
            "{\"ignition\": {\"version\": \"3.4.0\"}}".to_owned(),
            0,
            "u:1:1: error: this is a configuration of Ignition, which is not read here; it is left out",
        ),
        (
            "#part-handler\nimport x\n".to_owned(),
            0,
            "u:1:1: warning: a part handler is code for cloud-init itself and not supported; this part is left out",
        ),
        (
            "#include\nhttps://a/b\nfile:///etc/shadow\n".to_owned(),
            1,
            "u:3:1: error: this line is no http or https URL and is left out",
        ),
        ("#include\n\n".to_owned(), 0, "u:1:1: warning: the list of URLs names none"),
        ("\u{1f}\u{1}".to_owned(), 0, "u:1:1: error: it is not clear what this is; it is left out"),
        (
            "MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nx\n".to_owned(),
            0,
            "u:4:1: error: a multipart message names no boundary, so its parts cannot be told apart",
        ),
        (multipart("nothing\n"), 0, "u:4:1: error: there is no line `--b`, so the message has no parts"),
        (multipart(good), 1, "u:4:1: warning: the message ends without the line `--b--`; its last part may be cut off"),
        (
            multipart(&format!("{good}--b\nContent-Transfer-Encoding: base64\n\nAAAA\nA*A\n{good}--b--\n")),
            2,
            "u part 2:2:1: error: base64 has no character `*`; this part is left out",
        ),
        (
            multipart(&format!("{good}--b\nContent-Transfer-Encoding: quoted-printable\n\na\nb=4\n{good}--b--\n")),
            2,
            "u part 2:2:1: error: `=` is not followed by two hexadecimal digits in quoted-printable text; this part is left out",
        ),
        (
            multipart(&format!("{good}--b\nContent-Transfer-Encoding: rot13\n\nx\n{good}--b--\n")),
            2,
            "u:9:1: error: `rot13` is no transfer encoding; this part is left out",
        ),
        (
            multipart(&format!("{good}--b\nContent-Type: text/cloud-config; charset=koi8-r\n\nx\n{good}--b--\n")),
            2,
            "u:9:1: error: the character set `koi8-r` is not supported; this part is left out",
        ),
        (
            multipart(&format!("{good}--b\n#cloud-config\na: 1\n{good}--b--\n")),
            3,
            "u:9:1: warning: the part begins without headers and an empty line; what it holds is looked at",
        ),
        (
            multipart(&format!("{good}--b\nMerge-Type: list(append)\n\n#cloud-config\n--b--\n")),
            2,
            "u:9:1: warning: the header `merge-type` is not supported and changes nothing",
        ),
    ] {
        let data = decode("u", text.as_bytes());
        assert_eq!((data.parts.len(), said(&data)), (parts, vec![expected.to_owned()]), "{text}");
    }
    let broken = decode("u", b"\x1f\x8b\x08nonsense");
    assert!(said(&broken)[0].starts_with("u:1:1: error: it begins like gzip but cannot be unpacked"), "{broken:?}");
    let foreign = decode("u", b"#cloud-config\na: 1\nb: \xff\n");
    assert_eq!(said(&foreign), ["u:3:1: error: it is not UTF-8; this part is left out"]);
    let latin = decode(
        "u",
        b"Content-Type: text/cloud-config; charset=iso-8859-1\nMIME-Version: 1.0\n\n#cloud-config\na: \xe4\n",
    );
    assert_eq!(shown(&latin), ["u: config \"#cloud-config\\na: ä\\n\""]);
}

#[test]
fn nothing_small_becomes_large() {
    let bomb = gzip(&vec![b' '; LIMITS.unpacked + 1]);
    assert_eq!(said(&decode("u", &bomb)), [format!("u:1:1: error: {}; this part is left out", too_much())]);
    assert_eq!(decode("u", &vec![b'a'; LIMITS.received + 1]).diagnostics[0].code, Code::Limit);

    let mut deep = b"#cloud-config\n".to_vec();
    for _ in 0..=LIMITS.depth {
        deep = gzip(&deep);
    }
    assert_eq!(said(&decode("u", &deep)), ["u:1:1: error: it is packed or nested more than 8 times"]);

    let mut many = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n".to_owned();
    for _ in 0..1000 {
        many += "--b\n\n#cloud-config\n";
    }
    let data = decode("u", many.as_bytes());
    assert_eq!((data.parts.len(), data.diagnostics.last().map(|said| said.code)), (LIMITS.parts, Some(Code::Limit)));

    // Sixty bombs, each below the limit, share one room.
    let part = base64(&gzip(&vec![b'#'; LIMITS.unpacked / 2]));
    let mut bombs = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n".to_owned();
    for _ in 0..60 {
        bombs += &format!("--b\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n{part}");
    }
    let data = decode("u", bombs.as_bytes());
    assert!(data.parts.len() <= 2, "{}", data.parts.len());

    let urls = "#include\n".to_owned() + &"http://a/\n".repeat(LIMITS.urls + 1);
    assert_eq!(decode("u", urls.as_bytes()).diagnostics[0].code, Code::Limit);
}

#[test]
fn no_content_reaches_a_debug_print() {
    let data = decode("u", b"#include\nhttps://a/?token=hunter2\n");
    assert!(!format!("{data:?}").contains("hunter2"), "{data:?}");
    let data = decode("u", b"#cloud-config\npasswd: hunter2\n");
    assert!(!format!("{data:?}").contains("hunter2"), "{data:?}");
}

/// Pieces of which user-data is made.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop::sample::select(vec![
        "MIME-Version: 1.0\n",
        "Content-Type: multipart/mixed; boundary=\"b\"\n",
        "Content-Type: multipart/mixed; boundary=c\r\n",
        "Content-Type: text/cloud-config; charset=",
        "Content-Type: text/x-include-url\n",
        "Content-Transfer-Encoding: base64\n",
        "Content-Transfer-Encoding: quoted-printable\n",
        "Content-Disposition: attachment; filename=\"a\\\"",
        "\n",
        "\r\n",
        "--b\n",
        "--b--\n",
        "--c\r\n",
        "--c--",
        "#cloud-config\n",
        "#cloud-config-archive\n- ",
        "- content: |\n    ",
        "type: text/x-shellscript\n",
        "#include\n",
        "#include-once https://a/b\n",
        "## template: jinja\n",
        "#!/bin/sh\n",
        "=C3=\n",
        "SGVsbG8=\n",
        "a: 1\n",
        "\u{feff}",
        "ä\u{0}",
    ]);
    prop_oneof![
        8 => fixed.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..32),
    ]
}

proptest! {
    #[test]
    fn no_user_data_makes_it_panic_or_pass_its_limits(pieces in prop::collection::vec(piece(), 0..48), packed in 0..3) {
        let mut bytes = pieces.concat();
        if packed > 0 { bytes = gzip(&bytes); }
        if packed > 1 { bytes = base64(&bytes).into_bytes(); }
        let data = decode("u", &bytes);
        prop_assert!(data.parts.len() <= LIMITS.parts);
        for part in &data.parts {
            prop_assert!(part.source.starts_with('u'));
        }
        for said in &data.diagnostics {
            prop_assert!(said.span.place.line >= 1 && !said.message.is_empty());
        }
    }

    #[test]
    fn parts_come_out_of_a_message_as_they_were_put_in(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6),
        crlf in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut message = format!("MIME-Version: 1.0{end}Content-Type: multipart/mixed; boundary=\"=-=\"{end}{end}").into_bytes();
        for body in &bodies {
            message.extend(format!("--=-={end}Content-Type: text/x-shellscript{end}Content-Transfer-Encoding: base64{end}{end}").bytes());
            message.extend(base64(&[b"#!", &body[..]].concat()).replace('\n', end).bytes());
        }
        message.extend(format!("--=-=--{end}").bytes());
        let data = decode("u", &message);
        let found: Vec<Vec<u8>> = data.parts.iter().map(|part| match &part.content {
            Content::Script { body, .. } => body.reveal().clone(),
            other => panic!("{other:?}"),
        }).collect();
        let expected: Vec<Vec<u8>> = bodies.iter().map(|body| [b"#!", &body[..]].concat()).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(data.diagnostics.is_empty());
    }
}
