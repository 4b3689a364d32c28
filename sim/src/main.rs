//! The `rondo-sim` binary.
fn main() {}
