//! What to install with, asked of provider plugins: a token is shown, and whoever has it says what the machine shall be.

use crate::cli::Install;
use crate::output;
use crate::verbs::providers::Telling;
use kairn_config::providers::{Answer, INSTALL, INSTALL_CHALLENGE, Response, installation, token};
use kairn_config::{Document, InstallOptions};
use kairn_report::{Event, Kind, Report, Sink};
use kairn_stages::providers::{Provider, Reply};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use std::path::Path;

/// Says whether providers are asked: nobody else has said what to install, nor where.
pub fn is_due(verb: &Install, options: &InstallOptions) -> bool {
    verb.config.is_none() && verb.device.is_none() && !options.auto && options.device.is_none()
}

/// Asks the providers below a root, one after another; `show` puts a token before people. Empty if there are none, or none of them has
/// an answer to these events.
///
/// # Errors
/// No provider brought a configuration, and one failed.
pub fn ask(
    root: &Path,
    documents: &[Document],
    sink: &mut dyn Sink,
    show: &mut dyn FnMut(&str),
) -> Result<Vec<Answer>, Report> {
    let challenge = Telling::new(root, INSTALL_CHALLENGE, documents, &[])?;
    let (mut answers, mut failed) = (Vec::new(), Vec::new());
    for reply in challenge.tell(sink) {
        let reply = read(reply, INSTALL_CHALLENGE, token, sink);
        let token = match &reply.result {
            Ok(token) => token.clone().unwrap_or_default(),
            Err(why) => {
                failed.push(format!("{INSTALL_CHALLENGE}: {}: {why}", reply.provider.name));
                continue;
            }
        };
        if !token.is_empty() {
            show(&shown(&reply.provider.name, &token));
        }
        let telling = Telling::new(root, INSTALL, documents, &[("token", &token)])?;
        for reply in telling.tell_these(&[reply.provider], sink) {
            let reply = read(reply, INSTALL, installation, sink);
            match reply.result {
                Ok(installation) => {
                    let (provider, event) = (reply.provider.name, INSTALL.to_owned());
                    if !installation.unknown.is_empty() {
                        let keys = installation.unknown.join("`, `");
                        let what = format!("{event}: {provider}: the answer has `{keys}`, of which only `cc` counts");
                        sink.event(Event::warning(what));
                    }
                    answers.extend(installation.config.map(|text| Answer { provider, event, text }));
                }
                Err(why) => failed.push(format!("{INSTALL}: {}: {why}", reply.provider.name)),
            }
        }
    }
    if answers.is_empty() && !failed.is_empty() {
        let what = format!("no provider brought a configuration: {}", failed.join("; "));
        return Err(Report::new(Kind::Environment, what).hint("name a disk with --device to install without them"));
    }
    Ok(answers)
}

/// A reply whose data was read.
struct Read<T> {
    provider: Provider,
    result: Result<T, String>,
}

/// Reads the data of a reply; what cannot be read is told here, what failed before was told already.
fn read<T>(
    reply: Reply,
    event: &str,
    reader: impl Fn(&Response) -> Result<T, kairn_config::providers::Fault>,
    sink: &mut dyn Sink,
) -> Read<T> {
    let Reply { provider, result } = reply;
    let result = result.and_then(|response| {
        reader(&response).map_err(|fault| {
            let why = format!("`data`: {fault}");
            sink.event(Event::failed(format!("{event}: {}", provider.name), &why));
            why
        })
    });
    Read { provider, result }
}

/// A token as text and, where one holds it, as a QR code of half blocks.
fn shown(provider: &str, token: &str) -> String {
    let code = QrCode::new(token)
        .map(|code| code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
    let code = code.map_or_else(|_| "(the token is too long for a QR code)".to_owned(), |code| format!("\n{code}"));
    format!("{provider} waits for whoever has this token to say what this machine shall be:\n\n{token}\n{code}")
}

/// Shows a token on the terminal, or in the log of the unit that runs this.
pub fn say(text: &str) {
    output::say(text);
}

#[cfg(test)]
mod tests;
