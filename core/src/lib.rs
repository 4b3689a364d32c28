//! rondo's logic: every decision of a replicated key-value node, pure; every effect behind a trait.
//!
//! The modules stand in reading order, which is import order: a module uses only modules above it.

#![forbid(unsafe_code)]

pub mod error;

pub mod id;

pub mod probe;

pub mod env;

pub mod config;

pub mod budget;

pub mod pace;

mod hash;

pub mod version;

pub mod engine;

pub mod layout;

pub mod quorum;

pub mod wire;

pub mod status;

pub mod admin;

pub mod inbox;

pub mod step;

pub mod swim;

pub mod member;

pub mod change;

pub mod formation;

pub mod held;

pub mod parked;

pub mod repair;

pub mod replica;

pub mod transfer;

pub mod handoff;

pub mod purge;

pub mod request;

pub mod shard;

pub mod node;

pub mod host;

// What tests inside the crate share with those in `tests/`, which know it by this name.
#[cfg(test)]
extern crate self as rondo_core;

#[cfg(test)]
#[path = "../tests/fixtures/node_config.rs"]
mod node_config;

#[cfg(test)]
#[path = "../tests/fixtures/world.rs"]
mod world;

#[cfg(test)]
#[path = "../tests/fixtures/gossip.rs"]
mod gossip;

#[cfg(test)]
#[path = "../tests/fixtures/request.rs"]
mod request_fixture;
