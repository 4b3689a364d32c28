//! The simulator's sites leave no trace in the shipped program.

use rondo_core::probe::{Buggify, Sometimes};

#[test]
fn the_program_contains_no_name_of_a_site() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_rondo")).expect("the program was built");
    let has = |text: &str| program.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(has("--bootstrap-expect"), "a text that is in the program is found");
    for site in Buggify::SITES.iter().chain(Sometimes::SITES) {
        // Its reason stands beside it in the table; but that is plain prose, which a message may share.
        assert!(!has(site.name), "the program contains {}", site.name);
    }
}
