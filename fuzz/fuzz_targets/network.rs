//! A network in any dialect from anywhere: read, then written for each service.
#![no_main]

use kairn_config::Document;
use kairn_config::network::{Dialect, Renderer, is_rendered, parse, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let document = Document::parse("fuzz", text);
    let Some(root) = &document.root else { return };
    for dialect in [Dialect::Auto, Dialect::Own, Dialect::V1, Dialect::V2] {
        let (Some(network), _) = parse(&document, root, dialect) else { continue };
        for renderer in [Renderer::Networkd, Renderer::NetworkManager] {
            let rendering = render(&network, renderer);
            for file in &rendering.files {
                assert!(is_rendered(&file.path, file.content.reveal()), "{}", file.path);
                // A line that a text from outside began would hold neither.
                let plain =
                    |line: &str| line.is_empty() || line == "}" || line.starts_with(['[', '#']) || line.contains('=');
                assert!(file.content.reveal().lines().all(plain));
            }
        }
    }
});
