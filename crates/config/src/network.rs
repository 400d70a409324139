//! Networks: three dialects are read into one model ([`Network`]), which is written for systemd-networkd or NetworkManager.
//!
//! A fault is a diagnostic and takes out the smallest thing that holds it: a value, an address, a member. What makes an
//! interface what it is (its name, its selector, its kind) takes out that interface, and what cannot be without it.

mod address;
mod assemble;
mod bonding;
mod controller;
mod draft;
mod fields;
mod ini;
pub mod keys;
mod model;
mod name;
mod network_manager;
mod networkd;
mod own;
mod pieces;
mod render;
mod v1;
mod v2;
mod word;
mod wpa_supplicant;

pub use address::{MacAddress, Net};
pub use controller::{
    AdSelect, ArpTargets, ArpValidate, BondMode, BondParameters, BridgeParameters, FailOverMac, HashPolicy, LacpRate,
    PrimaryReselect,
};
pub use model::{
    AccessPoint, Address, Addressing, Band, Dhcp, DhcpIdentifier, Dns, Hardware, Interface, Kind, Link, LinkLocal, Mtu,
    Network, Port, Renderer, RendererWish, Route, RouteKind, RouteScope, Rule, Security, Selector, SelectorParts,
    UseDomains, Virtual, VlanId, WpaKey,
};
pub use name::{DeviceName, Domain, Id, Label, Pattern, Ssid};
pub use render::{FOLDERS, RenderedFile, Rendering, is_rendered, render};
pub use word::Word;

use crate::reading::Reader;
use crate::suggest::nearest;
use crate::{Code, Diagnostic, Document, Node, Severity};

/// How a network is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As `version` says; without it our own.
    Auto,
    /// Version 1 of cloud-init's network configuration.
    V1,
    /// Version 2 of it, netplan's format.
    V2,
    /// Our own.
    Own,
}

/// Reads the network that a node of a document describes: the value of `network`, or the root of a file of its own, with
/// `network:` around it or not.
///
/// Returns `None` for the network when nothing of it can be read, or when it is to be left alone (`config: disabled`).
#[must_use]
pub fn parse(document: &Document, node: &Node, dialect: Dialect) -> (Option<Network>, Vec<Diagnostic>) {
    let mut reader = Reader::new(document);
    let network = read(&mut reader, node, dialect);
    crate::diagnostic::tidy(&mut reader.diagnostics);
    (network, reader.diagnostics)
}

fn read(reader: &mut Reader<'_>, node: &Node, dialect: Dialect) -> Option<Network> {
    let node = inner(reader, node);
    if node.is_null() {
        return Some(Network::default());
    }
    match dialect {
        Dialect::V1 => v1::read(reader, node),
        Dialect::V2 => v2::read(reader, node),
        Dialect::Own => own::read(reader, node),
        Dialect::Auto => {
            let Some(version) = node.get("version").filter(|node| !node.is_null()) else { return guess(reader, node) };
            let text = reader.text(version, "`version`")?;
            match text.as_str() {
                "1" => v1::read(reader, node),
                "2" => v2::read(reader, node),
                _ => {
                    reader.error(Code::BadValue, version.place, format!("`version` is 1 or 2, not `{text}`"));
                    None
                }
            }
        }
    }
}

/// Unwraps `network:` around everything.
fn inner<'n>(reader: &mut Reader<'_>, node: &'n Node) -> &'n Node {
    let Some(entries) = node.entries() else { return node };
    let Some(entry) = entries.iter().find(|entry| entry.key == "network") else { return node };
    for other in entries.iter().filter(|other| other.key != "network") {
        let message = format!("`{}` stands beside `network` and has no effect", other.key);
        reader.say(Severity::Warning, Code::UnknownKey, other.key_place, message);
        if let Some(near) = nearest(&other.key, ["network"]) {
            reader.hint(format!("`{near}` meant?"));
        }
    }
    &entry.value
}

/// Without `version`, sections of cloud-init's dialects are read as what they are.
fn guess(reader: &mut Reader<'_>, node: &Node) -> Option<Network> {
    let sections = ["ethernets", "wifis", "bonds", "bridges", "vlans"];
    let entry = node
        .entries()
        .unwrap_or_default()
        .iter()
        .find(|entry| entry.key == "config" || sections.contains(&entry.key.as_str()));
    let Some(entry) = entry else { return own::read(reader, node) };
    let version = if entry.key == "config" { 1 } else { 2 };
    let disabled = entry.value.scalar().is_some_and(|scalar| scalar.text == "disabled");
    if !disabled {
        let message = format!("`{}` without `version` is read as version {version}", entry.key);
        reader.say(Severity::Warning, Code::BadValue, entry.key_place, message);
        reader.hint(format!("put `version: {version}` before it"));
    }
    if version == 1 { v1::read(reader, node) } else { v2::read(reader, node) }
}

#[cfg(test)]
mod tests;
