//! A machine and senders in one process, over the loopback interface.

use super::*;
use crate::{socket, tls};
use kairn_mesh_protocol::Identity;
use kairn_mesh_protocol::pairing::{
    After, Call, Code, Fault, Invitation, LARGEST_CONFIG, LARGEST_OFFER, LARGEST_WORD, Offer, Refusal, Word,
};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

/// How long a machine with other work may take for what takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

type Question = (Code, oneshot::Sender<bool>);
type Judged = Result<String, Vec<Fault>>;

/// A person and a judge, as channels.
struct TestDesk {
    shown: mpsc::UnboundedSender<Invitation>,
    asked: mpsc::UnboundedSender<Question>,
    told: mpsc::UnboundedSender<Notice>,
    judged: Mutex<Vec<Offer>>,
    judge: fn(&Offer) -> Judged,
}

/// What the desk passes on.
struct Ends {
    shown: mpsc::UnboundedReceiver<Invitation>,
    asked: mpsc::UnboundedReceiver<Question>,
    told: mpsc::UnboundedReceiver<Notice>,
}

fn desk(judge: fn(&Offer) -> Judged) -> (TestDesk, Ends) {
    let (shown, shows) = mpsc::unbounded_channel();
    let (asked, asks) = mpsc::unbounded_channel();
    let (told, tells) = mpsc::unbounded_channel();
    let desk = TestDesk { shown, asked, told, judged: Mutex::default(), judge };
    (desk, Ends { shown: shows, asked: asks, told: tells })
}

fn accepts(offer: &Offer) -> Judged {
    Ok(format!("installs {} bytes", offer.config.len()))
}

/// Finds a fault in what does not begin with a header.
fn strict(offer: &Offer) -> Judged {
    match offer.config.starts_with("#cloud-config") {
        true => accepts(offer),
        false => Err(vec![Fault { place: Some((3, 7)), text: "error: no\u{1b}[31m such key".to_owned() }]),
    }
}

impl Desk for TestDesk {
    fn show(&self, invitation: &Invitation) {
        // A test that has seen enough does not look any more.
        drop(self.shown.send(invitation.clone()));
    }

    fn tell(&self, notice: &Notice) {
        drop(self.told.send(notice.clone()));
    }

    async fn ask(&self, code: &Code, _from: SocketAddr) -> Option<bool> {
        let (reply, replied) = oneshot::channel();
        self.asked.send((*code, reply)).ok()?;
        replied.await.ok()
    }

    fn judge(&self, offer: &Offer) -> Judged {
        self.judged.lock().unwrap().push(offer.clone());
        (self.judge)(offer)
    }
}

impl Ends {
    /// What the machine shows, with where it is on this machine.
    async fn invitation(&mut self) -> (Invitation, SocketAddr) {
        let invitation = self.shown.recv().await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], invitation.port));
        (invitation, address)
    }

    /// Waits until something is told; what else is told meanwhile is passed over.
    async fn until(&mut self, wanted: fn(&Notice) -> bool) -> Notice {
        loop {
            let notice = self.told.recv().await.unwrap();
            if wanted(&notice) {
                return notice;
            }
        }
    }
}

fn waiting(confirms: bool) -> Waiting {
    Waiting { port: 0, confirms, patience: PATIENCE }
}

fn errand(invitation: &Invitation, address: SocketAddr, config: &str) -> Errand {
    let offer = Offer { config: config.to_owned(), device: None, after: After::AsConfigured };
    Errand { invitation: invitation.clone(), addresses: vec![address], offer, patience: PATIENCE }
}

/// A sender that takes no part in what is asked of it.
async fn send(errand: &Errand) -> Result<Handed, PairingError> {
    hand_over(errand, &mut |_| {}).await
}

