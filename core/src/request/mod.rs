//! One client request on its coordinator: a put with its query round, a get with its write-back.
//!
//! `quorum` counts who has answered, `operation` is what all requests share, `put` and `get` are the two
//! protocols, `attempts` remembers what clients named, `forwards` what peers passed on, and `coordinator` runs them all.

pub mod quorum;

pub mod operation;

pub mod attempts;

pub mod put;

pub mod get;

pub mod forwards;

pub mod coordinator;
