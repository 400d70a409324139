use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;

/// Serves the given answers, one connection each, and hands out the requests that came.
fn serve(answers: Vec<String>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            sender.send(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, requests)
}

fn answer(status: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn get(address: &str, secure: bool, auth: &RegistryAuth) -> Result<Vec<u8>, Failure> {
    let insecure = if secure { Vec::new() } else { vec![address.to_owned()] };
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = Http::new(Client::new(), insecure);
    let reference: Reference = format!("{address}/a/b:v1").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { bounded(http.get(&reference, auth, "manifests/v1", "*/*", 0).await?, 10).await })
}

#[test]
fn a_password_goes_out_only_after_it_was_asked_for() {
    let challenge = "WWW-Authenticate: Basic realm=\"team\"\r\n";
    let (address, requests) = serve(vec![answer("401 Unauthorized", challenge, ""), answer("200 OK", "", "manifest")]);
    let auth = RegistryAuth::Basic("user".into(), "word".into());
    assert_eq!(get(&address, false, &auth).unwrap(), b"manifest");
    assert!(!requests.recv().unwrap().to_lowercase().contains("authorization"));
    assert!(requests.recv().unwrap().to_lowercase().contains("authorization: basic dxnlcjp3b3jk"));
}

#[test]
fn a_token_is_asked_for_with_the_password_and_for_the_scope_that_the_registry_names() {
    let (other, tokens) = serve(vec![answer("200 OK", "", r#"{"access_token":"t"}"#)]);
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{other}/t\",service=\"s\",scope=\"x:y\"\r\n");
    let (address, requests) = serve(vec![answer("401 Unauthorized", &challenge, ""), answer("200 OK", "", "manifest")]);
    let auth = RegistryAuth::Basic("user".into(), "word".into());
    assert_eq!(get(&address, false, &auth).unwrap(), b"manifest");
    let asked = tokens.recv().unwrap();
    assert!(asked.starts_with("GET /t?scope=x%3Ay&service=s "), "{asked}");
    assert!(asked.to_lowercase().contains("authorization: basic dxnlcjp3b3jk"), "{asked}");
    requests.recv().unwrap();
    assert!(requests.recv().unwrap().to_lowercase().contains("authorization: bearer t"));
}

#[test]
fn a_registry_that_wants_credentials_that_are_not_there_is_said_to_refuse() {
    let refusal = r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in\u001b[2J first"}]}"#;
    let (address, _requests) =
        serve(vec![answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"team\"\r\n", refusal)]);
    let Err(Failure::Answer(error)) = get(&address, false, &RegistryAuth::Anonymous) else { panic!("no answer") };
    assert_eq!(error.to_string(), format!("http://{address}/v2/a/b/manifests/v1: status 401: log in [2J first"));
    assert!(!error.is_absence());
}

#[test]
fn an_image_that_is_not_there_is_told_from_one_that_is_refused() {
    for (status, code, absent) in [
        ("404 Not Found", "DENIED", true),
        ("400 Bad Request", "NAME_UNKNOWN", true),
        ("403 Forbidden", "DENIED", false),
    ] {
        let (address, _requests) = serve(vec![answer(status, "", &format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#))]);
        let Err(Failure::Answer(error)) = get(&address, false, &RegistryAuth::Anonymous) else { panic!("no answer") };
        assert_eq!(error.is_absence(), absent, "{error}");
    }
}

#[test]
fn credentials_are_not_given_in_the_clear_to_what_a_registry_with_tls_names() {
    let http = Http::new(Client::new(), Vec::new());
    let challenge = BTreeMap::from([("realm".to_owned(), "http://example.invalid/token".to_owned())]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reference: Reference = "registry.invalid/a:v1".parse().unwrap();
    let auth = RegistryAuth::Basic("user".into(), "word".into());
    let Err(Failure::Final(error)) = runtime.block_on(http.token(&reference, &auth, &challenge)) else {
        panic!("it was asked")
    };
    assert!(error.to_string().contains("in the clear"), "{error}");
}

#[test]
fn an_answer_of_the_limit_is_read_and_one_byte_more_is_refused() {
    let (address, _requests) = serve(vec![answer("200 OK", "", "0123456789"), answer("200 OK", "", "0123456789a")]);
    assert_eq!(get(&address, false, &RegistryAuth::Anonymous).unwrap().len(), 10);
    let Err(Failure::Final(Error::TooLarge { what, limit: 10 })) = get(&address, false, &RegistryAuth::Anonymous)
    else {
        panic!("no refusal")
    };
    assert_eq!(what, format!("http://{address}/v2/a/b/manifests/v1"));
}
