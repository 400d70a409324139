//! Writes a network as keyfiles of NetworkManager (`nm-settings-keyfile(5)`): one connection per interface, or one per wireless
//! network of it. Only root may read them.

use super::address::Net;
use super::controller::{BondParameters, BridgeParameters};
use super::ini::{Ini, join};
use super::model::{
    AccessPoint, Addressing, Band, Dhcp, Dns, Interface, Kind, Network, Route, RouteKind, RouteScope, Rule, Security,
    UseDomains, Virtual, WpaKey,
};
use super::name::{Domain, file_part};
use super::render::Rendering;
use std::net::IpAddr;

/// The name space of the identifiers of connections, drawn once.
const NAME_SPACE: uuid::Uuid = uuid::uuid!("6f0d2a4b-5d0c-4d7a-9a53-0a3e1f6f2c11");

/// Writes a network.
pub(super) fn render(network: &Network) -> Rendering {
    let mut rendering = Rendering { units: vec!["NetworkManager.service".to_owned()], ..Rendering::default() };
    let mut has_addresses = false;
    for interface in &network.interfaces {
        let addressing = &interface.addressing;
        has_addresses |= addressing.dhcp4.is_some() || addressing.dhcp6.is_some() || !addressing.addresses.is_empty();
        match &interface.kind {
            Kind::Wifi(_, points) => {
                for point in points {
                    connection(network, interface, Some(point), &mut rendering);
                }
            }
            _ => connection(network, interface, None, &mut rendering),
        }
        if interface.link.optional {
            let message = format!(
                "NetworkManager has no `optional`: what waits for the network waits for `{}` too",
                interface.id
            );
            rendering.warn(interface, message);
        }
    }
    if !network.dns.is_empty() && !has_addresses {
        // There is no place for them outside connections that would not hide what DHCP gives.
        if let Some(interface) = network.interfaces.first() {
            rendering.warn(interface, "NetworkManager asks name servers of connections with addresses only".to_owned());
        }
    }
    rendering
}

fn uuid(interface: &Interface, point: Option<&AccessPoint>) -> uuid::Uuid {
    let name = match point {
        None => interface.id.to_string(),
        // No name of an interface holds a line break.
        Some(point) => format!("{}\n{}", interface.id, point.ssid.as_str()),
    };
    uuid::Uuid::new_v5(&NAME_SPACE, name.as_bytes())
}

fn connection(network: &Network, interface: &Interface, point: Option<&AccessPoint>, rendering: &mut Rendering) {
    let mut ini = Ini::new();
    let kind = match &interface.kind {
        Kind::Ethernet(_) => "ethernet",
        Kind::Wifi(..) => "wifi",
        Kind::Virtual(_, Virtual::Vlan { .. }) => "vlan",
        Kind::Virtual(_, Virtual::Bond { .. }) => "bond",
        Kind::Virtual(_, Virtual::Bridge { .. }) => "bridge",
        Kind::Virtual(_, Virtual::Dummy) => "dummy",
        Kind::Loopback => "loopback",
    };
    // `file_part` leaves no `@`, so no two of them share a file.
    let file = match point {
        None => file_part(interface.id.as_str()),
        Some(point) => format!("{}@{}", file_part(interface.id.as_str()), file_part(point.ssid.as_str())),
    };
    ini.set("connection", "id", format!("kairn-{file}"));
    ini.set("connection", "uuid", uuid(interface, point));
    ini.set("connection", "type", kind);
    ini.set_some("connection", "interface-name", interface.device());
    head(&mut ini, network, interface);
    link(&mut ini, interface, point);
    match &interface.kind {
        Kind::Virtual(_, Virtual::Vlan { id, link }) => {
            ini.set("vlan", "id", id.get());
            let parent = network.interface(link);
            // A carrier without a certain name is named by its connection.
            let parent = parent
                .map(|parent| parent.device().map_or_else(|| uuid(parent, None).to_string(), |name| name.to_string()));
            ini.set_some("vlan", "parent", parent);
        }
        Kind::Virtual(_, Virtual::Bond { parameters, .. }) => {
            bond(&mut ini, parameters);
            if let Some(primary) = &parameters.primary {
                match network.interface(primary).and_then(Interface::device) {
                    Some(device) => ini.set("bond", "primary", device),
                    None => {
                        let message = format!("NetworkManager needs the name of the device to prefer `{primary}`");
                        rendering.warn(interface, message);
                    }
                }
            }
        }
        Kind::Virtual(_, Virtual::Bridge { parameters, .. }) => bridge(&mut ini, parameters),
        _ => {}
    }
    if let Some(point) = point {
        wifi(&mut ini, point);
    }
    if network.controller(&interface.id).is_some() {
        port(&mut ini, network, interface);
    } else {
        addressing(&mut ini, network, interface, rendering);
    }
    let confidential = point.is_some_and(|point| point.security != Security::Open);
    let path = format!("/etc/NetworkManager/system-connections/kairn-{file}.nmconnection");
    rendering.file(path, ini.into_text(), 0o600, confidential);
}

