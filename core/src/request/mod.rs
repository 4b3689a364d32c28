//! One client request on its coordinator: a put with its query round, a get with its write-back.
//!
//! `operation` is what all requests share, `fingerprint` and `attempts` remember what
//! clients named, `put` and `get` are the two protocols, `spread` is
//! what they share, `hedging` when a read asks one replica more, `repairs` what reads bring to replicas that lack it,
//! `forwards` and `passing` the two ends of passing a request on,
//! `phase` is where a request stands, `admission` says who may begin, `operations` is the table of all in flight,
//! `answers` tells the outcome, `asking` asks again and passes on, `coordinator` runs them, and `begin` is how they come in.

pub mod operation;

pub mod fingerprint;

pub mod attempts;

pub mod spread;

pub mod put;

pub mod get;

pub mod hedging;

pub mod forwards;

pub mod passing;

pub mod answers;

pub mod fallback;

pub mod phase;

pub mod admission;

pub mod operations;

pub mod repairs;

pub mod asking;

pub mod coordinator;

mod begin;

mod anew;
