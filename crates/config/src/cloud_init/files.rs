//! Reads `write_files`, and `milpa_files`, its old name.

use super::get;
use crate::step::Actions;
use crate::step::files::origin;
use crate::{Entry, Node, Scalar};

/// Which files of the list are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Those that come before users are made.
    WithTheRest,
    /// Those that wait for them: `defer: true`.
    Deferred,
    /// Those that are fetched, and so wait for the network.
    Fetched,
}

pub(super) fn write(actions: &mut Actions<'_, '_>, entries: &[Entry], when: When) {
    for key in ["write_files", "milpa_files"] {
        let Some(node) = get(entries, key) else { continue };
        // Said once, by the first of the three.
        if node.items().is_none() && when != When::WithTheRest {
            continue;
        }
        actions.each(node, &format!("`{key}`"), |actions, _, item| {
            if when == of(item) {
                actions.write_file(item);
            }
        });
    }
}

fn of(item: &Node) -> When {
    match (origin(item), deferred(item)) {
        (Some(_), _) => When::Fetched,
        (None, true) => When::Deferred,
        (None, false) => When::WithTheRest,
    }
}

fn deferred(item: &Node) -> bool {
    let node = item.entries().and_then(|entries| get(entries, "defer"));
    node.and_then(Node::scalar).and_then(Scalar::as_bool).unwrap_or_default()
}
