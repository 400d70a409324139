//! Writes wireless networks for wpa_supplicant, which joins them where systemd-networkd does the rest.
//!
//! Texts in quotes end at the last quote of their line and know no escapes (`wpa_config_parse_string`), so any printable letter
//! is safe between them; a name with others is written as hexadecimal digits.

use super::model::{AccessPoint, Band, Interface, Security, WpaKey};
use super::render::Rendering;

/// Writes the wireless networks of an interface.
pub(super) fn render(interface: &Interface, points: &[AccessPoint], rendering: &mut Rendering) {
    if points.is_empty() {
        return;
    }
    let Some(device) = interface.device() else {
        let message = format!(
            "wpa_supplicant needs the name of the device; `{}` joins no wireless network until it is chosen by name or renamed",
            interface.id
        );
        return rendering.warn(interface, message);
    };
    let mut text = format!("{}ctrl_interface=/run/wpa_supplicant\n", super::ini::MARK);
    for point in points {
        let mut line = |line: std::fmt::Arguments<'_>| text.push_str(&format!("{line}\n"));
        line(format_args!("\nnetwork={{"));
        line(format_args!("  ssid={}", quoted(point.ssid.as_str())));
        if point.hidden {
            line(format_args!("  scan_ssid=1"));
        }
        if let Some(bssid) = point.bssid {
            line(format_args!("  bssid={bssid}"));
        }
        if let Some(band) = point.band {
            line(format_args!("  freq_list={}", frequencies(band)));
        }
        match &point.security {
            Security::Open => line(format_args!("  key_mgmt=NONE")),
            Security::WpaPsk(key) => {
                line(format_args!("  key_mgmt=WPA-PSK"));
                match key.reveal() {
                    WpaKey::Passphrase(text) => line(format_args!("  psk=\"{text}\"")),
                    WpaKey::Raw(digits) => line(format_args!("  psk={digits}")),
                }
            }
            Security::Sae(password) => {
                line(format_args!("  key_mgmt=SAE"));
                line(format_args!("  sae_password=\"{}\"", password.reveal()));
                // WPA3 demands protected management frames.
                line(format_args!("  ieee80211w=2"));
            }
        }
        line(format_args!("}}"));
    }
    let confidential = points.iter().any(|point| point.security != Security::Open);
    let path = format!("/etc/wpa_supplicant/wpa_supplicant-{device}.conf");
    rendering.file(path, text, 0o600, confidential);
    rendering.units.push(format!("wpa_supplicant@{}.service", escaped(device.as_str())));
}

fn quoted(text: &str) -> String {
    if text.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'"') {
        return format!("\"{text}\"");
    }
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Lists the channels of a band in MHz.
fn frequencies(band: Band) -> String {
    let list: Vec<u32> = match band {
        Band::Low => (2412..=2472).step_by(5).chain([2484]).collect(),
        Band::High => {
            let low = (5180..=5320).step_by(20);
            low.chain((5500..=5720).step_by(20)).chain((5745..=5825).step_by(20)).collect()
        }
    };
    super::ini::join(list, " ")
}

/// Escapes the name of a device for the name of a unit (`systemd.unit(5)`): `wpa_supplicant@.service` takes it unescaped, so a
/// `-` would become a `/`.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':') || byte == b'.' && index > 0 {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
