//! What the mesh's kernel tier carries between two guests, against a WireGuard link between the same guests that was made by hand.

use super::table::{self, Facts, Series};
use crate::fault::{Fault, ensure};
use crate::node::{LONG, Node, wrong};
use crate::runner::say;
use crate::scenarios::mesh::{TOKEN, formed, of, plugged_in};
use crate::world::{Stage, World};
use serde_json::Value;
use std::fs;

/// What the guests need besides the base.
const PACKAGES: &[&str] = &["--oci", "--package", "iperf3", "--package", "wireguard-tools"];
/// Makes the link; its arguments are this end's number, the other's, and the other's key.
const SCRIPT: &str = include_str!("mesh.sh");
/// What the kernel tier carries at least, of the link made by hand.
const LEAST: f64 = 0.9;

/// What carries a flow, and the address of the other end on it.
struct Way {
    name: &'static str,
    address: String,
    /// Bits in a second, one for each round.
    rates: Vec<f64>,
}

/// Runs so many rounds and writes the figures down.
pub fn run(world: &World, rounds: usize) -> Result<bool, Fault> {
    let stage = Stage::set(world, "bench-mesh")?;
    let base = world.build("mesh-bench", "debian:bookworm", PACKAGES, &[])?;
    let image = world.disk_image_with("mesh-bench", &base, &format!("p2p:\n  network_token: {TOKEN}\n"))?;
    let mut one = plugged_in(&stage, &image, "one", &[])?;
    let mut other = plugged_in(&stage, &image, "other", &[])?;
    one.arrive()?;
    other.arrive()?;
    let mesh = meshed([&one, &other])?;
    link(&one, &other)?;
    other.sh("iperf3 --server --daemon")?;
    let mut ways = [
        Way { name: "the wire itself", address: "192.0.2.2".into(), rates: Vec::new() },
        Way { name: "WireGuard by hand", address: "198.51.100.2".into(), rates: Vec::new() },
        Way { name: "the mesh's kernel tier", address: mesh, rates: Vec::new() },
    ];
    for round in 0..rounds {
        // Neither is always the second: the machine below changes its pace.
        let is_mesh_first = round % 2 == 1;
        for is_mesh in [is_mesh_first, !is_mesh_first] {
            let nodes = [&one, &other];
            if is_mesh { meshed(nodes).map(drop) } else { alone(nodes) }?;
            let (plain, tier) = ways.split_at_mut(2);
            for way in if is_mesh { tier } else { plain } {
                way.rates.push(flow(&one, &way.address)?);
            }
        }
    }
    let block = render(&ways, &Facts::of_this_machine(&world.runner, rounds, 0)?)?;
    say(&block);
    table::write_down("mesh", &block)?;
    drop((one, other));
    stage.keep_logs()?;
    fs::remove_dir_all(&stage.dir).map_err(Fault::io("remove the benchmark's directory"))?;
    Ok(true)
}

/// Has both in their mesh; gives the second's address there.
fn meshed(nodes: [&Node<'_>; 2]) -> Result<String, Fault> {
    for node in nodes {
        node.sh("sudo systemctl start kairn-mesh.service")?;
    }
    let mut address = String::new();
    for node in nodes {
        let status = formed(node)?;
        let tier = of(&status, "tier");
        ensure(tier == "kernel", || format!("the mesh is carried by {tier}"))?;
        address = of(&status, "ipv4").as_str().unwrap_or_default().to_owned();
    }
    Ok(address)
}

/// Has neither in a mesh: what a node costs is no part of the link that was made by hand.
fn alone(nodes: [&Node<'_>; 2]) -> Result<(), Fault> {
    nodes.into_iter().try_for_each(|node| node.sh("sudo systemctl stop kairn-mesh.service").map(drop))
}

/// Makes the link by hand, with the tools of WireGuard.
fn link(one: &Node<'_>, other: &Node<'_>) -> Result<(), Fault> {
    let key = "umask 077; sudo sh -c 'wg genkey > /run/bench-key'; sudo cat /run/bench-key | wg pubkey";
    let keys = [one.sh(key)?, other.sh(key)?];
    for (node, own, its, key) in [(one, 1, 2, &keys[1]), (other, 2, 1, &keys[0])] {
        let made = node.script(SCRIPT, &format!("{own} {its} {key}"), LONG)?;
        ensure(made.status.success(), || format!("the link was not made: {}{}", made.text(), made.stderr))?;
    }
    Ok(())
}

/// Has one TCP flow go to an address for five seconds; returns bits in a second, as they arrived.
fn flow(node: &Node<'_>, address: &str) -> Result<f64, Fault> {
    let said = node.sh(&format!("iperf3 --client {address} --time 5 --json"))?;
    let value: Value = serde_json::from_str(&said).map_err(wrong)?;
    let rate = value.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    rate.ok_or_else(|| Fault::Failed(format!("iperf3 says: {said}")))
}

fn render(ways: &[Way; 3], facts: &Facts) -> Result<String, Fault> {
    let hand = &ways[1];
    let row = |way: &Way| -> Option<(String, f64)> {
        let rates = Series::of(way.rates.clone())?;
        // Of one round each: the machine below is not always as quick.
        let ratio = Series::of(way.rates.iter().zip(&hand.rates).map(|(way, hand)| way / hand).collect())?.median;
        let (median, minimum) = (rates.median / 1e6, rates.minimum / 1e6);
        Some((format!("| {} | {median:.0} ({minimum:.0}) | {ratio:.2} |\n", way.name), ratio))
    };
    let rows: Option<Vec<(String, f64)>> = ways.iter().map(row).collect();
    let rows = rows.ok_or_else(|| Fault::Failed("nothing was measured".into()))?;
    let ratio = rows.last().map_or(0.0, |(_, ratio)| *ratio);
    let rows: String = rows.into_iter().map(|(row, _)| row).collect();
    Ok(format!(
        "`cargo xtask bench mesh {}`: two guests on one wire, one TCP flow of 5 s over each, in turns of changing order, MTU 1420 in an MTU of \
         1500; no node runs while the others are measured; {}, without KVM. Mbit/s: median (minimum); median of the rounds' ratios.\n\n\
         | | Mbit/s | of the link by hand |\n|---|---|---|\n{rows}\nPromise: the kernel tier carries at least {LEAST} of the link made by \
         hand; measured {ratio:.2}, {}.\n",
        facts.runs,
        facts.here,
        if ratio >= LEAST { "kept" } else { "**missed**" },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_compared_with_those_of_the_link_by_hand() {
        let way = |name, rates: [f64; 3]| Way { name, address: String::new(), rates: rates.to_vec() };
        let ways = [way("wire", [9e8, 8e8, 7e8]), way("hand", [1e8, 2e8, 3e8]), way("mesh", [1.9e8, 1.7e8, 2.1e8])];
        let facts = Facts { here: "here".into(), runs: 3, retried: 0 };
        let text = render(&ways, &facts).unwrap();
        assert!(text.contains("| mesh | 190 (170) | 0.85 |") && text.contains("measured 0.85, **missed**"), "{text}");
        assert!(render(&ways.map(|way| Way { rates: Vec::new(), ..way }), &facts).is_err());
    }
}
