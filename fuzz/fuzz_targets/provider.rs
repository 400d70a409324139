//! What a provider plugin says, from its standard output to what its answer means.
#![no_main]

use kairn_config::providers::{Answer, Fault, INSTALL, MOST, decode, installation, reset_wishes, token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let response = match decode(bytes) {
        Ok(response) => response,
        Err(Fault::Unreadable { line, column, why }) => {
            assert!(line >= 1 && column >= 1 && !why.contains(char::is_control));
            return;
        }
        Err(fault) => return assert!(!fault.to_string().contains(char::is_control)),
    };
    assert!(response.data.len() <= MOST && response.unknown.len() <= 8);
    if let Ok(Some(token)) = token(&response) {
        assert!(!token.is_empty() && token.len() <= 4096);
    }
    drop(reset_wishes(&response));
    if let Ok(Some(text)) = installation(&response).map(|found| found.config) {
        let answer = Answer { provider: "agent-provider-x".into(), event: INSTALL.into(), text };
        let document = answer.document(None);
        assert!(document.header.is_some());
        for said in document.diagnostics {
            assert!(said.span.source.starts_with("answer of ") && said.span.place.line >= 1);
        }
    }
});
