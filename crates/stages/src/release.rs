//! How the distribution below a root names itself (os-release(5)).

use crate::Error;
use kairn_host::files;
use std::collections::BTreeMap;
use std::path::Path;

/// Where it does, by preference.
const FILES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Largest of such files that is read, in bytes.
const LIMIT: u64 = 64 << 10;

/// Reads its variables; none where there is no such file.
pub fn read(root: &Path) -> Result<BTreeMap<String, String>, Error> {
    for path in FILES {
        if let Some(bytes) = files::read_in_tree(root, path.as_ref(), LIMIT)? {
            let text = String::from_utf8_lossy(&bytes);
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let plain = |value: &str| value.trim_matches(['"', '\'']).to_owned();
            return Ok(pairs.map(|(name, value)| (name.to_owned(), plain(value))).collect());
        }
    }
    Ok(BTreeMap::new())
}
