//! `kairn register`: hands a configuration to a machine that shows a QR code.

mod picture;

use crate::cli::Register;
use crate::output::{self, Format};
use crate::verbs::{install, mesh};
use kairn_config::{Document, Header, Severity, validate};
use kairn_datasource::Names;
use kairn_host::{Error as HostError, files};
use kairn_mesh::pairing::{Errand, Handed, Step, Verdict, hand_over};
use kairn_mesh_protocol::pairing::{After, Fault, Invitation, Offer, Refusal};
use kairn_report::{Kind, Report, in_one_line};
use serde_json::{Value, json};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long the machine is looked for.
const FOUND: Duration = Duration::from_secs(60);
/// How long the name of `--address` may take to be found.
const NAME: Duration = Duration::from_secs(10);
/// The most bytes of a picture.
const LARGEST: u64 = 64 << 20;

pub fn run(verb: &Register) -> Result<ExitCode, Report> {
    let config = configuration(&verb.config)?;
    let invitation = invitation(&verb.code)?;
    let after = match (verb.reboot, verb.poweroff) {
        (true, _) => After::Reboot,
        (_, true) => After::PowerOff,
        _ => After::AsConfigured,
    };
    let addresses = verb.address.as_deref().map(addresses).transpose()?.unwrap_or_default();
    let offer = Offer { config, device: verb.device.clone(), after };
    let errand = Errand { invitation, addresses, offer, patience: FOUND };
    output::say("looking for the machine");
    let failed = |error: io::Error| Report::new(Kind::Environment, format!("cannot call the machine: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handed = runtime.block_on(hand_over(&errand, &mut |step| say(&step)))?;
    if verb.reading.output == Format::Json {
        output::json(&summary(&errand.invitation, &handed))?;
    }
    conclude(verb, handed)
}

/// Reads what is sent, and refuses it here where it has errors.
fn configuration(path: &Path) -> Result<String, Report> {
    let (mut document, text) = install::named(path)?;
    // As on the machine: it is a configuration without a header line, too.
    document.header.get_or_insert(Header::CloudConfig);
    let found = faults(&document);
    for said in &found {
        output::say(said);
    }
    match found.len() {
        0 => Ok(text),
        count => {
            let what = format!("`{}` has {count} errors: nothing was sent", path.display());
            Err(Report::new(Kind::Config, what).hint("`kairn config validate FILE` says all that is to be said of it"))
        }
    }
}

fn faults(document: &Document) -> Vec<String> {
    let documents = std::slice::from_ref(document);
    let mut found = validate(documents);
    found.extend(mesh::faults(&kairn_config::merge(documents).mesh));
    found.iter().filter(|said| said.severity == Severity::Error).map(ToString::to_string).collect()
}

/// Takes what the machine shows out of a text, a picture, or either on stdin.
fn invitation(code: &str) -> Result<Invitation, Report> {
    if Invitation::is_meant(code) {
        return typed(code);
    }
    let (what, bytes) = match code {
        "-" => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().take(LARGEST).read_to_end(&mut bytes);
            read.map_err(HostError::path("read", "stdin"))?;
            ("stdin", bytes)
        }
        path if Path::new(path).is_file() => {
            let path = Path::new(path);
            let size = path.metadata().map_err(HostError::path("read", path))?.len();
            if size > LARGEST {
                let what = format!("`{}` has {} MiB: no picture of a screen is as large", path.display(), size >> 20);
                return Err(Report::new(Kind::User, what));
            }
            (code, files::read(path)?)
        }
        other => {
            // A text that is not whole may hold the secret all the same.
            let is_path = other.contains(['/', '.']);
            let shown = if is_path { format!("`{other}`") } else { "what was given".to_owned() };
            return Err(Report::new(Kind::User, format!("{shown} is no file and no text of a machine")).hint(
                "give a PNG or JPEG of the machine's QR code, or the text beside it, which begins with KAIRNPAIR1",
            ));
        }
    };
    if picture::is_one(&bytes) {
        return picture::invitation(what, &bytes);
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => typed(text),
        Err(_) => Err(Report::new(Kind::User, format!("`{what}` is neither a PNG nor a JPEG, and no text"))
            .hint("save the photograph or screenshot as PNG or JPEG")),
    }
}

fn typed(text: &str) -> Result<Invitation, Report> {
    text.parse().map_err(|fault| Report::from(fault).context("the text of the machine cannot be used"))
}

/// The places that `--address` names.
fn addresses(text: &str) -> Result<Vec<SocketAddr>, Report> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let wrong = || {
        Report::new(Kind::User, format!("`{text}` does not say where a machine is"))
            .hint("it is HOST:PORT, such as 192.0.2.1:7940, [2001:db8::1]:7940 or gate.example.org:7940")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let found: Vec<IpAddr> = Names::new("/")
        .addresses(host, NAME)
        .map_err(|error| Report::new(Kind::Environment, format!("`{host}` is not found: {}", in_one_line(&error))))?;
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

fn say(step: &Step) {
    output::say(&match step {
        Step::Found(address) => format!("the machine is at {address}"),
        Step::Code(code, true) => {
            format!(
                "\n        {code}\n\nIf the machine shows the same digits, say so there: it waits for that. If it shows others, say no."
            )
        }
        Step::Code(code, false) => {
            format!("the machine lets every sender in that knows its code; the digits are {code}")
        }
        Step::Granted => "the machine has let this workstation in: sending the configuration".to_owned(),
    });
}

/// The result for programs.
fn summary(invitation: &Invitation, handed: &Handed) -> Value {
    let (outcome, says, faults) = match &handed.verdict {
        Verdict::Accepted(says) => ("accepted", Some(says), None),
        Verdict::Invalid(faults) => ("invalid", None, Some(faults)),
        Verdict::Taken => ("taken", None, None),
        Verdict::Refused(Refusal::No) => ("refused", None, None),
        Verdict::Refused(Refusal::Nobody) => ("unanswered", None, None),
    };
    let place = |fault: &Fault, which: fn((u32, u32)) -> u32| fault.place.map(which);
    let faults = faults.into_iter().flatten().map(|fault| {
        json!({ "line": place(fault, |place| place.0), "column": place(fault, |place| place.1), "message": fault.text })
    });
    json!({
        "machine": invitation.machine.to_string(),
        "address": handed.address,
        "code": handed.code,
        "outcome": outcome,
        "says": says,
        "faults": faults.collect::<Vec<_>>(),
    })
}

/// Says how it ended, and which exit code that is.
fn conclude(verb: &Register, handed: Handed) -> Result<ExitCode, Report> {
    let refused = |what: &str, hint: &str| Err(Report::new(Kind::Environment, what).hint(hint));
    match handed.verdict {
        Verdict::Accepted(says) => {
            if verb.reading.output == Format::Human {
                output::line(&format!("the machine has taken the configuration: {says}"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Verdict::Invalid(faults) => {
            let (count, file) = (faults.len(), verb.config.display());
            for fault in &faults {
                output::say(&match fault.place {
                    Some((line, column)) => format!("{file}:{line}:{column}: {}", fault.text),
                    None => format!("the machine says: {}", fault.text),
                });
            }
            let what = format!("the machine found {count} faults and installs nothing");
            Err(Report::new(Kind::Config, what).hint("mend the configuration and run this again: the machine waits on"))
        }
        Verdict::Taken => refused(
            "another sender was first, and the machine asks about that one",
            "if it is none of yours, answer no at the machine: it then shows another code",
        ),
        Verdict::Refused(Refusal::No) => refused(
            "the person at the machine said no: nothing was sent",
            "the machine shows another code now; take a picture of that",
        ),
        Verdict::Refused(Refusal::Nobody) => refused(
            "nobody at the machine answered: nothing was sent",
            "run this again and answer the question at the machine",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let token = file("token", b"kairn1qqqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0sr65za9\n");
        let cut = file("cut", b"KAIRNPAIR1QQQQSYQ");
        for (code, part) in [
            ("/no/such/picture.png".to_owned(), "no file and no text"),
            (token, "the token of a network"),
            (cut, "17 characters"),
            (file("gif", b"GIF89a\xff\xfe"), "neither a PNG nor a JPEG"),
            (file("png", b"\x89PNG\r\n\x1a\nxx"), "cannot be read as a picture"),
            ("kairnpair1b".to_owned(), "`b` at character 11"),
        ] {
            let report = invitation(&code).unwrap_err();
            assert_eq!(report.exit_code(), 2, "{report}");
            assert!(report.to_string().contains(part), "{code}: {report}");
        }
    }

    #[test]
    fn an_address_has_a_port() {
        assert_eq!(addresses("[2001:db8::1]:7940").unwrap(), ["[2001:db8::1]:7940".parse().unwrap()]);
        for wrong in ["192.0.2.1", "gate.example.org:port", "gate"] {
            assert_eq!(addresses(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
