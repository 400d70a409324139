//! Resets.

use crate::fault::{Fault, ensure};
use crate::node::{LONG, Node, deployment};
use crate::runner::Verdict;
use crate::world::Stage;
use kairn_lifecycle::{Role, Sequence};

/// Stages of a reset: each leaves where it ran. The release's own root is seen in the second only, with the fresh COS_PERSISTENT.
const STAGES: &str = "stages:\n  before-reset: [{if: test -e /run/cos/recovery_mode, commands: ['echo before >> /oem/ran']}]\n  \
                      after-reset-chroot: [{commands: ['test -e /etc/kairn-release', 'test ! -e /usr/local/marker', \
                      'echo inside >> /oem/ran', 'echo inside > /usr/local/inside']}]\n  \
                      after-reset: [{commands: ['echo after >> /oem/ran']}]\n";

/// A machine that has come to hold something goes back to what its installation made, by its recovery system.
pub fn from_recovery(stage: &Stage<'_>) -> Result<Verdict, Fault> {
    let mut node = Node::installed(stage, "node", &[])?;
    let first = node.expect_good(1)?;
    let identity = node.identity()?;
    node.sh("sudo touch /usr/local/marker && echo mine > ~/mine")?;
    let written = node.script(&format!("cat > /oem/91_stages.yaml <<'END'\n{STAGES}END\n"), "", LONG)?;
    ensure(written.status.success(), || format!("writing a configuration: {}", written.stderr))?;
    let refused = node.long("sudo kairn reset --unattended")?;
    ensure(refused.status.code() == Some(2) && refused.stderr.contains("from the recovery system"), || {
        format!("a reset of what runs ended with {}: {}{}", refused.status, refused.text(), refused.stderr)
    })?;

    node.sh("sudo kairn boot-entry select recovery")?;
    node.reboot()?;
    let status = node.status()?;
    ensure(status.running == Role::Recovery, || format!("recovery should run:\n{status}"))?;
    stage.note("recovery runs");
    let unasked = node.long("sudo kairn reset < /dev/null")?;
    ensure(unasked.status.code() == Some(2) && unasked.stderr.contains("--unattended"), || {
        format!("a reset that nobody confirmed ended with {}: {}", unasked.status, unasked.stderr)
    })?;
    let planned = node.sh("sudo kairn reset --plan")?;
    ensure(planned.contains("format-persistent") && !planned.contains("format-oem"), || {
        format!("planned:\n{planned}")
    })?;
    node.reboot_by("sudo kairn reset --unattended --reboot")?;

    let status = node.expect_good(2)?;
    ensure(status.release == first.release, || format!("recovery had the first release:\n{status}"))?;
    let before = deployment(&status, Sequence(1)).and_then(|found| found.role.clone());
    ensure(before.as_deref() == Some("passive"), || format!("the deployment of before is not kept:\n{status}"))?;
    let ran = node.sh("sudo cat /oem/ran; cat /usr/local/inside")?;
    ensure(ran == "before\ninside\nafter\ninside", || format!("the stages left {ran:?}"))?;
    node.sh("test ! -e /usr/local/marker && test ! -e ~/mine && sudo test -e /oem/91_stages.yaml")?;
    let now = node.identity()?;
    ensure(now.machine_id != identity.machine_id && now.host_key != identity.host_key, || {
        format!("this is the machine of before: {now:?}")
    })?;
    ensure(now.disk == identity.disk, || format!("the disk has another identity: {now:?}, {identity:?}"))?;
    node.shut_down()?;
    Ok(Verdict::Passed)
}
