//! Cloud-config documents with spans: parse, classify, merge, validate, plan stages.
#![forbid(unsafe_code)]
