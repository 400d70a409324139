//! Who gets a node's shell, and how often a code may be tried.
//!
//! A code is used up by the session that it opens. A member that is wrong three times is not listened to for a while, and ten wrong
//! tries of all together make the code void: members are many where somebody draws identities. A new code is drawn in both cases.

use super::code::{Code, Shell};
use crate::identity::NodeId;
use crate::time::Moment;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// How often a member may be wrong.
const TRIES: u8 = 3;
/// For how long it is not listened to then, and after how long it is forgotten that it was wrong.
const PAUSE: Duration = Duration::from_secs(600);
/// How often all together may be wrong with one code.
const TRIES_OF_ALL: u8 = 10;
/// How many members are remembered that were wrong. Beyond that nobody else is listened to until one is forgotten.
const MOST: usize = 64;

/// When a node lends its shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// In recovery only: to whoever knows the code on the console, and to administrators.
    #[default]
    Recovery,
    /// In recovery as above, and at other times to administrators.
    Always,
    /// Never.
    Never,
}

/// A text that is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shell is lent `recovery`, `always` or `never`")]
pub struct ParsePolicyError;

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "recovery" => Ok(Self::Recovery),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(ParsePolicyError),
        }
    }
}

impl Policy {
    /// Whether the code and an administrator's key, in this order, open the shell of a node that is in recovery or not.
    pub const fn doors(self, is_recovery: bool) -> (bool, bool) {
        match self {
            Self::Never => (false, false),
            Self::Recovery => (is_recovery, is_recovery),
            Self::Always => (is_recovery, true),
        }
    }
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It was the code, which is used up.
    Right,
    /// It was not.
    Wrong {
        /// The code is void now, and another has taken its place.
        is_void: bool,
    },
    /// It was not looked at: this member, or too many, were wrong before.
    Unheard,
}

/// The code, and who was wrong with it.
#[derive(Clone, Debug)]
pub struct Gate {
    code: Code,
    wrong: u8,
    by: BTreeMap<NodeId, (u8, Moment)>,
}

impl Gate {
    /// A gate that this code opens.
    pub const fn new(code: Code) -> Self {
        Self { code, wrong: 0, by: BTreeMap::new() }
    }

    /// The code that opens it now.
    pub const fn code(&self) -> &Code {
        &self.code
    }

    /// Tries what a member shows; `next` takes the code's place where it is used up or void.
    pub fn try_code(&mut self, now: Moment, shell: &Shell, proof: &[u8; 32], next: Code) -> Tried {
        self.by.retain(|_, (_, since)| now.since(*since) < PAUSE);
        let before = self.by.get(&shell.client).map_or(0, |(wrong, _)| *wrong);
        if before >= TRIES || (before == 0 && self.by.len() >= MOST) {
            return Tried::Unheard;
        }
        if self.code.is_proven(shell, proof) {
            self.by.remove(&shell.client);
            (self.code, self.wrong) = (next, 0);
            return Tried::Right;
        }
        self.by.insert(shell.client, (before.saturating_add(1), now));
        self.wrong = self.wrong.saturating_add(1);
        let is_void = self.wrong >= TRIES_OF_ALL;
        if is_void {
            (self.code, self.wrong) = (next, 0);
        }
        Tried::Wrong { is_void }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;
    use proptest::prelude::*;

    fn shell(client: u8) -> Shell {
        let network = Token::new([1; 32], None).network().id;
        Shell { network, exporter: [7; 32], client: NodeId::new([client; 32]), server: NodeId::new([0; 32]) }
    }

    fn code(byte: u8) -> Code {
        Code::new([byte; 10])
    }

    fn at(seconds: u64) -> Moment {
        Moment::after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_code_opens_once() {
        let mut gate = Gate::new(code(1));
        let proof = code(1).prove(&shell(1));
        assert_eq!(gate.try_code(at(0), &shell(1), &proof, code(2)), Tried::Right);
        assert_eq!(gate.try_code(at(0), &shell(1), &proof, code(3)), Tried::Wrong { is_void: false });
        assert_eq!(gate.code(), &code(2));
    }

    #[test]
    fn who_is_wrong_three_times_is_not_heard_for_a_while_and_others_are() {
        let mut gate = Gate::new(code(1));
        for _ in 0..3 {
            assert_eq!(gate.try_code(at(0), &shell(1), &[0; 32], code(2)), Tried::Wrong { is_void: false });
        }
        let right = code(1).prove(&shell(1));
        assert_eq!(gate.try_code(at(599), &shell(1), &right, code(2)), Tried::Unheard);
        assert_eq!(gate.clone().try_code(at(0), &shell(2), &code(1).prove(&shell(2)), code(2)), Tried::Right);
        assert_eq!(gate.try_code(at(600), &shell(1), &right, code(2)), Tried::Right);
    }

    #[test]
    fn many_who_are_wrong_make_the_code_void_and_are_remembered_within_bounds() {
        let mut gate = Gate::new(code(1));
        let voids: Vec<Tried> =
            (1..=70).map(|who| gate.try_code(at(0), &shell(who), &[0; 32], code(100 + who))).collect();
        for (at, tried) in voids.iter().enumerate() {
            let expected = if at < MOST { Tried::Wrong { is_void: at % 10 == 9 } } else { Tried::Unheard };
            assert_eq!(*tried, expected, "{at}");
        }
        assert_eq!((gate.code(), gate.by.len()), (&code(160), MOST));
        let known = gate.code().prove(&shell(1));
        assert_eq!(gate.clone().try_code(at(0), &shell(1), &known, code(2)), Tried::Right);
        assert_eq!(gate.clone().try_code(at(0), &shell(99), &gate.code().prove(&shell(99)), code(2)), Tried::Unheard);
    }

    #[test]
    fn a_policy_says_what_opens_the_shell_and_when() {
        for (text, in_recovery, elsewhere) in [
            ("recovery", (true, true), (false, false)),
            ("always", (true, true), (false, true)),
            ("never", (false, false), (false, false)),
        ] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!((policy.doors(true), policy.doors(false)), (in_recovery, elsewhere), "{text}");
        }
        assert!("sometimes".parse::<Policy>().is_err());
    }

    proptest! {
        /// Whatever is tried by whom and when: only the code opens, each opens once, and no more than ten wrong tries are made at one.
        #[test]
        fn only_the_code_opens_and_only_once(tries in proptest::collection::vec((0..90_u8, 0..4_u8, 0..400_u64), 0..300)) {
            let mut gate = Gate::new(code(0));
            let (mut now, mut wrong) = (0, 0);
            for (number, (who, kind, passed)) in tries.into_iter().enumerate() {
                now += passed;
                let before = gate.code().clone();
                let next = Code::new([(number / 250 + 1) as u8, (number % 250) as u8, 1, 1, 1, 1, 1, 1, 1, 1]);
                let proof = if kind == 0 { before.prove(&shell(who)) } else { [kind; 32] };
                match gate.try_code(at(now), &shell(who), &proof, next.clone()) {
                    Tried::Right => {
                        prop_assert!(kind == 0 && gate.code() == &next);
                        wrong = 0;
                    }
                    Tried::Wrong { is_void } => {
                        wrong += 1;
                        prop_assert_ne!(kind, 0);
                        prop_assert_eq!(is_void, wrong == 10);
                        prop_assert_eq!(gate.code() == &next, is_void);
                        if is_void { wrong = 0; }
                    }
                    Tried::Unheard => prop_assert_eq!(gate.code(), &before),
                }
                prop_assert!(gate.by.len() <= MOST);
            }
        }
    }
}
