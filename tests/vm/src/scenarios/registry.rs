//! The registry itself.

use crate::fault::{Fault, ensure};
use crate::runner::Verdict;
use crate::world::Stage;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Asks for the API's version (OCI distribution specification, end-1).
pub fn answers(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let Some(registry) = stage.registry()? else {
        return Ok(Verdict::Skipped("there is no program of a registry".into()));
    };
    let asked = TcpStream::connect(registry.here()).and_then(|mut stream| {
        let request = format!("GET /v2/ HTTP/1.0\r\nHost: {}\r\n\r\n", registry.here());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = asked.map_err(Fault::io("ask the registry"))?;
    ensure(answer.starts_with("HTTP/1.0 200"), || format!("the registry answered {answer:?}"))?;
    stage.note(&format!("machines reach it at {}", registry.for_machines()));
    Ok(Verdict::Passed)
}
