//! The kernel command line, split once into tokens as the kernel splits it (`next_arg` in lib/cmdline.c).
//!
//! Invariant: a parameter is found by its whole name only. A host name that holds `netboot` means nothing.

use crate::{Digest, RootFormat};
use kairn_report::{Diagnostic, Kind};
use std::fmt;
use thiserror::Error;

/// Names of parameters that mean the same, the first of each row being ours. `rd.immucore.*` wins over `rd.cos.*`, as
/// existing machines expect.
pub const ALIASES: &[&[&str]] = &[
    &["kairn.debug", "rd.immucore.debug", "rd.kairos.debug", "rd.cos.debug"],
    &["kairn.disable", "rd.immucore.disable", "rd.cos.disable"],
    &["kairn.overlay", "rd.immucore.overlay", "rd.cos.overlay"],
    &["kairn.mount", "rd.immucore.mount", "rd.cos.mount"],
    &["kairn.oem.label", "rd.immucore.oemlabel", "rd.cos.oemlabel"],
    &["kairn.oem.timeout", "rd.immucore.oemtimeout", "rd.cos.oemtimeout"],
    &["kairn.root.timeout", "rd.immucore.sysrootwait", "rd.cos.sysrootwait"],
    &["kairn.reset", "kairos.reset"],
    &["kairn.live", "kairos.boot_live_mode"],
    &["kairn.install", "install-mode"],
    &["kairn.config", "kairos.config"],
    &["kairn.config_url", "kairos.config_url", "cos.setup"],
    &["fsck.mode"],
    &["fsck.repair"],
];

/// One parameter: `name` or `name=value`, quotes removed as the kernel removes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands behind it; `None` without `=`.
    pub value: Option<String>,
}

/// A kernel command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    tokens: Vec<Token>,
    init_args: Vec<String>,
}

/// What dm-verity needs to open the root, from the `kairn.*` tokens that sealing put into the UKI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootTokens {
    /// Root hash of the hash tree, `kairn.root`.
    pub root_hash: Digest,
    /// Number of 4096-byte data blocks, `kairn.blocks`.
    pub data_blocks: u64,
    /// Salt of the hash tree, `kairn.salt`.
    pub salt: Vec<u8>,
    /// File system of the root image, `kairn.format`.
    pub format: RootFormat,
}

/// A command line that does not name its root.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CmdlineError {
    /// A token is absent.
    #[error("the kernel command line has no `{name}=`")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A token's value is not what it should be.
    #[error("`{name}={value}` on the kernel command line is not {expected}")]
    Malformed {
        /// The token's name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A token stands there twice with different values.
    #[error("the kernel command line names two values of `{name}`: `{first}` and `{second}`")]
    Contradiction {
        /// The token's name.
        name: &'static str,
        /// One value.
        first: String,
        /// The other.
        second: String,
    },
}

impl Diagnostic for CmdlineError {
    fn kind(&self) -> Kind {
        Kind::Environment
    }

    fn hints(&self) -> Vec<String> {
        vec!["the command line is part of the sealed kernel image; boot another entry, or seal the release anew".into()]
    }
}

