//! The network that a configuration describes: files for the service that carries it out, and what an earlier one left taken away.

use crate::files::write_if_other;
use crate::{Context, Error, systemd};
use kairn_config::network::{FOLDERS, Network, Renderer, RendererWish, is_rendered, render};
use kairn_host::files;
use kairn_report::{Event, Sink};
use std::collections::BTreeSet;
use std::fs;

/// The services that carry a network out.
pub const UNITS: [&str; 3] = ["systemd-networkd.service", "systemd-resolved.service", "NetworkManager.service"];

/// Writes a network; says whether anything changed. Where systemd runs already, the services read it anew.
pub fn ensure(context: &Context, network: &Network, sink: &mut dyn Sink) -> Result<bool, Error> {
    let renderer = choose(context, network.renderer)?;
    let rendering = render(network, renderer);
    for said in &rendering.diagnostics {
        sink.event(Event::warning(said.to_string()));
    }
    let wanted: BTreeSet<&str> = rendering.files.iter().map(|file| file.path.as_str()).collect();
    let mut changed = remove_stale(context, &wanted)?;
    for file in &rendering.files {
        let path = context.at(file.path.as_ref());
        let before = fs::metadata(&path).ok();
        changed |= write_if_other(&path, file.content.reveal().as_bytes(), file.mode.0, before.as_ref())?;
        changed |= crate::files::settle(&path, Some(file.mode), None, None)?;
    }
    for unit in &rendering.units {
        changed |= systemd::enable(unit, context, sink)?;
    }
    if changed && systemd::runs(context) {
        systemd::reload(&UNITS, context, sink)?;
    }
    Ok(changed)
}

/// The service that is wished for, else the one that the root has.
fn choose(context: &Context, wish: RendererWish) -> Result<Renderer, Error> {
    let has = |path: &str| context.at(path.as_ref()).exists();
    let networkd = has("/usr/lib/systemd/systemd-networkd") || has("/lib/systemd/systemd-networkd");
    let manager = has("/usr/sbin/NetworkManager");
    match (wish, networkd, manager) {
        (RendererWish::Auto | RendererWish::Only(Renderer::Networkd), true, _) => Ok(Renderer::Networkd),
        (RendererWish::Auto | RendererWish::Only(Renderer::NetworkManager), _, true) => Ok(Renderer::NetworkManager),
        (RendererWish::Only(Renderer::Networkd), ..) => Err(absent("systemd-networkd")),
        (RendererWish::Only(Renderer::NetworkManager), ..) => Err(absent("NetworkManager")),
        (RendererWish::Auto, ..) => Err(absent("neither systemd-networkd nor NetworkManager")),
    }
}

fn absent(what: &str) -> Error {
    let why = if what.starts_with("neither") { format!("{what} is there") } else { format!("{what} is not there") };
    Error::refused(why, "the image needs the distribution's package that has it".to_owned())
}

/// Removes what an earlier network left and this one does not have.
fn remove_stale(context: &Context, wanted: &BTreeSet<&str>) -> Result<bool, Error> {
    let mut removed = false;
    for folder in FOLDERS {
        for name in files::names(&context.at(folder.as_ref()))? {
            let path = format!("{folder}/{}", name.to_string_lossy());
            if wanted.contains(path.as_str()) {
                continue;
            }
            let here = context.at(path.as_ref());
            let is_ours = here.is_file() && files::read_text(&here).is_ok_and(|text| is_rendered(&path, &text));
            if is_ours {
                files::remove_file(&here)?;
                removed = true;
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::run;
    use crate::tool::tests::{root_with_shell, stand_in};
    use kairn_config::Document;

    fn documents(interface: &str) -> [Document; 1] {
        let text = format!("#cloud-config\nnetwork: {{interfaces: [{{name: {interface}, dhcp: true}}]}}\n");
        [Document::parse("/oem/a.yaml", &text)]
    }

    #[test]
    fn a_network_is_written_once_and_takes_the_place_of_the_one_before() {
        let Some(dir) = root_with_shell() else { return };
        // It says that units are enabled, so that there is nothing to do about them.
        stand_in(dir.path(), "systemctl", "");
        fs::rename(dir.path().join("usr/sbin/systemctl"), dir.path().join("usr/bin/systemctl")).unwrap();
        let context = context(dir.path());
        let failed = run(&documents("eth0"), "initramfs", &context, &mut Vec::new());
        assert_eq!(failed.failures(), 1, "{failed:?}");
        fs::create_dir_all(dir.path().join("usr/lib/systemd")).unwrap();
        fs::write(dir.path().join("usr/lib/systemd/systemd-networkd"), "").unwrap();
        fs::create_dir_all(dir.path().join("etc/systemd/network")).unwrap();
        fs::write(dir.path().join("etc/systemd/network/80-own.network"), "[Match]\n").unwrap();
        let files = |interface: &str| {
            let network = documents(interface);
            let plan = kairn_config::plan(&network, "initramfs");
            let kairn_config::Work::Network(work) = &plan.steps[0].actions[0].work else { panic!("{plan:?}") };
            let changed = ensure(&context, &work.0, &mut Vec::new());
            let mut names = kairn_host::files::names(&dir.path().join("etc/systemd/network")).unwrap();
            names.sort();
            (changed.unwrap(), names)
        };
        let (changed, first) = files("eth0");
        assert!(changed && first.len() == 2, "{first:?}");
        assert!(!files("eth0").0);
        let (changed, second) = files("eth1");
        assert!(changed && second.len() == 2 && second != first, "{second:?}");
        assert!(second.iter().any(|name| name == "80-own.network"));
    }
}
