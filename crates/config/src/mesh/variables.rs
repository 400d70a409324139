//! `p2p.vpn.env`: variables of the program that made the private network before. Those that have a meaning here are read as the key
//! that they stand for; of the others it is said that they do nothing, and why.

use super::{MeshSettings, Reader};
use crate::{Code, Diagnostic, Merged, MergedValue, Severity};
use kairn_report::Span;

/// Why variables that are known do nothing: by their names, or by the beginnings of these where they end in `*`.
const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (&["EDGEVPNTOKEN", "EDGEVPNCONFIG"], "the token stands in `p2p.network_token`"),
    (&["EDGEVPN_NETWORK_ID"], "the name of the cluster stands in `p2p.network_id`"),
    (
        &["DNSADDRESS", "DNSFORWARD", "DNSFORWARDSERVER", "DNSCACHESIZE"],
        "`p2p.dns` says whether names are answered; servers for others are those of the machine",
    ),
    (&["ROUTER"], "packets for machines outside the mesh are not taken"),
    (&["DHCPLEASEDIR", "EDGEVPNLEDGERSTATE"], "the node keeps its files in its own directory"),
    (&["API", "APILISTEN", "APILISTENUNIXMODE", "EDGEVPN_API"], "programs ask the node at its own socket"),
    (&["EDGEVPNPRIVKEYCACHE", "EDGEVPNPRIVKEYCACHEDIR"], "the node always keeps its identity"),
    (&["EDGEVPNSTATICPEERTABLE", "EDGEVPNBLACKLIST", "EDGEVPNWHITELIST"], "whoever proves the token is a member"),
    (&["EDGEVPNBOOTSTRAPPEERS"], "it names nodes of another protocol; `p2p.peers` names those of this one"),
    (&["EDGEVPNMDNS"], "the local network is always searched"),
    (
        &["EDGEVPNLEDGER*", "EDGEVPNOWNERSHIP*", "HEALTHCHECK*", "ENABLE_HEALTHCHECKS"],
        "the shared state has times and owners of its own",
    ),
    (
        &[
            "EDGEVPNAUTORELAY*",
            "EDGEVPNHOLEPUNCH",
            "EDGEVPNNATSERVICE",
            "EDGEVPNNATMAP",
            "EDGEVPN_RELAY_*",
            "EDGEVPNDHTINTERVAL",
        ],
        "machines find their paths by other means",
    ),
    (
        &[
            "EDGEVPNPACKETMTU",
            "EDGEVPNTIMEOUT",
            "EDGEVPNLIBP2PLOGLEVEL",
            "EDGEVPNMAXCONNS",
            "EDGEVPN_CONNECTION_*",
            "EDGEVPNLOWPROFILE*",
            "LIMIT*",
        ],
        "it is about a library that is not used here",
    ),
];

/// Applies the variables to what the keys say.
pub(super) fn apply(settings: &mut MeshSettings, reader: &mut Reader, env: &Merged) {
    let MergedValue::Map(entries) = &env.value else { return };
    for (name, value) in entries {
        let Some(text) = reader.text_of(value, name) else { continue };
        match name.as_str() {
            "IFACE" => settings.interface = reader.interface(text).or(settings.interface.take()),
            "ADDRESS" if reader.range(&text) => settings.range = Some(text),
            "ADDRESS" => {}
            "EDGEVPNMTU" => settings.mtu = reader.number(value, super::MTU, "`EDGEVPNMTU`").or(settings.mtu),
            "EDGEVPNLOGLEVEL" => settings.log = reader.log(&text).or(settings.log),
            "EDGEVPNDHT" if truth(&text.value) == Some(false) => settings.dht = false,
            "EDGEVPNDHT" if truth(&text.value) == Some(true) && settings.dht => {}
            "EDGEVPNDHT" if truth(&text.value) == Some(true) => {
                nothing(reader, name, text.span, "`p2p.disable_dht: false` is what asks for the DHT");
            }
            "DHCP" if truth(&text.value) == Some(true) => {}
            "DHCP" => nothing(reader, name, text.span, "each node claims an address in the range"),
            "EDGEVPNDHT" => {
                reader.bad(Code::BadValue, &text.span, "`EDGEVPNDHT` is `true` or `false`");
            }
            _ => match WITHOUT_EFFECT.iter().find(|(names, _)| names.iter().any(|known| is(known, name))) {
                Some((_, why)) => nothing(reader, name, text.span, why),
                None => nothing(reader, name, text.span, "it is not known"),
            },
        }
    }
}

fn is(known: &str, name: &str) -> bool {
    known.strip_suffix('*').map_or(known == name, |start| name.starts_with(start))
}

/// As the flags of the old program read them.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}

fn nothing(reader: &mut Reader, name: &str, span: Span, why: &str) {
    let message = format!("`{name}` does nothing here: {why}");
    let said = Diagnostic::new(Severity::Warning, Code::NotSupported, span, message);
    reader.said.push(said.key("p2p.vpn.env.*"));
}
