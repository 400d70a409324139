//! Chance, from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// Draws 32 bytes; waits, early in a boot, until the kernel has gathered enough. Nothing where the kernel refuses.
#[must_use]
pub fn draw() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole or not at all (getrandom(2)); a signal may come first.
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(length) if length == bytes.len() => return Some(bytes),
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn chance_differs_each_time() {
        let (one, other) = (super::draw().unwrap(), super::draw().unwrap());
        assert_ne!(one, other);
        assert_ne!(one, [0; 32]);
    }
}
