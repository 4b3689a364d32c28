//! What brings a replica back to what it has acknowledged, beside the requests that happen to touch it.

pub mod owed;

pub mod rotten;
