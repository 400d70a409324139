//! What a guest says about its own boot, by its own clocks.

use crate::fault::Fault;
use kairn_lifecycle::{BootReport, Phase};
use std::collections::BTreeMap;
use std::time::Duration;

/// One boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// Power on to the kernel's first line, by this side's clock.
    pub firmware: Duration,
    /// Power on to the prompt for a login, by this side's clock.
    pub login: Duration,
    /// Kernel's start to its starting `/init`.
    pub init: Duration,
    /// Kernel's start to kairn-init's last line, from the new root, where it booted the machine.
    pub switched: Option<Duration>,
    /// Kernel's start to the root's systemd reading its clock: it was loaded by then.
    pub systemd: Duration,
    /// Kernel's start to the first line of the root's systemd.
    pub first_line: Duration,
    /// Kernel's start to multi-user.target.
    pub multi_user: Duration,
    /// Memory in use when systemd had nothing left to start, in bytes.
    pub used: u64,
    /// The same after all caches were dropped.
    pub used_without_caches: u64,
    /// Phases of kairn-init, where it booted the machine.
    pub phases: Vec<Phase>,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's memory, in bytes.
    pub memory: u64,
}

impl Boot {
    /// Reads what the guest wrote, parted by lines `== name`.
    pub fn read(text: &str, firmware: Duration, login: Duration) -> Result<Self, Fault> {
        let text = text.replace('\r', "");
        let sections = sections(&text);
        let section = |name: &str| {
            sections.get(name).copied().ok_or_else(|| Fault::Failed(format!("the guest's report has no `{name}`")))
        };
        section("end")?;
        let state = section("state")?.trim();
        if !matches!(state, "running" | "degraded") {
            return Err(Fault::Failed(format!("the guest's system is `{state}`")));
        }
        let (clocks, kernel) = (section("clocks")?, section("kernel")?);
        let (memory, without) = (section("memory")?, section("memory without caches")?);
        let report = section("report")?.trim();
        let phases = if report.is_empty() {
            Vec::new()
        } else {
            let parsed = serde_json::from_str::<BootReport>(report);
            parsed.map_err(|error| Fault::Failed(format!("the boot report cannot be read: {error}")))?.phases
        };
        Ok(Self {
            firmware,
            login,
            init: log_time(kernel, "Run /init as init process")?,
            switched: log_time(kernel, "kairn-init: starting ").ok(),
            systemd: property(clocks, "UserspaceTimestampMonotonic")?,
            // An initramfs with systemd in it has two of these.
            first_line: log_time(kernel, "systemd[1]: systemd ")?,
            multi_user: property(clocks, "ActiveEnterTimestampMonotonic")?,
            used: used(memory)?,
            used_without_caches: used(without)?,
            phases,
            kernel: section("machine")?.lines().next().unwrap_or_default().to_owned(),
            memory: kibibytes(memory, "MemTotal")?,
        })
    }

    /// Returns how long a phase of kairn-init took; the last ends with it.
    pub fn phase(&self, name: &str) -> Option<Duration> {
        let at = self.phases.iter().position(|phase| phase.name == name)?;
        let begin = Duration::from_millis(self.phases.get(at)?.at_ms);
        let next = self.phases.get(at + 1).map(|phase| Duration::from_millis(phase.at_ms));
        Some(next.or(self.switched)?.saturating_sub(begin))
    }

    /// Returns how long the stages of the initramfs took.
    pub fn stages(&self) -> Option<Duration> {
        Some(self.phase("stage rootfs")? + self.phase("stage initramfs")?)
    }

    /// Returns the time from kairn-init's start to its end in the new root.
    pub fn to_switch(&self) -> Option<Duration> {
        Some(self.switched?.saturating_sub(Duration::from_millis(self.phases.first()?.at_ms)))
    }
}

fn sections(text: &str) -> BTreeMap<&str, &str> {
    let mut sections = BTreeMap::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("== ") {
        let (name, body) = after.split_once('\n').unwrap_or((after, ""));
        let body = body.split("== ").next().unwrap_or_default();
        sections.insert(name.trim(), body);
        rest = after;
    }
    sections
}

