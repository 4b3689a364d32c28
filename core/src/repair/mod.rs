//! What brings a replica back to what it has acknowledged, beside the requests that happen to touch it.

pub mod merkle;

pub mod owed;

pub mod rotten;

pub mod mending;

pub mod exchange;

pub mod round;

pub mod rounds;
