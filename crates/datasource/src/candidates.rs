//! Whom to ask: a function of the hints alone.
//!
//! What firmware tables say is that of cloud-init's `tools/ds-identify`, which the providers themselves keep up.

use crate::{Hints, ProviderName};
use ProviderName as P;
use serde::Serialize;

/// How likely it is that a datasource is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Likelihood {
    /// The kernel command line names it.
    Named,
    /// The machine shows signs of it.
    Hinted,
    /// Nothing speaks for or against it.
    Possible,
    /// A machine with it shows signs that this one has not; it is asked only when it is the only one that is wanted.
    Unlikely,
}

/// A datasource that may be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Which.
    pub provider: ProviderName,
    /// How likely.
    pub likelihood: Likelihood,
    /// Why, as part of a sentence.
    pub reason: String,
}

/// Puts the wanted datasources, and those that the kernel command line names, into the order in which to ask them: the likeliest first,
/// among equals media before networks, and then the wanted order.
#[must_use]
pub fn candidates(hints: &Hints, wanted: &[ProviderName]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for provider in hints.named.iter().chain(wanted).copied() {
        if all.iter().any(|known| known.provider == provider) {
            continue;
        }
        let (likelihood, reason) = if hints.named.contains(&provider) {
            (Likelihood::Named, "the kernel command line names it".to_owned())
        } else if let Some(reason) = sign(hints, provider) {
            (Likelihood::Hinted, reason)
        } else if wanted.len() == 1 {
            (Likelihood::Possible, "no other one is wanted".to_owned())
        } else if leaves_signs(provider, hints) {
            (Likelihood::Unlikely, "this machine shows no sign of it".to_owned())
        } else {
            (Likelihood::Possible, "nothing speaks against it".to_owned())
        };
        all.push(Candidate { provider, likelihood, reason });
    }
    // Stable, so that the wanted order stays among equals.
    all.sort_by_key(|candidate| (candidate.likelihood, !candidate.provider.is_local()));
    all
}

/// Says what speaks for a datasource.
fn sign(hints: &Hints, provider: ProviderName) -> Option<String> {
    let dmi = &hints.dmi;
    let is = |name: &str, value: &str, wanted: &str| (value == wanted).then(|| format!("{name} is `{value}`"));
    let begins = |name: &str, value: &str, wanted: &str| {
        let matches = value.to_ascii_lowercase().starts_with(&wanted.to_ascii_lowercase());
        matches.then(|| format!("{name} begins with `{wanted}`"))
    };
    let label = |wanted: &[&str]| {
        let has = |label: &str| wanted.iter().any(|wanted| label.eq_ignore_ascii_case(wanted));
        let drive = hints.drives.iter().find(|drive| has(&drive.label))?;
        Some(format!("`{}` is labelled `{}`", drive.device.display(), drive.label))
    };
    let vendor = |wanted: &str| is("sys_vendor", &dmi.sys_vendor, wanted);
    match provider {
        P::Cdrom => label(&["cidata"]),
        P::ConfigDrive => label(&["config-2"]),
        P::Aws => vendor("Amazon EC2")
            .or_else(|| is("bios_vendor", &dmi.bios_vendor, "Amazon EC2"))
            // Xen instances: the identifier is also that of the hypervisor (docs.aws.amazon.com, "identify EC2 instances").
            .or_else(|| begins("product_uuid", &dmi.product_uuid, "ec2").filter(|_| is_xen(hints))),
        P::Azure => is("chassis_asset_tag", &dmi.chassis_asset_tag, "7783-7084-3265-9085-8269-3286-77"),
        P::DigitalOcean => vendor("DigitalOcean"),
        P::Gcp => is("product_name", &dmi.product_name, "Google Compute Engine")
            .or_else(|| begins("product_serial", &dmi.product_serial, "GoogleCloud-")),
        P::Hetzner => vendor("Hetzner"),
        P::OpenStack => ["OpenStack Nova", "OpenStack Compute"]
            .iter()
            .find_map(|name| is("product_name", &dmi.product_name, name))
            .or_else(|| {
                let tags = ["OpenTelekomCloud", "SAP CCloud VM", "HUAWEICLOUD", "Samsung Cloud Platform"];
                let own = ["OpenStack Nova", "OpenStack Compute"];
                let tag = |tag: &&str| is("chassis_asset_tag", &dmi.chassis_asset_tag, tag);
                tags.iter().chain(&own).find_map(tag)
            }),
        P::Scaleway => vendor("Scaleway"),
        P::Vultr => vendor("Vultr"),
        P::VMware => begins("sys_vendor", &dmi.sys_vendor, "VMware")
            .or_else(|| begins("product_name", &dmi.product_name, "VMware")),
        P::Maas => hints.preseed.as_ref().map(|_| "the kernel command line has `cloud-config-url=`".to_owned()),
        P::NoCloud => hints.seed.as_ref().and_then(|seed| seed.from.as_ref()).map(|_| "a seed is named".to_owned()),
        P::File => Some("the configuration names its path".to_owned()),
        P::Metaldata | P::Packet => None,
    }
}