impl Cmdline {
    /// Splits a command line into tokens. Nothing in it is an error: the kernel has accepted it already.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        // `/proc/cmdline` ends with a line feed, which an open quote must not swallow.
        let mut rest = text.trim_matches(is_space);
        while !rest.is_empty() {
            let (token, after) = split_token(rest);
            rest = after.trim_start_matches(is_space);
            // The kernel stops reading parameters at `--` and hands what follows to init.
            if token == "--" {
                line.init_args = rest.split(is_space).filter(|arg| !arg.is_empty()).map(str::to_owned).collect();
                break;
            }
            line.tokens.push(unquote(token));
        }
        line
    }

    /// Returns all parameters in their order.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Returns the arguments behind `--`, which the kernel hands to init.
    #[must_use]
    pub fn init_args(&self) -> &[String] {
        &self.init_args
    }

    /// Returns the value of a parameter or of an alias of it: a name that stands earlier in [`ALIASES`] wins, of one name the
    /// last value wins. A parameter without `=` has no value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        names_of(name).into_iter().find_map(|name| self.named(name).filter_map(|token| token.value.as_deref()).last())
    }

    /// Returns every value of a parameter and its aliases in their order on the command line.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let names = names_of(name);
        self.tokens
            .iter()
            .filter(move |token| names.iter().any(|name| same_name(&token.name, name)))
            .filter_map(|token| token.value.as_deref())
    }

    /// Says whether a switch is on: named without value or with one that is not `0`, `n`, `no`, `false` or `off`. Aliases
    /// count as in [`Cmdline::get`].
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        let token = names_of(name).into_iter().find_map(|name| self.named(name).last());
        token.is_some_and(|token| match token.value.as_deref() {
            None => true,
            Some(value) => !["0", "n", "no", "false", "off"].iter().any(|word| value.eq_ignore_ascii_case(word)),
        })
    }

    /// Reads the tokens that name the root.
    ///
    /// # Errors
    /// One is absent, malformed, or stands there twice with different values: then somebody appended to a command line
    /// that sealing wrote, and which of the two was meant cannot be known.
    pub fn root(&self) -> Result<RootTokens, CmdlineError> {
        let root = self.only("kairn.root")?;
        let blocks = self.only("kairn.blocks")?;
        let salt = self.only("kairn.salt")?;
        let format = self.only("kairn.format")?;
        let malformed = |name, value: &str, expected| CmdlineError::Malformed { name, value: value.into(), expected };
        let mut hash = [0; 32];
        hex::decode_to_slice(root, &mut hash)
            .map_err(|_| malformed("kairn.root", root, "a root hash (64 hex digits)"))?;
        Ok(RootTokens {
            root_hash: Digest(hash),
            data_blocks: Some(blocks)
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|&blocks| blocks > 0)
                .ok_or_else(|| malformed("kairn.blocks", blocks, "a number of blocks"))?,
            // `-` is how dm-verity itself spells an empty salt.
            salt: match salt {
                "-" => Vec::new(),
                digits => hex::decode(digits).map_err(|_| malformed("kairn.salt", salt, "a salt (hex digits)"))?,
            },
            format: match format {
                "erofs" => RootFormat::Erofs,
                "squashfs" => RootFormat::Squashfs,
                other => return Err(malformed("kairn.format", other, "`erofs` or `squashfs`")),
            },
        })
    }

    fn named<'s, 'n>(&'s self, name: &'n str) -> impl Iterator<Item = &'s Token> + use<'s, 'n> {
        self.tokens.iter().filter(move |token| same_name(&token.name, name))
    }

    fn only(&self, name: &'static str) -> Result<&str, CmdlineError> {
        let mut values = self.named(name).map(|token| token.value.as_deref().unwrap_or_default());
        let first = values.next().ok_or(CmdlineError::Missing { name })?;
        match values.find(|value| *value != first) {
            None => Ok(first),
            Some(second) => {
                Err(CmdlineError::Contradiction { name, first: first.to_owned(), second: second.to_owned() })
            }
        }
    }
}

/// Prints a line that parses to the same tokens.
impl fmt::Display for Cmdline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Token { name, value }) in self.tokens.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            match value {
                None if name.contains(is_space) => write!(f, "{gap}\"{name}\"")?,
                None => write!(f, "{gap}{name}")?,
                Some(value) if value.contains(is_space) => write!(f, "{gap}{name}=\"{value}\"")?,
                Some(value) => write!(f, "{gap}{name}={value}")?,
            }
        }
        if !self.init_args.is_empty() {
            write!(f, "{}-- {}", if self.tokens.is_empty() { "" } else { " " }, self.init_args.join(" "))?;
        }
        Ok(())
    }
}

/// `isspace` of the kernel within ASCII.
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Cuts off the first token: blanks within double quotes belong to it; there are no escapes.
fn split_token(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        is_space(c) && !quoted
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// Removes quotes as the kernel does: around the whole token or around the whole value; others stay.
fn unquote(token: &str) -> Token {
    let bare = token.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest)).unwrap_or(token);
    match bare.split_once('=') {
        None => Token { name: bare.to_owned(), value: None },
        Some((name, value)) => {
            let value = value.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest)).unwrap_or(value);
            Token { name: name.to_owned(), value: Some(value.to_owned()) }
        }
    }
}

