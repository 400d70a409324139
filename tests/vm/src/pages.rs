//! Pages over HTTP on loopback, for machines, which reach them at 10.0.2.2.

use crate::fault::Fault;
use kairn_lab::HOST_ADDRESS;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A server of pages; it ends with the program.
pub struct Pages {
    port: u16,
    pages: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Pages {
    /// Starts a server without pages.
    pub fn start() -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Fault::io("listen on loopback"))?;
        let port = listener.local_addr().map_err(Fault::io("listen on loopback"))?.port();
        let pages: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let served = Arc::clone(&pages);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let answered = stream.and_then(|stream| answer(stream, &served));
                if let Err(error) = answered {
                    crate::runner::say(&format!("a page was not sent: {error}"));
                }
            }
        });
        Ok(Self { port, pages })
    }

    /// Puts a page in place; its path begins with `/` and has no query.
    pub fn put(&self, path: &str, text: &str) {
        let mut pages = self.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        pages.insert(path.to_owned(), text.to_owned());
    }

    /// Returns where machines reach it.
    pub fn url(&self) -> String {
        format!("http://{HOST_ADDRESS}:{}", self.port)
    }
}

fn answer(stream: TcpStream, pages: &Mutex<BTreeMap<String, String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let pages = pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (status, body) = pages.get(path).map_or(("404 Not Found", ""), |page| ("200 OK", page.as_str()));
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
