//! What a renderer makes of a network: files, units to enable, and what it cannot say.

use super::model::{Hardware, Interface, Kind, Network, Renderer};
use super::name::file_part;
use super::{ini, network_manager, networkd};
use crate::{Code, Diagnostic, Mode, Severity};
use ini::{Ini, MARK, join};
use kairn_report::Secret;

/// The folders of the files that [`render`] gives.
pub const FOLDERS: [&str; 4] = [
    "/etc/NetworkManager/system-connections",
    "/etc/systemd/network",
    "/etc/systemd/resolved.conf.d",
    "/etc/wpa_supplicant",
];

/// Everything that carries a network out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// The files, by path.
    pub files: Vec<RenderedFile>,
    /// The units to enable, in order.
    pub units: Vec<String>,
    /// What the renderer cannot say, each at the interface that it is about.
    pub diagnostics: Vec<Diagnostic>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedFile {
    /// Its absolute path in the root.
    pub path: String,
    /// What it holds.
    pub content: Secret<String>,
    /// Its permissions.
    pub mode: Mode,
    /// Whether it holds a key or password, and must not be shown.
    pub confidential: bool,
}

/// Writes a network for a service. The same network gives the same files; they replace all that
/// [`is_rendered`] knows.
#[must_use]
pub fn render(network: &Network, renderer: Renderer) -> Rendering {
    let mut rendering = match renderer {
        Renderer::Networkd => networkd::render(network),
        Renderer::NetworkManager => network_manager::render(network),
    };
    for interface in &network.interfaces {
        rendering.link(interface);
    }
    rendering.files.sort_by(|a, b| a.path.cmp(&b.path));
    rendering
}

/// Says whether a file was written by [`render`], so that what an earlier network left can be removed.
#[must_use]
pub fn is_rendered(path: &str, content: &str) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    FOLDERS.contains(&folder) && content.starts_with(MARK)
}

impl Rendering {
    /// Adds a file.
    pub(super) fn file(&mut self, path: String, text: String, mode: u32, confidential: bool) {
        self.files.push(RenderedFile { path, content: Secret::new(text), mode: Mode(mode), confidential });
    }

    /// Says what cannot be said in the files.
    pub(super) fn warn(&mut self, interface: &Interface, message: String) {
        let said = Diagnostic::new(Severity::Warning, Code::NotSupported, interface.span.clone(), message);
        self.diagnostics.push(said);
    }

    /// Writes what udev does when a device appears, whatever service follows: its name, and waking by packets.
    fn link(&mut self, interface: &Interface) {
        let (Kind::Ethernet(hardware) | Kind::Wifi(hardware, _)) = &interface.kind else { return };
        if hardware.set_name.is_none() && interface.link.wake_on_lan.is_none() {
            return;
        }
        let selector = &hardware.selector;
        let early =
            |name: &str| name.starts_with("eth") || name.starts_with("wlan") || !name.contains(char::is_alphanumeric);
        if selector.names().iter().any(|name| !early(name.as_str())) {
            let what = if hardware.set_name.is_some() { "its new name" } else { "waking by packets" };
            self.warn(
                interface,
                format!(
                    "udev sees the kernel's name of `{}` (`eth0` and the like) when it sets {what}; choose it by address, driver or path",
                    interface.id
                ),
            );
        }
        let mut ini = Ini::new();
        matches(&mut ini, interface, hardware, "OriginalName");
        match &hardware.set_name {
            Some(name) => ini.set("Link", "Name", name),
            // This file takes the place of systemd's default one, so it says the same.
            None => {
                ini.set("Link", "NamePolicy", "keep kernel database onboard slot path");
                ini.set("Link", "AlternativeNamesPolicy", "database onboard slot path");
            }
        }
        ini.set("Link", "MACAddressPolicy", "persistent");
        ini.set_some("Link", "WakeOnLan", interface.link.wake_on_lan.map(|on| if on { "magic" } else { "off" }));
        self.file(stem(interface, "link"), ini.into_text(), 0o644, false);
    }
}

/// Names a file of systemd. One that chooses by kind sorts behind those that choose one device, since the first match counts.
pub(super) fn stem(interface: &Interface, extension: &str) -> String {
    let exact = match &interface.kind {
        Kind::Ethernet(hardware) | Kind::Wifi(hardware, _) => hardware.selector.is_exact(),
        Kind::Virtual(..) | Kind::Loopback => true,
    };
    let order = if exact { 10 } else { 11 };
    format!("/etc/systemd/network/{order}-kairn-{}.{extension}", file_part(interface.id.as_str()))
}

/// Writes `[Match]` of a device of the machine, but for its names.
pub(super) fn matches(ini: &mut Ini, interface: &Interface, hardware: &Hardware, name_key: &str) {
    let selector = &hardware.selector;
    let names = match &hardware.set_name {
        // When networkd looks, the device has its new name.
        Some(name) if name_key == "Name" => name.to_string(),
        _ => join(selector.names(), " "),
    };
    ini.set_some("Match", name_key, (!names.is_empty()).then_some(names));
    // A device that gets another address would not match by its present one a second time.
    let (mac, permanent) = match (selector.permanent_mac(), interface.link.mac) {
        (None, Some(_)) => (None, selector.mac()),
        (permanent, _) => (selector.mac(), permanent),
    };
    ini.set_some("Match", "MACAddress", mac);
    ini.set_some("Match", "PermanentMACAddress", permanent);
    for (key, patterns) in [("Driver", selector.drivers()), ("Path", selector.paths())] {
        ini.set_some("Match", key, (!patterns.is_empty()).then(|| join(patterns, " ")));
    }
    // Devices that are made on top inherit the address of the one below.
    if selector.mac().is_some() || selector.names().iter().any(|name| !name.is_literal()) {
        ini.set("Match", "Type", "!vlan bond bridge dummy");
    }
}
