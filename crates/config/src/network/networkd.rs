//! Writes a network for systemd-networkd (`systemd.network(5)`, `systemd.netdev(5)`), for systemd-resolved, and for
//! wpa_supplicant where there are wireless networks.

use super::controller::{BondParameters, BridgeParameters};
use super::ini::{Ini, join};
use super::model::{Addressing, Dhcp, Interface, Kind, LinkLocal, Network, Route, RouteKind, Virtual};
use super::render::{Rendering, matches, stem};
use super::{RouteScope, wpa_supplicant};

/// Writes a network.
pub(super) fn render(network: &Network) -> Rendering {
    let mut rendering = Rendering { units: vec!["systemd-networkd.service".to_owned()], ..Rendering::default() };
    if !network.dns.is_empty() {
        let mut ini = Ini::new();
        let dns = &network.dns;
        ini.set_some("Resolve", "DNS", (!dns.servers.is_empty()).then(|| join(&dns.servers, " ")));
        ini.set_some("Resolve", "Domains", (!dns.search.is_empty()).then(|| join(&dns.search, " ")));
        let path = "/etc/systemd/resolved.conf.d/10-kairn-network.conf";
        rendering.file(path.to_owned(), ini.into_text(), 0o644, false);
    }
    let names = |addressing: &Addressing| !addressing.dns.is_empty();
    if !network.dns.is_empty() || network.interfaces.iter().any(|interface| names(&interface.addressing)) {
        rendering.units.push("systemd-resolved.service".to_owned());
    }
    for interface in &network.interfaces {
        if let Kind::Virtual(..) = interface.kind {
            let text = netdev(interface);
            rendering.file(stem(interface, "netdev"), text, 0o644, false);
        }
        let text = self::network(network, interface, &mut rendering);
        rendering.file(stem(interface, "network"), text, 0o644, false);
        if let Kind::Wifi(_, points) = &interface.kind {
            wpa_supplicant::render(interface, points, &mut rendering);
        }
    }
    rendering
}

fn netdev(interface: &Interface) -> String {
    let mut ini = Ini::new();
    let Kind::Virtual(name, kind) = &interface.kind else { return ini.into_text() };
    ini.set("NetDev", "Name", name);
    let kind_name = match kind {
        Virtual::Vlan { .. } => "vlan",
        Virtual::Bond { .. } => "bond",
        Virtual::Bridge { .. } => "bridge",
        Virtual::Dummy => "dummy",
    };
    ini.set("NetDev", "Kind", kind_name);
    ini.set_some("NetDev", "MTUBytes", interface.link.mtu.map(super::Mtu::get));
    ini.set_some("NetDev", "MACAddress", interface.link.mac);
    match kind {
        Virtual::Vlan { id, .. } => ini.set("VLAN", "Id", id.get()),
        Virtual::Bond { parameters, .. } => bond(&mut ini, parameters),
        Virtual::Bridge { parameters, .. } => bridge(&mut ini, parameters),
        Virtual::Dummy => {}
    }
    ini.into_text()
}

fn bond(ini: &mut Ini, bond: &BondParameters) {
    const AT: &str = "Bond";
    let millis = |value: Option<u32>| value.map(|value| format!("{value}ms"));
    ini.set_some(AT, "Mode", bond.mode.map(super::BondMode::word));
    ini.set_some(AT, "TransmitHashPolicy", bond.hash_policy.map(super::HashPolicy::word));
    ini.set_some(AT, "LACPTransmitRate", bond.lacp_rate.map(super::LacpRate::word));
    ini.set_some(AT, "MIIMonitorSec", millis(bond.mii_interval));
    ini.set_some(AT, "UpDelaySec", millis(bond.up_delay));
    ini.set_some(AT, "DownDelaySec", millis(bond.down_delay));
    ini.set_some(AT, "LearnPacketIntervalSec", bond.learn_interval);
    ini.set_some(AT, "AdSelect", bond.ad_select.map(super::AdSelect::word));
    ini.set_some(AT, "FailOverMACPolicy", bond.fail_over_mac.map(super::FailOverMac::word));
    ini.set_some(AT, "ARPValidate", bond.arp_validate.map(super::ArpValidate::word));
    ini.set_some(AT, "ARPIntervalSec", millis(bond.arp_interval));
    ini.set_some(AT, "ARPIPTargets", (!bond.arp_targets.is_empty()).then(|| join(&bond.arp_targets, " ")));
    ini.set_some(AT, "ARPAllTargets", bond.arp_all_targets.map(super::ArpTargets::word));
    ini.set_some(AT, "PrimaryReselectPolicy", bond.primary_reselect.map(super::PrimaryReselect::word));
    ini.set_some(AT, "ResendIGMP", bond.resend_igmp);
    ini.set_some(AT, "PacketsPerSlave", bond.packets_per_member);
    ini.set_some(AT, "GratuitousARP", bond.gratuitous_arp);
    ini.flag(AT, "AllSlavesActive", bond.all_members_active);
    ini.set_some(AT, "MinLinks", bond.min_links);
}

