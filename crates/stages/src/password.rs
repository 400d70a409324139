//! Passwords as crypt(5) wants them.

use crate::Error;
use kairn_config::Credential;
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};
use std::time::{SystemTime, UNIX_EPOCH};

/// Random bytes of a salt: 16 characters, the most that crypt(5) reads. With a longer salt, which `sha-crypt` makes by itself,
/// crypt(3) gives back a string with the salt cut off, which never equals the one in `/etc/shadow`: nobody could log in.
const SALT_BYTES: usize = 12;

/// What a password that is locked begins with; alone it is no password.
pub const LOCKED: &str = "!";

/// Takes a hash as it is and hashes a plain password, unless the old hash is already one of it: a new salt is no change. Whether the
/// old one is locked makes no difference.
pub fn hashed(name: &str, password: &Credential, old: &str) -> Result<String, Error> {
    let text = match password {
        Credential::Hash(hash) => {
            if hash.reveal().contains([':', '\n', '\r', '\0']) {
                return Err(Error::Separator { what: "the password", name: name.to_owned() });
            }
            return Ok(hash.reveal().clone());
        }
        Credential::Plain(text) => text.reveal(),
    };
    let old = old.trim_start_matches(LOCKED);
    let crypt = ShaCrypt::default();
    if old.starts_with("$6$") && crypt.verify_password(text.as_bytes(), old).is_ok() {
        return Ok(old.to_owned());
    }
    let mut salt = [0; SALT_BYTES];
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::path("read", "/dev/urandom")(errno.into()))?;
    let hash = crypt.hash_password_with_salt(text.as_bytes(), &salt);
    Ok(hash.map_err(|_| Error::Hash(name.to_owned()))?.as_str().to_owned())
}

/// Today, as shadow(5) counts days.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 86_400).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairn_report::Secret;

    #[test]
    fn the_c_library_takes_the_hash_of_a_plain_password() {
        let script = "exit(crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? 0 : 1)";
        for password in ["kairos", "co:lon", "$tarts like a hash", "with blanks and ü", &"x".repeat(200)] {
            let plain = Credential::Plain(Secret::new(password.to_owned()));
            let hash = hashed("ann", &plain, "").unwrap();
            match std::process::Command::new("perl").args(["-e", script, "--", password, &hash]).status() {
                Ok(status) => assert!(status.success(), "{hash}"),
                Err(error) => return eprintln!("skipped: perl, which asks crypt(3), does not run: {error}"),
            }
            assert_eq!(hashed("ann", &plain, &hash).unwrap(), hash);
            assert_eq!(hashed("ann", &plain, &format!("!{hash}")).unwrap(), hash);
        }
    }
}
