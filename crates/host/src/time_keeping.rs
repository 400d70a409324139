//! Whether something keeps the machine's clock right.
#![allow(unsafe_code, reason = "the kernel is asked by adjtimex")]

use std::io;

/// Whether the kernel was told by NTP, or by whoever else keeps time, that its clock is right (adjtimex(2), `STA_UNSYNC`).
///
/// # Errors
/// The process may not ask.
pub fn is_clock_synchronised() -> io::Result<bool> {
    // SAFETY: all fields are numbers, for which zero bits are a value; zero in `modes` changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` of this function's own.
    let status = unsafe { libc::adjtimex(&raw mut state) };
    if status == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(status != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_changes_nothing() {
        let ask = || is_clock_synchronised().map_err(|error| error.raw_os_error());
        assert_eq!(ask(), ask());
    }
}