fn bridge(ini: &mut Ini, bridge: &BridgeParameters) {
    const AT: &str = "Bridge";
    ini.flag(AT, "STP", bridge.stp);
    ini.set_some(AT, "Priority", bridge.priority);
    ini.set_some(AT, "ForwardDelaySec", bridge.forward_delay);
    ini.set_some(AT, "HelloTimeSec", bridge.hello_time);
    ini.set_some(AT, "MaxAgeSec", bridge.max_age);
    ini.set_some(AT, "AgeingTimeSec", bridge.ageing_time);
}

fn network(network: &Network, interface: &Interface, rendering: &mut Rendering) -> String {
    let mut ini = Ini::new();
    match &interface.kind {
        Kind::Ethernet(hardware) | Kind::Wifi(hardware, _) => {
            matches(&mut ini, interface, hardware, "Name");
            ini.set_some("Link", "MTUBytes", interface.link.mtu.map(super::Mtu::get));
            ini.set_some("Link", "MACAddress", interface.link.mac);
        }
        Kind::Virtual(name, _) => ini.set("Match", "Name", name),
        Kind::Loopback => {
            ini.set("Match", "Name", "lo");
            ini.set_some("Link", "MTUBytes", interface.link.mtu.map(super::Mtu::get));
        }
    }
    if interface.link.optional {
        ini.set("Link", "RequiredForOnline", "no");
    }
    ini.section("Network");
    let controller = network.controller(&interface.id);
    match controller.map(|controller| &controller.kind) {
        Some(Kind::Virtual(name, Virtual::Bond { parameters, .. })) => {
            ini.set("Network", "Bond", name);
            if parameters.primary.as_ref() == Some(&interface.id) {
                ini.set("Network", "PrimarySlave", "yes");
            }
        }
        Some(Kind::Virtual(name, Virtual::Bridge { .. })) => ini.set("Network", "Bridge", name),
        _ => {}
    }
    for vlan in network.interfaces.iter().filter(|vlan| vlan.carrier() == Some(&interface.id)) {
        if let Kind::Virtual(name, _) = &vlan.kind {
            ini.set("Network", "VLAN", name);
        }
    }
    if controller.is_some() {
        ini.set("Network", "LinkLocalAddressing", "no");
        ini.set("Network", "IPv6AcceptRA", "no");
        port(network, interface, &mut ini);
        return ini.into_text();
    }
    if matches!(&interface.kind, Kind::Virtual(_, Virtual::Bridge { ports, .. }) if ports.is_empty()) {
        // It would wait for a carrier that only ports can bring.
        ini.set("Network", "ConfigureWithoutCarrier", "yes");
    }
    addressing(&mut ini, interface, rendering);
    ini.into_text()
}

fn port(network: &Network, interface: &Interface, ini: &mut Ini) {
    let ports = network.interfaces.iter().filter_map(|controller| match &controller.kind {
        Kind::Virtual(_, Virtual::Bridge { ports, .. }) => Some(ports),
        _ => None,
    });
    if let Some(port) = ports.flatten().find(|port| port.id == interface.id) {
        ini.set_some("Bridge", "Cost", port.cost);
        ini.set_some("Bridge", "Priority", port.priority);
    }
}