/// A session of a sender that speaks as it likes.
async fn raw(invitation: &Invitation, address: SocketAddr) -> (Endpoint, Connection, SendStream, RecvStream, Vec<u8>) {
    let identity = Identity::from_seed(&crate::state::random().unwrap());
    let (_, client) = tls::pairing(&identity).unwrap();
    let (udp, _) = socket::bind_near(0).unwrap();
    let endpoint = Endpoint::new(EndpointConfig::default(), None, udp, Arc::new(TokioRuntime)).unwrap();
    let connection = endpoint.connect_with(client, address, "machine").unwrap().await.unwrap();
    let (send, receive) = connection.open_bi().await.unwrap();
    let session = session(&connection, identity.id(), invitation.machine).unwrap();
    let hello = encode("call", LARGEST_WORD, &Call::Hello(session.proof(&invitation.keys()))).unwrap();
    (endpoint, connection, send, receive, hello)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_a_person_lets_in_hands_over_what_it_has_and_hears_what_is_done() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        let mut errand = errand(&invitation, address, "#cloud-config\nhostname: a\n");
        errand.offer.device = Some("/dev/vda".to_owned());
        errand.offer.after = After::PowerOff;
        let (said, mut says) = mpsc::unbounded_channel();
        let mut tell = |step| said.send(step).unwrap();
        let person = async {
            assert_eq!(says.recv().await, Some(Step::Found(address)));
            let (code, reply) = ends.asked.recv().await.unwrap();
            assert_eq!(says.recv().await, Some(Step::Code(code, true)));
            reply.send(true).unwrap();
            assert_eq!(says.recv().await, Some(Step::Granted));
            code
        };
        let (handed, code) = tokio::join!(hand_over(&errand, &mut tell), person);
        let verdict = Verdict::Accepted("installs 26 bytes".to_owned());
        assert_eq!(handed.unwrap(), Handed { address, code: Some(code), verdict });
        errand.offer
    };
    let (outcome, offer) = tokio::join!(wait(waiting(true), &desk), sender);
    let Outcome::Handed(handed, _) = outcome.unwrap() else { panic!("not handed over") };
    assert_eq!(*handed, offer);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_secret_or_calls_another_machine_gets_nowhere_and_is_reported() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        // As somebody has it who saw an earlier code of the machine, or guesses.
        let guess = Invitation { secret: kairn_report::Secret::new([0; 16]), ..invitation.clone() };
        let refused = send(&errand(&guess, address, "x")).await.unwrap_err().to_string();
        assert!(refused.contains("does not know the secret"), "{refused}");
        let notice = ends.until(|notice| matches!(notice, Notice::Unproven(..))).await;
        assert!(matches!(notice, Notice::Unproven(_, 1)), "{notice}");
        let other = Invitation { machine: Identity::from_seed(&[1; 32]).id(), ..invitation.clone() };
        let short = Errand { patience: Duration::from_secs(2), ..errand(&other, address, "x") };
        let missed = send(&short).await.unwrap_err().to_string();
        assert!(missed.contains("within 2 s") && missed.contains("another machine answers there"), "{missed}");
        // A message that is no proof, and a proof of another session.
        for bytes in [
            encode("call", LARGEST_OFFER, &Call::Offer(errand(&invitation, address, "x").offer)).unwrap(),
            raw(&invitation, address).await.4,
        ] {
            let (_endpoint, connection, mut send, _receive, _) = raw(&invitation, address).await;
            send.write_all(&bytes).await.unwrap();
            let ended = connection.closed().await.to_string();
            assert!(ended.contains("does not know the secret"), "{ended}");
        }
    };
    tokio::select! {
        outcome = wait(waiting(true), &desk) => panic!("{outcome:?}"),
        () = sender => {}
    }
    assert!(desk.judged.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sender_is_served_and_another_that_saw_the_code_is_turned_away_and_reported() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        let (first, late) = (errand(&invitation, address, "first"), errand(&invitation, address, "late"));
        let person = async {
            let (_, reply) = ends.asked.recv().await.unwrap();
            let turned_away = send(&late).await.unwrap();
            assert_eq!((turned_away.verdict, turned_away.code), (Verdict::Taken, None));
            let notice = ends.until(|notice| matches!(notice, Notice::TurnedAway(..))).await;
            assert!(matches!(notice, Notice::TurnedAway(_, 1)), "{notice}");
            reply.send(true).unwrap();
        };
        let (handed, ()) = tokio::join!(send(&first), person);
        assert!(matches!(handed.unwrap().verdict, Verdict::Accepted(_)));
    };
    let (outcome, ()) = tokio::join!(wait(waiting(true), &desk), sender);
    assert!(matches!(outcome.unwrap(), Outcome::Handed(offer, _) if offer.config == "first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_with_other_digits_is_refused_and_its_code_is_not_shown_any_more() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (burnt, address) = ends.invitation().await;
        let person = async { ends.asked.recv().await.unwrap().1.send(false).unwrap() };
        let errand_of_a_stranger = errand(&burnt, address, "x");
        let (handed, ()) = tokio::join!(send(&errand_of_a_stranger), person);
        assert_eq!(handed.unwrap().verdict, Verdict::Refused(Refusal::No));
        ends.until(|notice| matches!(notice, Notice::Refused(_))).await;
        // The next code has neither its secret nor its key, at the same place.
        let (next, place) = ends.invitation().await;
        assert!(next.secret != burnt.secret && next.machine != burnt.machine && place == address);
        let short = Errand { patience: Duration::from_secs(2), ..errand_of_a_stranger };
        assert!(matches!(send(&short).await, Err(PairingError::NotFound { .. })));
        // Nor with the key that is shown now, which it could learn by calling.
        let half = Invitation { machine: next.machine, ..burnt };
        let refused = send(&errand(&half, address, "x")).await.unwrap_err().to_string();
        assert!(refused.contains("does not know the secret"), "{refused}");
        let person = async { ends.asked.recv().await.unwrap().1.send(true).unwrap() };
        let right = errand(&next, address, "y");
        let (handed, ()) = tokio::join!(send(&right), person);
        assert!(matches!(handed.unwrap().verdict, Verdict::Accepted(_)));
    };
    let (outcome, ()) = tokio::join!(wait(waiting(true), &desk), sender);
    assert!(matches!(outcome.unwrap(), Outcome::Handed(offer, _) if offer.config == "y"));
    assert_eq!(desk.judged.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_answers_refuses_the_sender_and_the_machine_waits_on() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        let errand = errand(&invitation, address, "x");
        let handed = send(&errand).await.unwrap();
        assert_eq!(handed.verdict, Verdict::Refused(Refusal::Nobody));
        ends.until(|notice| matches!(notice, Notice::Unanswered(_))).await;
        // The first question is still held; where the desk cannot ask any more, the pairing ends.
        drop(ends.asked);
        assert_eq!(send(&errand).await.unwrap().verdict, Verdict::Refused(Refusal::Nobody));
    };
    let short = Waiting { patience: Duration::from_millis(300), ..waiting(true) };
    let (outcome, ()) = tokio::join!(wait(short, &desk), sender);
    assert_eq!(outcome.unwrap(), Outcome::Unattended);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_configuration_come_back_nothing_is_done_and_the_machine_waits_on() {
    let (desk, mut ends) = desk(strict);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        let handed = send(&errand(&invitation, address, "hostnam: a")).await.unwrap();
        // What moves the cursor of a terminal is not passed on.
        let fault = Fault { place: Some((3, 7)), text: "error: no[31m such key".to_owned() };
        assert_eq!(handed.verdict, Verdict::Invalid(vec![fault]));
        let let_in = ends.until(|notice| matches!(notice, Notice::LetIn(..))).await;
        assert!(matches!(let_in, Notice::LetIn(_, code) if Some(code) == handed.code), "{let_in}");
        ends.until(|notice| matches!(notice, Notice::Invalid(_, 1))).await;
        let handed = send(&errand(&invitation, address, "#cloud-config\n")).await.unwrap();
        assert!(matches!(handed.verdict, Verdict::Accepted(_)));
    };
    let (outcome, ()) = tokio::join!(wait(waiting(false), &desk), sender);
    assert!(matches!(outcome.unwrap(), Outcome::Handed(offer, _) if offer.config == "#cloud-config\n"));
    assert_eq!(desk.judged.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_goes_away_or_says_too_much_ends_its_own_turn_only() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        // Gone while the person is asked.
        let (_endpoint, connection, mut to, mut from, hello) = raw(&invitation, address).await;
        to.write_all(&hello).await.unwrap();
        assert!(matches!(hear(&mut from, "word", LARGEST_WORD).await, Ok(Word::Code { confirm: true, .. })));
        let (_, _unanswered) = ends.asked.recv().await.unwrap();
        connection.close(DONE, b"");
        ends.until(|notice| matches!(notice, Notice::Gone(_, why) if why == "it went away")).await;
        // Let in, and then a message that names more bytes than there may be; so the machine reads none of them.
        let (_endpoint, connection, mut to, mut from, hello) = raw(&invitation, address).await;
        to.write_all(&hello).await.unwrap();
        assert!(matches!(hear(&mut from, "word", LARGEST_WORD).await, Ok(Word::Code { .. })));
        ends.asked.recv().await.unwrap().1.send(true).unwrap();
        assert_eq!(hear(&mut from, "word", LARGEST_WORD).await, Ok(Word::Granted));
        to.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let too_much = ends.until(|notice| matches!(notice, Notice::Gone(..))).await.to_string();
        assert!(too_much.contains("4294967295 bytes"), "{too_much}");
        connection.closed().await;
        // Our own sender does not even begin with what is too large.
        let large = errand(&invitation, address, &"x".repeat(LARGEST_CONFIG + 1));
        assert!(matches!(send(&large).await, Err(PairingError::Offer(_))));
        let largest = errand(&invitation, address, &"x".repeat(LARGEST_CONFIG));
        let person = async { ends.asked.recv().await.unwrap().1.send(true).unwrap() };
        let (handed, ()) = tokio::join!(send(&largest), person);
        assert_eq!(handed.unwrap().verdict, Verdict::Accepted(format!("installs {LARGEST_CONFIG} bytes")));
    };
    let (outcome, ()) = tokio::join!(wait(waiting(true), &desk), sender);
    assert!(matches!(outcome.unwrap(), Outcome::Handed(..)));
}

