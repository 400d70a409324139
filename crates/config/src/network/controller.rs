//! How interfaces work that others are members of: bonds (`bonding.rst` of Linux) and bridges.

use super::name::Id;
use super::word::words;

words! {
    /// How the members of a bond share the work (`bonding.rst` of Linux).
    BondMode {
        RoundRobin = "balance-rr",
        ActiveBackup = "active-backup",
        Xor = "balance-xor",
        Broadcast = "broadcast",
        Lacp = "802.3ad",
        TransmitLoad = "balance-tlb",
        AdaptiveLoad = "balance-alb",
    }
}

words! {
    /// How often LACP packets are asked for: every second, or every 30.
    LacpRate { Slow = "slow", Fast = "fast" }
}

words! {
    /// What a bond chooses a member by.
    HashPolicy {
        Layer2 = "layer2",
        Layer34 = "layer3+4",
        Layer23 = "layer2+3",
        Encap23 = "encap2+3",
        Encap34 = "encap3+4",
        VlanSource = "vlan+srcmac",
    }
}

words! {
    /// How LACP chooses among aggregators.
    AdSelect { Stable = "stable", Bandwidth = "bandwidth", Count = "count" }
}

words! {
    /// Which members' ARP answers are checked.
    ArpValidate { None = "none", Active = "active", Backup = "backup", All = "all" }
}

words! {
    /// How many ARP targets must answer.
    ArpTargets { Any = "any", All = "all" }
}

words! {
    /// Which address members have.
    FailOverMac { None = "none", Active = "active", Follow = "follow" }
}

words! {
    /// When the primary member takes over again.
    PrimaryReselect { Always = "always", Better = "better", Failure = "failure" }
}

/// How a bond works. `None` leaves the kernel's default. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BondParameters {
    /// How members share the work.
    pub mode: Option<BondMode>,
    /// How often LACP packets are asked for.
    pub lacp_rate: Option<LacpRate>,
    /// How often carriers are looked at.
    pub mii_interval: Option<u32>,
    /// How many members must be up.
    pub min_links: Option<u32>,
    /// What a member is chosen by.
    pub hash_policy: Option<HashPolicy>,
    /// How LACP chooses.
    pub ad_select: Option<AdSelect>,
    /// Packets that come in on idle members count.
    pub all_members_active: Option<bool>,
    /// How often ARP targets are asked.
    pub arp_interval: Option<u32>,
    /// Whom to ask.
    pub arp_targets: Vec<std::net::Ipv4Addr>,
    /// Which answers are checked.
    pub arp_validate: Option<ArpValidate>,
    /// How many must answer.
    pub arp_all_targets: Option<ArpTargets>,
    /// How long a carrier must be there.
    pub up_delay: Option<u32>,
    /// How long a carrier must be gone.
    pub down_delay: Option<u32>,
    /// Which address members have.
    pub fail_over_mac: Option<FailOverMac>,
    /// How many announcements follow a change.
    pub gratuitous_arp: Option<u8>,
    /// How many packets before the next member.
    pub packets_per_member: Option<u16>,
    /// When the primary takes over again.
    pub primary_reselect: Option<PrimaryReselect>,
    /// How many IGMP reports follow a change.
    pub resend_igmp: Option<u8>,
    /// How often learning packets are sent, in seconds.
    pub learn_interval: Option<u32>,
    /// The member that is preferred; one of the members.
    pub primary: Option<Id>,
}

/// How a bridge works. `None` leaves the kernel's default. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeParameters {
    /// Whether the spanning tree protocol is spoken.
    pub stp: Option<bool>,
    /// Its priority in the spanning tree.
    pub priority: Option<u16>,
    /// How long a port waits before it forwards.
    pub forward_delay: Option<u8>,
    /// How often it says hello.
    pub hello_time: Option<u8>,
    /// How long a hello is good.
    pub max_age: Option<u8>,
    /// How long an address is remembered.
    pub ageing_time: Option<u32>,
}
