//! A whole node, and callers that have nothing but a session with it.

use super::*;
use crate::{Client, Settings, StateDir, Status, run, tls};
use kairn_mesh_protocol::message::{Answer, Question, decode, encode};
use kairn_mesh_protocol::{Identity, Token};
use std::time::Instant;
use tokio::sync::oneshot;

/// How long a machine with other work may take for what takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

fn token(secret: u8) -> Token {
    Token::new([secret; 32], None)
}

fn caller(secret: u8) -> Caller {
    let identity = Identity::from_seed(&[secret; 32]);
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.set_default_client_config(tls::configs(&identity).unwrap().client);
    let papers = Papers { epochs: vec![token(secret).epoch()], ..Papers::default() };
    Caller { endpoint, own: identity.id(), papers: Arc::new(RwLock::new(papers)) }
}

async fn until_counted(dir: &std::path::Path, counter: &str) {
    let start = Instant::now();
    loop {
        let client = Client::new(dir);
        let status = tokio::task::spawn_blocking(move || client.status()).await.unwrap().unwrap();
        match status.counters.get(counter) {
            Some(1) => return,
            count => assert!(count == Some(&0) && start.elapsed() < PATIENCE, "{counter}: {status:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_too_long_and_a_caller_with_another_token_are_counted_and_end_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let state = StateDir::open(dir.path()).unwrap();
    let task = tokio::spawn(run(
        state,
        Settings::new(token(91), "asked"),
        async { ended.await.unwrap_or_default() },
        |status: &Status| {
            ready.send(status.port).unwrap();
        },
    ));
    let address = SocketAddr::from(([127, 0, 0, 1], is_ready.await.unwrap()));

    let open = caller(91).call(address, None).await.unwrap();
    // A stream that was let go ends without a byte.
    let answer = ask(&open.connection, &vec![0; message::LARGEST + 1]).await;
    assert!(answer.as_ref().is_ok_and(Vec::is_empty), "{answer:?}");
    until_counted(dir.path(), "questions_overlong").await;
    // The session goes on, and the largest question of all is answered, if with a refusal.
    let fetch = encode("question", &Question::Fetch(Vec::new())).unwrap();
    let answer = ask(&open.connection, &fetch).await.unwrap();
    assert_eq!(decode("answer", &answer), Ok(Answer::Entries(Vec::new())));
    let answer = ask(&open.connection, &vec![0xff; message::LARGEST]).await.unwrap();
    assert!(matches!(decode("answer", &answer), Ok(Answer::Refused(_))));
    until_counted(dir.path(), "refused").await;

    let refused = caller(92).call(address, None).await;
    assert!(matches!(refused, Err(Error::Unwelcome { .. })), "{refused:?}");
    until_counted(dir.path(), "sessions_unproven").await;

    end.send(()).unwrap();
    task.await.unwrap().unwrap();
}
