//! The arrows between the crates against ARCHITECTURE.md, which is the only place where layers and permitted arrows are written.

use crate::build::metadata;
use crate::run::{Failure, print, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// From top to bottom, as the document names them.
const LAYERS: [&str; 5] = ["programs", "engines", "system", "pure", "base"];
/// Packages beside the house: they drive it from outside and nothing depends on them.
const OUTSIDE: [&str; 4] = ["xtask", "kairn-vm", "kairn-vm-guest", "kairn-mesh-sim"];

/// What ARCHITECTURE.md permits.
#[derive(Debug, Default, PartialEq)]
struct Rules {
    /// Layer of each crate, as an index into `LAYERS`.
    layer: BTreeMap<String, usize>,
    /// Arrows within a layer.
    within: BTreeSet<(String, String)>,
    /// Crates that use only some of what lies below them.
    only: BTreeMap<String, BTreeSet<String>>,
}

/// An arrow that cargo knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
    /// It is there for tests only.
    dev: bool,
}

/// Checks and prints a count; fails with every arrow that is not permitted.
pub fn check() -> Result<(), Failure> {
    let path = root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).map_err(Failure::io("read ARCHITECTURE.md"))?;
    let rules = Rules::read(&text);
    let (crates, arrows) = graph(&metadata()?);
    let mut faults: Vec<String> = crates
        .iter()
        .filter(|name| !rules.layer.contains_key(*name) && !outside(name))
        .map(|name| format!("the crate `{name}` is in no layer"))
        .collect();
    faults.extend(arrows.iter().filter_map(|arrow| rules.fault(arrow)));
    if !faults.is_empty() {
        let list = faults.iter().map(|fault| format!("  {fault}\n")).collect::<String>();
        return Err(Failure::failed(format!("the house does not stand as ARCHITECTURE.md says:\n{list}")));
    }
    let dev = arrows.iter().filter(|arrow| arrow.dev).count();
    print(&format!(
        "layers: {} crates, {} arrows and {dev} for tests, all as permitted\n",
        crates.len(),
        arrows.len() - dev
    ))
}

fn outside(name: &str) -> bool {
    OUTSIDE.contains(&name)
}

/// The document names crates without the project's prefix, except where one is named with it.
fn short(name: &str) -> &str {
    if name == "kairn-init" || outside(name) { name } else { name.strip_prefix("kairn-").unwrap_or(name) }
}

/// Reads the packages of the workspace and the arrows between them.
fn graph(metadata: &Value) -> (Vec<String>, Vec<Arrow>) {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let packages = list(metadata, "packages");
    let crates: Vec<String> = packages.iter().map(|package| short(&text(package, "name")).to_owned()).collect();
    let mut arrows = BTreeSet::new();
    for package in &packages {
        for dependency in list(package, "dependencies") {
            let to = short(&text(&dependency, "name")).to_owned();
            // A foreign crate may bear the short name of one of ours; only ours have a path.
            if dependency.get("path").is_some_and(Value::is_string) && crates.contains(&to) {
                let from = short(&text(package, "name")).to_owned();
                arrows.insert(Arrow { from, to, dev: text(&dependency, "kind") == "dev" });
            }
        }
    }
    (crates, arrows.into_iter().collect())
}

impl Rules {
    /// Reads the indented table whose first column names layers, the sentence `Arrows within a layer…: a -> b; c -> d.`, and
    /// sentences like `` `x` uses a, b and c only. ``
    fn read(text: &str) -> Self {
        let mut rules = Self::default();
        let mut layer = None;
        for line in text.lines() {
            if !line.starts_with("    ") {
                layer = None;
                continue;
            }
            let mut columns: Vec<&str> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
            if let Some(found) = columns.first().and_then(|first| LAYERS.iter().position(|layer| layer == first)) {
                layer = Some(found);
                columns.remove(0);
            }
            // Names and descriptions take turns.
            for name in columns.into_iter().step_by(2) {
                if let Some(layer) = layer {
                    rules.layer.insert(name.to_owned(), layer);
                }
            }
        }
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let arrows = flat.split_once("Arrows within a layer").and_then(|(_, rest)| rest.split_once(':'));
        let sentence = arrows.and_then(|(_, rest)| rest.split_once('.')).map_or("", |(sentence, _)| sentence);
        for arrow in sentence.split(';') {
            if let Some((from, to)) = arrow.split_once("->") {
                rules.within.insert((from.trim().to_owned(), to.trim().to_owned()));
            }
        }
        for sentence in flat.split(". ") {
            let Some((name, uses)) = sentence.split_once("` uses ") else { continue };
            let Some(uses) = uses.strip_suffix(" only") else { continue };
            let used = uses.replace(" and ", ", ").split(", ").map(str::to_owned).collect();
            rules.only.insert(name.rsplit('`').next().unwrap_or(name).to_owned(), used);
        }
        rules
    }