fn is_xen(hints: &Hints) -> bool {
    let dmi = &hints.dmi;
    [&dmi.sys_vendor, &dmi.bios_vendor, &dmi.product_name]
        .iter()
        .any(|text| text.starts_with("Xen") || text.starts_with("HVM"))
        || dmi.bios_version.to_ascii_lowercase().contains("amazon")
}

/// Says whether a machine with this datasource always shows a sign of it. Without firmware tables there are no signs to miss.
fn leaves_signs(provider: ProviderName, hints: &Hints) -> bool {
    match provider {
        P::Aws | P::Azure | P::DigitalOcean | P::Gcp | P::Hetzner | P::Scaleway | P::Vultr | P::VMware => {
            hints.dmi.is_there()
        }
        P::Maas | P::NoCloud | P::ConfigDrive => true,
        // A CD-ROM without the label may hold a seed, OpenStack may call itself anything, and the others never say.
        P::Cdrom => !hints.drives.iter().any(|drive| drive.optical),
        P::OpenStack | P::Packet | P::Metaldata | P::File => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dmi, Drive, DriveFormat};

    fn shown(hints: &Hints, wanted: &[ProviderName]) -> Vec<String> {
        let line =
            |candidate: &Candidate| format!("{} {:?}: {}", candidate.provider, candidate.likelihood, candidate.reason);
        candidates(hints, wanted).iter().map(line).collect()
    }

    #[test]
    fn firmware_tables_tell_the_clouds() {
        let vendor = |name: &str| Dmi { sys_vendor: name.into(), ..Dmi::default() };
        let product = |name: &str| Dmi { product_name: name.into(), ..Dmi::default() };
        let tag = |name: &str| Dmi { chassis_asset_tag: name.into(), ..Dmi::default() };
        for (dmi, expected) in [
            (vendor("Amazon EC2"), P::Aws),
            (Dmi { product_uuid: "EC2E1916-9099".into(), bios_version: "4.11.amazon".into(), ..vendor("Xen") }, P::Aws),
            (product("Google Compute Engine"), P::Gcp),
            (tag("7783-7084-3265-9085-8269-3286-77"), P::Azure),
            (vendor("DigitalOcean"), P::DigitalOcean),
            (vendor("Hetzner"), P::Hetzner),
            (vendor("Vultr"), P::Vultr),
            (vendor("Scaleway"), P::Scaleway),
            (product("OpenStack Nova"), P::OpenStack),
            (tag("HUAWEICLOUD"), P::OpenStack),
            (vendor("VMware, Inc."), P::VMware),
        ] {
            let hints = Hints { dmi, ..Hints::default() };
            let wanted: Vec<_> = P::ALL.into_iter().filter(|name| *name != P::File).collect();
            let all = candidates(&hints, &wanted);
            assert_eq!((all[0].provider, all[0].likelihood), (expected, Likelihood::Hinted), "{hints:?}");
            assert_eq!(all.iter().filter(|one| one.likelihood == Likelihood::Hinted).count(), 1, "{hints:?}");
            assert_eq!(all.len(), wanted.len());
        }
    }

    #[test]
    fn hyper_v_is_not_azure_and_a_workstation_is_no_cloud() {
        let dmi = Dmi {
            sys_vendor: "Microsoft Corporation".into(),
            product_name: "Virtual Machine".into(),
            ..Dmi::default()
        };
        let hints = Hints { dmi, ..Hints::default() };
        assert_eq!(
            shown(&hints, &[P::Azure, P::OpenStack]),
            ["openstack Possible: nothing speaks against it", "azure Unlikely: this machine shows no sign of it",]
        );
        assert_eq!(shown(&hints, &[P::Azure]), ["azure Possible: no other one is wanted"]);
        // A board without such tables may be anywhere.
        assert_eq!(candidates(&Hints::default(), &[P::Aws, P::Gcp])[1].likelihood, Likelihood::Possible);
    }

    #[test]
    fn the_kernel_command_line_comes_first_and_media_before_networks() {
        let drive =
            Drive { device: "/dev/sr0".into(), label: "CIDATA".into(), format: DriveFormat::Iso9660, optical: true };
        let dmi = Dmi { sys_vendor: "Hetzner".into(), ..Dmi::default() };
        let hints = Hints { dmi, drives: vec![drive], named: vec![P::NoCloud], ..Hints::default() };
        assert_eq!(
            shown(&hints, &[P::Hetzner, P::Cdrom, P::Hetzner]),
            [
                "nocloud Named: the kernel command line names it",
                "cdrom Hinted: `/dev/sr0` is labelled `CIDATA`",
                "hetzner Hinted: sys_vendor is `Hetzner`",
            ]
        );
    }
}
