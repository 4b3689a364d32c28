//! The addresses where a node meets others.
//!
//! Left out: who answers there (`membership`), and what becomes of their names (the rim).

use crate::config::{NODES_MAX, NodeConfig};
use crate::env::Address;

/// Where a node meets others.
#[derive(Debug)]
pub(super) struct Seeds {
    pub(super) addresses: Vec<Address>,
    /// Whether people have named others than this node itself.
    pub(super) given: bool,
}

impl Seeds {
    pub(super) fn new(config: &NodeConfig) -> Seeds {
        // All nodes may be given one list: at its own address a node meets nobody.
        let given = config.seeds.iter().any(|seed| *seed != config.peer_address);
        Seeds { addresses: config.seeds.clone(), given }
    }

    /// One more, which nobody has named.
    pub(super) fn add(&mut self, seed: Address) {
        if !self.addresses.contains(&seed) && self.addresses.len() < NODES_MAX {
            self.addresses.push(seed);
        }
    }
}
