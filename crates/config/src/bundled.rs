//! Steps of files that existing images carry in `/system/oem` and that would fight with how Kairn works: each is skipped, with a reason.
//!
//! Invariants: a step is one of these by directory, file, stage, name and something that it holds, so that a file of the owner is never
//! meant, nor a step that an image's builder has made into something else; every line matches a step of the files that Kairos bundles.

use crate::merge::SHIPPED;
use crate::{Node, Value};

/// One kind of step.
struct Line {
    /// Name of the file in `/system/oem`.
    file: &'static str,
    /// In which stages, with `.before` or `.after`.
    stages: &'static [&'static str],
    /// Name of the step.
    step: &'static str,
    /// What a text of the step holds.
    holds: &'static str,
    /// Why it is skipped.
    reason: &'static str,
}

const GRUB: &str = "no GRUB counts boots here: the loader's entries do, and only operations write to STATE";
const GRUB_STAGES: &[&str] = &["after-install", "after-upgrade", "after-reset"];
const BLESSING: &str = "only `kairn health` blesses a deployment, and nothing else writes to the EFI system partition";
const UNITS: &str =
    "units of the image run the stages; a second set would run each twice, and in /etc would outlive the image";
const AGENT: &str = "no agent stays in memory here: a unit of the image tells providers of the start";
const NOTIFY: &str = "stage `initramfs` itself tells providers of the boot, after its steps";
const OPENRC: &str = "services of the image run the stages; a second set would run each twice";
const LAYOUT: &str = "00_layout.yaml has this layout without /etc/systemd, /etc/ssl/certs and /usr/libexec, which persisted whole hide what a new \
                      image brings";
const GROWING: &str = "COS_PERSISTENT has its size from the installation, or from the first boot of a disk image";

const fn grub(step: &'static str, holds: &'static str) -> Line {
    Line { file: "08_grub.yaml", stages: GRUB_STAGES, step, holds, reason: GRUB }
}

const fn line(
    file: &'static str,
    stages: &'static [&'static str],
    step: &'static str,
    holds: &'static str,
    reason: &'static str,
) -> Line {
    Line { file, stages, step, holds, reason }
}

const TABLE: &[Line] = &[
    line("08_grub.yaml", &["boot.before"], "Remove GRUB sentinels", "grub2-editenv", GRUB),
    grub("Mount state", "COS_STATE"),
    grub("Hook boot assessment grub configuration", "/tmp/mnt/STATE"),
    grub("Add boot assessment grub configuration", "/tmp/mnt/STATE"),
    grub("Grub branding", "/tmp/mnt/STATE"),
    grub("umount state", "/tmp/mnt/STATE"),
    line("08_grub.yaml", &["after-upgrade"], "Set upgrade sentinel", "grub2-editenv", GRUB),
    line(
        "08_efi_assessment.yaml",
        &["initramfs"],
        "Override systemd-boot services to enable RW on /efi partition",
        "remount,rw /efi",
        BLESSING,
    ),
    line("08_efi_assessment.yaml", &["initramfs"], "Enable boot assessment", "systemd-bless-boot", BLESSING),
    line("09_systemd_services.yaml", &["initramfs"], "Create systemd services", "cos-setup-boot", UNITS),
    line("09_systemd_services.yaml", &["initramfs"], "Enable systemd services", "cos-setup-boot", UNITS),
    line(
        "09_systemd_services.yaml",
        &["initramfs"],
        "Override systemd-tpm2-setup/systemd-pcrproduct with temporary RW under /efi",
        "remount,rw /efi",
        BLESSING,
    ),
    line("09_openrc_services.yaml", &["initramfs"], "Create OpenRC services", "cos-setup-boot", OPENRC),
    line("09_openrc_services.yaml", &["initramfs"], "Enable OpenRC services", "cos-setup-boot", OPENRC),
    line("02_agent.yaml", &["initramfs", "boot"], "step 1", "kairos-agent start", AGENT),
    line("02_notify.yaml", &["initramfs"], "step 1", "kairos-agent notify", NOTIFY),
    line("00_rootfs.yaml", &["rootfs"], "Layout configuration for active/passive mode", "/etc/systemd", LAYOUT),
    line("00_rootfs.yaml", &["rootfs.after"], "Grow persistent", "COS_PERSISTENT", GROWING),
];

