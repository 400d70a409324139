//! What to install with, handed over by a workstation: this machine shows a QR code and waits for `kairn register`.
//!
//! Invariants: nothing is taken before a person here has compared the digits, unless the configuration says that nobody has to; nothing is taken
//! that has errors or that no disk of this machine can be installed with; a code whose sender was refused is not shown again.

use crate::cli::Install;
use crate::output;
use kairn_config::providers::Answer;
use kairn_config::{Document, Severity, validate};
use kairn_mesh::pairing::{Desk, Notice, Outcome, Waiting, wait};
use kairn_mesh_protocol::pairing::{After, Code, Fault, Invitation, Offer};
use kairn_report::{Kind, Report};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use std::io::{self, BufRead};
use std::net::SocketAddr;
use tokio::sync::{Mutex, mpsc};

/// How an answer names where it came from.
const EVENT: &str = "pairing";
/// Lines that are typed while nothing is asked; further ones are dropped.
const TYPED: usize = 16;

/// Judges what a sender wants this machine to be: what is done with it, or what is wrong.
pub type Judge<'a> = &'a dyn Fn(&[Answer]) -> Result<String, Vec<Fault>>;

/// Says whether this machine waits for a workstation. `is_unsaid`: nothing says what to install, and no provider does; `confirms`: a person
/// has to answer; `is_terminal`: somebody may.
pub fn is_due(verb: &Install, is_unsaid: bool, confirms: bool, is_terminal: bool) -> bool {
    match (verb.pair, verb.unattended) {
        (true, false) => true,
        (true, true) => is_unsaid,
        // A plan is of what is known now.
        (false, _) => is_unsaid && !verb.planned.plan && (is_terminal || !confirms),
    }
}

/// Waits until a workstation has handed over what this machine shall be.
///
/// # Errors
/// Nobody can answer the question, or no port is free.
pub fn answers(confirms: bool, judge: Judge<'_>) -> Result<Vec<Answer>, Report> {
    let failed = |error: io::Error| Report::new(Kind::Environment, format!("cannot wait for a workstation: {error}"));
    let desk = Console { lines: Mutex::new(if confirms { Some(typed().map_err(failed)?) } else { None }), judge };
    // What judges does so in the caller's thread; sessions go on in another.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
    match runtime.block_on(wait(Waiting { confirms, ..Waiting::default() }, &desk))? {
        Outcome::Handed(offer, from) => {
            output::say(&format!("{from} has handed over what this machine shall be"));
            runtime.shutdown_background();
            Ok(offered(&offer))
        }
        Outcome::Unattended => {
            let what =
                "a workstation wants to hand over a configuration, and nobody can be asked here: stdin is closed";
            Err(Report::new(Kind::Environment, what)
                .hint("run it on a terminal, or let everybody in who sees the code: `pairing.confirm: false`"))
        }
    }
}

/// An offer as sources of configuration, lowest precedence first: what was sent, and what the sender's command line said above it.
pub fn offered(offer: &Offer) -> Vec<Answer> {
    let answer = |provider: &str, text: String| Answer { provider: provider.to_owned(), event: EVENT.to_owned(), text };
    let mut answers = vec![answer("kairn register", offer.config.clone())];
    let device = offer.device.as_ref().map(|device| format!("  device: {}\n", serde_json::json!(device)));
    let after = match offer.after {
        After::AsConfigured => None,
        After::Reboot => Some("  reboot: true\n  poweroff: false\n".to_owned()),
        After::PowerOff => Some("  reboot: false\n  poweroff: true\n".to_owned()),
    };
    let wishes: String = device.into_iter().chain(after).collect();
    if !wishes.is_empty() {
        answers.push(answer("the options of kairn register", format!("#cloud-config\ninstall:\n{wishes}")));
    }
    answers
}

/// The errors of what was offered, with their places in the text that was sent.
pub fn faults(answers: &[Answer], documents: &[Document]) -> Vec<Fault> {
    let mut found = validate(documents);
    found.extend(crate::verbs::mesh::faults(&kairn_config::merge(documents).mesh));
    let sent = answers.first().map(Answer::source).unwrap_or_default();
    let errors = found.into_iter().filter(|said| said.severity == Severity::Error);
    errors
        .map(|said| {
            if said.span.source != sent {
                return Fault { place: None, text: said.to_string() };
            }
            let place = Some((said.span.place.line, said.span.place.column));
            let hint = said.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            Fault { place, text: format!("error: {}{hint}", said.message) }
        })
        .collect()
}

/// The person before this machine, and what judges.
struct Console<'a> {
    /// What they type, where they are asked.
    lines: Mutex<Option<mpsc::Receiver<String>>>,
    judge: Judge<'a>,
}

impl Desk for Console<'_> {
    fn show(&self, invitation: &Invitation) {
        output::say(&shown(invitation));
    }

    fn tell(&self, notice: &Notice) {
        output::say(&notice.to_string());
    }

    async fn ask(&self, code: &Code, from: SocketAddr) -> Option<bool> {
        let mut lines = self.lines.lock().await;
        let lines = lines.as_mut()?;
        // What was typed before is no answer to this.
        while lines.try_recv().is_ok() {}
        output::say(&format!(
            "\n{from} knows this code and wants to say what this machine shall be. Its digits:\n\n        {code}\n\n\
             Does `kairn register` show the same digits? [y/N]"
        ));
        loop {
            match lines.recv().await?.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" => return Some(true),
                "" | "n" | "no" => return Some(false),
                _ => output::say("y or n?"),
            }
        }
    }

    fn judge(&self, offer: &Offer) -> Result<String, Vec<Fault>> {
        (self.judge)(&offered(offer))
    }
}

/// Reads lines of stdin in a thread of their own, for as long as somebody takes them: a read of a terminal cannot be called off.
fn typed() -> io::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::channel(TYPED);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return tracing::warn!("stdin cannot be read") };
            match sender.try_send(line) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => tracing::debug!("a line is passed over"),
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    })?;
    Ok(lines)
}

/// What is to be photographed, with what to do about it; the code near the end, since a console of 25 lines has no room for more.
fn shown(invitation: &Invitation) -> String {
    let text = invitation.reveal().to_uppercase();
    let code = QrCode::with_error_correction_level(&text, EcLevel::L)
        .map(|code| code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
    let code = code.unwrap_or_else(|error| format!("(no QR code: {error})"));
    let places: Vec<String> = invitation.places().iter().map(ToString::to_string).collect();
    let place = match places.as_slice() {
        [] => "It has no address yet that others reach; the code is drawn anew when it has one.".to_owned(),
        places => format!("It waits at {} (UDP).", places.join(", ")),
    };
    format!(
        "\nThis machine waits to be told what it shall be. Photograph the code, and on a workstation run\n\n    \
         kairn register --config FILE PICTURE\n\n{place} The code as text:\n\n{text}\n\n{code}\n\
         Ctrl-C ends this, and nothing is installed."
    )
}

#[cfg(test)]
mod tests;
