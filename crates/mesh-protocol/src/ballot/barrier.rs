//! A barrier: something waits until at least so many of the expected nodes are there.

use crate::identity::NodeId;
use std::collections::BTreeSet;
use std::fmt;

/// How many nodes have to be there, and which ones count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    at_least: usize,
    expected: Option<BTreeSet<NodeId>>,
}

impl Barrier {
    /// A barrier that `at_least` nodes pass, whoever they are.
    pub const fn of_any(at_least: usize) -> Self {
        Self { at_least, expected: None }
    }

    /// A barrier that `at_least` of the expected nodes pass; nothing where fewer are expected than have to come.
    pub fn of(expected: BTreeSet<NodeId>, at_least: usize) -> Option<Self> {
        (at_least <= expected.len()).then_some(Self { at_least, expected: Some(expected) })
    }

    /// How it stands while these nodes have said that they are there. A node that said so and went has still been there: once open,
    /// a barrier over entries that do not expire stays open.
    pub fn weigh(&self, arrived: &BTreeSet<NodeId>) -> Gathering {
        let here = match &self.expected {
            None => arrived.len(),
            Some(expected) => expected.intersection(arrived).count(),
        };
        let missing = self.expected.iter().flatten().filter(|node| !arrived.contains(*node)).copied().collect();
        if here >= self.at_least {
            Gathering::Open
        } else {
            Gathering::Waiting { here, wanted: self.at_least, missing }
        }
    }
}

/// How a barrier stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gathering {
    /// Enough are there.
    Open,
    /// Some have to come yet.
    Waiting {
        /// How many of those that count are there.
        here: usize,
        /// How many have to be.
        wanted: usize,
        /// Who of those that count is not there, where it is known who counts.
        missing: Vec<NodeId>,
    },
}

impl fmt::Display for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Waiting { here, wanted, missing } => {
                write!(f, "waiting: {here} of {wanted} are there")?;
                let names: Vec<String> = missing.iter().take(5).map(NodeId::short).collect();
                if names.is_empty() { Ok(()) } else { write!(f, "; missing are {}", names.join(", ")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(|number| NodeId::new([number; 32])).collect()
    }

    #[test]
    fn only_expected_nodes_open_a_barrier_of_named_nodes() {
        let barrier = Barrier::of(nodes(1..=3), 2).unwrap();
        let waiting = barrier.weigh(&nodes([1, 7, 8, 9]));
        assert_eq!(waiting, Gathering::Waiting { here: 1, wanted: 2, missing: nodes([2, 3]).into_iter().collect() });
        assert!(waiting.to_string().starts_with("waiting: 1 of 2 are there; missing are "), "{waiting}");
        assert_eq!(barrier.weigh(&nodes([1, 3])), Gathering::Open);
        assert_eq!(Barrier::of_any(2).weigh(&nodes([7, 8])), Gathering::Open);
        assert_eq!(Barrier::of_any(2).weigh(&nodes([7])).to_string(), "waiting: 1 of 2 are there");
    }

    #[test]
    fn a_barrier_that_can_never_open_is_not_made() {
        assert_eq!(Barrier::of(nodes(1..=3), 4), None);
    }
}