/// Writes which devices the connection is for, and whose port it is.
fn head(ini: &mut Ini, network: &Network, interface: &Interface) {
    if let Kind::Ethernet(hardware) | Kind::Wifi(hardware, _) = &interface.kind
        && !hardware.selector.is_exact()
    {
        // The first that fits would count; one that chooses a single device goes before.
        ini.set("connection", "autoconnect-priority", -10);
        // One connection for many devices.
        ini.set("connection", "multi-connect", 3);
    }
    if let Some(controller) = network.controller(&interface.id)
        && let Kind::Virtual(name, kind) = &controller.kind
    {
        ini.set("connection", "master", name);
        ini.set("connection", "slave-type", if matches!(kind, Virtual::Bond { .. }) { "bond" } else { "bridge" });
    }
    if let Kind::Ethernet(hardware) | Kind::Wifi(hardware, _) = &interface.kind {
        let selector = &hardware.selector;
        let list =
            |patterns: &[super::Pattern]| patterns.iter().map(|pattern| format!("{pattern};")).collect::<String>();
        if interface.device().is_none() && !selector.names().is_empty() {
            ini.set("match", "interface-name", list(selector.names()));
        }
        if !selector.drivers().is_empty() {
            ini.set("match", "driver", list(selector.drivers()));
        }
        if !selector.paths().is_empty() {
            ini.set("match", "path", list(selector.paths()));
        }
    }
}

fn link(ini: &mut Ini, interface: &Interface, point: Option<&AccessPoint>) {
    let section = if point.is_some() { "wifi" } else { "ethernet" };
    match &interface.kind {
        Kind::Ethernet(hardware) | Kind::Wifi(hardware, _) => {
            let selector = &hardware.selector;
            ini.set_some(section, "mac-address", selector.permanent_mac().or(selector.mac()));
        }
        Kind::Loopback => return ini.set_some("loopback", "mtu", interface.link.mtu.map(super::Mtu::get)),
        Kind::Virtual(..) => {}
    }
    ini.set_some(section, "cloned-mac-address", interface.link.mac);
    ini.set_some(section, "mtu", interface.link.mtu.map(super::Mtu::get));
    // The numbers are flags: magic packets, and not touched (`NM_SETTING_WIRED_WAKE_ON_LAN_*`).
    let wake = interface.link.wake_on_lan.map(|on| if on { 64 } else { 0 });
    if point.is_none() {
        ini.set_some(section, "wake-on-lan", wake);
    }
}

fn wifi(ini: &mut Ini, point: &AccessPoint) {
    ini.set("wifi", "mode", "infrastructure");
    ini.set("wifi", "ssid", ssid(point.ssid.as_str()));
    ini.set_some("wifi", "hidden", point.hidden.then_some("true"));
    ini.set_some("wifi", "bssid", point.bssid);
    ini.set_some("wifi", "band", point.band.map(|band| if band == Band::Low { "bg" } else { "a" }));
    const AT: &str = "wifi-security";
    match &point.security {
        Security::Open => {}
        Security::WpaPsk(key) => {
            ini.set(AT, "key-mgmt", "wpa-psk");
            let (WpaKey::Passphrase(text) | WpaKey::Raw(text)) = key.reveal();
            ini.set(AT, "psk", escaped(text));
        }
        Security::Sae(password) => {
            ini.set(AT, "key-mgmt", "sae");
            ini.set(AT, "psk", escaped(password.reveal()));
        }
    }
}

