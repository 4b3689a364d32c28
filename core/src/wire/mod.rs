//! Everything that crosses a wire between nodes, and its bytes: one family of messages for each protocol, each in its own
//! file with its codec beside it.
//!
//! ```text
//! message   version u8 | header length u32 LE | header | values
//! datagram  HMAC-SHA256 over the rest, cut to 16 bytes | version u8 | header
//! record    head: version u8 | header      body: values
//! layout    version u8 | header
//! ```
//! `frame` says how headers and values are written, and it alone names bincode. `state` has what a replica stores and sends of a
//! key, `client` what clients ask and are told, `key`, `forward`, `layout`, `transfer` and `repair` the families of messages, `member` the
//! datagrams, `swim` those of the failure detector, and `message` puts one message and what its sender says of itself into an envelope.

pub mod frame;

pub mod state;

pub mod client;

pub mod key;

pub mod forward;

pub mod layout;

pub mod transfer;

pub mod repair;

pub mod member;

pub mod swim;

pub mod message;
