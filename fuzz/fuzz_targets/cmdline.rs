//! A kernel command line from anywhere: read as a configuration, and its addresses made out.
#![no_main]

use kairn_config::{Address, CommandLine, TemplateValues, cmdline, merge, plan, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let CommandLine { document, urls } = cmdline(text);
    let documents = [document];
    let _ = validate(&documents);
    let _ = merge(&documents);
    let _ = plan(&documents, "boot");
    for (url, span) in urls {
        if let Ok(remote) = Address::new(url, span).resolve(&TemplateValues::default()) {
            assert!(remote.url.reveal().to_ascii_lowercase().starts_with("http"));
        }
    }
});
