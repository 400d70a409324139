//! Which values nobody but their owner should see.
//!
//! Known keys are a list of paths; keys of others, whose names are free, are told by what they are called.

/// Paths of values that are secret whatever they are called; `*` stands for any name or place in a list.
pub(crate) static SECRET_PATHS: &[&[&str]] = &[
    &["password"],
    &["chpasswd", "list"],
    &["chpasswd", "list", "*"],
    &["chpasswd", "users", "*", "password"],
    &["users", "*", "passwd"],
    &["users", "*", "plain_text_passwd"],
    &["users", "*", "hashed_passwd"],
    // Their values log in as often as not.
    &["write_files", "*", "source", "headers", "*"],
    &["milpa_files", "*", "source", "headers", "*"],
    &["p2p", "network_token"],
    // A text for the Kubernetes distribution, which holds its token.
    &["cluster", "config"],
    &["cluster", "cluster_token"],
    &["cluster", "providerConfig", "*"],
    &["phonehome", "registration_token"],
    &["stages", "*", "*", "users", "*", "passwd"],
    // Lines of /etc/shadow among them.
    &["stages", "*", "*", "ensure_entities", "*", "entity"],
    &["stages", "*", "*", "git", "auth", "password"],
    &["stages", "*", "*", "git", "auth", "private_key"],
];

/// The last word of names that are of secrets, in small letters.
static SECRET_WORDS: &[&str] = &[
    "passwd",
    "password",
    "passwords",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "tokens",
    "psk",
    "credential",
    "credentials",
    "apikey",
];

/// The last two words of names that are of secrets, in small letters.
static SECRET_PAIRS: &[(&str, &str)] =
    &[("private", "key"), ("access", "key"), ("secret", "key"), ("api", "key"), ("auth", "key"), ("encryption", "key")];

/// Names that only look like those.
static NO_SECRETS: &[&str] = &["lock_passwd"];

/// Says whether a path is one of a secret.
pub(crate) fn is_secret_path(path: &[&str]) -> bool {
    let fits = |pattern: &&[&str]| {
        pattern.len() == path.len()
            && pattern.iter().zip(path).all(|(want, have)| *want == "*" || crate::keys::same(want, have))
    };
    SECRET_PATHS.iter().any(fits)
}

/// Says whether what has such a name is secret: `K3S_TOKEN`, `wifi-psk`, `registrationToken`.
pub(crate) fn is_secret_name(name: &str) -> bool {
    if NO_SECRETS.iter().any(|known| crate::keys::same(known, name)) {
        return false;
    }
    let words = words(name);
    match words.as_slice() {
        [.., last] if SECRET_WORDS.contains(&last.as_str()) => true,
        [.., before, last] => SECRET_PAIRS.contains(&(before.as_str(), last.as_str())),
        _ => false,
    }
}

/// Parts a name at signs and where a small letter meets a capital.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (was_small && c.is_uppercase()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        was_small = c.is_lowercase() || c.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Found, Shape, TOP_BLOCKS};

    /// Follows a pattern through the tables.
    fn leads(shape: Shape, rest: &[&str]) -> bool {
        let Some((first, below)) = rest.split_first() else { return true };
        match shape {
            Shape::Block(block) => match block.find(first) {
                Found::Exact(key) => leads(key.shape, below),
                _ => false,
            },
            Shape::List(item) | Shape::Map(item) => *first == "*" && leads(*item, below),
            Shape::Words => *first == "*" && below.is_empty(),
            Shape::Stages(step) => match below.split_first() {
                Some((second, below)) => *first == "*" && *second == "*" && leads(Shape::Block(step), below),
                None => false,
            },
            Shape::OneOf(shapes) => shapes.iter().any(|shape| leads(*shape, rest)),
            _ => false,
        }
    }

    #[test]
    fn every_secret_path_is_one_of_the_tables() {
        for pattern in SECRET_PATHS {
            assert!(TOP_BLOCKS.iter().any(|block| leads(Shape::Block(block), pattern)), "{pattern:?}");
        }
    }

    #[test]
    fn names_of_secrets_are_told_from_others() {
        for name in [
            "password",
            "K3S_TOKEN",
            "wifi-psk",
            "registrationToken",
            "aws_secret_access_key",
            "bind.passwd",
            "PrivateKey",
            "api-key",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "lock_passwd",
            "K3S_TOKEN_FILE",
            "key",
            "public_key",
            "cosign-key",
            "authorized_keys",
            "chpasswd",
            "ssh_pwauth",
            "",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
