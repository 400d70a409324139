//! A fake, and requests over loopback.

use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pages by address; anything else is a 404.
#[derive(Debug)]
pub(crate) struct Pages(BTreeMap<String, String>);

impl Pages {
    pub(crate) fn new(pages: &[(&str, &str)]) -> Self {
        Self(pages.iter().map(|(url, body)| ((*url).to_owned(), (*body).to_owned())).collect())
    }
}

impl Fetch for Pages {
    fn get(&self, request: &Request, body: &mut dyn Write) -> Result<Answer, FetchError> {
        match self.0.get(request.url.reveal()) {
            Some(page) => {
                body.write_all(page.as_bytes()).unwrap();
                Ok(Answer { status: 200, etag: None, bytes: page.len() as u64 })
            }
            None => Err(FetchError::Status { url: request.name(), status: 404 }),
        }
    }
}

/// Answers each connection by the path that it asks for, until dropped with the test; keeps what was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
                log.lock().unwrap().push(head.join("\n"));
                let text = answer(&path);
                if text.is_empty() {
                    // Silence, until the client has enough of it.
                    std::mem::forget(stream);
                } else if let Err(error) = stream.write_all(text.as_bytes()) {
                    eprintln!("the client went away: {error}");
                }
            }
        });
        Self { url, asked }
    }

    fn request(&self, path: &str) -> Request {
        Request::new(format!("{}{path}", self.url), 1000, Duration::from_secs(20))
    }
}

fn page(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn get(request: &Request) -> Result<(Answer, Vec<u8>), FetchError> {
    let mut body = Vec::new();
    Http::direct().get(request, &mut body).map(|answer| (answer, body))
}

#[test]
fn a_page_is_fetched_with_its_tag_and_not_again_while_that_counts() {
    let server = Server::start(|path| match path {
        "/new" => page("200 OK", "ETag: \"1\"\r\n", "hello"),
        _ => "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned(),
    });
    let (answer, body) = get(&server.request("/new")).unwrap();
    assert_eq!(
        (answer.status, answer.etag.as_deref(), answer.bytes, body.as_slice()),
        (200, Some("\"1\""), 5, &b"hello"[..])
    );
    let request = Request {
        etag: answer.etag,
        headers: vec![("X-Token".to_owned(), Secret::new("s3cret".to_owned()))],
        ..server.request("/old")
    };
    let (answer, body) = get(&request).unwrap();
    assert!(answer.is_unmodified() && body.is_empty());
    let asked = server.asked.lock().unwrap()[1].to_lowercase();
    assert!(asked.contains("if-none-match: \"1\"") && asked.contains("x-token: s3cret"), "{asked}");
    assert!(!format!("{request:?}").contains("s3cret"));
    assert!(matches!(get(&server.request("/old")), Err(FetchError::Status { status: 304, .. })));
}

#[test]
fn answers_that_say_failure_or_are_too_large_or_never_come_are_errors_without_secrets() {
    let server = Server::start(|path| match path.split('?').next().unwrap_or_default() {
        "/announced" => page("200 OK", "", &"x".repeat(1001)),
        "/endless" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(5000)),
        "/silent" => String::new(),
        "/broken" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned(),
        _ => page("403 Forbidden", "", "go away"),
    });
    let error = get(&server.request("/no?token=s3cret")).unwrap_err();
    assert!(matches!(&error, FetchError::Status { url, status: 403 } if url.ends_with("/no?…")), "{error:?}");
    for path in ["/announced", "/endless"] {
        assert!(matches!(get(&server.request(path)), Err(FetchError::TooLarge { limit: 1000, .. })), "{path}");
    }
    assert!(matches!(get(&server.request("/broken")), Err(FetchError::Transport { .. })));
    let mut request = server.request("/silent?token=s3cret");
    request.limits.deadline = Duration::from_millis(200);
    let error = get(&request).unwrap_err();
    assert!(matches!(error, FetchError::Deadline { .. }) && !format!("{error:?}").contains("s3cret"), "{error:?}");
    for bad in ["ftp://h/x", "no address: s3cret", "http://"] {
        let error = get(&Request::new(bad, 1, Duration::from_secs(1))).unwrap_err();
        assert!(matches!(error, FetchError::Url(_)) && !format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn redirections_are_followed_a_few_times_and_take_no_header_elsewhere() {
    let other = Server::start(|_| page("200 OK", "", "there"));
    let away = other.url.clone();
    let server = Server::start(move |path| match path {
        "/away" => page("302 Found", &format!("Location: {away}/x\r\n"), ""),
        "/near" => page("301 Moved Permanently", "Location: end\r\n", ""),
        "/end" => page("200 OK", "", "end"),
        "/file" => page("302 Found", "Location: file:///etc/shadow\r\n", ""),
        _ => page("302 Found", "Location: /loop\r\n", ""),
    });
    let token = |path: &str| Request {
        headers: vec![("X-Token".to_owned(), Secret::new("s3cret".to_owned()))],
        ..server.request(path)
    };
    assert_eq!(get(&token("/near")).unwrap().1, b"end");
    assert_eq!(get(&token("/away")).unwrap().1, b"there");
    assert!(!other.asked.lock().unwrap().concat().contains("s3cret"));
    for path in ["/file", "/loop"] {
        assert!(matches!(get(&token(path)), Err(FetchError::Redirect { .. })), "{path}");
    }
}

#[test]
fn a_form_is_posted_to_its_address_and_nowhere_else() {
    let server = Server::start(|path| match path {
        "/moved" => page("307 Temporary Redirect", "Location: /x\r\n", ""),
        _ => page("200 OK", "", "thanks"),
    });
    let post = |path: &str| Request { form: Some(Secret::new("a=b+c".to_owned())), ..server.request(path) };
    assert_eq!(get(&post("/x")).unwrap().1, b"thanks");
    let asked = server.asked.lock().unwrap()[0].to_lowercase();
    let type_of = "content-type: application/x-www-form-urlencoded";
    assert!(asked.starts_with("post /x ") && asked.contains(type_of) && asked.contains("content-length: 5"), "{asked}");
    assert!(matches!(get(&post("/moved")), Err(FetchError::Status { status: 307, .. })));
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    // No server of TLS is needed to see that what is no TLS is not talked to in clear.
    let server = Server::start(|_| page("200 OK", "", "in clear"));
    let request = Request::new(server.url.replace("http:", "https:"), 1000, Duration::from_secs(5));
    assert!(matches!(get(&request), Err(FetchError::Tls { .. } | FetchError::Transport { .. })));
}

#[test]
fn passing_failures_are_tried_again_and_lasting_ones_are_not() {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let server = Server::start(move |path| match (path, counted.fetch_add(1, Ordering::SeqCst)) {
        ("/late", 0..3) => page("503 Service Unavailable", "", ""),
        ("/late", _) => page("200 OK", "", "at last"),
        _ => page("404 Not Found", "", ""),
    });
    let patience = Patience { tries: 10, pause: Duration::from_millis(1) };
    let mut events = Vec::new();
    let (_, body) = bytes(&Http::direct(), &server.request("/late"), patience, &mut events).unwrap();
    assert_eq!((body.as_slice(), count.load(Ordering::SeqCst), events.len()), (&b"at last"[..], 4, 1));
    let lasting = bytes(&Http::direct(), &server.request("/gone"), patience, &mut events);
    assert!(matches!(lasting, Err(FetchError::Status { status: 404, .. })));
    assert_eq!(count.load(Ordering::SeqCst), 5);
}