/// Says why a step of a file that an image brings is skipped; `None` for all others.
pub(crate) fn conflict(source: &str, stage: &str, name: &str, step: &Node) -> Option<&'static str> {
    let file = shipped_file(source)?;
    let is_meant = |line: &&Line| {
        line.file == file && line.step == name && line.stages.contains(&stage) && holds(step, line.holds)
    };
    TABLE.iter().find(is_meant).map(|line| line.reason)
}

/// The name of a file in the image's own directory, on this or another root.
fn shipped_file(source: &str) -> Option<&str> {
    let (dir, file) = source.rsplit_once('/')?;
    dir.ends_with(SHIPPED).then_some(file)
}

/// Says whether a text anywhere in a node holds another.
fn holds(node: &Node, wanted: &str) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.contains(wanted),
        Value::Seq(items) => items.iter().any(|item| holds(item, wanted)),
        Value::Map(entries) => entries.iter().any(|entry| holds(&entry.value, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Document, plan};
    use std::collections::BTreeSet;
    use std::path::Path;

    /// `file stage step` of every step that is skipped, with its reason.
    fn skipped(source: &str, text: &str) -> BTreeSet<(String, String)> {
        let document = Document::parse(source, text);
        let stages = document.get("stages").and_then(Node::entries).unwrap_or_default();
        let bases: BTreeSet<&str> = stages
            .iter()
            .map(|entry| {
                entry.key.strip_suffix(".before").or_else(|| entry.key.strip_suffix(".after")).unwrap_or(&entry.key)
            })
            .collect();
        let reasons: BTreeSet<&str> = TABLE.iter().map(|line| line.reason).collect();
        let steps = bases.iter().flat_map(|stage| plan(std::slice::from_ref(&document), stage).steps);
        let file = source.rsplit('/').next().unwrap();
        steps
            .filter_map(|step| match step.conditions.first() {
                Some(Condition::Unmet(why)) if reasons.contains(why.as_str()) => {
                    Some((format!("{file} {} {}", step.stage, step.name), why.clone()))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn of_the_bundled_files_exactly_the_listed_steps_are_skipped_and_no_line_is_idle() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/bundled");
        let Ok(entries) = std::fs::read_dir(&dir) else {
            eprintln!("skipped: the corpus is not there ({})", dir.display());
            return;
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let path = entry.unwrap().path();
            let (name, text) = (path.file_name().unwrap().to_str().unwrap(), std::fs::read_to_string(&path).unwrap());
            found.extend(skipped(&format!("/system/oem/{name}"), &text));
            // On another root it is the same file; in the owner's directories it is the owner's.
            assert_eq!(
                skipped(&format!("/mnt/system/oem/{name}"), &text),
                skipped(&format!("/system/oem/{name}"), &text)
            );
            for owners in ["/oem", "/usr/local/cloud-config", "/oem/system", "/run/initramfs/live"] {
                assert_eq!(skipped(&format!("{owners}/{name}"), &text), BTreeSet::new(), "{owners}/{name}");
            }
        }
        let listed = TABLE.iter().flat_map(|line| {
            line.stages.iter().map(|stage| (format!("{} {stage} {}", line.file, line.step), line.reason.to_owned()))
        });
        assert_eq!(found, listed.collect());
    }

    #[test]
    fn a_step_that_was_made_into_something_else_runs() {
        let text = "stages:\n  initramfs:\n  - {name: Enable boot assessment, commands: [echo nothing of the kind]}\n";
        assert_eq!(skipped("/system/oem/08_efi_assessment.yaml", text), BTreeSet::new());
        let text = text.replace("nothing of the kind", "systemd-bless-boot");
        assert_eq!(skipped("/system/oem/08_efi_assessment.yaml", &text).len(), 1);
        assert_eq!(skipped("/system/oem/80_other.yaml", &text), BTreeSet::new());
        assert_eq!(skipped("/system/oem/08_efi_assessment.yaml", &text.replace("initramfs", "boot")), BTreeSet::new());
    }
}
