//! rondo's links: the Network trait over real TCP connections and UDP datagrams.
//!
//! The modules stand in reading order, which is import order. Down to `reconnect` they are pure: no
//! socket, no clock, no task; the rest is the rim that moves bytes and tells the time.

#![forbid(unsafe_code)]

pub mod refusal;

pub mod frame;

pub mod handshake;

pub mod queue;

pub mod link;

pub mod reconnect;

pub mod status;

mod bind;

mod connection;

mod peer;

mod rim;

mod dial;

mod accept;

mod udp;

pub mod tcp;
