//! From nothing to a node that serves, and back: what a start looks at, opens, says and watches, and the order of its end.

pub mod descriptors;

pub mod banner;

pub mod seeds;

pub mod trial_disk;

pub mod peers;

pub mod anew;

pub mod store;

pub mod preflight;

pub mod readiness;

pub mod watch;

pub mod replacing;

pub mod serve;
