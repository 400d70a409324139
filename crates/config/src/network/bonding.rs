//! What parameters of a bond have to do with each other (`bond_options.c` of Linux). NetworkManager refuses a whole bond for
//! one that does not fit; here it is left out with a word.

use super::controller::{BondMode, BondParameters};
use super::fields::{Fields, Placed};
use super::name::Id;
use crate::reading::Reader;
use crate::{Code, Severity};

/// What a dialect calls the parameters.
pub(super) struct Names {
    pub packets_per_member: &'static str,
    pub lacp_rate: &'static str,
    pub primary: &'static str,
    pub arp_interval: &'static str,
    pub arp_targets: &'static str,
    pub arp_validate: &'static str,
    pub arp_all_targets: &'static str,
    pub mii_interval: &'static str,
    pub up_delay: &'static str,
    pub down_delay: &'static str,
}

/// Leaves out what does not fit.
pub(super) fn fit(
    reader: &mut Reader<'_>,
    all: &Fields<'_>,
    names: &Names,
    bond: &mut BondParameters,
    primary: &mut Option<Placed<Id>>,
) {
    use BondMode::{ActiveBackup, AdaptiveLoad, Lacp, RoundRobin, TransmitLoad};
    let mode = bond.mode.unwrap_or(RoundRobin);
    let mut fits = |set: bool, name: &str, fits: bool, why: &str| {
        if set && !fits {
            let (key, place) = all.entry(name).map_or((name, all.place), |entry| (&entry.key, entry.value.place));
            reader.say(Severity::Warning, Code::Conflict, place, format!("`{key}` has no effect: {why}"));
        }
        fits
    };
    let in_mode = format!("the mode is {}", mode.word());
    if !fits(bond.packets_per_member.is_some(), names.packets_per_member, mode == RoundRobin, &in_mode) {
        bond.packets_per_member = None;
    }
    if !fits(bond.lacp_rate.is_some(), names.lacp_rate, mode == Lacp, &in_mode) {
        bond.lacp_rate = None;
    }
    let preferring = matches!(mode, ActiveBackup | TransmitLoad | AdaptiveLoad);
    if !fits(primary.is_some(), names.primary, preferring, &in_mode) {
        *primary = None;
    }
    bond.arp_interval = bond.arp_interval.filter(|&interval| interval > 0);
    let asking = !matches!(mode, Lacp | TransmitLoad | AdaptiveLoad);
    if !fits(bond.arp_interval.is_some(), names.arp_interval, asking, &in_mode)
        || !fits(
            bond.arp_interval.is_some(),
            names.arp_interval,
            !bond.arp_targets.is_empty(),
            &format!("`{}` is missing", names.arp_targets),
        )
    {
        bond.arp_interval = None;
    }
    let asks = bond.arp_interval.is_some();
    let why = format!("`{}` is missing", names.arp_interval);
    if !fits(!bond.arp_targets.is_empty(), names.arp_targets, asks, &why) {
        bond.arp_targets = Vec::new();
    }
    if !fits(bond.arp_validate.is_some(), names.arp_validate, asks, &why) {
        bond.arp_validate = None;
    }
    if !fits(bond.arp_all_targets.is_some(), names.arp_all_targets, asks, &why) {
        bond.arp_all_targets = None;
    }
    let why = format!("links are watched by `{}`", names.arp_interval);
    if !fits(bond.mii_interval.is_some_and(|interval| interval > 0), names.mii_interval, !asks, &why) {
        bond.mii_interval = None;
    }
    let why = if asks { why } else { format!("`{}` is 0", names.mii_interval) };
    let watching = !asks && bond.mii_interval != Some(0);
    if !fits(bond.up_delay.is_some_and(|delay| delay > 0), names.up_delay, watching, &why) {
        bond.up_delay = None;
    }
    if !fits(bond.down_delay.is_some_and(|delay| delay > 0), names.down_delay, watching, &why) {
        bond.down_delay = None;
    }
}
