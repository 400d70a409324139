//! Response codes (Part 2, section 6.6): what a TPM says when it does not do something.

use std::fmt;

/// A response code that is not success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

/// Format one: the low six bits say what, bit 6 whether a parameter is meant, bits 8 to 11 which one.
const FORMAT_ONE: u32 = 0x080;
const NUMBER: u32 = 0xf40;

const HIERARCHY: u32 = 0x085;
const AUTH_FAIL: u32 = 0x08e;
const INTEGRITY: u32 = 0x09f;
const BAD_AUTH: u32 = 0x0a2;
const BINDING: u32 = 0x0a5;
const INITIALIZE: u32 = 0x100;
const FAILURE: u32 = 0x101;
const AUTH_UNAVAILABLE: u32 = 0x12f;
const COMMAND_CODE: u32 = 0x143;
const NEEDS_TEST: u32 = 0x153;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90a;
const LOCKOUT: u32 = 0x921;
const RETRY: u32 = 0x922;

/// Warnings that pass: what they say of, and what it is.
const PASSING: [(u32, &str); 12] = [
    (0x901, "its sessions are too far apart"),
    (0x902, "it has no room for another object"),
    (0x903, "it has no room for another session"),
    (0x904, "it has no room"),
    (0x905, "all its sessions are in use"),
    (0x906, "all its handles are in use"),
    (YIELDED, "it yielded to something else"),
    (0x909, "the command was cancelled"),
    (TESTING, "it tests itself"),
    (0x920, "its memory is written too often"),
    (LOCKOUT, "it is locked out after wrong passwords"),
    (0x923, "its memory cannot be written now"),
];

impl Code {
    /// The code without what it says of which handle, session or parameter.
    const fn bare(self) -> u32 {
        // Codes of layers above the TPM, such as the kernel's, have bits beyond these.
        if self.0 & FORMAT_ONE != 0 && self.0 <= 0xfff { self.0 & !NUMBER } else { self.0 }
    }

    /// The same command may be sent again at once: the TPM had no time for it.
    pub(crate) const fn is_to_be_repeated(self) -> bool {
        matches!(self.0, YIELDED | TESTING | RETRY)
    }

    /// It may go another time.
    #[must_use]
    pub fn is_passing(self) -> bool {
        self.0 == RETRY || PASSING.iter().any(|(code, _)| *code == self.0)
    }

    /// What was sealed was sealed by another TPM, or by this one before it was cleared.
    #[must_use]
    pub const fn is_foreign(self) -> bool {
        matches!(self.bare(), INTEGRITY | BINDING)
    }

    /// The owner has a password.
    pub(crate) const fn is_password(self) -> bool {
        matches!(self.bare(), AUTH_FAIL | BAD_AUTH) || self.0 == AUTH_UNAVAILABLE
    }

    fn words(self) -> &'static str {
        if self.0 == RETRY {
            return "it is busy";
        }
        if let Some((_, words)) = PASSING.iter().find(|(code, _)| *code == self.0) {
            return words;
        }
        match self.bare() {
            HIERARCHY => "its owner hierarchy is switched off",
            AUTH_FAIL | BAD_AUTH => "a password is wrong",
            AUTH_UNAVAILABLE => "no password opens this",
            INTEGRITY => "this was not sealed by it",
            BINDING => "public and private part do not belong together",
            INITIALIZE => "it was not started by the firmware",
            FAILURE => "it is in failure mode until the machine is switched off",
            COMMAND_CODE => "it does not know the command",
            NEEDS_TEST => "it has to be tested first",
            _ => "it refuses",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {:#05x})", self.words(), self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_whatever_parameter_they_name() {
        for (code, passes, is_foreign, is_password, words) in [
            (0x922, true, false, false, "it is busy (code 0x922)"),
            (0x908, true, false, false, "it yielded to something else (code 0x908)"),
            (0x921, true, false, false, "it is locked out after wrong passwords (code 0x921)"),
            (0x902, true, false, false, "it has no room for another object (code 0x902)"),
            // Integrity, of the first parameter of Load.
            (0x1df, false, true, false, "this was not sealed by it (code 0x1df)"),
            (0x09f, false, true, false, "this was not sealed by it (code 0x09f)"),
            // Wrong password of the first session.
            (0x9a2, false, false, true, "a password is wrong (code 0x9a2)"),
            (0x98e, false, false, true, "a password is wrong (code 0x98e)"),
            (0x185, false, false, false, "its owner hierarchy is switched off (code 0x185)"),
            (0x101, false, false, false, "it is in failure mode until the machine is switched off (code 0x101)"),
            (0xb_0143, false, false, false, "it refuses (code 0xb0143)"),
        ] {
            let code = Code(code);
            let found = (code.is_passing(), code.is_foreign(), code.is_password(), code.to_string());
            assert_eq!(found, (passes, is_foreign, is_password, words.to_owned()));
        }
        for code in [YIELDED, TESTING, RETRY] {
            assert!(Code(code).is_to_be_repeated() && Code(code).is_passing());
        }
        assert!(!Code(LOCKOUT).is_to_be_repeated());
    }
}
