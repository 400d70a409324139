//! Image factory: source to release to media.