/// Writes the name of a wireless network: as text where no reader could take it for something else, else as a list of bytes.
fn ssid(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if plain { text.to_owned() } else { text.bytes().map(|byte| format!("{byte};")).collect() }
}

/// Escapes a text for a keyfile: backslashes, and blanks at either end, which a reader would cut off.
fn escaped(text: &str) -> String {
    let core = text.trim_matches(' ');
    let before = text.len() - text.trim_start_matches(' ').len();
    let after = text.len() - before - core.len();
    format!("{}{}{}", "\\s".repeat(before), core.replace('\\', "\\\\"), "\\s".repeat(after))
}

fn bond(ini: &mut Ini, bond: &BondParameters) {
    const AT: &str = "bond";
    ini.set(AT, "mode", bond.mode.unwrap_or(super::BondMode::RoundRobin).word());
    ini.set_some(AT, "lacp_rate", bond.lacp_rate.map(super::LacpRate::word));
    ini.set_some(AT, "miimon", bond.mii_interval);
    ini.set_some(AT, "min_links", bond.min_links);
    ini.set_some(AT, "xmit_hash_policy", bond.hash_policy.map(super::HashPolicy::word));
    ini.set_some(AT, "ad_select", bond.ad_select.map(super::AdSelect::word));
    ini.set_some(AT, "all_slaves_active", bond.all_members_active.map(u8::from));
    ini.set_some(AT, "arp_interval", bond.arp_interval);
    ini.set_some(AT, "arp_ip_target", (!bond.arp_targets.is_empty()).then(|| join(&bond.arp_targets, ",")));
    ini.set_some(AT, "arp_validate", bond.arp_validate.map(super::ArpValidate::word));
    ini.set_some(AT, "arp_all_targets", bond.arp_all_targets.map(super::ArpTargets::word));
    ini.set_some(AT, "updelay", bond.up_delay);
    ini.set_some(AT, "downdelay", bond.down_delay);
    ini.set_some(AT, "fail_over_mac", bond.fail_over_mac.map(super::FailOverMac::word));
    ini.set_some(AT, "num_grat_arp", bond.gratuitous_arp);
    ini.set_some(AT, "packets_per_slave", bond.packets_per_member);
    ini.set_some(AT, "primary_reselect", bond.primary_reselect.map(super::PrimaryReselect::word));
    ini.set_some(AT, "resend_igmp", bond.resend_igmp);
    ini.set_some(AT, "lp_interval", bond.learn_interval);
}

fn bridge(ini: &mut Ini, bridge: &BridgeParameters) {
    const AT: &str = "bridge";
    ini.set_some(AT, "stp", bridge.stp);
    ini.set_some(AT, "priority", bridge.priority);
    ini.set_some(AT, "forward-delay", bridge.forward_delay);
    ini.set_some(AT, "hello-time", bridge.hello_time);
    ini.set_some(AT, "max-age", bridge.max_age);
    ini.set_some(AT, "ageing-time", bridge.ageing_time);
}

fn port(ini: &mut Ini, network: &Network, interface: &Interface) {
    let ports = network.interfaces.iter().filter_map(|controller| match &controller.kind {
        Kind::Virtual(_, Virtual::Bridge { ports, .. }) => Some(ports),
        _ => None,
    });
    if let Some(port) = ports.flatten().find(|port| port.id == interface.id) {
        ini.set_some("bridge-port", "path-cost", port.cost);
        ini.set_some("bridge-port", "priority", port.priority);
    }
}

/// What differs between `[ipv4]` and `[ipv6]`.
struct Family {
    section: &'static str,
    v4: bool,
    method: &'static str,
}

