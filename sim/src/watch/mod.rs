//! What watches the product without touching it: engines by their writes, disks by their bytes, sites by their names, and a run by
//! its lines.

pub mod probes;

pub mod marks;

pub mod shadow;

pub mod tap;

pub mod describe;

pub mod trace;