/// Reads the time of the last line of the kernel's log that holds a text: `[    3.123456] text`.
fn log_time(log: &str, text: &str) -> Result<Duration, Fault> {
    let line = log.lines().rfind(|line| line.contains(text));
    let time = line.and_then(|line| line.trim_start().strip_prefix('[')?.split_once(']')?.0.trim().parse::<f64>().ok());
    let time = time.filter(|time| time.is_finite() && *time >= 0.0).map(Duration::from_secs_f64);
    time.ok_or_else(|| Fault::Failed(format!("the guest's kernel log has no time of `{text}`:\n{log}")))
}

/// Reads `name=microseconds`.
fn property(text: &str, name: &str) -> Result<Duration, Fault> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = value.and_then(|value| value.trim().parse().ok()).filter(|micros| *micros > 0);
    value.map(Duration::from_micros).ok_or_else(|| Fault::Failed(format!("the guest does not tell {name}:\n{text}")))
}

fn used(meminfo: &str) -> Result<u64, Fault> {
    Ok(kibibytes(meminfo, "MemTotal")?.saturating_sub(kibibytes(meminfo, "MemAvailable")?))
}

/// Reads a line of proc(5) meminfo, in bytes.
fn kibibytes(meminfo: &str, name: &str) -> Result<u64, Fault> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    value
        .map(|value| value * 1024)
        .ok_or_else(|| Fault::Failed(format!("the guest's meminfo has no {name}:\n{meminfo}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "== memory\r\nMemTotal:  1000 kB\r\nMemAvailable:  800 kB\r\n== state\r\nrunning\r\n== clocks\r\n\
        UserspaceTimestampMonotonic=4500000\r\nFinishTimestampMonotonic=20000000\r\nActiveEnterTimestampMonotonic=19000000\r\n\
        == kernel\r\n[    2.500000] Run /init as init process\r\n[    3.000000] systemd[1]: systemd 252 running in system mode\r\n\
        [    5.250000] systemd[1]: systemd 252 running in system mode\r\n== report\r\n\r\n== memory without caches\r\n\
        MemTotal:  1000 kB\r\nMemAvailable:  850 kB\r\n== machine\r\n6.1.0\r\n2\r\n== end\r\n";

    fn read(text: &str) -> Result<Boot, Fault> {
        Boot::read(text, Duration::from_secs(5), Duration::from_secs(30))
    }

    #[test]
    fn a_report_is_read() {
        let boot = read(REPORT).unwrap();
        let times = [boot.init, boot.systemd, boot.first_line, boot.multi_user].map(|time| time.as_millis());
        assert_eq!(times, [2500, 4500, 5250, 19_000]);
        assert_eq!((boot.used, boot.used_without_caches, boot.memory), (200 << 10, 150 << 10, 1000 << 10));
        assert_eq!((boot.kernel.as_str(), boot.stages(), boot.to_switch()), ("6.1.0", None, None));
    }

    #[test]
    fn phases_of_kairn_init_end_where_the_next_begins() {
        let phases = "{\"format\":1,\"role\":{\"role\":\"recovery\"},\"release\":\"0123456789abcdef\",\"disk\":\"/dev/vda\",\
            \"partitions\":{},\"events\":[],\"phases\":[{\"name\":\"start\",\"at_ms\":2600},\
            {\"name\":\"stage rootfs\",\"at_ms\":3000},{\"name\":\"layout\",\"at_ms\":3200},\
            {\"name\":\"stage initramfs\",\"at_ms\":3300},{\"name\":\"fstab\",\"at_ms\":3350}]}";
        let report = REPORT.replace("== report\r\n\r\n", &format!("== report\n{phases}\n"));
        assert_eq!(read(&report).unwrap().to_switch(), None);
        let last = "[    4.100000] kairn-init: starting /sbin/init\r\n== report";
        let boot = read(&report.replace("== report", last)).unwrap();
        assert_eq!(boot.stages(), Some(Duration::from_millis(250)));
        assert_eq!(boot.to_switch(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_report_that_is_cut_or_of_a_failed_boot_is_none() {
        for (from, to) in
            [("== end", ""), ("running", "maintenance"), ("MemTotal", "x"), ("[    2.5", "[x"), ("=190", "=x")]
        {
            assert!(read(&REPORT.replace(from, to)).is_err(), "{from}");
        }
    }
}
