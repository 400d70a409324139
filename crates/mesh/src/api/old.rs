//! The routes that programs made for Kairos read (`/api/...`), with this mesh's state behind them, in the form that they know.
//! What an old route would say of secrets is never said: the bucket of secrets and the cluster's are not among the old buckets.

use super::{Answer, Asked, json};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::runner::{Runner, Wanted};
use crate::status::{PeerStatus, Status};
use hyper::{Method, StatusCode};
use kairn_host::{Clock as _, SystemClock};
use serde::Serialize;
use serde_json::json as object;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A machine. Operating system and processor are not told in this mesh; the old fields stand empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Machine {
    #[serde(rename = "PeerID")]
    peer: String,
    hostname: String,
    #[serde(rename = "OS")]
    os: String,
    arch: String,
    address: String,
    version: String,
}

/// The buckets, each with keys and the JSON text of what stands there.
type Ledger = BTreeMap<String, BTreeMap<String, String>>;

/// `GET /api/...`
pub async fn route(asked: &Asked, path: &[&str], handle: &Handle) -> Result<Answer, Fault> {
    if asked.method != Method::GET {
        let fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "the old routes are for reading");
        return Err(fault.hint("`kairn mesh kv put` writes a value; its key BUCKET/KEY is found there as before"));
    }
    match path {
        ["machines"] => json(&handle.run(|runner| machines(&runner.status())).await?),
        ["nodes" | "peerstore"] => json(&handle.run(|runner| nodes(&runner.status())).await?),
        ["services"] => json(&handle.run(|runner| services(runner)).await?),
        ["files" | "users"] => json(&object!([])),
        ["dns"] => json(&handle.run(|runner| dns(runner)).await?),
        ["summary"] => json(&handle.run(|runner| summary(runner)).await?),
        ["ledger"] => json(&handle.run(|runner| ledger(runner)).await??),
        ["ledger", bucket] => {
            let ledger = handle.run(|runner| ledger(runner)).await??;
            json(&ledger.get(*bucket).cloned().unwrap_or_default())
        }
        ["ledger", bucket, key @ ..] => {
            let (ledger, key) = (handle.run(|runner| ledger(runner)).await??, key.join("/"));
            // What is absent was the empty text, and no error.
            json(ledger.get(*bucket).and_then(|bucket| bucket.get(&key)).map_or("", String::as_str))
        }
        _ => Err(Fault::missing("there is no such old route here").hint("docs/mesh-api.md lists them")),
    }
}