/// Dash and underscore are one in a parameter's name (`parameq` in kernel/params.c; systemd does the same).
fn same_name(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

fn names_of(name: &str) -> Vec<&str> {
    let row = ALIASES.iter().find(|row| row.first().is_some_and(|first| same_name(first, name)));
    row.map_or_else(|| vec![name], |row| row.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: &str = "36ffe508aa36ffe508aa36ffe508aa36ffe508aa36ffe508aa36ffe508aa0011";

    #[test]
    fn quotes_hold_blanks_together_as_the_kernel_does() {
        for (text, name, value) in [
            ("a", "a", None),
            ("a=", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("a=\"b c\"", "a", Some("b c")),
            ("\"a=b c\"", "a", Some("b c")),
            ("\"a b\"", "a b", None),
            ("a=b\"c d\"e", "a", Some("b\"c d\"e")),
            ("a=\"unfinished business", "a", Some("unfinished business")),
        ] {
            let line = Cmdline::parse(&format!("  first\t{text}\n"));
            let wanted = Token { name: name.into(), value: value.map(Into::into) };
            assert_eq!(line.tokens().get(1), Some(&wanted), "{text}");
        }
    }

    #[test]
    fn a_name_within_another_word_means_nothing() {
        let line = Cmdline::parse(
            "hostname=netboot-kairos.reset xkairos.reset kairos.resetx root=kairn.reset -- kairos.reset",
        );
        assert!(!line.flag("kairn.reset") && !line.flag("netboot"));
        assert_eq!(line.init_args(), ["kairos.reset"]);
    }

    #[test]
    fn aliases_stand_for_our_names_and_the_preferred_one_wins() {
        let line = Cmdline::parse(
            "rd.immucore.oemtimeout=7 rd.cos.oemtimeout=9 rd.cos.debug rd.immucore.mount=a rd.cos.mount=b",
        );
        assert_eq!(line.get("kairn.oem.timeout"), Some("7"));
        assert!(line.flag("kairn.debug"));
        assert_eq!(line.all("kairn.mount").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(Cmdline::parse("kairn.install_mode install_mode").get("kairn.install"), None);
        assert!(Cmdline::parse("install_mode").flag("kairn.install"));
    }

    #[test]
    fn the_last_value_of_a_name_wins_and_no_words_switch_off() {
        let line = Cmdline::parse("fsck.mode=auto fsck.mode=skip kairn.debug kairn.debug=OFF");
        assert_eq!(line.get("fsck.mode"), Some("skip"));
        assert!(!line.flag("kairn.debug"));
    }

    #[test]
    fn the_root_is_read_from_its_tokens() {
        let line = Cmdline::parse(&format!(
            "console=ttyS0 kairn.root={ROOT} kairn.blocks=38716 kairn.salt=00ff kairn.format=erofs"
        ));
        let root = line.root().unwrap();
        assert_eq!(root.root_hash.to_string(), ROOT);
        assert_eq!((root.data_blocks, root.salt, root.format), (38716, vec![0, 255], RootFormat::Erofs));
    }

    #[test]
    fn a_root_that_is_not_named_clearly_is_refused() {
        let good = format!("kairn.root={ROOT} kairn.blocks=3 kairn.salt=- kairn.format=erofs");
        assert!(Cmdline::parse(&good).root().unwrap().salt.is_empty());
        assert!(Cmdline::parse(&format!("{good} kairn.blocks=3")).root().is_ok());
        for (text, wanted) in [
            (good.replace("kairn.salt=- ", ""), "has no `kairn.salt=`"),
            (good.replace("blocks=3", "blocks=+3"), "is not a number of blocks"),
            (good.replace("blocks=3", "blocks=0"), "is not a number of blocks"),
            (good.replace("kairn.root=36", "kairn.root=3"), "is not a root hash"),
            (good.replace("=erofs", "=ext4"), "is not `erofs` or `squashfs`"),
            (format!("{good} kairn.blocks=4"), "two values of `kairn.blocks`: `3` and `4`"),
        ] {
            let error = Cmdline::parse(&text).root().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_loses_no_plain_token(text in ".{0,200}") {
            let line = Cmdline::parse(&text);
            prop_assert!(line.tokens().len() <= text.len());
        }

        #[test]
        fn a_printed_line_parses_to_the_same_tokens(pairs in proptest::collection::vec(("[a-z][a-z._-]{0,8}", proptest::option::of("[a-z0-9=/ ]{0,10}")), 0..8)) {
            let tokens: Vec<_> = pairs.into_iter().map(|(name, value)| Token { name, value }).collect();
            let line = Cmdline { tokens, init_args: Vec::new() };
            prop_assert_eq!(Cmdline::parse(&line.to_string()), line);
        }
    }
}