fn addressing(ini: &mut Ini, network: &Network, interface: &Interface, rendering: &mut Rendering) {
    let all = &interface.addressing;
    let has = |v4: bool| all.addresses.iter().any(|address| address.net.is_v4() == v4);
    let asked = all.dhcp4.is_some() || all.dhcp6.is_some() || !all.addresses.is_empty();
    let method4 = match (all.dhcp4.is_some(), has(true), all.link_local.v4) {
        (true, ..) => "auto",
        (false, true, _) => "manual",
        (false, false, true) => "link-local",
        (false, false, false) => "disabled",
    };
    let quiet = matches!(interface.kind, Kind::Loopback | Kind::Virtual(_, Virtual::Dummy));
    let routers = all.router_advertisements.unwrap_or(asked && !quiet) && (all.link_local.v6 || all.dhcp6.is_some());
    let method6 = match (routers, all.dhcp6.is_some(), has(false), all.link_local.v6) {
        // `auto` listens to routers and asks DHCP servers if they say so.
        (true, ..) => "auto",
        (false, true, ..) => "dhcp",
        (false, false, true, _) => "manual",
        (false, false, false, true) => "link-local",
        (false, false, false, false) => "disabled",
    };
    // For the loopback device `auto` and `manual` are all that is accepted.
    let loopback = |method, has| match interface.kind {
        Kind::Loopback if has => "manual",
        Kind::Loopback => "auto",
        _ => method,
    };
    let (method4, method6) = (loopback(method4, has(true)), loopback(method6, has(false)));
    let families = [
        (Family { section: "ipv4", v4: true, method: method4 }, all.dhcp4.as_ref()),
        (Family { section: "ipv6", v4: false, method: method6 }, all.dhcp6.as_ref()),
    ];
    for (family, dhcp) in &families {
        self::family(ini, network, interface, family, *dhcp, rendering);
    }
    if !all.dns.search.is_empty() && families.iter().all(|(family, _)| family.method == "disabled") {
        rendering.warn(interface, "domains to search have no effect on an interface without addresses".into());
    }
    if interface.kind == Kind::Loopback {
        rendering.warn(interface, "NetworkManager sets addresses of the loopback device from version 1.42 on".into());
    }
}

fn family(
    ini: &mut Ini,
    network: &Network,
    interface: &Interface,
    family: &Family,
    dhcp: Option<&Dhcp>,
    rendering: &mut Rendering,
) {
    let Addressing { addresses, routes, rules, dns, .. } = &interface.addressing;
    let &Family { section, v4, method } = family;
    let off = method == "disabled";
    ini.set(section, "method", method);
    for (index, address) in addresses.iter().filter(|address| address.net.is_v4() == v4).enumerate() {
        ini.set(section, &format!("address{}", index + 1), address.net);
        if let Some(label) = &address.label {
            rendering.warn(interface, format!("NetworkManager has no labels; {} goes without `{label}`", address.net));
        }
        if address.deprecated {
            rendering.warn(
                interface,
                format!("NetworkManager has no lifetimes; {} is preferred as others are", address.net),
            );
        }
    }
    let lost = |rendering: &mut Rendering, what: String| {
        let name = if v4 { "IPv4" } else { "IPv6" };
        rendering.warn(interface, format!("{what} has no effect: {name} is off on `{}`", interface.id));
    };
    let routes: Vec<&Route> = routes.iter().filter(|route| route.to.is_v4() == v4).collect();
    for (index, entry) in routes.iter().enumerate() {
        if off {
            lost(rendering, format!("the route to {}", entry.to));
        } else {
            route(ini, section, index + 1, entry);
        }
    }
    for (index, entry) in rules.iter().enumerate() {
        // One without addresses is for IPv4, as in `ip rule`.
        if entry.from.or(entry.to).is_none_or(Net::is_v4) == v4 {
            rule(ini, section, index, entry);
        }
    }
    let asked = interface.addressing.dhcp4.is_some()
        || interface.addressing.dhcp6.is_some()
        || !interface.addressing.addresses.is_empty();
    let servers = |dns: &Dns| dns.servers.iter().copied().filter(|server| server.is_ipv4() == v4).collect::<Vec<_>>();
    let own: Vec<IpAddr> = servers(dns);
    if off && !own.is_empty() {
        lost(rendering, format!("the name server {}", join(&own, ", ")));
    }
    if !off {
        // What is for all interfaces is written to each that has addresses.
        let global = Some(&network.dns).filter(|_| asked && interface.kind != Kind::Loopback);
        let all: Vec<IpAddr> = own.into_iter().chain(global.map(servers).unwrap_or_default()).collect();
        let search: Vec<&Domain> = dns.search.iter().chain(global.iter().flat_map(|dns| &dns.search)).collect();
        ini.set_some(section, "dns", (!all.is_empty()).then(|| list(all)));
        ini.set_some(section, "dns-search", (!search.is_empty()).then(|| list(search)));
    }
    if let Some(dhcp) = dhcp {
        options(ini, interface, family, dhcp, rendering);
    }
}