fn addressing(ini: &mut Ini, interface: &Interface, rendering: &mut Rendering) {
    const AT: &str = "Network";
    let Addressing { dhcp4, dhcp6, router_advertisements, link_local, addresses, routes, rules, dns } =
        &interface.addressing;
    let dhcp = match (dhcp4.is_some(), dhcp6.is_some()) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    ini.set(AT, "DHCP", dhcp);
    if !matches!(interface.kind, Kind::Loopback) {
        let link_local = match link_local {
            LinkLocal { v4: true, v6: true } => "yes",
            LinkLocal { v4: true, v6: false } => "ipv4",
            LinkLocal { v4: false, v6: true } => "ipv6",
            LinkLocal { v4: false, v6: false } => "no",
        };
        ini.set(AT, "LinkLocalAddressing", link_local);
        ini.flag(AT, "IPv6AcceptRA", *router_advertisements);
    }
    for server in &dns.servers {
        ini.set(AT, "DNS", server);
    }
    ini.set_some(AT, "Domains", (!dns.search.is_empty()).then(|| join(&dns.search, " ")));
    let plain = |address: &&super::Address| address.label.is_none() && !address.deprecated;
    for address in addresses.iter().filter(plain) {
        ini.set(AT, "Address", address.net);
    }
    for address in addresses.iter().filter(|address| !plain(address)) {
        ini.section("Address");
        ini.set("Address", "Address", address.net);
        ini.set_some("Address", "Label", address.label.as_ref());
        ini.set_some("Address", "PreferredLifetime", address.deprecated.then_some(0));
    }
    for entry in routes {
        route(ini, entry);
    }
    for rule in rules {
        const AT: &str = "RoutingPolicyRule";
        ini.section(AT);
        ini.set_some(AT, "From", rule.from);
        ini.set_some(AT, "To", rule.to);
        ini.set(AT, "Table", rule.table);
        ini.set_some(AT, "Priority", rule.priority);
        ini.set_some(AT, "FirewallMark", rule.mark);
        ini.set_some(AT, "TypeOfService", rule.type_of_service);
    }
    if let Some(dhcp) = dhcp4 {
        options_v4(ini, dhcp);
    }
    if let Some(dhcp) = dhcp6 {
        options_v6(ini, dhcp, interface, rendering);
    }
}

fn route(ini: &mut Ini, route: &Route) {
    const AT: &str = "Route";
    ini.section(AT);
    ini.set(AT, "Destination", route.to);
    ini.set_some(AT, "Gateway", route.via);
    ini.flag(AT, "GatewayOnLink", (route.on_link && route.via.is_some()).then_some(true));
    ini.set_some(AT, "PreferredSource", route.source);
    ini.set_some(AT, "Metric", route.metric);
    ini.set_some(AT, "Table", route.table);
    ini.set_some(AT, "Scope", route.scope.map(RouteScope::word));
    ini.set_some(AT, "Type", Some(route.kind).filter(|kind| *kind != RouteKind::Unicast).map(RouteKind::word));
    ini.set_some(AT, "MTUBytes", route.mtu.map(super::Mtu::get));
}

fn options_v4(ini: &mut Ini, dhcp: &Dhcp) {
    const AT: &str = "DHCPv4";
    ini.set_some(AT, "ClientIdentifier", dhcp.identifier.map(super::DhcpIdentifier::word));
    ini.flag(AT, "UseDNS", dhcp.use_dns);
    ini.flag(AT, "UseNTP", dhcp.use_ntp);
    ini.flag(AT, "UseHostname", dhcp.use_hostname);
    ini.flag(AT, "UseMTU", dhcp.use_mtu);
    ini.flag(AT, "UseRoutes", dhcp.use_routes);
    ini.set_some(AT, "UseDomains", dhcp.use_domains.map(super::UseDomains::word));
    ini.set_some(AT, "RouteMetric", dhcp.route_metric);
    ini.flag(AT, "SendHostname", dhcp.send_hostname);
    ini.set_some(AT, "Hostname", dhcp.hostname.as_ref());
}

fn options_v6(ini: &mut Ini, dhcp: &Dhcp, interface: &Interface, rendering: &mut Rendering) {
    const AT: &str = "DHCPv6";
    ini.flag(AT, "UseDNS", dhcp.use_dns);
    ini.flag(AT, "UseNTP", dhcp.use_ntp);
    ini.flag(AT, "UseHostname", dhcp.use_hostname);
    ini.set_some(AT, "UseDomains", dhcp.use_domains.map(super::UseDomains::word));
    // Routes of IPv6 come from routers, not from DHCP.
    ini.set_some("IPv6AcceptRA", "RouteMetric", dhcp.route_metric);
    if interface.addressing.dhcp4.is_some() {
        return;
    }
    for (set, key) in [
        (dhcp.use_mtu.is_some(), "use-mtu"),
        (dhcp.use_routes.is_some(), "use-routes"),
        (dhcp.send_hostname.is_some(), "send-hostname"),
        (dhcp.hostname.is_some(), "hostname"),
        (dhcp.identifier.is_some(), "identifier"),
    ] {
        if set {
            rendering.warn(interface, format!("systemd-networkd has no `{key}` for DHCP of IPv6; it has no effect"));
        }
    }
}