/// Passes datagrams between a sender and the machine on, and keeps those of the sender and, behind them, all that passed.
async fn tap(machine: SocketAddr, own: UdpSocket, mut end: oneshot::Receiver<()>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut sent, mut all, mut sender) = (Vec::new(), Vec::new(), None);
    let (mut out, mut back) = ([0; 2_048], [0; 2_048]);
    loop {
        tokio::select! {
            came = own.recv_from(&mut out) => {
                let (length, from) = came.unwrap();
                sender = Some(from);
                sent.push(out[..length].to_vec());
                all.extend_from_slice(&out[..length]);
                outside.send_to(&out[..length], machine).await.unwrap();
            }
            came = outside.recv_from(&mut back) => {
                let (length, _) = came.unwrap();
                all.extend_from_slice(&back[..length]);
                own.send_to(&back[..length], sender.unwrap()).await.unwrap();
            }
            _ = &mut end => return (sent, all),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_the_network_reads_nothing_and_what_was_captured_is_worth_nothing_again() {
    let (desk, mut ends) = desk(strict);
    let config = "a password that nobody may read on the way";
    let sender = async {
        let (invitation, machine) = ends.invitation().await;
        let tapped = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let between = tapped.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let listening = tokio::spawn(tap(machine, tapped, ended));
        let handed = send(&errand(&invitation, between, config)).await.unwrap();
        assert!(matches!(handed.verdict, Verdict::Invalid(_)));
        end.send(()).unwrap();
        let (sent, all) = listening.await.unwrap();
        let is_in = |part: &[u8]| all.windows(part.len()).any(|window| window == part);
        assert!(!is_in(&config.as_bytes()[..12]) && !is_in(invitation.secret.reveal()));
        assert!(handed.address == between && sent.len() > 3 && all.len() > config.len());
        let again = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in &sent {
            again.send_to(datagram, machine).await.unwrap();
        }
        let next = send(&errand(&invitation, machine, "#cloud-config\n")).await.unwrap();
        assert!(matches!(next.verdict, Verdict::Accepted(_)));
    };
    let (outcome, ()) = tokio::join!(wait(waiting(false), &desk), sender);
    assert!(matches!(outcome.unwrap(), Outcome::Handed(offer, _) if offer.config.starts_with("#cloud-config")));
    // Once of the sender, once of the one after; nothing of what was sent again.
    assert_eq!(desk.judged.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_found_by_multicast_where_its_code_names_no_address() {
    let (desk, mut ends) = desk(accepts);
    let sender = async {
        let (invitation, address) = ends.invitation().await;
        let nowhere = Invitation { addresses: Vec::new(), ..invitation };
        let blind = Errand { addresses: Vec::new(), ..errand(&nowhere, address, "x") };
        send(&blind).await.unwrap().verdict
    };
    let (outcome, verdict) = tokio::join!(wait(waiting(false), &desk), sender);
    assert!(matches!(verdict, Verdict::Accepted(_)));
    assert!(matches!(outcome.unwrap(), Outcome::Handed(..)));
}
