//! Reads `network`.

use crate::network::{Dialect, parse};
use crate::step::Actions;
use crate::{Entry, NetworkWork, Severity, Work};

/// Adds the network that a document describes; one that is to be left alone is none.
pub(super) fn read(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = super::get(entries, "network") else { return };
    let (network, said) = parse(actions.reader.document, node, Dialect::Auto);
    let fault = said.iter().find(|said| said.severity == Severity::Error).map(|said| said.message.clone());
    actions.reader.diagnostics.extend(said);
    match (network, fault) {
        (Some(network), _) if !network.interfaces.is_empty() => {
            actions.push("network".into(), node.place, Work::Network(NetworkWork(network)));
        }
        (_, Some(why)) => actions.push("network".into(), node.place, Work::Invalid(why)),
        _ => {}
    }
}
