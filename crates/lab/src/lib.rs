//! QEMU machines for people and for tests.
