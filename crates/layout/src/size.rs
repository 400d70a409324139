//! Amounts of storage.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// An amount of storage in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Makes an amount from mebibytes; saturates.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// Makes an amount from gibibytes; saturates.
    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// Rounds up to a multiple of `unit`; saturates, and returns itself when `unit` is zero.
    #[must_use]
    pub const fn round_up(self, unit: u64) -> Self {
        match self.0.checked_next_multiple_of(unit) {
            Some(rounded) => Self(rounded),
            None if unit == 0 => self,
            None => Self(u64::MAX),
        }
    }

    /// Subtracts down to zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Add::add)
    }
}

/// Prints in the largest binary unit that leaves at most one decimal of use: `512 MiB`, `1.5 GiB`, `700 bytes`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let one = 1_u64 << shift;
            if self.0 >= one {
                let tenths = u128::from(self.0) * 10 / u128::from(one);
                return match tenths % 10 {
                    0 => write!(f, "{} {unit}", tenths / 10),
                    part => write!(f, "{}.{part} {unit}", tenths / 10),
                };
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_in_the_largest_fitting_unit() {
        for (bytes, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 20, "1 MiB"), (1_610_612_736, "1.5 GiB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn rounding_up_saturates() {
        assert_eq!(Bytes(1).round_up(4096), Bytes(4096));
        assert_eq!(Bytes(u64::MAX).round_up(4096), Bytes(u64::MAX));
        assert_eq!(Bytes(5).round_up(0), Bytes(5));
    }
}
