//! Reads which certificates the machine trusts: `ca_certs`.

use super::get;
use crate::reading::Reader;
use crate::step::Actions;
use crate::{Code, Entry, Node, SettingWork, Trust, Work};
use base64::Engine as _;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

pub(super) fn read(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "ca_certs") else { return };
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`ca_certs`");
        let remove_defaults =
            get(entries, "remove_defaults").and_then(|node| reader.bool(node, "`ca_certs.remove_defaults`"));
        let items = get(entries, "trusted").map(|node| reader.list(node, "`ca_certs.trusted`")).unwrap_or_default();
        let trusted: Vec<_> = items.iter().filter_map(|item| certificate(reader, item)).collect();
        let trust = Trust { remove_defaults: remove_defaults.unwrap_or_default(), trusted };
        (trust.remove_defaults || !trust.trusted.is_empty()).then_some(Work::Setting(SettingWork::Trust(trust)))
    });
    actions.add("ca_certs".into(), node.place, work);
}

/// One certificate or several, each in PEM (RFC 7468).
fn certificate(reader: &mut Reader<'_>, item: &Node) -> Option<String> {
    let text = reader.text(item, "a certificate")?;
    match fault(&text) {
        None => Some(format!("{}\n", text.trim())),
        Some(why) => {
            reader.error(Code::BadValue, item.place, format!("this is no certificate in PEM: {why}"));
            reader.hint(format!("it stands between `{BEGIN}` and `{END}`, each on a line of its own"));
            None
        }
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let mut body: Option<String> = None;
    let mut found = false;
    for line in text.lines().map(str::trim) {
        match (line, &mut body) {
            (BEGIN, None) => body = Some(String::new()),
            (BEGIN, Some(_)) => return Some("one begins within another"),
            (END, None) => return Some("one ends that did not begin"),
            (END, Some(base64)) => {
                match base64::engine::general_purpose::STANDARD.decode(base64.as_bytes()) {
                    // The outermost structure of a certificate is a SEQUENCE (RFC 5280).
                    Ok(bytes) if bytes.first() == Some(&0x30) => found = true,
                    Ok(_) => return Some("it holds something else"),
                    Err(_) => return Some("what it holds is not base64"),
                }
                body = None;
            }
            (line, Some(base64)) => base64.push_str(line),
            // Between certificates stand remarks.
            (_, None) => {}
        }
    }
    match (body, found) {
        (Some(_), _) => Some("its end is missing"),
        (None, false) => Some("it does not begin"),
        (None, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_told_from_what_is() {
        for (text, why) in [
            (format!("{BEGIN}\nMAA=\n{END}\n"), None),
            (format!("# mine\n{BEGIN}\nMA\nA=\n{END}\n{BEGIN}\nMAA=\n{END}"), None),
            (format!("{BEGIN}\nMAA=\n"), Some("its end is missing")),
            (format!("{BEGIN}\nM*A=\n{END}"), Some("what it holds is not base64")),
            (format!("{BEGIN}\nQUFB\n{END}"), Some("it holds something else")),
            (format!("{BEGIN}\n{BEGIN}\nMAA=\n{END}"), Some("one begins within another")),
            (format!("{END}\n"), Some("one ends that did not begin")),
            ("/etc/ssl/mine.pem".to_owned(), Some("it does not begin")),
        ] {
            assert_eq!(fault(&text), why, "{text}");
        }
    }
}
