//! The `rondo` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A node makes and drops many small buffers for each request; the C library's allocator is slower at that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    rondo_node::cli::main()
}
