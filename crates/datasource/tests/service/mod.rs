//! A metadata service on loopback that answers as a test says and remembers what it was asked.
#![allow(dead_code, reason = "each test uses a part of it")]

use kairn_datasource::{Hints, Options, ProviderName};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A question as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub from: SocketAddr,
}

/// What is sent back.
#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Waited before anything is said.
    pub silence: Duration,
    /// Announced instead of the body's own length.
    pub length: Option<usize>,
}

pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply { status: 200, body: body.into(), ..Reply::default() }
}

pub fn status(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The service; it ends with the test's process.
pub struct Service {
    pub base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { base, asked }
    }

    /// Serves fixed answers; everything else is 404. A path may be written with its method: `PUT /x`.
    pub fn fixed<R: Into<Vec<u8>> + Clone>(answers: &[(&str, R)]) -> Self {
        let answers: BTreeMap<String, Vec<u8>> =
            answers.iter().map(|(path, body)| ((*path).to_owned(), body.clone().into())).collect();
        Self::start(move |asked| {
            let method = format!("{} {}", asked.method, asked.path);
            let plain = (asked.method == "GET").then(|| answers.get(&asked.path)).flatten();
            answers.get(&method).or(plain).map_or_else(|| status(404), |body| ok(body.clone()))
        })
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &Answer) -> Option<()> {
    let from = stream.peer_addr().ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked = Asked { method, path, headers, body: String::from_utf8(body).ok()?, from };
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    std::thread::sleep(reply.silence);
    let length = reply.length.unwrap_or(reply.body.len());
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    stream.write_all((head + "\r\n").as_bytes()).ok()?;
    stream.write_all(&reply.body).ok()
}

/// Options that ask one datasource at a service, quickly.
pub fn options(provider: ProviderName, base: &str) -> Options {
    Options {
        bases: [(provider, base.to_owned())].into(),
        answer: Duration::from_millis(500),
        attempts: 1,
        deadline: Duration::from_secs(20),
        ..Options::new([provider])
    }
}

pub fn nothing() -> Hints {
    Hints::default()
}