    /// Says what is wrong with an arrow.
    fn fault(&self, arrow: &Arrow) -> Option<String> {
        let Arrow { from, to, dev } = arrow;
        let kind = if *dev { " (for tests)" } else { "" };
        if from == "xtask" {
            return Some(format!("xtask -> {to}{kind}: xtask builds before anything else can"));
        }
        if outside(to) {
            return Some(format!("{from} -> {to}{kind}: nothing depends on what stands outside"));
        }
        // Machines of the lab serve anybody's tests.
        if outside(from) || (*dev && to == "lab") {
            return None;
        }
        let (above, below) = (*self.layer.get(from)?, *self.layer.get(to)?);
        let names = |index: usize| LAYERS.get(index).copied().unwrap_or_default();
        if above > below {
            return Some(format!("{from} ({}) -> {to} ({}){kind} points upwards", names(above), names(below)));
        }
        if above == below && !self.within.contains(&(from.clone(), to.clone())) {
            return Some(format!("{from} -> {to}{kind} within the layer {} is not named", names(above)));
        }
        match self.only.get(from) {
            Some(only) if !dev && !only.contains(to) => Some(format!(
                "{from} -> {to}: {from} uses {} only",
                only.iter().cloned().collect::<Vec<_>>().join(", ")
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
## Crates

    programs  kairn-init   PID 1 of the initramfs                 kairn      agent and tool
    engines   factory      source -> release -> media             seal       tree -> release
              lab          machines
    system    host         the only door
    base      report       errors

Arrows within a layer, all others are refused by `cargo xtask check-layers`: factory
-> seal. `kairn-init` uses host and report only. `unsafe` lives in `host`.

    not a layer            of the table
";

    fn arrow(from: &str, to: &str, dev: bool) -> Arrow {
        Arrow { from: from.into(), to: to.into(), dev }
    }

    #[test]
    fn the_document_is_read() {
        let rules = Rules::read(TEXT);
        let layers: Vec<_> = rules.layer.iter().map(|(name, layer)| (name.as_str(), *layer)).collect();
        let expected =
            [("factory", 1), ("host", 2), ("kairn", 0), ("kairn-init", 0), ("lab", 1), ("report", 4), ("seal", 1)];
        assert_eq!(layers, expected);
        assert_eq!(rules.within, [("factory".to_owned(), "seal".to_owned())].into());
        assert_eq!(rules.only, [("kairn-init".to_owned(), ["host".to_owned(), "report".to_owned()].into())].into());
    }

    #[test]
    fn arrows_point_downwards_or_are_named() {
        let rules = Rules::read(TEXT);
        for (from, to, dev) in [
            ("kairn", "factory", false),
            ("factory", "seal", false),
            ("factory", "report", false),
            ("kairn-init", "host", false),
            ("host", "lab", true),
            ("kairn-vm", "kairn", false),
        ] {
            assert_eq!(rules.fault(&arrow(from, to, dev)), None, "{from} -> {to}");
        }
        for (from, to, dev, why) in [
            ("host", "lab", false, "upwards"),
            ("host", "seal", true, "upwards"),
            ("seal", "factory", false, "not named"),
            ("seal", "lab", false, "not named"),
            ("kairn-init", "seal", false, "only"),
            ("xtask", "report", false, "before anything"),
            ("kairn", "kairn-vm", true, "outside"),
        ] {
            let fault = rules.fault(&arrow(from, to, dev)).unwrap_or_default();
            assert!(fault.contains(why), "{from} -> {to}: {fault}");
        }
    }

    #[test]
    fn only_packages_of_the_workspace_make_arrows() {
        let metadata = serde_json::json!({"packages": [
            {"name": "kairn-oci", "dependencies": [
                {"name": "kairn-host", "kind": null, "path": "/w/host"},
                {"name": "host", "kind": null},
                {"name": "kairn-lab", "kind": "dev", "path": "/w/lab"},
            ]},
            {"name": "kairn-host", "dependencies": []},
            {"name": "kairn-lab", "dependencies": []},
        ]});
        let (crates, arrows) = graph(&metadata);
        assert_eq!(crates, ["oci", "host", "lab"]);
        assert_eq!(arrows, [arrow("oci", "host", false), arrow("oci", "lab", true)]);
    }
}
