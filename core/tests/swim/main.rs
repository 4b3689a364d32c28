//! Failure detectors without a simulator: a bare event loop with loss and delay (`world`), scripts that tell one scenario each
//! (`scripts`), and what must hold of any (`laws`).

#[path = "../cluster/format.rs"]
mod format;

mod world;

mod script;

mod laws;
