//! Applies lifecycle plans and keeps the journal.
