//! What the processors of a guest do while it says nothing: QEMU's monitor tells it when the guest does not.

use crate::{Error, Qmp};
use std::thread;
use std::time::Duration;

/// How often they are looked at: one that waits for an interrupt and one that goes in circles differ only over time.
const LOOKS: u32 = 3;
/// Time from one look to the next.
const APART: Duration = Duration::from_millis(500);
/// What may tell why, for the record: registers, the controllers of interrupts, code, stack and disks.
const RECORDED: [&str; 6] =
    ["info registers -a", "info lapic", "info pic", "x/24i $eip-32", "x/32gx $esp", "info blockstats"];

/// What was seen of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Where each stood at each look, one line for each.
    pub(crate) summary: String,
    /// All that QEMU tells of them.
    pub(crate) record: String,
}

/// Looks at the processors of a guest.
pub(crate) fn look(qmp: &mut Qmp) -> Result<Sight, Error> {
    let mut sight = Sight::default();
    for look in 0..LOOKS {
        if look > 0 {
            thread::sleep(APART);
        }
        for line in standing(&qmp.human("info registers -a")?) {
            sight.summary.push_str(&format!("  | {line}\n"));
        }
    }
    for command in RECORDED {
        sight.record.push_str(&format!("== {command}\n{}\n", qmp.human(command)?));
    }
    Ok(sight)
}

/// Returns where each processor stands: the lines that begin with the instruction pointer, e.g.
/// `RIP=000000003e5f3a12 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1`.
fn standing(registers: &str) -> impl Iterator<Item = &str> {
    registers.lines().map(str::trim_end).filter(|line| line.starts_with("RIP=") || line.starts_with("EIP="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_stands_where_its_instruction_pointer_is() {
        let registers = "\nCPU#0\nRAX=0000000000000001 RBX=0000000000000000\nRIP=fffffffa9 RFL=00000246 [---Z-P-] HLT=1 \n\
            ES =0030 0000000000000000\n\nCPU#1\nEAX=00000000\nEIP=0000fff0 EFL=00000002 [-------] HLT=0\n";
        let stand: Vec<_> = standing(registers).collect();
        assert_eq!(stand, ["RIP=fffffffa9 RFL=00000246 [---Z-P-] HLT=1", "EIP=0000fff0 EFL=00000002 [-------] HLT=0"]);
    }
}
