//! What a datasource said of this machine: `/run/kairn/instance.json`, with the keys of cloud-init's instance data.

use crate::Context;
use kairn_host::files;
use serde_json::Value;

/// Where it lies.
const FILE: &str = "/run/kairn/instance.json";

/// Returns all of it; nothing where no datasource was found.
#[must_use]
pub fn data(context: &Context) -> Value {
    let text = match files::read_text_if_any(&context.at(FILE.as_ref())) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "what the datasource said cannot be read");
            return Value::Null;
        }
    };
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, file = FILE, "what the datasource said cannot be understood");
        Value::Null
    })
}

/// Returns the name of this instance: that of the datasource, else the machine's own id.
#[must_use]
pub fn id(context: &Context) -> String {
    let data = data(context);
    if let Some(id) = data.pointer("/v1/instance_id").and_then(Value::as_str).filter(|id| !id.is_empty()) {
        return id.to_owned();
    }
    let id = files::read_text_if_any(&context.at("/etc/machine-id".as_ref())).ok().flatten().unwrap_or_default();
    let id = id.trim();
    // An image that has none yet is one machine at most.
    if id.is_empty() { "uninitialized".to_owned() } else { id.to_owned() }
}
