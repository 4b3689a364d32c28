//! Small clusters, told as transcripts: what clients ask, what nodes say to each other, what the disks do. The nodes are
//! stepped by hand; nothing here has a clock, a socket or a thread.

#[path = "../fixtures/node_config.rs"]
mod node_config;

#[path = "../fixtures/world.rs"]
mod world;

#[path = "../fixtures/gossip.rs"]
mod gossip;

#[path = "../fixtures/request.rs"]
mod request;

mod words;

mod engine;

mod stage;

mod format;

mod script;

mod clocks;

mod lives;

mod shard;

mod transfer;
mod trees;

mod exchange;

mod purges;

mod hedging;

mod joining;
