//! How much input may be on its way to a program that does not read it.
//!
//! Without a bound of its own, input that stands still would keep signals and sizes back that come behind it, or fill the memory of
//! the node that takes it in.

use crate::error::Error;

/// The most bytes of input that the program has not read.
pub const WINDOW: u32 = 256 * 1024;

/// How many bytes of input are on their way, or wait. Both ends count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    waiting: u32,
}

impl Room {
    /// How many bytes more may be sent.
    pub const fn left(&self) -> usize {
        WINDOW.saturating_sub(self.waiting) as usize
    }

    /// Counts bytes that are sent, or came.
    ///
    /// # Errors
    /// There is no room for so many: the other end does not keep to it.
    pub fn fill(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes > self.left() {
            return Err(Error::TooLarge { kind: "input that waits", length: bytes, limit: self.left() });
        }
        self.waiting = self.waiting.saturating_add(u32::try_from(bytes).unwrap_or(WINDOW));
        Ok(())
    }

    /// Counts bytes that the program has read.
    ///
    /// # Errors
    /// So many were not sent.
    pub fn empty(&mut self, bytes: u32) -> Result<(), Error> {
        let waiting = self.waiting.checked_sub(bytes);
        let wrong = || Error::Malformed("frame", format!("{bytes} bytes were read of {}", self.waiting));
        self.waiting = waiting.ok_or_else(wrong)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_more_is_taken_than_there_is_room_and_no_more_given_back_than_was_taken() {
        let mut room = Room::default();
        assert_eq!(room.left(), WINDOW as usize);
        room.fill(room.left()).unwrap();
        assert!(room.left() == 0 && room.fill(1).is_err());
        room.empty(10).unwrap();
        assert_eq!(room.left(), 10);
        assert!(room.empty(WINDOW).is_err());
    }

    proptest! {
        #[test]
        fn what_is_left_and_what_waits_are_the_window(steps in proptest::collection::vec((any::<bool>(), 0..400_000_u32), 0..50)) {
            let (mut room, mut waiting) = (Room::default(), 0_u32);
            for (fills, bytes) in steps {
                if fills {
                    let fits = bytes <= WINDOW - waiting;
                    prop_assert_eq!(room.fill(bytes as usize).is_ok(), fits);
                    if fits { waiting += bytes; }
                } else {
                    let fits = bytes <= waiting;
                    prop_assert_eq!(room.empty(bytes).is_ok(), fits);
                    if fits { waiting -= bytes; }
                }
                prop_assert_eq!(room.left() as u32, WINDOW - waiting);
            }
        }
    }
}
