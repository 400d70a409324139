//! The ESP, boot loader entries and counters, EFI variables and boot options.