/// The members that have an address, this node first, with whether each is there.
fn known(status: &Status) -> Vec<(Machine, bool)> {
    let own = Machine {
        peer: status.id.clone(),
        hostname: status.name.clone(),
        os: String::new(),
        arch: String::new(),
        address: address(status.ipv4.map(IpAddr::V4), status.ula.into()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let others = status.peers.iter().map(|peer| {
        let machine = Machine {
            peer: peer.id.clone(),
            hostname: peer.name.clone(),
            os: String::new(),
            arch: String::new(),
            address: address(peer.ipv4.map(IpAddr::V4), peer.ula.into()),
            version: peer.version.clone(),
        };
        (machine, is_here(peer))
    });
    std::iter::once((own, true)).chain(others).collect()
}

fn address(ipv4: Option<IpAddr>, ula: IpAddr) -> String {
    ipv4.unwrap_or(ula).to_string()
}

fn is_here(peer: &PeerStatus) -> bool {
    peer.state == "alive" || peer.state == "suspect"
}

fn machines(status: &Status) -> Vec<serde_json::Value> {
    let machines = known(status).into_iter().map(|(machine, is_here)| {
        let is_connected = status.peers.iter().any(|peer| peer.id == machine.peer && peer.address.is_some());
        let mut value = object!(machine);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("Connected".to_owned(), is_connected.into());
            fields.insert("OnChain".to_owned(), true.into());
            fields.insert("Online".to_owned(), is_here.into());
        }
        value
    });
    machines.collect()
}

fn nodes(status: &Status) -> Vec<serde_json::Value> {
    known(status).into_iter().map(|(machine, is_here)| object!({ "ID": machine.peer, "Online": is_here })).collect()
}

fn services(runner: &Runner) -> Vec<serde_json::Value> {
    let services = runner.services().into_iter();
    services.map(|service| object!({ "PeerID": service.node, "Name": service.name })).collect()
}

/// Each name that is answered, as the pattern that it was, with its addresses by type.
fn dns(runner: &Runner) -> Vec<serde_json::Value> {
    let zone = runner.names().zone;
    let answered = zone.rows().iter().filter(|row| row.contested.is_none());
    let rows = answered.map(|row| {
        let records: BTreeMap<&str, String> =
            row.addresses.iter().rev().map(|ip| (if ip.is_ipv4() { "A" } else { "AAAA" }, ip.to_string())).collect();
        object!({ "Regex": pattern(&row.name), "Records": records })
    });
    rows.collect()
}

fn pattern(name: &str) -> String {
    format!("^{}\\.?$", name.replace('.', "\\."))
}

fn summary(runner: &Runner) -> serde_json::Value {
    let status = runner.status();
    let here = status.peers.iter().filter(|peer| is_here(peer)).count();
    object!({
        "Files": 0,
        "Machines": status.peers.len() + 1,
        "Users": 0,
        "Services": runner.services().len(),
        "BlockChain": status.entries,
        "OnChainNodes": here + 1,
        "Peers": here,
        "NodeID": status.id,
    })
}

/// The state in old buckets: machines, services, who was heard of, names, and the values whose keys are BUCKET/KEY.
fn ledger(runner: &Runner) -> Result<Ledger, Fault> {
    let (mut ledger, status) = (Ledger::new(), runner.status());
    let mut put = |bucket: &str, key: String, value: serde_json::Value| {
        ledger.entry(bucket.to_owned()).or_default().insert(key, value.to_string());
    };
    for (machine, is_here) in known(&status) {
        if is_here {
            let heard = status.peers.iter().find(|peer| peer.id == machine.peer).and_then(|peer| peer.heard);
            put("healthcheck", machine.peer.clone(), time(heard.unwrap_or_default()).into());
        }
        put("machines", machine.address.clone(), object!(machine));
    }
    for service in runner.services() {
        put("services", service.name.clone(), object!({ "PeerID": service.node, "Name": service.name }));
    }
    for row in runner.names().zone.rows().iter().filter(|row| row.contested.is_none()) {
        // By the numbers of the types (RFC 1035, 3.2.2; RFC 3596, 2.1).
        let records: BTreeMap<&str, String> =
            row.addresses.iter().rev().map(|ip| (if ip.is_ipv4() { "1" } else { "28" }, ip.to_string())).collect();
        put("dns", pattern(&row.name), object!(records));
    }
    let mut values = runner.values(&Wanted::Prefix(String::new()))?;
    // The newest last: it is the one that stays.
    values.sort_by_key(|seen| (seen.stamp, seen.author));
    for seen in values {
        let Some((bucket, key)) = seen.value.key.split_once('/') else { continue };
        if ["machines", "services", "healthcheck", "dns"].contains(&bucket) {
            continue;
        }
        if let Some(text) = &seen.value.text {
            put(bucket, key.to_owned(), text.as_str().into());
        }
    }
    Ok(ledger)
}

/// The time so many seconds ago (RFC 3339).
fn time(seconds: u64) -> String {
    rfc3339(SystemClock.since_epoch().as_secs().saturating_sub(seconds))
}

/// A time in seconds since the Unix epoch as text in UTC; the date by the days of the proleptic Gregorian calendar, whose years are
/// counted from March, so that the day that some have is the last.
fn rfc3339(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_the_calendar() {
        // By `date -u -d @SECONDS +%FT%TZ`.
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), wanted);
        }
    }

    #[test]
    fn a_name_is_a_pattern_of_itself_only() {
        assert_eq!(pattern("edge-1.mesh.internal"), "^edge-1\\.mesh\\.internal\\.?$");
    }
}
