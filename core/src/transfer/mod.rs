//! How a unit comes to a node that owns it and does not have all of it: a new owner, or one that has lost something.
//!
//! `units` says which units are partial here.

pub mod units;