fn list<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| format!("{value};")).collect()
}

fn route(ini: &mut Ini, section: &'static str, number: usize, route: &Route) {
    let mut line = route.to.to_string();
    match (route.via, route.metric) {
        (Some(via), Some(metric)) => line.push_str(&format!(",{via},{metric}")),
        (Some(via), None) => line.push_str(&format!(",{via}")),
        (None, Some(metric)) => line.push_str(&format!(",,{metric}")),
        (None, None) => {}
    }
    ini.set(section, &format!("route{number}"), line);
    let mut options = Vec::new();
    if route.on_link && route.via.is_some() {
        options.push("onlink=true".to_owned());
    }
    options.extend(route.table.map(|table| format!("table={table}")));
    options.extend(route.source.map(|source| format!("src={source}")));
    options.extend(route.mtu.map(|mtu| format!("mtu={}", mtu.get())));
    // Numbers of rtnetlink(7).
    options.extend(route.scope.map(|scope| match scope {
        RouteScope::Global => "scope=0".to_owned(),
        RouteScope::Link => "scope=253".to_owned(),
        RouteScope::Host => "scope=254".to_owned(),
    }));
    if route.kind != RouteKind::Unicast {
        options.push(format!("type={}", route.kind.word()));
    }
    if !options.is_empty() {
        ini.set(section, &format!("route{number}_options"), options.join(","));
    }
}

fn rule(ini: &mut Ini, section: &'static str, index: usize, rule: &Rule) {
    // NetworkManager wants a priority; the kernel would choose downwards from 32765.
    let priority = rule.priority.unwrap_or_else(|| 32765_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX)));
    let mut words = vec![format!("priority {priority}")];
    let all = if section == "ipv4" { Net::ALL_V4 } else { Net::ALL_V6 };
    match (rule.from, rule.to) {
        (None, None) => words.push(format!("from {all}")),
        (from, to) => {
            words.extend(from.map(|from| format!("from {from}")));
            words.extend(to.map(|to| format!("to {to}")));
        }
    }
    words.extend(rule.mark.map(|mark| format!("fwmark {mark:#x}")));
    words.extend(rule.type_of_service.map(|tos| format!("tos {tos:#04x}")));
    words.push(format!("table {}", rule.table));
    ini.set(section, &format!("routing-rule{}", index + 1), words.join(" "));
}

fn options(ini: &mut Ini, interface: &Interface, family: &Family, dhcp: &Dhcp, rendering: &mut Rendering) {
    let &Family { section, v4, .. } = family;
    ini.set_some(section, "ignore-auto-dns", dhcp.use_dns.map(|take| !take));
    ini.set_some(section, "ignore-auto-routes", dhcp.use_routes.map(|take| !take));
    ini.set_some(section, "route-metric", dhcp.route_metric);
    ini.set_some(section, "dhcp-send-hostname", dhcp.send_hostname);
    ini.set_some(section, "dhcp-hostname", dhcp.hostname.as_ref());
    if v4 {
        ini.set_some(section, "dhcp-client-id", dhcp.identifier.map(super::DhcpIdentifier::word));
    }
    let domains = dhcp.use_domains.filter(|use_domains| *use_domains != UseDomains::Yes);
    for (key, set) in [
        ("use-ntp", dhcp.use_ntp.is_some()),
        ("use-hostname", dhcp.use_hostname.is_some()),
        ("use-mtu", dhcp.use_mtu.is_some()),
        ("use-domains", domains.is_some()),
    ] {
        if set {
            rendering
                .warn(interface, format!("NetworkManager has no `{key}` of its own in `{section}`; it has no effect"));
        }
    }
}
