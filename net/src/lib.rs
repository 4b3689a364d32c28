//! rondo's links: the Network trait over TCP connections and UDP datagrams.
//!
//! The modules stand in reading order, which is import order. Down to `reconnect` they are pure: no
//! socket, no clock, no task. From `runtime` to `links` is the rim that moves bytes and tells the time, over any streams;
//! the rest knows sockets.

#![forbid(unsafe_code)]

pub mod refusal;

pub mod frame;

pub mod handshake;

pub mod queue;

pub mod link;

pub mod reconnect;

pub mod status;

pub mod runtime;

mod connection;

mod peer;

mod rim;

mod dial;

mod accept;

pub mod links;

mod bind;

mod sockets;

mod udp;

pub mod tcp;
