//! How a unit comes to a node that owns it and does not have all of it: a new owner, or one that has lost something.
//!
//! `units` says which units are partial here, `source` is the end of a transfer that has the unit, and `receiver` the one that
//! lacks it; `leaving` is what becomes of units that a node does not own any more, `dropped` what becomes of keyspaces that are no more.

pub mod units;

pub mod source;

pub mod patience;

pub mod receiver;

pub mod leaving;

pub mod dropped;
