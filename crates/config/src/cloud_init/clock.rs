//! Reads what the clock follows: `timezone` and `ntp`.

use super::{get, not_supported, word};
use crate::step::Actions;
use crate::{Code, Entry, SettingWork, TimeClient, TimeSync, Work};

pub(super) fn timezone(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    let Some(node) = get(entries, "timezone") else { return };
    let work = actions.reader.attempt(|reader| {
        let zone = reader.text(node, "`timezone`")?;
        let letter = |c: char| c.is_ascii_alphanumeric() || "_+-".contains(c);
        let fits = |part: &str| !part.is_empty() && !part.starts_with('-') && part.chars().all(letter);
        if !zone.split('/').all(fits) {
            reader.error(Code::BadValue, node.place, format!("`{zone}` cannot name a time zone"));
            reader.hint("a zone is written as `Europe/Berlin` or `UTC`");
        }
        Some(Work::Setting(SettingWork::TimeZone(zone)))
    });
    actions.add("timezone".into(), node.place, work);
}

pub(super) fn ntp(actions: &mut Actions<'_, '_>, entries: &[Entry]) {
    // An empty `ntp:` turns it on as it is.
    let Some(node) = crate::reading::field(entries, "ntp") else { return };
    let mut wanted = true;
    let work = actions.reader.attempt(|reader| {
        let entries = reader.map(node, "`ntp`");
        wanted = get(entries, "enabled").and_then(|node| reader.bool(node, "`ntp.enabled`")).unwrap_or(true);
        // The tables say so.
        if get(entries, "config").is_some() {
            return Some(Work::NotSupported("`ntp.config` is not supported yet".to_owned()));
        }
        let mut words = |key: &str| -> Vec<String> {
            let items = get(entries, key).map(|node| reader.list(node, &format!("`ntp.{key}`"))).unwrap_or_default();
            items.iter().filter_map(|item| word(reader, item, &format!("an item of `ntp.{key}`"))).collect()
        };
        let mut time = TimeSync {
            client: None,
            servers: words("servers"),
            pools: words("pools"),
            peers: words("peers"),
            allow: words("allow"),
        };
        if let Some(node) = get(entries, "ntp_client") {
            let text = reader.text(node, "`ntp.ntp_client`")?;
            time.client = match text.as_str() {
                "auto" => None,
                "chrony" => Some(TimeClient::Chrony),
                "systemd-timesyncd" => Some(TimeClient::Timesyncd),
                "ntp" | "ntpdate" | "openntpd" | "ntpsec" => {
                    let why =
                        format!("`ntp_client: {text}` is not supported: there are `chrony` and `systemd-timesyncd`");
                    return Some(not_supported(reader, node, why));
                }
                _ => {
                    let message = format!("`{text}` is no program that keeps the time");
                    reader.error(Code::BadValue, node.place, message);
                    reader.hint("there are `auto`, `chrony` and `systemd-timesyncd`");
                    None
                }
            };
        }
        Some(Work::Setting(SettingWork::TimeSync(time)))
    });
    if wanted {
        actions.add("ntp".into(), node.place, work);
    }
}
