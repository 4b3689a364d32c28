//! One client request on its coordinator: a put with its query round, a get with its write-back.
//!
//! `quorum` counts who has answered, `operation` is what all requests share, `fingerprint` and `attempts` remember what
//! clients named, `put` and `get` are the two protocols, `spread` is
//! what they share, `forwards` and `passing` the two ends of passing a request on,
//! `phase` is where a request stands, `admission` says who may begin, `operations` is the table of all in flight,
//! `answers` tells the outcome, `coordinator` runs them, and `begin` is how they come in.

pub mod quorum;

pub mod operation;

pub mod fingerprint;

pub mod attempts;

pub mod spread;

pub mod put;

pub mod get;

pub mod forwards;

pub mod passing;

pub mod phase;

pub mod admission;

pub mod operations;

pub mod answers;

pub mod coordinator;

mod begin;
